"""Kernels of a float flatbuffer are those of the Keras layers, channel by channel."""

import numpy as np
import pytest

from edgeq_lib.compress.quantize.kernels import (
    KERNEL_OPS,
    by_channel,
    float_kernels,
    is_kernel_of,
    nearly_equal,
)
from edgeq_lib.models.convert import convert
from edgeq_lib.models.tf import keras
from edgeq_lib.tflite.buffers import writable_buffers
from edgeq_lib.tflite.reader import read_graph

layers = keras.layers
KINDS = ["CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"]


@pytest.fixture(scope="module")
def network():
    """A Keras network with a kernel of each kind, and its float flatbuffer."""
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, bias_initializer="normal")(image)
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, bias_initializer="normal")(x)
    model = keras.Model(image, layers.Dense(5, bias_initializer="normal")(layers.Flatten()(x)))
    return model, convert(model)


def test_weights_and_biases_are_those_of_the_layers_in_their_order(network):
    model, float32 = network
    kernels = float_kernels(float32)
    assert [kernel.kind for kernel in kernels] == KINDS
    kept = [layer for layer in model.layers if layer.get_weights()]
    for kernel, layer in zip(kernels, kept, strict=True):
        weights, bias = layer.get_weights()
        channels = len(bias)
        np.testing.assert_allclose(kernel.weights, weights.reshape(-1, channels), rtol=1e-6)
        np.testing.assert_allclose(kernel.bias, bias, rtol=1e-6)
        assert kernel.weights.dtype == kernel.bias.dtype == np.float64
        assert is_kernel_of(kernel, weights)


def test_a_kernel_says_where_it_stands_in_the_graph(network):
    graph = read_graph(network[1])
    for kernel in float_kernels(network[1]):
        op = graph.ops[kernel.number]
        assert op.name == kernel.kind and op.inputs[:2] == (kernel.source, kernel.index)
        assert graph.tensors[op.outputs[0]].name == kernel.name


@pytest.mark.parametrize("first_has_it", [True, False])
def test_weights_that_two_ops_read_are_one_kernel_with_the_larger_bias(first_has_it):
    image = keras.Input((6,))
    shared = layers.Dense(6, use_bias=False)
    first = shared(image)
    added = layers.Lambda(lambda x: x + np.float32([0, 1, -2, 3, 0, 0]))
    last = shared(layers.ReLU()(added(first) if first_has_it else first))
    float32 = convert(keras.Model(image, last if first_has_it else added(last)))
    graph = read_graph(float32)
    assert [op.name for op in graph.ops].count("FULLY_CONNECTED") == 2
    (kernel,) = float_kernels(float32)
    assert kernel.number == next(i for i, op in enumerate(graph.ops) if op.name in KERNEL_OPS)
    assert kernel.bias.tolist() == [0, 1, -2, 3, 0, 0]


def test_the_view_by_channel_writes_into_the_file(network):
    work = bytearray(network[1])
    constants = writable_buffers(work)
    for kernel in float_kernels(network[1]):
        by_channel(kernel.kind, constants[kernel.index])[:, 1] = 7
    for before, after in zip(float_kernels(network[1]), float_kernels(bytes(work)), strict=True):
        assert (after.weights[:, 1] == 7).all()
        assert np.array_equal(np.delete(before.weights, 1, 1), np.delete(after.weights, 1, 1))


def test_a_kernel_is_told_by_its_values_within_a_converters_rounding(network):
    kernel = float_kernels(network[1])[0]
    weights = network[0].layers[1].get_weights()[0]
    assert is_kernel_of(kernel, weights * (1 + 1e-4))
    assert not is_kernel_of(kernel, weights * 1.01)
    assert not is_kernel_of(kernel, weights[..., :2]), "another size is another kernel"
    assert nearly_equal(np.zeros(3), np.zeros(3)) and not nearly_equal(np.ones(3), np.zeros(3))
