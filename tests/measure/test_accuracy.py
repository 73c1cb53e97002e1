from types import SimpleNamespace

import numpy as np
import pytest

from edgeq_lib.analysis.tables import compare_table, variants_table
from edgeq_lib.compress.quantize import calibration, quantizer
from edgeq_lib.data import dataset
from edgeq_lib.files import EdgeqError
from edgeq_lib.measure import accuracy
from edgeq_lib.measure.accuracy import check_parity, predict_file, score
from edgeq_lib.models import training, zoo
from edgeq_lib.models.preprocessing import SIGNED
from edgeq_lib.tflite.runtime import make_interpreter, run_images

FACTS = {"technique": "baseline", "scheme": "float32", "engine": "converter", "seconds": 0}


@pytest.fixture(scope="module")
def int8(small_net, pictures):
    ranges = calibration.calibrate(small_net[1], SIGNED(pictures[0][:32]), SIGNED.range)
    return quantizer.quantize(small_net[1], quantizer.scheme("int8"), ranges)


def data(pictures):
    images, labels = pictures
    part = (
        dataset.Split(images[:100], labels[:100]),
        dataset.Split(images[100:300], labels[100:300]),
    )
    return SimpleNamespace(validation=part[0], test=part[1], classes=["a", "b", "c", "d"])


def test_parallel_predictions_are_those_of_a_plain_loop(small_net, int8, pictures):
    for model in (small_net[1], int8):
        plain = run_images(make_interpreter(model), SIGNED(pictures[0][:333]))
        outputs = predict_file(model, pictures[0][:333], SIGNED, workers=3)
        assert outputs.dtype == plain.dtype and np.array_equal(outputs, plain)


def test_flatbuffer_and_keras_are_the_same_function(small_net, pictures):
    net, flat = small_net
    parity = check_parity(net, flat, pictures[0][:256], SIGNED)
    assert parity["disagreements"] == 0 and parity["largest difference"] < 1e-3
    assert np.allclose(
        predict_file(flat, pictures[0][:64], SIGNED),
        training.predict_keras(net, pictures[0][:64], SIGNED),
        atol=1e-3,
    )


def test_parity_sees_another_function(small_net, pictures):
    net, flat = small_net
    other = zoo.resnet8((8, 8, 3), 4, alpha=0.25)
    assert check_parity(other, flat, pictures[0][:256], SIGNED)["top-1 agreement %"] < 90


def test_parity_of_an_integer_file_tells_how_far_its_two_sets_of_kernels_are_apart(
    small_net, int8, pictures
):
    net, flat = small_net
    float_parity = check_parity(net, flat, pictures[0][:64], SIGNED)
    assert not [name for name in float_parity if "kernels" in name]
    parity = check_parity(net, int8, pictures[0][:256], SIGNED)
    images = SIGNED(pictures[0][:256])
    ours, theirs = (
        run_images(make_interpreter(int8, xnnpack=way), images).argmax(-1) for way in (True, False)
    )
    assert parity["between kernels: disagreements"] == (ours != theirs).sum() <= 5


def test_scoring_is_paired_stored_and_not_repeated(study, small_net, int8, pictures, monkeypatch):
    base = study.save_variant("float32", small_net[1], **FACTS)
    score(study, base, data(pictures), SIGNED)
    variant = study.save_variant("int8", int8, **{**FACTS, "technique": "ptq", "scheme": "int8"})
    quality = score(study, variant, data(pictures), SIGNED)
    assert quality["validation"]["n"] == 100 and quality["test"]["n"] == 200
    assert variant.arrays()["test"].dtype == np.int8 and variant.read("quality") == quality
    expected = base.read("quality")["test"]["top1"] - quality["test"]["top1"]
    assert quality["test"]["drop"] == pytest.approx(expected, abs=1e-6)
    monkeypatch.setattr(accuracy, "predict_file", lambda *args: pytest.fail("inferred twice"))
    assert score(study, variant, data(pictures), SIGNED) == quality
    table = variants_table([base, variant])
    assert table.loc["int8", "× smaller"] > 1 and table.loc["int8", "weight bits"] == 8
    against = compare_table(base, [variant], {"test": pictures[1][100:300]}).iloc[0]
    assert against["drop"] == quality["test"]["drop"] and against["% smaller"] == pytest.approx(
        100 - 100 * len(int8) / len(small_net[1])
    )


@pytest.mark.parametrize("content", [b"", b"TFL3", "truncated", "garbled"])
def test_a_garbled_model_is_an_error_not_a_crash(study, small_net, pictures, content):
    whole = small_net[1]
    content = {"truncated": whole[: len(whole) // 2], "garbled": whole[:40] + whole[:40:-1]}.get(
        content, content
    )
    shelved_so = study.save_variant("peer", content, **FACTS)
    with pytest.raises(EdgeqError, match="peer"):
        score(study, shelved_so, data(pictures), SIGNED)
    changed_later = study.save_variant("int8", whole, **FACTS)
    changed_later.path.write_bytes(content)
    with pytest.raises(EdgeqError, match="not the one that was shelved"):
        score(study, changed_later, data(pictures), SIGNED)


def test_exports_have_a_fixed_batch_and_no_shape_ops(small_net):
    from edgeq_lib.tflite.inspect import inspect_file

    report = inspect_file(small_net[1])
    assert not {"SHAPE", "STRIDED_SLICE", "PACK"} & set(report["ops"])
    assert make_interpreter(small_net[1]).get_input_details()[0]["shape"].tolist() == [1, 8, 8, 3]
