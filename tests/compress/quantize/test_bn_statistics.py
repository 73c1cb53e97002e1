"""Means and ranges from batch norms alone."""

import numpy as np
import pytest
from batch_norm_networks import IMAGES, RANGE, made, run
from scipy.stats import norm

from edgeq_lib.compress.quantize import bn_statistics, calibration, data_free, quantizer
from edgeq_lib.compress.quantize.kernels import float_kernels
from edgeq_lib.files import CannotTake
from edgeq_lib.models.convert import convert
from edgeq_lib.models.preprocessing import SIGNED
from edgeq_lib.models.tf import keras
from edgeq_lib.tflite.reader import read_graph

layers = keras.layers


def test_batch_norms_are_found_whatever_ops_are_called(net):
    float32, norms, _ = net
    assert len(norms) == 5 and set(norms) == {kernel.name for kernel in float_kernels(float32)[:5]}
    with pytest.raises(CannotTake, match="batch norms cannot be found"):
        bn_statistics.batch_norm_statistics(made("swish")[0], float32)


def test_a_network_without_batch_norms_is_refused():
    image = keras.Input((4, 4, 3))
    model = keras.Model(image, layers.Dense(2)(layers.Flatten()(layers.Conv2D(3, 1)(image))))
    with pytest.raises(CannotTake, match="no batch norm directly behind"):
        bn_statistics.batch_norm_statistics(model, convert(model))


@pytest.mark.parametrize("activation", ["relu", "relu6", "swish"])
def test_ranges_cover_what_images_do(activation):
    _, float32, norms = made(activation)
    found = bn_statistics.ranges_from_moments(float32, norms, RANGE)
    seen = calibration.calibrate(float32, IMAGES, RANGE, "min_max")
    assert found.keys() == seen.keys()
    for name, ends in seen.items():
        width = ends["max"].item() - ends["min"].item()
        assert found[name]["min"].item() <= ends["min"].item() + 0.02 * width, name
        assert found[name]["max"].item() >= ends["max"].item() - 0.02 * width, name
        assert found[name]["max"].item() - found[name]["min"].item() < 12 * width, (
            "not absurdly wide"
        )


def test_a_whole_int8_file_without_images(small_net, pictures):
    model, float32 = small_net
    norms = bn_statistics.batch_norm_statistics(model, float32)
    ranges = bn_statistics.ranges_from_moments(float32, norms, SIGNED.range)
    images = SIGNED(pictures[0][:100])
    exact, found = (
        run(float32, images),
        run(quantizer.quantize(float32, quantizer.scheme("int8"), ranges), images),
    )
    assert (exact.argmax(1) == found.argmax(1)).mean() > 0.9


def test_squeeze_and_excite_additions_and_the_rest_have_rules():
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3))
    x = layers.Activation("swish")(
        layers.BatchNormalization()(layers.Conv2D(8, 3, padding="same")(image))
    )
    gate = layers.Conv2D(8, 1, activation="sigmoid")(
        layers.GlobalAveragePooling2D(keepdims=True)(x)
    )
    y = layers.BatchNormalization()(layers.Conv2D(8, 1)(layers.Multiply()([x, gate])))
    x = layers.Concatenate()(
        [layers.MaxPooling2D()(layers.Add()([x, y])), layers.AveragePooling2D()(x)]
    )
    model = keras.Model(
        image, layers.Dense(4, activation="softmax")(layers.Flatten()(layers.ZeroPadding2D()(x)))
    )
    float32 = convert(model)
    ranges = bn_statistics.ranges_from_moments(
        float32, bn_statistics.batch_norm_statistics(model, float32), RANGE
    )
    assert all(
        ends["min"] <= ends["max"] and np.isfinite([ends["min"], ends["max"]]).all()
        for ends in ranges.values()
    )
    quantizer.quantize(float32, quantizer.scheme("int8"), ranges)
    assert data_free.pairs(float32) == []


def test_an_op_without_a_rule_is_named():
    image = keras.Input((4, 4, 3))
    x = layers.BatchNormalization()(layers.Conv2D(3, 1)(image))
    model = keras.Model(
        image, layers.Dense(2)(layers.Flatten()(layers.Activation("exponential")(x)))
    )
    float32 = convert(model)
    with pytest.raises(CannotTake, match="computes EXP, and there is no rule"):
        bn_statistics.ranges_from_moments(
            float32, bn_statistics.batch_norm_statistics(model, float32), RANGE
        )


def test_moments_behind_a_relu_are_those_of_the_closed_form():
    mean, std = np.array([-2.0, 0.0, 0.5, 3.0]), np.array([1.0, 0.5, 2.0, 0.1])
    moments = bn_statistics.Moments(mean, std, mean - 6 * std, mean + 6 * std)
    behind = bn_statistics.unary(moments, bn_statistics.UNARY["RELU"])
    density, share = norm.pdf(mean / std), norm.cdf(mean / std)
    expected = std * density + mean * share
    square = (mean**2 + std**2) * share + mean * std * density
    assert np.allclose(behind.mean, expected, atol=1e-3)
    assert np.allclose(behind.std, np.sqrt(square - expected**2), atol=1e-3)
    assert np.allclose(behind.low, np.maximum(mean - 6 * std, 0))
    assert np.allclose(behind.high, mean + 6 * std)


def test_the_activation_of_each_op_is_read_from_the_file(net):
    float32, _, activation = net
    ops = [op.name for op in read_graph(float32).ops]
    fused = bn_statistics.activations(float32)
    assert len(fused) == len(ops) and fused.count(activation.upper()) == 5
    assert all(name == "NONE" for name, op in zip(fused, ops, strict=True) if op == "MEAN")


def test_the_input_is_uniform_and_every_computed_tensor_has_moments(net):
    float32, norms, _ = net
    moments = bn_statistics.tensor_moments(float32, norms, RANGE)
    graph = read_graph(float32)
    assert moments.keys() == {*graph.inputs, *(op.outputs[0] for op in graph.ops)}
    first = moments[graph.inputs[0]]
    assert np.allclose(first.mean, 0) and np.allclose(first.std, 2 / np.sqrt(12))
    for index, each in moments.items():
        assert len(each.mean) == graph.tensors[index].shape[-1]
        assert (each.low <= each.mean).all() and (each.mean <= each.high).all()


def test_a_grouped_convolution_has_the_moments_of_its_block_diagonal_twin():
    keras.utils.set_random_seed(2)
    rng = np.random.default_rng(2)
    image = keras.Input((6, 6, 3))
    behind = layers.BatchNormalization()
    x = layers.ReLU()(behind(layers.Conv2D(8, 1)(image)))
    grouped = keras.Model(image, layers.Conv2D(4, 3, groups=2, name="last")(x))
    behind.set_weights([rng.uniform(0.5, 2, 8), rng.normal(size=8), np.zeros(8), np.ones(8)])
    kernel, bias = grouped.get_layer("last").get_weights()
    dense = np.zeros((3, 3, 8, 4), np.float32)
    dense[:, :, :4, :2], dense[:, :, 4:, 2:] = kernel[..., :2], kernel[..., 2:]
    twin = keras.Model(image, layers.Conv2D(4, 3, name="twin")(x))
    twin.get_layer("twin").set_weights([dense, bias])
    moments = []
    for model in (grouped, twin):
        file = convert(model)
        norms = bn_statistics.batch_norm_statistics(model, file)
        moments.append(list(bn_statistics.tensor_moments(file, norms, RANGE).values())[-1])
    np.testing.assert_allclose(moments[0].mean, moments[1].mean, atol=1e-6)
    np.testing.assert_allclose(moments[0].std, moments[1].std, rtol=1e-6)
