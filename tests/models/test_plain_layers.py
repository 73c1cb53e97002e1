import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from edgeq_lib.models import plain_layers, zoo
from edgeq_lib.models.plain_layers import op_layers, with_plain_layers

WRITTEN = [
    lambda x: x + 3.0,
    lambda x: 0.5 + x,
    lambda x: x - 0.25,
    lambda x: 1.0 - x,
    lambda x: x * 1.5,
    lambda x: x / 3.0,
    lambda x: x * np.array([0.5, 1.0, 2.0, -1.0], np.float32),
    lambda x: x + np.array([0.5, 1.0, 2.0, -1.0], np.float32),
    lambda x: x + x,
    lambda x: x * tf.nn.sigmoid(x),
    lambda x: x - tf.nn.relu(x),
    lambda x: tf.nn.relu6(x + 3.0) / 6.0,
    lambda x: x * tf.nn.relu6(x + 3.0) * (1 / 6),
    lambda x: tf.nn.leaky_relu(x, alpha=0.3),
    lambda x: tf.nn.leaky_relu(x),
    lambda x: tf.nn.silu(x),
    lambda x: tf.tanh(x),
    lambda x: tf.maximum(x, 0.0),
    lambda x: tf.clip_by_value(x, 0.0, 6.0),
    lambda x: tf.concat([x, x * 2.0], axis=-1)[..., :4] if False else tf.concat([x, x * 2.0], -1),
    lambda x: tf.pad(x, [[0, 0], [1, 2], [0, 1], [0, 0]]),
    lambda x: x * tf.reduce_mean(x, axis=[1, 2], keepdims=True),
    lambda x: x * tf.reduce_max(x, axis=(1, 2), keepdims=True),
    lambda x: tf.transpose(x, [0, 2, 1, 3]),
    lambda x: tf.identity(x),
]


def _network(functions):
    x = image = keras.Input((6, 6, 4))
    for function in functions:
        x = function(x)
        x = keras.layers.Conv2D(4, 1)(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.layers.Dense(3)(x))


@pytest.mark.parametrize("seed", range(6))
def test_random_networks_of_tensorflow_functions_become_plain_and_stay_the_same(seed):
    rng = np.random.default_rng(seed)
    keras.utils.set_random_seed(seed)
    chosen = [WRITTEN[index] for index in rng.permutation(len(WRITTEN))[:6]]
    model = _network(chosen)
    plain = with_plain_layers(model)
    images = rng.normal(0, 2, (5, 6, 6, 4)).astype(np.float32)
    ours, theirs = plain(images).numpy(), model(images).numpy()
    assert not op_layers(plain)
    assert np.abs(ours - theirs).max() <= 1e-5 * max(1, np.abs(theirs).max())


@pytest.mark.parametrize("number", range(len(WRITTEN)))
def test_each_function_is_written_alone(number):
    model = _network([WRITTEN[number]])
    plain = with_plain_layers(model)
    images = np.random.default_rng(number).normal(0, 2, (5, 6, 6, 4)).astype(np.float32)
    assert not op_layers(plain)
    assert np.allclose(plain(images), model(images), atol=1e-5)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: tf.math.sin(x),
        lambda x: x / (tf.abs(x) + 1.0),
        lambda x: tf.clip_by_value(x, -1.0, 1.0),
        lambda x: tf.reduce_mean(x, axis=-1, keepdims=True) * x,
        lambda x: x[:, 1:, 1:, :],
        lambda x: x + np.arange(36, dtype=np.float32).reshape(1, 6, 6, 1),
    ],
)
def test_what_has_no_plain_form_stays_and_still_computes(function):
    model = _network([function, lambda x: x + 3.0])
    plain = with_plain_layers(model)
    images = np.random.default_rng(0).normal(0, 2, (5, 6, 6, 4)).astype(np.float32)
    assert op_layers(plain) and len(op_layers(plain)) < len(op_layers(model))
    assert np.allclose(plain(images), model(images), atol=1e-5)


def test_the_zoos_mobilenetv3_is_plain_and_keeps_its_weights_by_name():
    model = zoo.build("mobilenetv3small", (64, 64, 3), 10)
    plain = with_plain_layers(model)
    assert op_layers(model) and not op_layers(plain)
    with_weights = [layer.name for layer in model.layers if layer.weights]
    assert with_weights == [layer.name for layer in plain.layers if layer.weights]


def test_a_hard_swish_is_what_it_is_called():
    values = np.linspace(-5, 5, 41, dtype=np.float32)[None]
    x = keras.Input((41,))
    model = keras.Model(x, plain_layers.hard_swish("h", x))
    expected = values * np.clip(values + 3, 0, 6) / 6
    assert np.allclose(model(values), expected, atol=1e-6)
