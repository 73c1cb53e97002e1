"""Flatbuffers taken apart and packed again."""

import numpy as np
from ai_edge_litert.tools import flatbuffer_utils

from edgeq_lib.compress.quantize import calibration, quantizer
from edgeq_lib.models.convert import convert
from edgeq_lib.models.tf import keras
from edgeq_lib.tflite.buffers import scales_of
from edgeq_lib.tflite.runtime import make_interpreter, run_images
from edgeq_lib.tflite.writer import pack, unpack

layers = keras.layers


def network() -> keras.Model:
    keras.utils.set_random_seed(0)
    image = keras.Input((7, 9, 4))
    x = layers.Conv2D(6, 1, activation="relu", name="pointwise", bias_initializer="ones")(image)
    y = layers.Conv2D(6, 1, bias_initializer="normal", name="between")(x)
    x = layers.Conv2D(6, 1, bias_initializer="normal", name="again")(y)
    x = layers.Add()([x, y])
    x = layers.Conv2D(6, 1, strides=2, name="strided")(x)
    return keras.Model(image, layers.Conv2D(5, 3, name="wide")(x))


def outputs(model: bytes, images: np.ndarray) -> np.ndarray:
    interpreter = make_interpreter(model)
    return run_images(interpreter, images)


IMAGES = np.random.default_rng(0).normal(size=(3, 7, 9, 4)).astype(np.float32)


def test_packing_stores_equal_scales_and_zero_points_once_and_changes_nothing():
    flat = convert(network())
    ranges = calibration.calibrate(flat, IMAGES, (-3.0, 3.0))
    small = quantizer.quantize(flat, quantizer.scheme("int8"), ranges)
    loose = unpack(small)
    large = bytes(flatbuffer_utils.convert_object_to_bytearray(loose))
    # Kernels and biases of four layers of six channels share one vector of zeros.
    assert len(large) - len(small) >= 8 * 6 * 7
    for index, (scales, zeros) in scales_of(large).items():
        np.testing.assert_array_equal(scales, scales_of(small)[index][0])
        np.testing.assert_array_equal(zeros, scales_of(small)[index][1])
    np.testing.assert_array_equal(outputs(small, IMAGES), outputs(large, IMAGES))
    assert pack(unpack(small)) == small
