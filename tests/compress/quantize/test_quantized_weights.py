"""Grids: symmetric, idempotent, half a step at most, and in the file exactly as decided."""

import numpy as np
import pytest

from edgeq_lib.compress.quantize import calibration, quantized_weights
from edgeq_lib.compress.quantize.kernels import by_channel, float_kernels
from edgeq_lib.files import EdgeqError
from edgeq_lib.measure.accuracy import predict_file
from edgeq_lib.models.convert import convert
from edgeq_lib.models.preprocessing import SIGNED
from edgeq_lib.models.tf import keras
from edgeq_lib.tflite.buffers import scales_of, unpacked, writable_buffers
from edgeq_lib.tflite.inspect import inspect_file
from edgeq_lib.tflite.reader import read_graph

RNG = np.random.default_rng(0)
WEIGHTS = RNG.normal(size=(9, 5)) * [1e-3, 0.1, 1.0, 10.0, 1e3]


@pytest.fixture(scope="module")
def case(small_net, pictures):
    """(float flatbuffer, its activation ranges)"""
    return small_net[1], calibration.calibrate(small_net[1], SIGNED(pictures[0][:64]), SIGNED.range)


@pytest.mark.parametrize("bits", range(2, 9))
def test_round_trip_is_within_half_a_step_and_idempotent(bits):
    steps = quantized_weights.min_max_scales(WEIGHTS, bits)
    rounded = quantized_weights.round_to_nearest(WEIGHTS, steps, bits)
    assert np.abs(rounded.codes).max() == quantized_weights.qmax(bits)
    assert (np.abs(rounded.values - WEIGHTS) <= steps / 2 * (1 + 1e-9)).all()
    assert np.array_equal(
        quantized_weights.round_to_nearest(rounded.values, steps, bits).codes, rounded.codes
    )
    assert not quantized_weights.round_to_nearest(np.zeros((3, 5)), steps, bits).codes.any(), (
        "zero is on every grid"
    )


@pytest.mark.parametrize(
    "channel", [np.zeros(4), np.full(4, 1e-42), np.full(4, 3.0), np.array([0, 0, 0, -1e30])]
)
def test_odd_channels_have_a_defined_grid(channel):
    weights = channel[:, None]
    rounded = quantized_weights.round_to_nearest(
        weights, quantized_weights.min_max_scales(weights, 4), 4
    )
    assert np.isfinite(rounded.values).all() and (rounded.scales > 0).all()
    assert np.abs(rounded.values - weights).max() <= rounded.scales[0] / 2


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_refused(bad):
    with pytest.raises(EdgeqError, match="NaN or infinite"):
        quantized_weights.round_to_nearest(np.array([[1.0], [bad]]), np.ones(1), 4)


@pytest.mark.parametrize("bits", [1, 9])
def test_widths_that_no_file_has_are_refused(bits):
    with pytest.raises(EdgeqError, match="take 2 to 8"):
        quantized_weights.storage_bits(bits)


def test_an_empty_kernel_has_an_empty_grid():
    assert quantized_weights.round_to_nearest(
        np.zeros((0, 3)), quantized_weights.min_max_scales(np.zeros((0, 3)), 4), 4
    ).codes.shape == (0, 3)


@pytest.mark.parametrize("bits", [3, 4, 6, 8])
def test_the_file_holds_exactly_the_grids(case, bits):
    model, ranges = case
    names = [kernel.name for kernel in float_kernels(model) if kernel.kind != "DEPTHWISE_CONV_2D"]
    wanted = quantized_weights.round_all_to_nearest(model, ranges, dict.fromkeys(names, bits))
    file = quantized_weights.to_file(model, wanted, ranges)
    graph, constants, steps = read_graph(file), writable_buffers(bytearray(file)), scales_of(file)
    for op in graph.ops:
        name = graph.tensors[op.outputs[0]].name
        if name in wanted:
            assert np.array_equal(by_channel(op.name, constants[op.inputs[1]]), wanted[name].codes)
            assert np.allclose(steps[op.inputs[1]][0], wanted[name].scales, rtol=1e-5)
            assert (
                graph.tensors[op.inputs[1]].dtype
                == f"INT{quantized_weights.storage_bits(wanted[name].bits)}"
            )
    assert inspect_file(file)["integer_only"]


def test_the_rounded_float_file_and_the_real_one_decide_alike(case, pictures):
    model, ranges = case
    wanted = quantized_weights.round_all_to_nearest(model, ranges, {})
    images = pictures[0][:200]
    simulated, real = (
        predict_file(each, images, SIGNED)
        for each in (
            quantized_weights.with_quantized_weights(model, wanted),
            quantized_weights.to_file(model, wanted, ranges),
        )
    )
    assert (simulated.argmax(1) == real.argmax(1)).mean() >= 0.97, (
        "what is left is the rounding of activations"
    )


def test_biases_fit_where_a_channel_has_no_weights(case, pictures):
    model, ranges = case
    dead = bytearray(model)
    constants = writable_buffers(dead)
    kernel = float_kernels(model)[0]
    by_channel(kernel.kind, constants[kernel.index])[:, 0] = 0
    bias = constants[read_graph(model).ops[kernel.number].inputs[2]]
    bias[0] = 1.5
    file = quantized_weights.to_file(bytes(dead), {}, ranges)
    op = read_graph(file).ops[[op.name for op in read_graph(file).ops].index(kernel.kind)]
    assert writable_buffers(bytearray(file))[op.inputs[2]][0] * scales_of(file)[op.inputs[2]][0][
        0
    ] == pytest.approx(1.5, rel=1e-3)


def test_weights_that_two_ops_read_are_one_kernel_of_one_width():
    dense, image = keras.layers.Dense(8), keras.Input((4, 4, 8))
    model = convert(
        keras.Model(
            image, keras.layers.Concatenate()([dense(image), dense(keras.layers.ReLU()(image))])
        )
    )
    ops = [op for op in read_graph(model).ops if op.name == "FULLY_CONNECTED"]
    (kernel,) = float_kernels(model)
    assert len(ops) == 2 and kernel.index == ops[0].inputs[1] == ops[1].inputs[1]
    images = RNG.normal(size=(8, 4, 4, 8)).astype(np.float32)
    ranges = calibration.calibrate(model, images, (-4.0, 4.0))
    graph = read_graph(
        quantized_weights.to_file(
            model, quantized_weights.round_all_to_nearest(model, ranges, {kernel.name: 4}), ranges
        )
    )
    assert {
        graph.tensors[op.inputs[1]].dtype for op in graph.ops if op.name == "FULLY_CONNECTED"
    } == {"INT4"}


def test_packed_integers_come_out_as_they_went_in():
    assert unpacked(np.array([0x8F, 0x07], np.uint8), 4, np.array([3])).tolist() == [-1, -8, 7]
    assert unpacked(np.array([0b11100100], np.uint8), 2, np.array([2, 2])).tolist() == [
        [0, 1],
        [-2, -1],
    ]
