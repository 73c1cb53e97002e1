import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras as keras3_library
import numpy as np
import pytest
import tf_keras as keras

from edgeq_lib.files import EdgeqError
from edgeq_lib.models import network, zoo
from edgeq_lib.models.convert import convert
from edgeq_lib.models.network import obtain_network
from edgeq_lib.models.plain_layers import op_layers
from edgeq_lib.models.preprocessing import SIGNED
from edgeq_lib.tflite.runtime import make_interpreter, run_images


def _photos(shape=(12, 8, 8, 3)):
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


def _keras3(classes=4, odd=False):
    keras3_library.utils.set_random_seed(0)
    image = keras3_library.layers.Input((8, 8, 3))
    x = keras3_library.layers.Conv2D(8, 3, use_bias=False)(image)
    x = keras3_library.layers.BatchNormalization()(x)
    x = keras3_library.ops.sin(x) if odd else keras3_library.layers.ReLU()(x)
    x = keras3_library.layers.GlobalAveragePooling2D()(x)
    return keras3_library.Model(image, keras3_library.layers.Dense(classes)(x))


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_keras3_file_becomes_a_keras2_network_proven_on_real_images(suffix, tmp_path):
    model = _keras3()
    model.save(tmp_path / f"net{suffix}")
    taken = obtain_network(str(tmp_path / f"net{suffix}"), "none", _photos(), 4)
    assert isinstance(taken.keras, keras.Model) and not taken.reason
    assert "largest difference of outputs on 12 real images" in taken.loaded[0]
    expected = np.asarray(model(SIGNED(_photos())))
    assert np.allclose(taken.predict(_photos(), SIGNED), expected, atol=1e-5)
    outputs = run_images(make_interpreter(taken.to_file()), SIGNED(_photos()))
    assert np.allclose(outputs, expected, atol=1e-5)


def test_a_keras3_network_without_a_twin_is_a_flatbuffer_with_the_reason(tmp_path):
    model = _keras3(odd=True)
    model.save(tmp_path / "odd.keras")
    taken = obtain_network(str(tmp_path / "odd.keras"), "none", _photos(), 4)
    assert taken.keras is None and "sin" in taken.reason
    assert taken.parity["largest difference"] <= 1e-4 and taken.parity["images"] == 12
    expected = np.asarray(model(SIGNED(_photos())))
    assert np.allclose(taken.predict(_photos(), SIGNED), expected, atol=1e-5)
    assert taken.parameters() > 0 and taken.census()["CONV_2D"] == 1


def test_a_twin_that_differs_is_dropped(tmp_path, monkeypatch):
    right = network.keras3.twin

    def wrong(model, shape):
        twin = right(model, shape)
        kernel, bias = twin.layers[-1].get_weights()
        twin.layers[-1].set_weights([kernel, bias + 1e-3])
        return twin

    monkeypatch.setattr(network.keras3, "twin", wrong)
    _keras3().save(tmp_path / "net.keras")
    taken = obtain_network(str(tmp_path / "net.keras"), "none", _photos(), 4)
    assert taken.keras is None and "differs by 1.0e-03" in taken.reason


def test_a_float_tflite_file_and_a_bare_savedmodel_are_taken(tmp_path):
    model = zoo.resnet8((8, 8, 3), 4, alpha=0.25)
    (tmp_path / "net.tflite").write_bytes(convert(model))
    _keras3().export(str(tmp_path / "saved"), format="tf_saved_model", verbose=False)
    with pytest.raises(EdgeqError, match="trusted"):
        obtain_network(str(tmp_path / "saved"), "none", _photos(), 4)
    expected = model(SIGNED(_photos()), training=False).numpy()
    taken = obtain_network(str(tmp_path / "net.tflite"), "none", _photos(), 4)
    assert taken.keras is None and "cannot be trained" in taken.reason
    assert np.allclose(taken.predict(_photos(), SIGNED), expected, atol=1e-5)
    saved = obtain_network(str(tmp_path / "saved"), "none", _photos(), 4, trusted=True)
    expected = np.asarray(_keras3()(SIGNED(_photos())))
    assert np.allclose(saved.predict(_photos(), SIGNED), expected, atol=1e-5)


def test_zoo_networks_have_plain_layers_only():
    photos = _photos((4, 64, 64, 3))
    for name in ("mobilenetv3small", "mobilenetv2"):
        taken = obtain_network(name, "none", photos, 10)
        assert not op_layers(taken.keras)
        assert bool(taken.loaded) == (name == "mobilenetv3small")


def test_what_does_not_fit_or_cannot_be_read_is_one_sentence(tmp_path):
    _keras3().save(tmp_path / "net.keras")
    (tmp_path / "net.tflite").write_bytes(convert(zoo.resnet8((8, 8, 3), 4, alpha=0.25)))
    for name in ("net.keras", "net.tflite"):
        path = str(tmp_path / name)
        with pytest.raises(EdgeqError, match="4 outputs and the data have 7"):
            obtain_network(path, "none", _photos(), 7)
        with pytest.raises(EdgeqError, match="wants images of"):
            obtain_network(path, "none", _photos((12, 16, 16, 3)), 4)
    for name, says in (
        ("net.pth", "torch.export.save"),
        ("net.pt", "torch.export.save"),
        ("net.onnx", "ONNX"),
    ):
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(EdgeqError, match=says):
            obtain_network(str(tmp_path / name), "none", _photos(), 4)
    with pytest.raises(EdgeqError, match="no model 'resnet9' in the zoo"):
        obtain_network("resnet9", "none", _photos(), 4)


def test_a_lambda_layer_of_keras3_needs_trust(tmp_path):
    image = keras3_library.layers.Input((8, 8, 3))
    x = keras3_library.layers.Lambda(lambda x: x * 2)(image)
    x = keras3_library.layers.GlobalAveragePooling2D()(x)
    keras3_library.Model(image, x).save(tmp_path / "code.keras")
    with pytest.raises(EdgeqError, match="Lambda layer"):
        obtain_network(str(tmp_path / "code.keras"), "none", _photos(), 3)
    taken = obtain_network(str(tmp_path / "code.keras"), "none", _photos(), 3, trusted=True)
    assert taken.keras is None and "Lambda" in taken.reason


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float64"])
def test_other_precisions_compute_in_float32_with_the_same_weights(policy, tmp_path):
    before = keras3_library.config.dtype_policy()
    keras3_library.config.set_dtype_policy(policy)
    try:
        model = _keras3()
    finally:
        keras3_library.config.set_dtype_policy(before)
    model.save(tmp_path / "half.keras")
    taken = obtain_network(str(tmp_path / "half.keras"), "none", _photos(), 4)
    assert taken.keras is not None
    assert {layer.compute_dtype for layer in taken.keras.layers} == {"float32"}
    same = _keras3()
    same.set_weights([np.asarray(value, np.float32) for value in model.get_weights()])
    assert np.allclose(taken.predict(_photos(), SIGNED), same(SIGNED(_photos())), atol=1e-5)


@pytest.mark.parametrize("shape", [(8, 8), (64,)])
def test_an_input_without_channels_takes_grey_photos(shape, tmp_path):
    image = keras3_library.layers.Input(shape)
    x = keras3_library.layers.Reshape((8, 8, 1))(image)
    x = keras3_library.layers.Flatten()(keras3_library.layers.Conv2D(4, 3)(x))
    model = keras3_library.Model(image, keras3_library.layers.Dense(3)(x))
    model.save(tmp_path / "grey.keras")
    photos = _photos((5, 8, 8, 1))
    taken = obtain_network(str(tmp_path / "grey.keras"), "none", photos, 3)
    expected = model(SIGNED(photos).reshape(5, *shape))
    assert np.allclose(taken.predict(photos, SIGNED), expected, atol=1e-5)
    assert taken.keras.input_shape == (None, 8, 8, 1)


def test_a_damaged_tflite_file_does_not_bring_the_process_down(tmp_path):
    content = bytearray(convert(zoo.resnet8((8, 8, 3), 4, alpha=0.25)))
    rng = np.random.default_rng(0)
    for _ in range(8):
        damaged = bytearray(content)
        for position in rng.integers(8, len(content), 40):
            damaged[position] = rng.integers(0, 256)
        (tmp_path / "net.tflite").write_bytes(damaged)
        try:
            obtain_network(str(tmp_path / "net.tflite"), "none", _photos(), 4)
        except EdgeqError as error:
            assert str(error).endswith(".")


@pytest.mark.parametrize("odd", [False, True])
def test_augmentation_inside_the_network_does_nothing_in_inference(odd, tmp_path):
    layers = keras3_library.layers
    augmentation = keras3_library.Sequential(
        [layers.RandomFlip("horizontal"), layers.RandomContrast(0.2), layers.RandomRotation(0.1)]
    )
    body = _keras3(odd=odd)
    image = layers.Input((8, 8, 3))
    x = layers.RandomBrightness(0.1)(augmentation(image))
    model = keras3_library.Model(image, body(layers.GaussianNoise(0.1)(x), training=False))
    model.save(tmp_path / "net.keras")
    taken = obtain_network(str(tmp_path / "net.keras"), "none", _photos(), 4)
    assert (taken.keras is None) == odd, taken.reason
    expected = np.asarray(body(SIGNED(_photos())))
    assert np.allclose(taken.predict(_photos(), SIGNED), expected, atol=1e-5)
    assert not any("RANDOM" in name.upper() for name in taken.census())


def test_the_file_is_made_once_and_again_after_training():
    taken = obtain_network("resnet8", "none", _photos(), 4)
    file = taken.to_file()
    assert taken.to_file() is file
    head = taken.keras.layers[-1]
    head.set_weights([head.get_weights()[0], np.arange(4)])
    assert taken.to_file() is file and taken.to_file(anew=True) != file
    outputs = run_images(make_interpreter(taken.to_file()), SIGNED(_photos()))
    assert np.allclose(outputs, taken.predict(_photos(), SIGNED), atol=1e-5)
