"""Fake quantization computes what LiteRT's integer kernels do."""

import numpy as np
import pytest
from qat_networks import scenes, tiny

from edgeq_lib.compress.quantize import fake_quant, qat, qat_export
from edgeq_lib.compress.quantize.quantized_weights import QuantizedWeights
from edgeq_lib.models.tf import keras, tf
from edgeq_lib.tflite.runtime import make_interpreter

layers = keras.layers


def test_weights_halfway_between_two_codes_have_the_same_code_in_graph_and_file():
    aware = qat.quantize_aware(tiny(), scenes(8)[0])
    wrapper = next(
        each for each in fake_quant.wrappers(aware) if isinstance(each.layer, layers.Conv2D)
    )
    variable = fake_quant.float_weights(wrapper)[0]
    codes = np.random.default_rng(0).integers(-126, 126, variable.shape) + 0.5
    codes[0, 0, 0] = 127
    variable.assign(codes * 2.0**-8)
    computed = wrapper.quantize_config.kernel(variable, False, {}).numpy() * 2**8
    interpreter = make_interpreter(qat_export.export_int8(aware, scenes(8)[0]))
    stored = next(
        interpreter.get_tensor(detail["index"])
        for detail in interpreter.get_tensor_details()
        if detail["dtype"] == np.int8 and tuple(detail["shape"]) == (4, 3, 3, 3)
    )
    assert np.array_equal(stored.transpose(1, 2, 3, 0), np.rint(computed))


def test_each_channel_of_a_depthwise_kernel_has_its_own_scale_and_gradients_pass():
    kernel = np.random.default_rng(0).normal(size=(3, 3, 4, 2)).astype(np.float32)
    kernel *= 10.0 ** np.arange(-4, 4).reshape(4, 2)
    rounding, variable = fake_quant.ChannelWeights(8), tf.Variable(kernel)
    with tf.GradientTape() as tape:
        rounded = rounding(variable, True, {})
    scales = rounding.scales(variable).numpy()
    codes = rounded.numpy().reshape(9, 8) / scales
    assert np.allclose(scales, np.abs(kernel.reshape(9, 8)).max(axis=0) / 127)
    assert np.allclose(codes, np.rint(codes), atol=1e-3)
    assert np.allclose(np.abs(codes).max(axis=0), 127, atol=1e-3)
    assert (tape.gradient(rounded, variable).numpy() == 1).all()


def learned(scales, bits=4):
    """Learned scales, built, that start from these."""
    grid = QuantizedWeights(np.zeros((3, len(scales)), np.int8), np.array(scales, float), bits)
    rounding = fake_quant.LearnedScales(grid)
    rounding.build(None, "kernel", layers.Layer())
    return rounding


def test_learned_scales_move_and_clipped_weights_get_no_gradient():
    rounding = learned([0.3, 0.7])
    kernel = tf.Variable([[0.4, -20.0], [0.1, 0.2], [5.0, -0.9]])
    with tf.GradientTape() as tape:
        rounded = rounding(kernel, True, {})
        loss = tf.reduce_sum(rounded**2)
    of_kernel, of_scales = tape.gradient(loss, [kernel, rounding.variable])
    assert np.allclose(rounded, [[0.3, -4.9], [0.0, 0.0], [2.1, -0.7]], atol=1e-6)
    assert (of_kernel.numpy()[[0, 2], [1, 0]] == 0).all(), "these two are clipped"
    assert of_kernel.numpy()[2, 1] == pytest.approx(2 * -0.7) and (of_scales.numpy() != 0).all()


@pytest.mark.parametrize(("start", "shifts"), [([0.25, 2.0], True), ([0.25, 0.3], False)])
def test_powers_of_two_stay_powers_of_two_while_they_learn(start, shifts):
    rounding = learned(start)
    assert np.allclose(rounding.scales(None), start)
    rounding.variable.assign([0.33, 1.7])
    assert np.allclose(rounding.scales(None), [0.25, 2.0] if shifts else [0.33, 1.7])


def test_a_bias_is_rounded_to_input_scale_times_weight_scale():
    kernel = tf.constant(np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32))
    weights, source = fake_quant.ChannelWeights(3), fake_quant.FixedRange(-1.0, 1.0)
    bias = tf.constant([0.123456, -3.21, 1e-5])
    rounded = fake_quant.BiasScales(kernel, weights, source)(bias, True, {}).numpy()
    codes = rounded / (weights.scales(kernel).numpy() * 2 / 255)
    assert np.allclose(codes, np.rint(codes), atol=1e-3) and (np.abs(codes[:2]) > 100).all()


def test_averages_halfway_between_two_codes_go_away_from_the_integer_zero():
    source = fake_quant.FixedRange(-1.0, 1.55)  # steps of 0.01, zero point -28
    codes = np.array([2.5, 3.5, -2.5, -3.5, 2.4, -2.4, 0.0])
    values = tf.constant(((codes + 28) * 0.01).astype(np.float32))
    rounded = fake_quant.PooledRange(source)(values, False, {}).numpy()
    assert np.allclose(rounded / 0.01 - 28, [3, 4, -3, -4, 2, -2, 0], atol=1e-3)


def test_a_calibrated_range_holds_zero_and_is_never_empty():
    assert [fake_quant.CalibratedRange(2.0, 5.0).low, fake_quant.CalibratedRange(-5, -2).high] == [
        0,
        0,
    ]
    empty = fake_quant.CalibratedRange(0.0, 0.0)
    variables = empty.build(None, "output", layers.Layer())
    assert [float(bound) for bound in empty.bounds()] == [0.0, 1.0]
    half = empty(tf.constant([-1.0, 0.4999, 7.0]), False, variables).numpy()
    assert np.allclose(half, [0, 127 / 255, 1], atol=1e-6)


def test_layers_are_wrapped_with_their_float_weights_in_their_own_order():
    model = tiny()
    aware = qat.quantize_aware(model, scenes(8)[0])
    kernels = [each for each in fake_quant.wrappers(aware) if fake_quant.kernel_name(each.layer)]
    assert [fake_quant.kernel_name(each.layer) for each in kernels] == ["kernel", "kernel"]
    head = fake_quant.float_weights(kernels[-1])
    assert [tuple(variable.shape) for variable in head] == [(4, 4), (4,)]
    assert np.array_equal(head[0].numpy(), model.layers[-1].get_weights()[0])
    assert fake_quant.kernel_name(layers.DepthwiseConv2D(3)) == "depthwise_kernel"
    assert fake_quant.kernel_name(layers.ReLU()) is None
