"""Biases of channels without weights, which would not fit into int32."""

import numpy as np
import pytest
from file_outputs import outputs

from edgeq_lib.compress.quantize import bias_overflow, calibration, quantizer
from edgeq_lib.compress.quantize.bias_overflow import prevent_bias_overflow
from edgeq_lib.compress.quantize.kernels import float_kernels
from edgeq_lib.models.convert import convert
from edgeq_lib.models.tf import keras
from edgeq_lib.tflite.buffers import writable_buffers
from edgeq_lib.tflite.reader import read_graph


@pytest.fixture(scope="module")
def with_dead_channel():
    """A convolution one of whose channels is all bias, and images for it."""
    keras.utils.set_random_seed(0)
    layer = keras.layers.Conv2D(4, 3)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layer,
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(3),
        ]
    )
    kernel, _ = layer.get_weights()
    kernel[..., 2] = 1e-12
    layer.set_weights([kernel, np.float32([0.1, 0.2, 3.0, 0.3])])
    return convert(model), np.random.default_rng(0).uniform(-1, 1, (24, 8, 8, 3)).astype(np.float32)


def test_a_dead_channel_keeps_its_bias(with_dead_channel):
    flat, images = with_dead_channel
    ranges = calibration.calibrate(flat, images, (-1.0, 1.0), "min_max")
    exact = outputs(flat, images)
    clipped, kept = (
        np.abs(
            outputs(
                quantizer.quantize(flat, quantizer.scheme("int8"), ranges, fix_dead=fix), images
            )
            - exact
        ).max()
        for fix in (False, True)
    )
    assert kept < 0.05 * np.ptp(exact) < clipped
    mended = prevent_bias_overflow(flat, ranges)
    assert np.abs(outputs(mended, images) - exact).max() < 1e-3 and mended != flat
    assert prevent_bias_overflow(mended, ranges) == mended, "nothing is raised twice"


def test_live_channels_are_left_alone(small_net, ranges):
    assert prevent_bias_overflow(small_net[1], ranges) == small_net[1]


def test_the_least_scale_leaves_the_largest_bias_half_of_int32():
    bias = np.array([0.0, 1e-6, -3.0, 1e5])
    scales = bias_overflow.least_scales_for_bias(bias, span=6.0)
    codes = bias[1:] / (scales[1:] * 6.0 / 255)
    assert np.allclose(np.abs(codes), 2**30) and scales[0] == 0


def test_one_weight_of_a_dead_channel_is_raised_in_place_and_others_are_not():
    kernel = np.random.default_rng(0).normal(size=(9, 4))
    kernel[:, 1], kernel[:, 3] = 0, 1e-12
    before = kernel.copy()
    bias = np.array([0.5, 2.0, -0.5, 0.0])
    dead = bias_overflow.fix_dead_channels(kernel, bias, 2.0)
    assert dead.tolist() == [False, True, False, False], "without a bias nothing can overflow"
    assert np.argwhere(kernel != before).tolist() == [[0, 1]]
    assert kernel[0, 1] * 2.0 < 2.0 / 30_000 * 2, "what the weight adds is far below the bias"
    assert not bias_overflow.fix_dead_channels(kernel, bias, 2.0).any()


def test_a_bias_that_overflows_in_the_file_is_the_one_that_is_counted(with_dead_channel):
    flat, images = with_dead_channel
    ranges = calibration.calibrate(flat, images, (-1.0, 1.0), "min_max")
    assert bias_overflow.count_dead_channels(flat, ranges) == 1
    for fix in (False, True):
        file = quantizer.quantize(flat, quantizer.scheme("int8"), ranges, fix_dead=fix)
        op = next(op for op in read_graph(file).ops if op.name == "CONV_2D")
        bias = writable_buffers(bytearray(file))[op.inputs[2]].astype(np.int64)
        clipped = np.abs(bias) >= 2**31 - 1
        assert clipped.tolist() == [False, False, not fix, False]


def test_no_channel_of_a_trained_network_is_counted(small_net, ranges):
    assert bias_overflow.count_dead_channels(small_net[1], ranges) == 0


def test_least_scales_are_those_of_each_kernels_own_input(with_dead_channel):
    flat, images = with_dead_channel
    ranges = calibration.calibrate(flat, images, (-1.0, 1.0), "min_max")
    least = bias_overflow.least_scales(flat, ranges)
    tensors = read_graph(flat).tensors
    for kernel in float_kernels(flat):
        ends = ranges[tensors[kernel.source].name]
        span = (ends["max"] - ends["min"]).item()
        codes = np.abs(kernel.bias) / (np.maximum(least[kernel.name], 1e-30) * span / 255)
        assert (codes <= 2**30 * (1 + 1e-6)).all() and len(codes) == kernel.weights.shape[1]
