"""Networks with other inputs are fitted to the images and compute the same."""

import numpy as np
import pytest
import tf_keras as keras

from edgeq_lib.files import EdgeqError
from edgeq_lib.models import zoo
from edgeq_lib.models.inputs import fit_to_images, scales_inside

layers = keras.layers


def network(image_shape, input_shape, policy="float32", tail=False):
    keras.mixed_precision.set_global_policy(policy)
    try:
        image = keras.Input(input_shape)
        x = image if len(input_shape) == 3 else layers.Reshape(image_shape)(image)
        x = layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same")(x))
        x = layers.Dense(3)(layers.GlobalAveragePooling2D(keepdims=tail)(layers.ReLU()(x)))
        return keras.Model(image, layers.Activation("softmax", dtype="float32")(x))
    finally:
        keras.mixed_precision.set_global_policy("float32")


@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "float16", "float64"])
@pytest.mark.parametrize("seed", range(4))
def test_the_fitted_network_computes_the_same(seed, policy):
    rng = np.random.default_rng(seed)
    height, width = (int(side) for side in rng.integers(5, 12, 2))
    channels = int(rng.choice([1, 3]))
    shape = (height, width, channels)
    inputs = [(None, None, channels), (height, None, channels), shape, (height * width * channels,)]
    inputs += [(height, width)] if channels == 1 else []
    images = rng.uniform(0, 1, (3, *shape)).astype(np.float32)
    for own in inputs:
        model = network(shape, own, policy, tail=bool(seed % 2))
        fitted = fit_to_images(model, shape)
        assert fitted.input_shape == (None, *shape) and fitted.output_shape == (None, 3)
        assert {layer.compute_dtype for layer in fitted.layers} == {"float32"}
        rows = images if len(own) == 3 else images.reshape(3, *own)
        expected = model(rows, training=False).numpy().reshape(3, 3)
        close = 1e-6 if policy in ("float32", "float64") else 5e-3
        assert np.allclose(fitted(images, training=False), expected, atol=close)
        assert not any(isinstance(layer, layers.Reshape) for layer in fitted.layers)


def test_what_fits_is_not_touched_and_what_cannot_is_told_how(tmp_path):
    model = network((8, 6, 3), (8, 6, 3))
    assert fit_to_images(model, (8, 6, 3)) is model
    rows = network((8, 6, 1), (8, 6))
    rows.save(tmp_path / "rows.keras")
    with pytest.raises(EdgeqError, match=r"image_size: \[8, 6\], channels: 1"):
        zoo.obtain(str(tmp_path / "rows.keras"), "none", (8, 6, 3), 3)


@pytest.mark.parametrize(
    ("chain", "inside"),
    [
        ([lambda: layers.Rescaling(1 / 255)], True),
        ([lambda: layers.RandomFlip(), lambda: layers.Rescaling(1 / 127.5, -1)], True),
        ([lambda: layers.Normalization(mean=120.0, variance=3600.0)], True),
        ([lambda: layers.Normalization(mean=0.5, variance=0.08)], False),  # of pixels 0 … 1
        ([lambda: layers.Rescaling(2.0)], False),
        ([], False),
    ],
)
def test_a_scaling_inside_counts_where_it_is_one_of_pixels(chain, inside):
    image = keras.Input((8, 8, 3))
    x = image
    for make in chain:
        x = make()(x)
    assert scales_inside(keras.Model(image, layers.Conv2D(2, 3)(x))) is inside
