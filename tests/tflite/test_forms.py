"""The form that a target runs: the same function, in operations that it has."""

import numpy as np
import pytest
from pointwise import IMAGES, network, outputs

from edgeq_lib.compress.quantize import calibration, layerwise_rounding, quantized_weights
from edgeq_lib.models.convert import convert
from edgeq_lib.targets import Target
from edgeq_lib.tflite.forms import as_convolutions, for_target
from edgeq_lib.tflite.inspect import inspect_file
from edgeq_lib.tflite.reader import read_graph
from edgeq_lib.tflite.rewrite import as_dense
from edgeq_lib.tflite.runtime import make_interpreter, run_images

RANGE = (-3.0, 3.0)


def target(dense):
    """A target that takes 4 bits in convolutions, and in dense layers with scales as given."""
    weights = {"CONV_2D": {8: "channel", 4: "channel"}, "FULLY_CONNECTED": {8: "channel"}}
    if dense:
        weights["FULLY_CONNECTED"] = {8: "channel", 4: dense}
    about = {"words": "a target", "runtime": "tflite-micro", "processor": "p", "sources": ["s"]}
    return Target(name="t", weights=weights, **about)


@pytest.fixture(scope="module")
def four_bits():
    """A file whose 1 × 1 convolutions and classifier are dense layers of 4 bits."""
    flat = as_dense(convert(network()))
    ranges = calibration.calibrate(flat, IMAGES, RANGE, "min_max")
    widths = layerwise_rounding.default_widths(flat, bits=4, classifier=4)
    codes = quantized_weights.round_all_to_nearest(flat, ranges, widths)
    return quantized_weights.to_file(flat, codes, ranges)


def dense_kernels(model):
    graph = read_graph(model)
    return [graph.tensors[op.inputs[1]] for op in graph.ops if op.name == "FULLY_CONNECTED"]


def codes_of(model):
    interpreter = make_interpreter(model)
    detail = interpreter.get_input_details()[0]
    scale, zero = detail["quantization"]
    values = np.clip(np.round(IMAGES / scale) + zero, -128, 127).astype(np.int8)
    return run_images(interpreter, values).astype(int)


@pytest.mark.parametrize("dense", [None, "tensor"])
def test_dense_layers_of_4_bits_become_convolutions_and_compute_the_same(four_bits, dense):
    assert any(kernel.dtype == "INT4" for kernel in dense_kernels(four_bits))
    written = for_target(four_bits, target(dense))
    assert not any(kernel.dtype == "INT4" for kernel in dense_kernels(written))
    before, after = inspect_file(four_bits), inspect_file(written)
    assert after["integer_only"] and after["weight_bits_share"] == before["weight_bits_share"]
    assert after["weights"] == before["weights"] and after["macs"] == before["macs"]
    assert np.abs(codes_of(written) - codes_of(four_bits)).max() <= 1  # kernels round on their own


def test_what_a_target_takes_stays_as_it_is(four_bits):
    assert for_target(four_bits, None) is four_bits
    assert for_target(four_bits, target("channel")) is four_bits
    flat = as_dense(convert(network()))
    assert for_target(flat, target(None)) is flat, "float weights have no form to change"


def test_of_float_layers_the_convolution_is_the_same_function():
    flat = as_dense(convert(network()))
    graph = read_graph(flat)
    numbers = [number for number, op in enumerate(graph.ops) if op.name == "FULLY_CONNECTED"]
    written = as_convolutions(flat, numbers)
    assert "FULLY_CONNECTED" not in inspect_file(written)["ops"]
    np.testing.assert_allclose(outputs(written, IMAGES), outputs(flat, IMAGES), atol=1e-5)
