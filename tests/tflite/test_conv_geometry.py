"""Windows and patches, against LiteRT's own convolutions."""

import numpy as np
import pytest
from tiny_files import tiny_files

from edgeq_lib.models.convert import convert
from edgeq_lib.models.tf import keras
from edgeq_lib.tflite.buffers import writable_buffers
from edgeq_lib.tflite.conv_geometry import mean_patch, patches, window
from edgeq_lib.tflite.reader import read_graph
from edgeq_lib.tflite.runtime import make_interpreter, run_images


@pytest.mark.parametrize(
    ("padding", "strides", "dilation"),
    [("same", 1, 1), ("same", 2, 1), ("valid", 1, 1), ("valid", (2, 2), 1), ("valid", 1, 2)],
)
def test_a_convolution_is_a_product_over_patches(padding, strides, dilation):
    image = keras.Input((9, 8, 3))
    layer = keras.layers.Conv2D(
        4, (3, 2), strides, padding, dilation_rate=dilation, bias_initializer="zeros"
    )
    model = convert(keras.Model(image, layer(image)))
    graph = read_graph(model)
    (number,) = (i for i, op in enumerate(graph.ops) if op.name == "CONV_2D")
    kernel = writable_buffers(bytearray(model))[graph.ops[number].inputs[1]]
    geometry = window(model, number, kernel.shape)
    images = np.random.default_rng(0).normal(size=(1, 9, 8, 3)).astype(np.float32)
    output = run_images(make_interpreter(model), images)[0]
    rows = patches(images[0], geometry)
    product = (rows @ kernel.reshape(4, -1).T).reshape(output.shape)
    np.testing.assert_allclose(product, output, atol=1e-5)
    mean = mean_patch(images[0], **geometry)
    np.testing.assert_allclose(mean, rows.mean(axis=0).reshape(3, 2, 3), atol=1e-6)


def test_a_dense_layer_has_no_window():
    graph = read_graph(tiny_files()["float32"])
    (number,) = (i for i, op in enumerate(graph.ops) if op.name == "FULLY_CONNECTED")
    assert window(tiny_files()["float32"], number, (5, 2)) is None
    assert patches(np.zeros((4, 6, 2)), None).shape == (24, 2)
