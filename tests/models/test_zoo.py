import numpy as np
import pytest
import tf_keras as keras

from edgeq_lib.files import EdgeqError
from edgeq_lib.models import zoo
from edgeq_lib.models.graph import check_flat, layer_census


@pytest.mark.parametrize(
    ("name", "size", "parameters"),
    [
        ("resnet8", 32, 78_666),
        ("mobilenet", 32, None),
        ("mobilenetv2", 96, None),
        ("mobilenetv3small", 64, None),
        ("efficientnetb0", 64, None),
        ("efficientnetv2b0", 64, None),
        ("resnet50", 64, None),
        ("inceptionv3", 75, None),
    ],
)
def test_every_model_of_the_zoo_is_flat_and_gives_logits(name, size, parameters):
    model = zoo.build(name, (size, size, 3), 10)
    check_flat(model)
    assert model.output_shape == (None, 10)
    assert not {"Rescaling", "Normalization"} & set(layer_census(model)), (
        "scaling is the preprocessing's"
    )
    assert model.layers[-1].get_config().get("activation", "linear") == "linear"
    assert parameters is None or model.count_params() == parameters


def test_names_do_not_depend_on_what_was_built_before():
    first = [layer.name for layer in zoo.build("mobilenetv2", (96, 96, 3), 10).layers]
    assert first == [layer.name for layer in zoo.build("mobilenetv2", (96, 96, 3), 10).layers]


def test_efficientnetb0_loses_its_scaling_but_not_its_function():
    whole = keras.applications.EfficientNetB0(
        weights=None, input_shape=(64, 64, 3), classes=10, classifier_activation=None
    )
    bare = zoo._without_input_scaling(whole)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype(np.float32)
    normalization = next(
        layer for layer in whole.layers if isinstance(layer, keras.layers.Normalization)
    )
    inside = normalization(pixels / 255.0)
    assert np.allclose(whole(pixels), bare(inside), atol=1e-5)


def test_initial_weights_follow_the_seed():
    one, same, other = (
        zoo.obtain("resnet8", "none", (8, 8, 3), 4, seed=seed)[0].get_weights()[0]
        for seed in (1, 1, 2)
    )
    assert np.array_equal(one, same) and not np.array_equal(one, other)


def test_wrong_requests_are_one_sentence():
    for name, size, alpha, says in (
        ("resnet9", 32, 1.0, "no model 'resnet9' in the zoo"),
        ("inceptionv3", 64, 1.0, "at least 75 pixels"),
        ("resnet50", 64, 0.5, "one width only"),
    ):
        with pytest.raises(EdgeqError, match=says):
            zoo.build(name, (size, size, 3), 10, alpha)


def test_a_model_must_fit_data_and_classes(tmp_path):
    zoo.resnet8((8, 8, 3), 4).save(tmp_path / "net.keras")
    path = str(tmp_path / "net.keras")
    with pytest.raises(EdgeqError, match="4 outputs and the data have 7 classes"):
        zoo.obtain(path, "none", (8, 8, 3), 7)
    with pytest.raises(EdgeqError, match="wants images of"):
        zoo.obtain(path, "none", (16, 16, 3), 4)
    with pytest.raises(EdgeqError, match="no preprocessing 'imagenet'"):
        zoo.obtain(path, "none", (8, 8, 3), 4, preprocessing="imagenet")
    with pytest.raises(EdgeqError, match="mean and std"):
        zoo.obtain(path, "none", (8, 8, 3), 4, preprocessing={"mean": [0]})


def test_a_nested_model_is_refused_with_its_layer(tmp_path):
    image = keras.Input((8, 8, 3))
    inner = keras.Sequential([keras.layers.Conv2D(4, 3, name="c")], name="backbone")
    keras.Model(
        image, keras.layers.Dense(4)(keras.layers.GlobalAveragePooling2D()(inner(image)))
    ).save(tmp_path / "n.keras")
    with pytest.raises(EdgeqError, match="backbone"):
        zoo.obtain(str(tmp_path / "n.keras"), "none", (8, 8, 3), 4)
