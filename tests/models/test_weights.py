import json
import os
import zipfile

import h5py
import numpy as np
import pytest
import stand_ins
import tf_keras as keras

from edgeq_lib.files import EdgeqError
from edgeq_lib.models import weights, zoo
from edgeq_lib.models.preprocessing import SIGNED
from edgeq_lib.models.weights import (
    checkpoint_bytes,
    copy_weights,
    imagenet_weights,
    load_own_model,
)

CODE = "the file ran code"


def lambda_net():
    image = keras.Input((8, 8, 3))
    x = keras.layers.Lambda(lambda t: t * 2)(image)
    return keras.Model(image, keras.layers.Dense(4)(keras.layers.GlobalAveragePooling2D()(x)))


@pytest.mark.parametrize("layout", ["net.h5", "net.weights.h5"])
def test_weights_are_copied_by_name_in_both_layouts(tmp_path, layout):
    source, target = (zoo.resnet8((8, 8, 3), 4) for _ in range(2))
    source.save_weights(tmp_path / layout)
    assert copy_weights(target, tmp_path / layout) == []
    image = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)
    assert np.array_equal(source(image), target(image))


def test_what_was_not_loaded_is_reported(tmp_path):
    zoo.resnet8((8, 8, 3), 10).save_weights(tmp_path / "net.weights.h5")
    other_head = zoo.resnet8((8, 8, 3), 4)
    before = other_head.get_layer("logits").get_weights()[0]
    missing = copy_weights(other_head, tmp_path / "net.weights.h5")
    assert len(missing) == 1 and missing[0].startswith("logits: the file has [(64, 10)")
    assert np.array_equal(before, other_head.get_layer("logits").get_weights()[0])


def test_weights_of_a_finished_training_must_hold_every_layer(tmp_path):
    source = zoo.resnet8((8, 8, 3), 10)
    source.save_weights(tmp_path / "net.weights.h5")
    trained = str(tmp_path / "net.weights.h5")
    net, preprocess, missing = zoo.obtain(
        "resnet8", "imagenet", (8, 8, 3), 10, trained=trained
    )  # which has none to load
    assert missing == [] and preprocess == SIGNED
    assert all(map(np.array_equal, net.get_weights(), source.get_weights()))
    with pytest.raises(EdgeqError, match="not this network's: 1 of 17 layers"):
        zoo.obtain("resnet8", "none", (8, 8, 3), 4, trained=trained)


def test_a_checkpoint_holds_the_state_of_its_optimizer():
    net = zoo.resnet8((8, 8, 3), 10)
    before, weights = net.get_weights(), sum(np.size(array) for array in net.get_weights())
    assert 1 < checkpoint_bytes(net) / (3 * 4 * weights) < 1.6, (
        "three numbers a weight, and the graph"
    )
    assert getattr(net, "optimizer", None) is None and all(
        map(np.array_equal, before, net.get_weights())
    )


def test_a_head_of_another_name_is_still_the_head(tmp_path):
    source, target = (zoo.resnet8((8, 8, 3), 10) for _ in range(2))
    stand_ins.save_as_published(
        source, tmp_path / "net.h5", lambda name: "probs" if name == "logits" else name
    )
    assert copy_weights(target, tmp_path / "net.h5") == []
    assert all(map(np.array_equal, source.get_weights(), target.get_weights()))
    stand_ins.save_as_published(
        keras.Model(source.input, source.layers[-2].output), tmp_path / "notop.h5"
    )
    assert copy_weights(target, tmp_path / "notop.h5") == ["logits: not in the file"]


def test_weights_of_another_network_are_refused(tmp_path):
    zoo.resnet8((8, 8, 3), 4, alpha=0.5).save_weights(tmp_path / "net.weights.h5")
    with pytest.raises(EdgeqError, match="not this network's"):
        copy_weights(zoo.resnet8((8, 8, 3), 4), tmp_path / "net.weights.h5")


def test_nan_weights_are_refused(tmp_path):
    net = zoo.resnet8((8, 8, 3), 4)
    kernel, bias = net.get_layer("logits").get_weights()
    kernel[3, 1] = np.nan
    net.get_layer("logits").set_weights([kernel, bias])
    net.save_weights(tmp_path / "net.weights.h5")
    with pytest.raises(EdgeqError, match="'logits' has weights that are NaN"):
        copy_weights(zoo.resnet8((8, 8, 3), 4), tmp_path / "net.weights.h5")
    net.save(tmp_path / "net.keras")
    with pytest.raises(EdgeqError, match="NaN"):
        zoo.obtain(str(tmp_path / "net.keras"), "none", (8, 8, 3), 4)


@pytest.mark.parametrize("name", ["net.keras", "net.h5"])
def test_a_whole_model_is_loaded(tmp_path, name):
    net = zoo.resnet8((8, 8, 3), 4)
    net.save(tmp_path / name)
    loaded, preprocess, _ = zoo.obtain(
        str(tmp_path / name), "none", (8, 8, 3), 4, preprocessing="unit"
    )
    image = np.full((1, 8, 8, 3), 0.3, np.float32)
    assert np.allclose(net(image), loaded(image)) and preprocess.range == (0.0, 1.0)


def test_a_saved_model_is_a_program(tmp_path):
    zoo.resnet8((8, 8, 3), 4).save(tmp_path / "net", save_format="tf")
    with pytest.raises(EdgeqError, match="trusted: true"):
        load_own_model(tmp_path / "net")
    assert load_own_model(tmp_path / "net", trusted=True).output_shape == (None, 4)


@pytest.mark.parametrize("name", ["net.keras", "net.h5"])
def test_lambda_layers_are_refused_before_anything_is_loaded(tmp_path, monkeypatch, name):
    path = tmp_path / name
    if name.endswith(".h5"):
        lambda_net().save(path)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("metadata.json", json.dumps({"keras_version": "2.19.0"}))
            archive.writestr(
                "config.json", json.dumps({"config": {"layers": [{"class_name": "Lambda"}]}})
            )
    monkeypatch.setattr(keras.models, "load_model", lambda *args, **kwargs: pytest.fail(CODE))
    with pytest.raises(EdgeqError, match="Lambda layer"):
        load_own_model(path)


def test_a_trusted_lambda_is_loaded(tmp_path):
    lambda_net().save(tmp_path / "net.h5")
    assert load_own_model(tmp_path / "net.h5", trusted=True).output_shape == (None, 4)


def test_keras_3_files_are_named_as_such(tmp_path):
    with zipfile.ZipFile(tmp_path / "net.keras", "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.8.0"}))
        archive.writestr("config.json", "{}")
    with h5py.File(tmp_path / "net.h5", "w") as file:
        file.attrs["model_config"], file.attrs["keras_version"] = "{}", "3.8.0"
    for name in ("net.keras", "net.h5"):
        with pytest.raises(EdgeqError, match="Keras 3.8.0"):
            load_own_model(tmp_path / name)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 truncated", os.urandom(300)])
def test_garbled_files(tmp_path, content):
    (tmp_path / "net.keras").write_bytes(content)
    with pytest.raises(EdgeqError, match="no readable Keras file"):
        load_own_model(tmp_path / "net.keras")
    with pytest.raises(EdgeqError, match="cannot be read as Keras weights"):
        copy_weights(zoo.resnet8((8, 8, 3), 4), tmp_path / "net.keras")


def test_a_weights_file_is_no_model(tmp_path):
    zoo.resnet8((8, 8, 3), 4).save_weights(tmp_path / "net.h5")
    with pytest.raises(EdgeqError, match="weights but no model"):
        load_own_model(tmp_path / "net.h5")


def test_official_names(monkeypatch):
    asked = []
    monkeypatch.setattr(
        weights, "fetch", lambda name, url, checksum, folder: asked.append((name, checksum)) or name
    )
    imagenet_weights("mobilenet", 224, 0.75)
    imagenet_weights("mobilenet", 96, 1.0)
    imagenet_weights("mobilenetv2", 160, 0.35)
    imagenet_weights("efficientnetv2b0", 224)
    assert [name for name, _ in asked] == [
        "mobilenet_7_5_224_tf.h5",
        "mobilenet_1_0_224_tf.h5",
        "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_160.h5",
        "efficientnetv2-b0.h5",
    ]
    assert asked[-1][1] == "21ecbf6da12460d5c40bb2f29ceb2188"
    with pytest.raises(EdgeqError, match="no official ImageNet weights"):
        imagenet_weights("resnet8", 32)


@pytest.mark.skipif(
    not os.environ.get("EDGEQ_ASSETS"), reason="needs EDGEQ_ASSETS, a folder with real weights"
)
def test_real_weights_load_into_the_zoo():
    from edgeq_lib.data.download import asset

    for name, model, shape, classes, alpha, lost in (
        ("mobilenet_v1_0.75_224_imagenet.weights.h5", "mobilenet", (224, 224, 3), 1000, 0.75, 0),
        ("mobilenet_v1_0.25_224_imagenet.h5", "mobilenet", (96, 96, 3), 10, 0.25, 1),
        (
            "mobilenet_v2_0.35_224_imagenet_notop.weights.h5",
            "mobilenetv2",
            (96, 96, 3),
            10,
            0.35,
            1,
        ),
        (
            "efficientnetv2b0_64_tiny_imagenet.weights.h5",
            "efficientnetv2b0",
            (64, 64, 3),
            200,
            1.0,
            0,
        ),
    ):
        assert len(copy_weights(zoo.build(model, shape, classes, alpha), asset(name))) == lost, name
