"""Layers are rounded in order, given what the rounded layers before them send."""

import numpy as np

from edgeq_lib.compress.quantize import calibration, layerwise_rounding, quantized_weights
from edgeq_lib.compress.quantize.kernels import float_kernels
from edgeq_lib.measure.accuracy import predict_file
from edgeq_lib.models.convert import convert
from edgeq_lib.models.preprocessing import SIGNED
from edgeq_lib.models.tf import keras


def test_layers_are_rounded_in_order_and_the_output_suffers_less(small_net, pictures):
    float32 = small_net[1]
    images = SIGNED(pictures[0][:64])
    ranges = calibration.calibrate(float32, images, SIGNED.range)
    bits = layerwise_rounding.default_widths(float32)
    assert list(bits.values())[0] == 8 and list(bits.values())[-1] == 4
    sizes = {kernel.name: kernel.weights.size for kernel in float_kernels(float32)}
    spared = [sizes[name] for name, width in list(bits.items())[1:] if width == 8]
    assert 4 in bits.values() and sum(spared) <= 0.05 * sum(sizes.values())
    assert max(spared, default=0) <= min(
        sizes[name] for name, width in list(bits.items())[:-1] if width == 4
    )
    exact = predict_file(float32, pictures[0][64:164], SIGNED)
    off = {}
    for method in layerwise_rounding.METHODS:
        grids = layerwise_rounding.round_layers(float32, images, ranges, bits, method)
        assert {name: each.bits for name, each in grids.items()} == bits
        outputs = predict_file(
            quantized_weights.with_quantized_weights(float32, grids), pictures[0][64:164], SIGNED
        )
        off[method] = float(np.square(outputs - exact).mean())
    naive = predict_file(
        quantized_weights.with_quantized_weights(
            float32, quantized_weights.round_all_to_nearest(float32, ranges, bits)
        ),
        pictures[0][64:164],
        SIGNED,
    )
    assert off["gptq_descent"] < 0.5 * float(np.square(naive - exact).mean()), off


def test_a_kernel_alone_is_rounded_as_in_order_when_no_other_is(rounded_alone):
    float32, ranges, images, _, alone = rounded_alone
    name = list(alone)[2]
    in_order = layerwise_rounding.round_layers(float32, images, ranges, {name: 4})
    assert np.array_equal(in_order[name].codes, alone[name][4].codes) and alone[name][4].bits == 4
    before = list(alone)[:2]
    assert all(np.array_equal(in_order[other].codes, alone[other][8].codes) for other in before)


def test_depthwise_kernels_are_rounded_to_nearest(depthwise):
    float32, images = depthwise
    ranges = calibration.calibrate(float32, images, (-4.5, 4.5))
    grids = layerwise_rounding.round_layers(float32, images[:8], ranges, {})
    nearest = quantized_weights.round_all_to_nearest(float32, ranges, {})
    differ = {
        kernel.kind: not np.array_equal(grids[kernel.name].codes, nearest[kernel.name].codes)
        for kernel in float_kernels(float32)
    }
    assert differ == {"CONV_2D": True, "DEPTHWISE_CONV_2D": False, "FULLY_CONNECTED": True}


def test_the_classifier_alone_differs_between_its_widths(rounded_alone):
    float32, ranges, images, *_ = rounded_alone
    by_width = layerwise_rounding.round_by_classifier_width(
        float32, images[:16], ranges, 4, (8, 4, 2), "nearest"
    )
    last = float_kernels(float32)[-1].name
    assert {width: grids[last].bits for width, grids in by_width.items()} == {8: 8, 4: 4, 2: 2}
    one, *others = by_width.values()
    wanted = layerwise_rounding.default_widths(float32, bits=4)
    for name in one.keys() - {last}:
        assert one[name].bits == wanted[name]
        assert all(np.array_equal(grids[name].codes, one[name].codes) for grids in others)


def test_convolutions_keep_eight_bits_where_dense_layers_hold_most_weights():
    keras.utils.set_random_seed(0)
    layers, image = keras.layers, keras.Input((8, 8, 3))

    def kinds_of_four_bits(width):
        x = layers.Conv2D(8, 3)(layers.Conv2D(8, 3)(layers.Conv2D(8, 3)(image)))
        x = layers.Dense(10)(layers.Dense(width)(layers.Dense(width)(layers.Flatten()(x))))
        float32 = convert(keras.Model(image, x))
        widths = layerwise_rounding.default_widths(float32)
        return {kernel.kind for kernel in float_kernels(float32) if widths[kernel.name] == 4}

    assert kinds_of_four_bits(64) == {"FULLY_CONNECTED"}
    assert kinds_of_four_bits(4) == {"FULLY_CONNECTED", "CONV_2D"}


def test_a_grouped_convolution_is_rounded_as_its_groups_would_be():
    layers, rng = keras.layers, np.random.default_rng(5)
    image = keras.Input((7, 7, 8))
    grouped = keras.Model(image, layers.Conv2D(8, 3, groups=4, name="grouped")(image))
    images = rng.normal(size=(12, 7, 7, 8)).astype(np.float32)
    whole = _rounded_alone(grouped, images)
    kernel, bias = grouped.get_layer("grouped").get_weights()
    for group in range(4):
        image, part = keras.Input((7, 7, 2)), slice(2 * group, 2 * group + 2)
        alone = keras.Model(image, layers.Conv2D(2, 3)(image))
        alone.set_weights([kernel[..., part], bias[part]])
        rounded = _rounded_alone(alone, images[..., part])
        np.testing.assert_allclose(whole.scales[part], rounded.scales, rtol=1e-6)
        assert np.mean(whole.codes[:, part] == rounded.codes) > 0.95


def _rounded_alone(model, images):
    file = convert(model)
    ranges = calibration.calibrate(file, images, (-5, 5))
    (rounded,) = layerwise_rounding.round_layers(file, images, ranges, {}).values()
    return rounded
