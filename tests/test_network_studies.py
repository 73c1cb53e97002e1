"""The five studies that need a network, as far as their downloads go, against a server on this
machine.

To their ends they are run by `make synthetic` (tools/stand_ins.py), which takes too long to stand
here.
"""

import hashlib
import re
import sys
from importlib import import_module
from pathlib import Path

import loopback
import numpy as np
import pytest
import stand_ins
import yaml

from edgeq_lib.data import catalog, dataset
from edgeq_lib.data.prepare import prepare
from edgeq_lib.data.source import DOWNLOADS, SPLITS
from edgeq_lib.files import EdgeqError
from edgeq_lib.models import zoo
from edgeq_lib.models.preprocessing import SIGNED, TORCH
from edgeq_lib.models.tf import keras
from edgeq_lib.models.weights import IMAGENET, copy_weights, imagenet_weights
from edgeq_lib.pipeline import config
from edgeq_lib.study import SYNTHETIC, Study

NAMES = sorted(stand_ins.STUDIES)
FILES = {
    "imagenet_mini": "imagenetmini-1000.zip",
    "cats_vs_dogs": "kagglecatsanddogs_5340.zip",
    "cifar10": "cifar-10-python.tar.gz",
}


def section(name, part):
    return yaml.safe_load((stand_ins.ROOT / "studies" / f"{name}.yaml").read_text())[part]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The stand-ins for the images, made once, and bytes that stand for weights files."""
    folder = tmp_path_factory.mktemp("served")
    stand_ins.make_cifar10(folder)
    stand_ins.make_cats_vs_dogs(folder)
    stand_ins.make_imagenet_mini(folder, classes=12)
    for address, _ in IMAGENET.values():
        (folder / address.rsplit("/", 1)[1].format(alpha=1.0, size=224, width="1_0")).write_bytes(
            address.encode() * 500
        )
    return folder


@pytest.fixture
def server(made, tmp_path, monkeypatch):
    monkeypatch.delenv("EDGEQ_ASSETS", raising=False)
    monkeypatch.setenv("EDGEQ_HOME", str(tmp_path / "home"))
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    for table in (DOWNLOADS, catalog.SOURCES, IMAGENET):  # what `take_over` puts there goes again
        for key, value in table.items():
            monkeypatch.setitem(table, key, value)
    with loopback.serve(made) as running:
        monkeypatch.setenv("EDGEQ_MIRROR", running.address)
        stand_ins.take_over(made)
        yield running


@pytest.mark.parametrize("name", NAMES)
def test_the_images_of_each_study_come_through_a_broken_connection(server, name):
    data = section(name, "data")["data"]
    server.hang_up, server.hang_ups = 9_000, 2
    study = Study(name, "01_data")
    manifest = prepare(study, data, 16, calibration=8)
    parts = {split: manifest["splits"][split]["n"] for split in SPLITS}
    assert (
        parts
        == {
            "cifar10": {"train": 90, "validation": 10, "test": 20},
            "cats_vs_dogs": {"train": 56, "validation": 8, "test": 16},
            "imagenet_mini": {"train": 34, "validation": 2, "test": 12},
        }[data]
    )
    assert server.asked == [
        (FILES[data], None),
        (FILES[data], "bytes=9000-"),
        (FILES[data], "bytes=18000-"),
    ]
    assert manifest["form"].startswith(SYNTHETIC) and manifest["name"].startswith(SYNTHETIC)
    assert not any(dataset.prove_disjoint(dataset.load(study)).values())
    if data != "imagenet_mini":  # whose classes are 12 random colours
        assert np.ptp(dataset.load(study).train.images) > 50
    prepare(Study("again", "01_data"), data, 16, calibration=8)
    assert len(server.asked) == 3, "it is downloaded once"


@pytest.mark.parametrize(
    "data", ["cifar10", "cats_vs_dogs"]
)  # Kaggle's archive is checked by kagglehub
def test_images_of_another_sum_are_refused(server, data, monkeypatch, tmp_path):
    name, url, checksum = DOWNLOADS[data]
    monkeypatch.setitem(DOWNLOADS, data, (name, url, "0" * len(checksum)))
    with pytest.raises(
        EdgeqError, match=f"{re.escape(name)} is damaged or another version .*found {checksum}"
    ):
        prepare(Study("s", "01_data"), data, 16)
    assert not [path for path in (tmp_path / "home").rglob(f"{name}*")]


@pytest.mark.parametrize("name", NAMES)
def test_the_weights_of_each_study_come_through_a_broken_connection(server, name, monkeypatch):
    baseline, size = section(name, "baseline"), section(name, "data")["image_size"]
    assert baseline["weights"] == "imagenet"
    server.hang_up, server.hang_ups = 20_000, 1
    file = imagenet_weights(baseline["model"], size)
    assert [asked for _, asked in server.asked] == [None, "bytes=20000-"]
    assert (
        hashlib.md5(file.read_bytes()).hexdigest()
        == hashlib.md5(IMAGENET[baseline["model"]][0].encode() * 500).hexdigest()
    )
    address, hashes = IMAGENET[baseline["model"]]
    assert (file.parent / f"{file.name}.sha256").exists() == (hashes is None), (
        "official, or trusted on first use"
    )
    file.unlink()
    if hashes is None:
        (file.parent / f"{file.name}.sha256").write_text("0" * 64 + "\n")
    else:
        monkeypatch.setitem(IMAGENET, baseline["model"], (address, {1.0: "0" * 32}))
    with pytest.raises(EdgeqError, match="is damaged or another version .*thrown away"):
        imagenet_weights(baseline["model"], size)
    assert not file.exists()


@pytest.mark.parametrize("name", NAMES)
def test_each_study_is_valid_without_assets(name, monkeypatch):
    monkeypatch.delenv("EDGEQ_ASSETS", raising=False)
    stages = config.load(name).stages
    given = stages["02_baseline"]
    assert (
        given["trained"] is None
        and zoo.ZOO[given["model"]].smallest <= stages["01_data"]["image_size"]
    )
    if name.startswith("imagenet_mini"):
        assert (
            stages["01_data"]["calibration"],
            stages["01_data"]["image_size"],
            given["epochs"],
        ) == (500, 224, 0)
        assert [stages["04_qat"][key] for key in ("optimizer", "learning_rate", "epochs")] == [
            "adam",
            1e-5,
            5,
        ]


def test_the_cut_down_studies_are_valid_and_change_sizes_only(tmp_path, monkeypatch):
    stand_ins.prepare(tmp_path, "http://127.0.0.1:9")
    for name in NAMES:
        whole, cut = (
            config.load(study).stages
            for study in (name, str(tmp_path / "home" / "studies" / f"stand_in_{name}.yaml"))
        )
        assert whole.keys() - cut.keys() == {"10_diagnosis", "11_ptq_recovery"}
        changed = {
            key
            for stage, given in cut.items()
            for key, value in given.items()
            if whole[stage][key] != value
        }
        assert changed <= {
            "study",
            "image_size",
            "calibration",
            "allow_chance",
            "epochs",
            "batch",
            "limit_train",
            "budget_seconds",
        }


def test_checksums_are_those_that_keras_states():
    package = "tf_keras.src.applications."
    for name, module, key in (
        ("resnet50", "resnet", "resnet50"),
        ("efficientnetb0", "efficientnet", "b0"),
        ("efficientnetv2b0", "efficientnet_v2", "b0"),
        ("mobilenetv3small", "mobilenet_v3", "small_224_1.0_float"),
    ):
        official = import_module(package + module)
        address, hashes = IMAGENET[name]
        assert hashes[1.0] == official.WEIGHTS_HASHES[key][0], name
        base = getattr(official, "BASE_WEIGHTS_PATH", None) or official.BASE_WEIGHT_PATH
        assert address.startswith(base.rstrip("/") + "/"), name
    inception = import_module(package + "inception_v3")
    address, hashes = IMAGENET["inceptionv3"]
    assert address == inception.WEIGHTS_PATH and hashes[1.0] in Path(inception.__file__).read_text()
    for name in ("mobilenet", "mobilenet_v2"):
        official = import_module(package + name)
        assert IMAGENET[name.replace("_", "")][0].startswith(official.BASE_WEIGHT_PATH)
        assert "file_hash" not in Path(official.__file__).read_text(), "now it states one: use it"


def test_official_weights_get_the_preprocessing_that_they_were_trained_with():
    entry = zoo.ZOO["efficientnetv2b0"]
    assert zoo._usual_preprocessing("efficientnetv2b0", "imagenet") == TORCH
    assert zoo._usual_preprocessing("efficientnetv2b0", "none") == entry.preprocessing == SIGNED
    published = keras.applications.EfficientNetV2B0(
        weights=None, input_shape=(32, 32, 3)
    )  # scales its input itself
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)
    inside = published.layers[2](published.layers[1](pixels.astype(np.float32)))
    assert np.allclose(inside, TORCH(pixels), atol=1e-5)


def test_layers_counted_from_one_are_paired_in_order(tmp_path):
    """As in the official file of InceptionV3: by name, nearly every layer would get its neighbour's
    weights.
    """

    def net(classes):
        keras.backend.clear_session()
        layers = keras.layers
        image = x = keras.Input((8, 8, 3))
        for _ in range(12):  # more than ten, so that alphabetical order is not theirs
            x = layers.BatchNormalization(scale=False)(
                layers.Conv2D(3, 3, padding="same", use_bias=False)(x)
            )
        return keras.Model(
            image, layers.Dense(classes, name="predictions")(layers.GlobalAveragePooling2D()(x))
        )

    source, target = net(7), net(4)
    source.set_weights([array + number for number, array in enumerate(source.get_weights())])
    stand_ins.save_as_published(source, tmp_path / "net.h5", stand_ins.counted_from_one)
    assert [line.split(":")[0] for line in copy_weights(target, tmp_path / "net.h5")] == [
        "predictions"
    ]
    for mine, theirs in zip(target.get_weights()[:-2], source.get_weights()[:-2], strict=True):
        assert np.array_equal(mine, theirs)
    without = keras.Model(source.input, source.layers[-2].output)
    stand_ins.save_as_published(without, tmp_path / "notop.h5", stand_ins.counted_from_one)
    assert copy_weights(net(4), tmp_path / "notop.h5") == ["predictions: not in the file"]
    same = net(7)
    assert copy_weights(same, tmp_path / "net.h5", complete=True) == []
    assert all(map(np.array_equal, same.get_weights(), source.get_weights()))
