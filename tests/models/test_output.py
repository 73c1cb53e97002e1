"""Outputs are recognised through what follows them, in Keras and in the file alike."""

import numpy as np
import pytest
import tf_keras as keras

from edgeq_lib.compress.quantize import qat
from edgeq_lib.measure.accuracy import check_parity, predict_file
from edgeq_lib.models import training
from edgeq_lib.models.convert import convert
from edgeq_lib.models.output import class_columns, output_kind
from edgeq_lib.models.tf import tf
from edgeq_lib.tflite.output_kind import file_output_kind

layers = keras.layers
FUNCTIONS = {"logits": None, "probabilities": "softmax", "sigmoid": "sigmoid"}


def network(kind, tail, size=8):
    image = keras.Input((size, size, 1))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, activation="relu")(image))
    outputs = 1 if kind == "sigmoid" else 3
    if tail == "apart":
        x = layers.Activation(FUNCTIONS[kind] or "linear")(layers.Dense(outputs)(x))
    else:
        x = layers.Dense(outputs, activation=FUNCTIONS[kind])(x)
    if tail == "reshape":
        x = layers.Reshape((outputs,))(layers.Reshape((1, outputs))(x))
    elif tail == "cast":
        x = tf.reshape(tf.cast(tf.cast(x, "float64"), "float32"), (-1, outputs))
    elif tail == "flatten":
        x = layers.Dropout(0.5)(layers.Flatten()(layers.Reshape((1, 1, outputs))(x)))
    elif tail == "linear":
        x = layers.Activation("linear", dtype="float32")(x)
    return keras.Model(image, x)


PIXELS = np.random.default_rng(0).integers(0, 256, (24, 8, 8, 1), np.uint8)


def unit(pixels):
    return pixels.astype(np.float32) / 255


@pytest.mark.parametrize("kind", FUNCTIONS)
@pytest.mark.parametrize("tail", ["alone", "apart", "reshape", "cast", "flatten", "linear"])
def test_kinds_are_seen_through_reshapes_and_casts(kind, tail):
    model = network(kind, tail)
    file = convert(model)
    assert output_kind(model) == file_output_kind(file) == kind
    assert check_parity(model, file, PIXELS, unit)["largest difference"] < 1e-5
    assert predict_file(file, PIXELS, unit).shape == (24, 2 if kind == "sigmoid" else 3)


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_kinds_survive_quantization_aware_training(kind):
    aware = qat.quantize_aware(network(kind, "alone"), unit(PIXELS))
    assert output_kind(aware) == kind


def test_columns_are_probabilities_or_logits_again():
    for value in np.linspace(-4, 4, 9, dtype=np.float32):
        p = tf.sigmoid(tf.constant([[value]]))
        assert np.allclose(class_columns(p, "sigmoid"), [[1 - p[0, 0], p[0, 0]]])
        two = tf.nn.softmax(class_columns(tf.constant([[value]]), "logits"))
        assert np.allclose(two, class_columns(p, "sigmoid"), atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "tail"), [("probabilities", "reshape"), ("sigmoid", "alone"), ("sigmoid", "cast")]
)
def test_the_first_loss_is_that_of_the_outputs_as_they_are(kind, tail, tmp_path):
    """A softmax on a softmax would give a loss near that of guessing."""
    model = network(kind, tail)
    labels = np.arange(24) % 2
    history = training.fit(
        model, (PIXELS, labels), (PIXELS, labels), unit,
        training.TrainingConfig(1, 1e-12, 24), folder=tmp_path, key=[kind, tail],
    )  # fmt: skip
    outputs = training.run_keras(model, PIXELS, unit)
    p = np.concatenate([1 - outputs, outputs], 1) if kind == "sigmoid" else outputs
    expected = -np.log(p[np.arange(24), labels]).mean()
    assert np.allclose([history[0]["val_loss"], history[1]["loss"]], expected, rtol=1e-3)


def test_a_single_sigmoid_learns_two_classes(tmp_path):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 128)
    images = np.clip(
        60 + 130 * labels[:, None, None, None] + rng.normal(0, 20, (128, 8, 8, 1)), 0, 255
    )
    model = network("sigmoid", "alone")
    config = training.TrainingConfig(15, 2e-2, 16)
    data = (images.astype(np.uint8), labels)
    history = training.fit(model, data, data, unit, config, folder=tmp_path, key="sigmoid")
    assert max(epoch["val_accuracy"] for epoch in history) > 0.95
    named = predict_file(convert(model), data[0], unit).argmax(-1)
    assert np.mean(named == labels) > 0.95
