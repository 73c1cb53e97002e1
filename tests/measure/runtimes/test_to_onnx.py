"""The ONNX file is the flatbuffer's function: on random networks of every kind of layer."""

import numpy as np
import pytest
import random_networks
from tiny_files import tiny_files

from edgeq_lib.files import CannotTake
from edgeq_lib.measure.runtimes import onnxruntime
from edgeq_lib.measure.runtimes.to_onnx import INPUT, OUTPUT, to_onnx, why_not
from edgeq_lib.models.convert import convert
from edgeq_lib.models.tf import keras
from edgeq_lib.tflite.runtime import make_interpreter, run_images

layers = keras.layers
needs_onnx = pytest.mark.skipif(
    bool(onnxruntime.reason_missing()), reason="needs the extra `runtimes`"
)


def difference(model, images):
    """The largest difference of the outputs, as a share of the largest output."""
    network = onnxruntime.load({onnxruntime.FILE: to_onnx(model)})
    ours = np.concatenate([network.answer(image[None]) for image in images])
    theirs = run_images(make_interpreter(model), images)
    assert ours.shape == theirs.shape and np.abs(theirs).max() > 1e-3
    return np.abs(ours - theirs).max() / np.abs(theirs).max()


@needs_onnx
@pytest.mark.parametrize("seed", [1, 2, 4, 5, 9, 14, 17, 25])
def test_random_networks_answer_the_same(seed):
    assert difference(convert(random_networks.draw(seed)), random_networks.pictures(3)) < 1e-5


def net(*body, shape=(9, 7, 3)):
    keras.utils.set_random_seed(0)
    x = image = keras.Input(shape)
    for layer in body:
        x = layer(x)
    return convert(keras.Model(image, x))


BODIES = {
    "strides over an odd and an even number of pixels": [
        layers.Conv2D(4, 3, strides=2, padding="same"),
        layers.DepthwiseConv2D(4, strides=2, padding="same", depth_multiplier=2),
        layers.Flatten(),
    ],
    "means without padding": [layers.AveragePooling2D(2, 2, "same"), layers.Flatten()],
    "bilinear": [layers.UpSampling2D(2, interpolation="bilinear"), layers.Flatten()],
    "dense over pixels": [layers.Dense(5, "relu"), layers.GlobalAveragePooling2D()],
    "softmax": [layers.GlobalMaxPooling2D(), layers.Dense(4, "softmax")],
    "sigmoid": [layers.GlobalAveragePooling2D(), layers.Dense(1, "sigmoid")],
    "transposed, uncovered pixels": [
        layers.Conv2DTranspose(4, 2, strides=3, padding="same"),
        layers.Flatten(),
    ],
}


@needs_onnx
@pytest.mark.parametrize("name", BODIES)
def test_layers_answer_the_same(name):
    images = np.random.default_rng(0).normal(size=(3, 9, 7, 3)).astype(np.float32)
    assert difference(net(*BODIES[name]), images) < 1e-5


@needs_onnx
def test_photos_stay_channels_last_and_convolutions_are_not_torn_apart():
    import onnx

    body = [layers.Conv2D(4, 3, activation=keras.activations.relu) for _ in range(3)]
    written = onnx.load_from_string(to_onnx(net(*body, layers.GlobalAveragePooling2D())))
    assert [entry.name for entry in written.graph.input] == [INPUT]
    assert [entry.name for entry in written.graph.output] == [OUTPUT]
    sizes = [size.dim_value for size in written.graph.input[0].type.tensor_type.shape.dim]
    kinds = [node.op_type for node in written.graph.node]
    assert sizes == [1, 9, 7, 3] and kinds.count("Transpose") == 1 and kinds.count("Conv") == 3


@needs_onnx
def test_an_unknown_operation_is_named():
    model = net(layers.Lambda(lambda x: keras.backend.sin(x)), layers.Flatten())
    assert "SIN" in why_not(model)
    with pytest.raises(CannotTake, match="does not know SIN"):
        to_onnx(model)


def test_integer_files_are_refused():
    assert why_not(tiny_files()["float32"]) is None
    assert why_not(tiny_files()["int8"]) is not None
