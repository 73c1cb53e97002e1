"""Networks for quantization-aware training that take seconds, and images for them."""

import numpy as np
import tf_keras as keras

from edgeq_lib.compress.quantize import calibration, quantizer
from edgeq_lib.models.convert import convert

layers = keras.layers

SHAPE = (16, 16, 3)


def scenes(n, seed=0):
    """Images of four classes (a bright quadrant each) and their labels; pixels on the grid that
    real ones lie on.
    """
    noise = np.random.default_rng(seed)
    labels = noise.integers(0, 4, n)
    pixels = noise.integers(0, 128, (n, *SHAPE))
    for image, label in zip(pixels, labels, strict=True):
        row, column = 8 * (label // 2), 8 * (label % 2)
        image[row : row + 8, column : column + 8] += 64
    return (pixels / 127.5 - 1).astype(np.float32), labels


def norm_relu(x, relu=True):
    x = layers.BatchNormalization(momentum=0.8)(x)
    return layers.Activation("relu")(x) if relu else x


def resnet8():
    """The network of MLPerf Tiny's image classification benchmark (arXiv 2106.07597)."""
    inputs = keras.Input(SHAPE)
    x = norm_relu(layers.Conv2D(16, 3, padding="same")(inputs))
    for stack, width in enumerate((16, 32, 64)):
        stride = 1 if stack == 0 else 2
        y = norm_relu(layers.Conv2D(width, 3, strides=stride, padding="same")(x))
        y = norm_relu(layers.Conv2D(width, 3, padding="same")(y), relu=False)
        x = x if stack == 0 else layers.Conv2D(width, 1, strides=stride, padding="same")(x)
        x = layers.Activation("relu")(layers.Add()([x, y]))
    x = layers.Flatten()(layers.AveragePooling2D(4)(x))
    return keras.Model(inputs, layers.Dense(4)(x))


def squeeze_excite():
    """What EfficientNet and MobileNetV2 are made of."""
    inputs = keras.Input(SHAPE)
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(inputs)
    x = layers.Activation("swish")(layers.BatchNormalization(momentum=0.8)(x))
    skip = x
    x = layers.Conv2D(16, 1, use_bias=False)(x)
    x = layers.ReLU(6.0)(layers.BatchNormalization(momentum=0.8)(x))
    x = layers.ZeroPadding2D(1)(x)
    x = layers.DepthwiseConv2D(3, use_bias=False)(x)
    x = layers.Activation("swish")(layers.BatchNormalization(momentum=0.8)(x))
    gate = layers.Reshape((1, 1, 16))(layers.GlobalAveragePooling2D()(x))
    gate = layers.Conv2D(4, 1, activation="swish")(gate)
    gate = layers.Conv2D(16, 1, activation="sigmoid")(gate)
    x = layers.Multiply()([x, gate])
    x = layers.BatchNormalization(momentum=0.8)(layers.Conv2D(8, 1, use_bias=False)(x))
    x = layers.Add()([layers.Dropout(0.1, noise_shape=(None, 1, 1, 1))(x), skip])
    x = layers.GlobalAveragePooling2D()(layers.MaxPooling2D(2)(x))
    return keras.Model(inputs, layers.Dense(4)(layers.Dropout(0.2)(x)))


def tiny():
    """Convolution, norm, swish: the least that shows what the selective recipe loses."""
    inputs = keras.Input(SHAPE)
    x = layers.BatchNormalization()(layers.Conv2D(4, 3, strides=4, use_bias=False)(inputs))
    x = layers.GlobalAveragePooling2D()(layers.Activation("swish")(x))
    return keras.Model(inputs, layers.Dense(4)(x))


def fit(model, rate, epochs=1):
    model.compile(
        keras.optimizers.Adam(rate), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    model.fit(*scenes(512), batch_size=32, epochs=epochs, verbose=0)
    return model


def int8_ptq(model):
    flat = convert(model)
    return quantizer.quantize(
        flat, quantizer.scheme("int8"), calibration.calibrate(flat, scenes(32)[0], (-1.0, 1.0))
    )
