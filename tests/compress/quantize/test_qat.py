"""Quantization-aware training: what is rounded and how, and what is refused."""

import numpy as np
import pytest
import tf_keras as keras
from qat_networks import SHAPE, fit, resnet8, scenes, squeeze_excite

from edgeq_lib.compress.quantize import fake_quant, qat, qat_export
from edgeq_lib.files import CannotTake, EdgeqError
from edgeq_lib.models.graph import WITH_KERNEL

layers = keras.layers


def test_training_keeps_the_accuracy(trained):
    model, aware, _ = trained
    images, labels = scenes(1000, seed=1)
    accuracy = [
        (net.predict(images, verbose=0).argmax(1) == labels).mean() for net in (model, aware)
    ]
    assert accuracy[0] > 0.9 and accuracy[1] > accuracy[0] - 0.03


def test_nothing_is_rounded_between_an_operation_and_its_fused_relu():
    aware = qat.quantize_aware(resnet8(), scenes(8)[0])
    rounded = {
        wrapper.layer.name
        for wrapper in fake_quant.wrappers(aware)
        if wrapper.quantize_config.output
    }
    kinds = [
        type(layer).__name__
        for layer in qat_export.trained_float_model(aware).layers
        if layer.name in rounded
    ]
    assert kinds.count("Activation") == 7 and "Add" not in kinds
    assert (
        kinds.count("Conv2D") == 5
    )  # without relu: the second of each stack, and the two shortcuts
    assert not aware.trainable_weights[0].name.startswith("quant_input")


def test_one_outlier_image_does_not_set_the_ranges():
    images = scenes(100)[0]
    with_outlier = images.copy()
    with_outlier[7] *= 1000
    model = resnet8()
    calm, wild = (
        [
            float(end)
            for end in qat.quantize_aware(model, some).layers[-1].quantize_config.output.bounds()
        ]
        for some in (images, with_outlier)
    )
    np.testing.assert_allclose(calm, wild, rtol=0.25)


def test_checkpoints_fit_a_model_built_again(tmp_path):
    model, calibration_set = squeeze_excite(), scenes(16)[0]
    first = fit(qat.quantize_aware(model, calibration_set), 1e-2)
    first.save_weights(tmp_path / "qat.weights.h5")
    second = qat.quantize_aware(model, calibration_set)
    assert [weight.name for weight in first.weights] == [weight.name for weight in second.weights]
    second.load_weights(tmp_path / "qat.weights.h5")
    assert np.array_equal(
        first.predict(calibration_set, verbose=0), second.predict(calibration_set, verbose=0)
    )


def refused(build):
    inputs = keras.Input(SHAPE)
    return keras.Model(inputs, build(inputs))


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda x: layers.Conv2D(2, 3)(x * 2.0), r"'tf\.math\.multiply.*TFOpLambda"),
        (lambda x: layers.Lambda(lambda y: y, name="magic")(x), "'magic'.*Lambda"),
        (lambda x: layers.BatchNormalization(name="lonely")(x), "'lonely'.*batch norm"),
        (lambda x: layers.Conv2D(2, 3, activation="softplus", name="soft")(x), "'soft.*softplus"),
        (
            lambda x: (lambda twice: twice(twice(x)))(layers.Conv2D(3, 1, name="shared")),
            "'shared'.*more than once",
        ),
    ],
    ids=["op-lambda", "lambda", "norm", "activation", "shared"],
)
def test_networks_that_cannot_be_taken_are_refused_by_layer(build, message):
    with pytest.raises(CannotTake, match=message):
        qat.quantize_aware(refused(build), scenes(2)[0])


def test_nested_models_and_bad_calibration_images_are_refused():
    nested = refused(
        lambda x: keras.Sequential([keras.Input(SHAPE), layers.Conv2D(2, 3)], name="inner")(x)
    )
    with pytest.raises(EdgeqError, match="'inner'"):
        qat.quantize_aware(nested, scenes(2)[0])
    with pytest.raises(EdgeqError, match="no calibration images"):
        qat.quantize_aware(resnet8(), scenes(2)[0][:0])
    images = scenes(2)[0]
    images[1, 2, 3] = np.nan
    with pytest.raises(EdgeqError, match="NaN"):
        qat.quantize_aware(resnet8(), images)


def test_every_layer_class_is_sorted_once():
    sorted_classes = [*qat.OWN_RANGE, *qat.SAME_RANGE, *qat.MOVE_VALUES]
    assert len(sorted_classes) == len(set(sorted_classes)) and WITH_KERNEL[0] in sorted_classes
