"""QKeras as an engine: what its layers compute with is on the stated grid, and the file holds
exactly that.
"""

import subprocess
import sys

import numpy as np
import pytest

from edgeq_lib.compress.quantize import qkeras, quantized_weights
from edgeq_lib.files import EdgeqError
from edgeq_lib.measure.accuracy import check_parity
from edgeq_lib.models import training
from edgeq_lib.models.graph import fold_batch_norms
from edgeq_lib.models.preprocessing import SIGNED
from edgeq_lib.models.tf import keras
from edgeq_lib.tflite.inspect import inspect_file

MISSING = qkeras.reason_missing()
needs_qkeras = pytest.mark.skipif(bool(MISSING), reason=MISSING)
RANGE = (-1.0, 1.0)


@pytest.fixture(scope="module")
def net(pictures):
    """Every kind of kernel: a convolution, a depthwise one with a loud and a silent channel, a 1 ×
    1 one, a dense layer.
    """
    keras.utils.set_random_seed(0)
    layers = keras.layers
    image = keras.Input((8, 8, 3))
    x = layers.BatchNormalization()(
        layers.Conv2D(8, 3, padding="same", use_bias=False, name="first")(image)
    )
    x = layers.DepthwiseConv2D(3, padding="same", trainable=False, name="depthwise")(
        layers.ReLU(6.0)(x)
    )
    x = layers.Conv2D(16, 1, activation="relu", name="pointwise")(
        layers.ReLU()(layers.BatchNormalization(name="norm")(x))
    )
    model = keras.Model(
        image, layers.Dense(4, name="last")(layers.Flatten()(layers.AveragePooling2D(4)(x)))
    )
    kernel, bias = model.get_layer("depthwise").get_weights()
    kernel[:, :, 1] = 0
    model.get_layer("depthwise").set_weights([kernel, bias])
    model.compile(
        keras.optimizers.Adam(3e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    model.fit(SIGNED(pictures[0]), pictures[1], epochs=8, batch_size=16, verbose=0)
    gamma, beta, *moments = model.get_layer(
        "norm"
    ).get_weights()  # louder by 40, the next layer quieter: the same function
    gamma[0], beta[0] = 40 * gamma[0], 40 * beta[0]
    model.get_layer("norm").set_weights([gamma, beta, *moments])
    kernel, bias = model.get_layer("pointwise").get_weights()
    kernel[:, :, 0] /= 40
    model.get_layer("pointwise").set_weights([kernel, bias])
    return model


@pytest.fixture(scope="module")
def images(pictures):
    return SIGNED(pictures[0][:64])


def made(net, images, bits, recipe="careful"):
    return qkeras.quantize_network(net, bits, qkeras.recipe(recipe), images)


@needs_qkeras
@pytest.mark.parametrize("recipe", ["fixed", "default", "careful"])
@pytest.mark.parametrize("bits", [8, 4, 3, 2])
def test_weights_lie_on_the_stated_grid(net, images, recipe, bits):
    layers = qkeras.quantized_layers(made(net, images, bits, recipe))
    assert [layer.name for layer in layers] == ["first", "depthwise", "pointwise", "last"]
    for layer in layers:
        read, kernel = qkeras.kernel_grid(layer), qkeras.computed_weights(layer)[0]
        low = recipe != "careful" or layer.name == "pointwise"
        assert read.bits == (bits if low else 8) and np.abs(
            read.codes
        ).max() <= quantized_weights.qmax(read.bits)
        assert np.allclose(
            read.values.reshape(kernel.shape), kernel, atol=1e-6 * np.abs(kernel).max()
        )
        assert read.scales.shape == (kernel.shape[2 if layer.name == "depthwise" else -1],)


@needs_qkeras
def test_careful_steps_are_those_of_min_and_max_a_channel(net, images):
    folded = fold_batch_norms(net)
    for layer in qkeras.quantized_layers(made(net, images, 4)):
        read = qkeras.kernel_grid(layer)
        kernel = folded.get_layer(layer.name).get_weights()[0].reshape(read.codes.shape)
        assert np.allclose(
            read.scales, quantized_weights.min_max_scales(kernel, read.bits), rtol=1e-5
        )
        assert (np.abs(kernel - read.values) <= 0.501 * read.scales).all()


@needs_qkeras
def test_powers_of_two_are_a_grid_of_few_octaves(net, images):
    for bits, needed in (
        (2, 4),
        (3, 6),
    ):  # max_value=1 gives one power more than the bits can count
        layer = qkeras.quantized_layers(made(net, images, bits, "po2"))[2]
        read, kernel = qkeras.kernel_grid(layer), qkeras.computed_weights(layer)[0]
        assert read.bits <= needed and np.array_equal(
            read.values.reshape(kernel.shape).astype(np.float32), kernel
        )
        assert np.array_equal(np.log2(np.abs(kernel)), np.round(np.log2(np.abs(kernel))))
    wide = made(net, images, 8, "po2")
    with pytest.raises(EdgeqError, match="octaves"):
        qkeras.kernel_grid(qkeras.quantized_layers(wide)[2])
    files, why_not = qkeras.exports({"wide": wide, "careful": made(net, images, 4)}, images, RANGE)
    assert list(files) == ["careful"] and "octaves" in why_not["wide"]


@needs_qkeras
def test_eight_bits_keep_the_function_and_two_do_not(net, images, pictures):
    exact = training.predict_keras(net, pictures[0], SIGNED)
    off = {
        case: np.square(
            training.predict_keras(made(net, images, *case), pictures[0], SIGNED) - exact
        ).mean()
        / exact.var()
        for case in ((8, "careful"), (2, "careful"), (8, "fixed"))
    }
    assert off[8, "careful"] < 0.01 and off[2, "careful"] > 5 * off[8, "careful"], off
    assert off[8, "fixed"] > 20 * off[8, "careful"], "what is larger than 1 is clipped"


@needs_qkeras
def test_training_does_not_clip_what_the_careful_recipe_covers(net, images, pictures, tmp_path):
    model = made(net, images, 4)
    largest = np.abs(model.get_layer("depthwise").get_weights()[0]).max()
    split = (pictures[0][:64], pictures[1][:64])
    history = training.fit(
        model,
        split,
        split,
        SIGNED,
        training.TrainingConfig(epochs=1, learning_rate=1e-6, batch=32),
        folder=tmp_path,
        key="once",
        teacher=net,
    )
    assert largest > 2 and np.abs(
        model.get_layer("depthwise").get_weights()[0]
    ).max() == pytest.approx(largest, rel=1e-3)
    assert {"val_accuracy", "val_agreement"} <= history[-1].keys()


@needs_qkeras
@pytest.mark.parametrize(("recipe", "bits"), [("careful", 4), ("po2", 3)])
def test_the_file_is_what_qkeras_computed(net, images, pictures, recipe, bits):
    model = made(net, images, bits, recipe)
    file = qkeras.export_file(model, images, RANGE)
    report = inspect_file(file)
    assert report["integer_only"] and ("4" in map(str, report["weight_bits_share"])) == (bits == 4)
    parity = check_parity(model, file, pictures[0][:256], SIGNED)
    assert parity["top-1 agreement %"] >= 97, parity


@needs_qkeras
def test_it_says_what_it_does_not_take(net, images):
    with pytest.raises(EdgeqError, match="2 to 8 bits"):
        made(net, images, 1)
    with pytest.raises(EdgeqError, match="fold"):
        qkeras.export_file(made(net, images, 8, "fixed"), images, RANGE)
    image = keras.Input((8, 8, 3))
    other = keras.Model(image, keras.layers.Conv2DTranspose(4, 3)(image))
    with pytest.raises(EdgeqError, match="Conv2DTranspose"):
        made(other, images, 8)


def test_an_unknown_recipe_is_named_with_those_there_are():
    with pytest.raises(EdgeqError, match="'naive'.*fixed, default, careful, po2"):
        qkeras.recipe("naive")


def test_without_the_extra_one_sentence_says_how_to_get_it(monkeypatch, net, images):
    monkeypatch.setitem(sys.modules, "qkeras", None)
    assert "pip install" in qkeras.reason_missing() and "[qkeras]" in qkeras.reason_missing()
    with pytest.raises(EdgeqError, match=r"install it with .*\[qkeras\]"):
        made(net, images, 4)


@needs_qkeras
def test_a_process_that_runs_on_keras_3_is_told_so():
    code = (
        "import tensorflow.keras.layers, qkeras; from edgeq_lib.compress.quantize import qkeras; "
        "qkeras.load_library()"
    )
    said = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={"PATH": "", **_environment()},
    )
    assert "EdgeqError" in said.stderr and "TF_USE_LEGACY_KERAS=1" in said.stderr


def _environment():
    import os

    return {key: value for key, value in os.environ.items() if key != "TF_USE_LEGACY_KERAS"}
