"""OpenVINO answers as LiteRT does, in float exactly and in int8 nearly; NNCF's ranges are ours."""

import os

import numpy as np
import pytest

from edgeq_lib.files import CannotTake
from edgeq_lib.measure.accuracy import predict_file
from edgeq_lib.measure.runtimes import openvino
from edgeq_lib.measure.runtimes.engine import predict
from edgeq_lib.models.preprocessing import SIGNED

pytestmark = pytest.mark.skipif(
    bool(openvino.reason_missing()), reason="needs the extra `runtimes`"
)


@pytest.fixture(scope="module")
def floats(small_net):
    return openvino.float_files(small_net[1])


def test_the_float_network_is_the_same_function(floats, small_net, pictures):
    images = pictures[0][:100]
    ours = predict(openvino.load, floats, small_net[1], images, SIGNED)
    np.testing.assert_allclose(ours, predict_file(small_net[1], images, SIGNED), atol=1e-4)
    assert len(floats["model.bin"]) > 0.9 * len(small_net[1]) - 20_000, "weights are not halved"


@pytest.mark.parametrize("ranges", openvino.RANGES)
def test_int8_is_small_and_names_the_same_classes(floats, small_net, pictures, ranges, capfd):
    images = pictures[0][100:228]
    int8 = openvino.quantize(floats, SIGNED(pictures[0][:32]), ranges)
    ours = predict(openvino.load, int8, small_net[1], images, SIGNED)
    theirs = predict_file(small_net[1], images, SIGNED)
    assert (ours.argmax(1) == theirs.argmax(1)).mean() > 0.95
    assert len(int8["model.bin"]) < 0.5 * len(floats["model.bin"])
    assert not any(capfd.readouterr()), "no progress bar in a notebook"
    assert os.environ["NNCF_CI"], "no telemetry"


def test_a_rare_large_value_is_clipped_by_the_mean_of_extremes_alone(floats, pictures):
    images = SIGNED(pictures[0][:32])
    images[0] *= 20
    by_mean, by_extremes = (
        openvino.load(openvino.quantize(floats, images, ranges)).answer(images[:1])
        for ranges in openvino.RANGES
    )
    true = openvino.load(floats).answer(images[:1])
    assert np.abs(by_mean - true).max() > 3 * np.abs(by_extremes - true).max()


def test_a_network_that_it_does_not_read_is_named():
    with pytest.raises(CannotTake, match="OpenVINO does not read"):
        openvino.float_files(b"nothing")


def test_invoke_computes_with_the_image_that_was_set(floats, pictures):
    network, images = openvino.load(floats), SIGNED(pictures[0][:2])
    answers = [network.answer(image[None]) for image in images]
    network.set_image(images[:1])
    network.invoke()
    again = network._request.get_output_tensor().data
    assert np.array_equal(again, answers[0]) and not np.array_equal(*answers)
