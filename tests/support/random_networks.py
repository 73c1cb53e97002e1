"""Random small networks of every kind of layer that a technique may meet, seeded."""

import numpy as np

from edgeq_lib.models import plain_layers
from edgeq_lib.models.tf import keras

layers = keras.layers
SHAPE = (12, 10, 3)
CHANNELS = 8


def draw(seed):
    """Draw a network for images of SHAPE, with five outputs.

    Every third draw ends its body in attention; the others hold no layer that training refuses by
    its nature, and of these every second one a shared or a transposed convolution.
    """
    rng = np.random.default_rng(seed)
    keras.utils.set_random_seed(seed)
    x = image = keras.Input(SHAPE)
    if rng.random() < 0.3:
        x = layers.RandomFlip()(layers.GaussianNoise(0.3)(x))
    x = _activated(rng, layers.Conv2D(CHANNELS, 3, padding="same", use_bias=False)(x))
    blocks = [_conv, _grouped, _depthwise, _separable, _residual, _concatenated, _gated, _upsampled]
    if seed % 2:
        blocks += [_shared, _transposed] * 2
    for block in rng.choice(len(blocks), 3, replace=False):
        x = blocks[block](rng, x)
    if seed % 3 == 2:
        x = _attention(rng, x)
    else:
        pool = rng.choice([layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D])
        x = layers.Dropout(0.5)(pool()(x))
    model = keras.Model(image, layers.Dense(5)(x), name=f"draw_{seed}")
    return _shaken(model, rng)


def pictures(n=24, seed=1):
    """Images as the networks take them, float32 (n, *SHAPE)."""
    return np.random.default_rng(seed).normal(size=(n, *SHAPE)).astype(np.float32)


def _shaken(model, rng):
    """Give batch norms, biases and slopes values that matter."""
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            size = layer.get_weights()[0].shape
            layer.set_weights(
                [
                    rng.uniform(0.5, 1.5, size) if kind in (0, 3) else rng.normal(0, 0.5, size)
                    for kind in range(4)
                ]
            )
        elif isinstance(layer, layers.PReLU):
            layer.set_weights([rng.uniform(-0.2, 0.5, w.shape) for w in layer.get_weights()])
        elif getattr(layer, "use_bias", False) and hasattr(layer, "bias"):
            layer.bias.assign(rng.normal(0, 0.3, layer.bias.shape))
    return model


def _activated(rng, x):
    """A batch norm, mostly, and an activation."""
    if rng.random() < 0.75:
        x = layers.BatchNormalization()(x)
    name = f"act_{rng.integers(2**31)}"
    return rng.choice(
        np.array(
            [
                layers.ReLU(),
                layers.ReLU(6.0),
                layers.Activation("swish"),
                layers.Activation("tanh"),
                layers.LeakyReLU(0.2),
                layers.PReLU(shared_axes=[1, 2]),
                lambda tensor: plain_layers.hard_swish(name, tensor),
                lambda tensor: tensor,
            ],
            object,
        )
    )(x)


def _padding(rng, x):
    small = min(x.shape[1:3]) < 6
    return "same" if small or rng.random() < 0.5 else "valid"


def _conv(rng, x, groups=1):
    dilated = rng.random() < 0.3
    conv = layers.Conv2D(
        CHANNELS,
        (3, int(rng.choice([1, 2, 3]))),
        strides=1 if dilated else int(rng.choice([1, 2])),
        dilation_rate=2 if dilated else 1,
        padding="same" if dilated else _padding(rng, x),
        groups=groups,
        use_bias=bool(rng.random() < 0.5),
    )
    return _activated(rng, conv(x))


def _grouped(rng, x):
    return _conv(rng, x, groups=int(rng.choice([2, 4])))


def _depthwise(rng, x):
    times = int(rng.choice([1, 2]))
    x = layers.DepthwiseConv2D(3, depth_multiplier=times, padding=_padding(rng, x))(x)
    return _activated(rng, layers.Conv2D(CHANNELS, 1)(_activated(rng, x)))


def _separable(rng, x):
    return _activated(
        rng,
        layers.SeparableConv2D(CHANNELS, 3, padding="same", use_bias=bool(rng.random() < 0.5))(x),
    )


def _residual(rng, x):
    y = _activated(rng, layers.Conv2D(CHANNELS, 3, padding="same", use_bias=False)(x))
    return layers.Add()([x, layers.BatchNormalization()(layers.Conv2D(CHANNELS, 1)(y))])


def _concatenated(rng, x):
    left = _activated(rng, layers.Conv2D(CHANNELS // 2, 1)(x))
    right = layers.MaxPooling2D(3, 1, "same")(layers.Conv2D(CHANNELS // 2, 1)(x))
    return layers.Concatenate()([left, right])


def _gated(rng, x):
    gate = layers.Conv2D(CHANNELS, 1)(layers.GlobalAveragePooling2D(keepdims=True)(x))
    if rng.random() < 0.5:
        return layers.Multiply()([x, layers.Activation("sigmoid")(gate)])
    return layers.Multiply()([x, plain_layers.hard_sigmoid(f"gate_{rng.integers(2**31)}", gate)])


def _upsampled(rng, x):
    return _activated(rng, layers.Conv2D(CHANNELS, 3, strides=2)(layers.UpSampling2D(2)(x)))


def _shared(rng, x):
    """One layer called twice: its batch norm, if any, cannot be folded."""
    conv = layers.Conv2D(CHANNELS, 3, padding="same")
    return _activated(rng, conv(layers.ReLU()(conv(x))))


def _transposed(rng, x):
    padding = str(rng.choice(["same", "valid"]))
    x = layers.Conv2DTranspose(CHANNELS, 3, int(rng.choice([1, 2])), padding)(x)
    return _activated(rng, x)


def _attention(rng, x):
    x = layers.Reshape((x.shape[1] * x.shape[2], CHANNELS))(x)
    x = layers.Add()([x, layers.MultiHeadAttention(2, 4)(x, x)])
    return layers.GlobalAveragePooling1D()(x)
