"""Networks whose batch norms say what their channels do, made once, with images for them."""

from functools import cache

import numpy as np

from edgeq_lib.compress.quantize import bn_statistics
from edgeq_lib.models.convert import convert
from edgeq_lib.models.tf import keras
from edgeq_lib.tflite.runtime import dequantize_array, make_interpreter, run_images

RANGE = (-1.0, 1.0)

IMAGES = np.random.default_rng(3).uniform(-1, 1, (64, 12, 12, 3)).astype(np.float32)

layers = keras.layers


def randomized(model, seed=0):
    """Batch norms and kernels of very unequal channels, as small depthwise networks have them."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            n = layer.gamma.shape[0]
            layer.set_weights(
                [
                    rng.uniform(0.2, 1.2, n),
                    rng.normal(0.4, 0.6, n),
                    rng.normal(0, 0.3, n),
                    10 ** rng.uniform(-3, 0.5, n),
                ]
            )
    return model


def normalized(model, images):
    """Batch norms that carry the statistics of these images, layer after layer: then beta and gamma
    are what they say.
    """
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            seen = keras.Model(model.input, layer.input)(images).numpy()
            gamma, beta, _, _ = layer.get_weights()
            layer.set_weights([gamma, beta, seen.mean(axis=(0, 1, 2)), seen.var(axis=(0, 1, 2))])
    return model


def depthwise(activation="relu"):
    """Convolution, depthwise, pointwise, pooling and dense in one chain."""
    keras.utils.set_random_seed(0)
    act = {
        "relu": layers.ReLU,
        "relu6": lambda: layers.ReLU(6.0),
        "swish": lambda: layers.Activation("swish"),
    }[activation]
    x = image = keras.Input((12, 12, 3))
    for make in (
        lambda: layers.Conv2D(8, 3, 2, "same", use_bias=False),
        lambda: layers.DepthwiseConv2D(3, 1, "same", depth_multiplier=2),
        lambda: layers.Conv2D(12, 1),
        lambda: layers.DepthwiseConv2D(3, 1, "same"),
        lambda: layers.Conv2D(12, 1),
    ):
        x = act()(layers.BatchNormalization()(make()(x)))
    dense = layers.Dense(5, bias_initializer=keras.initializers.Constant(0.1))
    model = normalized(
        randomized(keras.Model(image, dense(layers.GlobalAveragePooling2D()(x)))), IMAGES
    )
    return model


@cache
def made(activation):
    model = depthwise(activation)
    float32 = convert(model)
    return model, float32, bn_statistics.batch_norm_statistics(model, float32)


def run(model, images=IMAGES):
    interpreter = make_interpreter(model)
    return dequantize_array(run_images(interpreter, images), interpreter.get_output_details()[0])
