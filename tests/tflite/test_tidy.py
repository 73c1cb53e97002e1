import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from edgeq_lib.compress.quantize import calibration, quantizer
from edgeq_lib.models.convert import convert
from edgeq_lib.tflite.inspect import inspect_file
from edgeq_lib.tflite.reader import read_graph
from edgeq_lib.tflite.runtime import dequantize_array, make_interpreter, run_images
from edgeq_lib.tflite.tidy import tidy

layers = keras.layers


def _images(n=5, size=8, seed=0):
    shape = (n, size, size, 3)
    return np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)


def _same(model, file, images):
    outputs = run_images(make_interpreter(file), images)
    return np.abs(outputs - model(images).numpy()).max() <= 1e-5


@pytest.mark.parametrize("seed", range(6))
def test_a_maximum_padded_with_the_lowest_number_gets_no_such_range(seed):
    rng = np.random.default_rng(seed)
    keras.utils.set_random_seed(seed)
    size = int(rng.integers(2, 6))
    pads = rng.integers(0, size // 2 + 1, (2, 2)).tolist()
    image = keras.Input((9, 9, 3))
    signed = layers.Conv2D(4, 3, activation=None if seed % 2 else "relu")(image) - seed % 2 * 3.0
    lowest = -np.finfo("float32").max if seed < 3 else -np.inf
    x = tf.pad(signed, [[0, 0], *pads, [0, 0]], constant_values=lowest)
    x = layers.MaxPooling2D(size, int(rng.integers(1, 3)))(x)
    model = keras.Model(image, layers.Dense(3)(layers.Flatten()(x)))
    file, images = tidy(convert(model)), _images(6, 9, seed)
    assert _same(model, file, images)
    ranges = calibration.calibrate(file, images, (-4.0, 4.0))
    small = quantizer.quantize(file, quantizer.scheme("int8"), ranges)
    interpreter = make_interpreter(small)
    ours = dequantize_array(run_images(interpreter, images), interpreter.get_output_details()[0])
    theirs = model(images).numpy()
    assert np.abs(ours - theirs).max() <= 0.2 * np.ptp(theirs)


@pytest.mark.parametrize("seed", range(3))
def test_flattening_channels_first_goes_into_the_weights(seed):
    keras.utils.set_random_seed(seed)
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(5, 3, strides=(1, 2))(image)
    x = layers.Flatten()(layers.Permute((3, 1, 2))(x))
    model = keras.Model(image, layers.Dense(3)(x))
    before = convert(model)
    file = tidy(before)
    assert "TRANSPOSE" in inspect_file(before)["ops"]
    assert "TRANSPOSE" not in inspect_file(file)["ops"]
    assert _same(model, file, _images())
    assert len(file) <= len(before) + 1000


def test_a_transpose_that_others_read_stays():
    image = keras.Input((8, 8, 3))
    x = layers.Permute((3, 1, 2))(layers.Conv2D(5, 3)(image))
    both = layers.Dense(3)(layers.Flatten()(x)) + layers.Dense(3)(layers.Flatten()(x * 2.0))
    model = keras.Model(image, both)
    assert _same(model, tidy(convert(model)), _images())


def test_long_names_become_short_and_stay_apart():
    image = keras.Input((8, 8, 3), name="an_image_with_a_very_long_name_that_nobody_can_read" * 3)
    x = layers.Conv2D(4, 3, name="a_layer_with_a_very_long_name_that_nobody_can_read" * 3)(image)
    model = keras.Model(image, layers.GlobalAveragePooling2D()(x))
    before = convert(model)
    file = tidy(before)
    names = [tensor.name for tensor in read_graph(file).tensors]
    assert max(map(len, names)) <= 48 < max(len(t.name) for t in read_graph(before).tensors)
    assert len(set(names)) == len(names)
    outputs = [run_images(make_interpreter(each), _images()) for each in (before, file)]
    assert np.array_equal(*outputs)
    assert tidy(file) == file
