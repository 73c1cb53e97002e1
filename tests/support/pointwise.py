"""A random network with 1 × 1 convolutions and a residual sum, for tests of graph rewrites."""

import numpy as np

from edgeq_lib.models.tf import keras
from edgeq_lib.tflite.runtime import make_interpreter, run_images

IMAGES = np.random.default_rng(0).normal(size=(3, 7, 9, 4)).astype(np.float32)


def network() -> keras.Model:
    layers = keras.layers
    keras.utils.set_random_seed(0)
    image = keras.Input((7, 9, 4))
    x = layers.Conv2D(6, 1, activation="relu", name="pointwise", bias_initializer="ones")(image)
    y = layers.Conv2D(6, 1, bias_initializer="normal", name="between")(x)
    x = layers.Conv2D(6, 1, bias_initializer="normal", name="again")(y)
    x = layers.Add()([x, y])
    x = layers.Conv2D(6, 1, strides=2, name="strided")(x)
    return keras.Model(image, layers.Conv2D(5, 3, name="wide")(x))


def outputs(model: bytes, images: np.ndarray) -> np.ndarray:
    return run_images(make_interpreter(model), images)
