"""Stand-ins for what the five studies that need a network download: tiny archives in the official
layouts, and weights of the real architectures that nobody trained.

As a script (`make synthetic`, half an hour on two cores) it serves them from this machine and runs
each of the five studies to its report, images and trainings cut down. That proves the way, and
nothing else: the data's form begins with STAND-IN in every record and report, and `edgeq publish`
refuses it.
"""

import contextlib
import dataclasses
import hashlib
import io
import os
import pickle
import subprocess
import sys
import tarfile
import tempfile
import time
import types
import zipfile
from pathlib import Path

import h5py
import loopback
import numpy as np
import yaml
from PIL import Image

from edgeq_lib.data.catalog import SOURCES
from edgeq_lib.data.download import fetch, unpack
from edgeq_lib.data.source import DOWNLOADS
from edgeq_lib.files import home, read_json
from edgeq_lib.models.weights import IMAGENET
from edgeq_lib.study import SYNTHETIC

ROOT = Path(__file__).resolve().parents[1]
MINI = {
    "data": {"calibration": 8},
    "baseline": {"allow_chance": True},  # nobody trained the stand-ins' weights
    "qat": {"epochs": 1},
    "edge_benchmark": {"budget_seconds": 4},
}
# What is made smaller in each study; everything else stays as its file says. Diagnosis and
# recovery are left out: they need nothing from the network, and their sweeps over every layer of
# deep networks take long.
STUDIES = {
    "imagenet_mini_efficientnetv2b0": {
        "data": {"image_size": 64},
        "qat": {"limit_train": 32, "batch": 8},
    },
    "cats_vs_dogs_efficientnetb0": {
        "data": {"image_size": 64},
        "baseline": {"epochs": 1, "batch": 8},
    },
    "cifar10_mobilenetv1": {"data": {"image_size": 32}, "baseline": {"epochs": 1}},
    "cifar10_resnet50": {"data": {"image_size": 32}, "baseline": {"epochs": 1}},
    "cifar10_inceptionv3": {"data": {"image_size": 75}, "baseline": {"epochs": 1}},
}


# ------------------------------------------------------------------------------------------------
# images


def picture(label, size, rng):
    """A uint8 image (height, width, 3): noise around a colour that tells the class."""
    colour = np.random.default_rng(label).integers(40, 216, 3)
    return np.clip(colour + rng.integers(-40, 40, (*size, 3)), 0, 255).astype(np.uint8)


def jpeg(label, size, rng):
    buffer = io.BytesIO()
    Image.fromarray(picture(label, size, rng)).save(buffer, "JPEG")
    return buffer.getvalue()


def make_cifar10(folder, n=20):
    """`cifar-10-python.tar.gz` with `n` images in each of its six batches."""
    rng = np.random.default_rng(0)
    with tarfile.open(folder / "cifar-10-python.tar.gz", "w:gz") as archive:

        def add(name, content):
            info = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))

        for name in [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]:
            labels = [i % 10 for i in range(n)]
            pixels = np.stack(
                [picture(label, (32, 32), rng).transpose(2, 0, 1).ravel() for label in labels]
            )
            add(name, pickle.dumps({b"data": pixels, b"labels": labels}, 4))
        add("batches.meta", pickle.dumps({b"label_names": [b"class %d" % i for i in range(10)]}, 4))


def make_zip(path, classes, counts, size, rng=None):
    """A zip of JPEG files; `classes` maps each folder's path to its label, `counts` the start of a
    path to a number.
    """
    rng = rng or np.random.default_rng(0)
    with zipfile.ZipFile(path, "w") as archive:
        for name, label in classes.items():
            n = next(count for start, count in counts.items() if name.startswith(start))
            for i in range(n):
                archive.writestr(f"{name}/{i}.jpg", jpeg(label, size, rng))


def make_cats_vs_dogs(folder, n=40):
    """`kagglecatsanddogs_5340.zip` with `n` photos a class."""
    make_zip(
        folder / "kagglecatsanddogs_5340.zip",
        {"PetImages/Cat": 0, "PetImages/Dog": 1},
        {"": n},
        (60, 80),
    )


def make_imagenet_mini(folder, classes=1000, train=3):
    """The archive that Kaggle delivers, with `train` + 1 images a class."""
    names = {
        f"imagenet-mini/{split}/n{i:08}": i for split in ("train", "val") for i in range(classes)
    }
    make_zip(
        folder / "imagenetmini-1000.zip", names, {"imagenet-mini/train": train, "": 1}, (24, 30)
    )


# ------------------------------------------------------------------------------------------------
# weights


def save_as_published(model, path, rename=lambda name: name):
    """Weights in the older of Keras's layouts, the one of the official files, layers under the
    names that they have there.
    """
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [rename(layer.name).encode() for layer in model.layers]
        for layer in model.layers:
            group = file.create_group(rename(layer.name))
            group.attrs["weight_names"] = [weight.name.encode() for weight in layer.weights]
            for weight in layer.weights:
                group.create_dataset(weight.name, data=weight.numpy())


def counted_from_one(name):
    """How Keras numbered layers when the file of InceptionV3 was made: conv2d_1 is the first."""
    kind, _, number = name.rpartition("_")
    for counted in ("conv2d", "batch_normalization"):
        if name == counted or (kind == counted and number.isdigit()):
            return f"{counted}_{int(number) + 1 if name != counted else 1}"
    return name


def make_weights(
    folder, names=("mobilenet", "efficientnetb0", "efficientnetv2b0", "resnet50", "inceptionv3")
):
    """The official files of these models with 1,000 classes; random, the batch norms fitting what
    they get to see.
    """
    from edgeq_lib.models.tf import keras

    apps, rng = keras.applications, np.random.default_rng(0)
    builders = {
        "mobilenet": apps.MobileNet,
        "efficientnetb0": apps.EfficientNetB0,
        "resnet50": apps.ResNet50,
        "efficientnetv2b0": apps.EfficientNetV2B0,
        "inceptionv3": apps.InceptionV3,
    }
    for name in names:
        keras.backend.clear_session()
        keras.utils.set_random_seed(0)
        model = builders[name](weights=None)
        for layer in model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = 0.0
        small = 128 if name == "inceptionv3" else 64
        body = builders[name](weights=None, include_top=False, input_shape=(small, small, 3))
        for layer, twin in zip(
            model.layers, body.layers, strict=False
        ):  # sizes do not matter to weights
            twin.set_weights(layer.get_weights())
            if isinstance(twin, keras.layers.BatchNormalization):
                twin.momentum = 0.0
        scale = 255.0 if "efficientnet" in name else 1.0
        body(scale * rng.random((32, small, small, 3)).astype(np.float32), training=True)
        for layer, twin in zip(model.layers, body.layers, strict=False):
            layer.set_weights(twin.get_weights())
        file = IMAGENET[name][0].format(alpha=1.0, size=224, width="1_0").rsplit("/", 1)[1]
        save_as_published(
            model,
            folder / file,
            counted_from_one
            if name == "inceptionv3"
            else lambda layer, name=name: (
                "probs" if layer == "predictions" and name == "resnet50" else layer
            ),
        )


# ------------------------------------------------------------------------------------------------
# taking over


def take_over(folder):
    """In this process, put the checksums of the stand-ins in `folder` in place of the official
    ones, label the data that come of them, and let a stand-in of kagglehub bring the archive that
    lies there.
    """

    def total(name, official):
        content = (folder / name).read_bytes()
        return (
            None
            if official is None
            else hashlib.new("md5" if len(official) == 32 else "sha256", content).hexdigest()
        )

    for key, (name, url, official) in DOWNLOADS.items():
        if (folder / name).exists():
            DOWNLOADS[key] = (name, url, total(name, official))
    for model, (address, official) in IMAGENET.items():
        name = address.rsplit("/", 1)[1]
        if official and (folder / name).exists():
            IMAGENET[model] = (address, {1.0: total(name, official[1.0])})
    for key, find in list(SOURCES.items()):

        def labelled(find=find):
            source = find()
            return dataclasses.replace(
                source,
                name=f"{SYNTHETIC} for {source.name}",
                form=f"{SYNTHETIC}, no photos: {source.form}",
            )

        SOURCES[key] = labelled

    def dataset_download(handle):
        assert handle == "ifigotin/imagenetmini-1000"
        archive = fetch(
            "imagenetmini-1000.zip", "http://127.0.0.1:9/", None, home() / "data" / "kaggle"
        )
        return str(unpack(archive, home() / "data" / "kaggle" / "unpacked"))

    sys.modules["kagglehub"] = types.SimpleNamespace(dataset_download=dataset_download)


# ------------------------------------------------------------------------------------------------
# to the end


def small(name):
    """A study's sections with what is cut down for the stand-ins."""
    content = yaml.safe_load((ROOT / "studies" / f"{name}.yaml").read_text())
    for changes in (MINI, STUDIES[name]):
        for section, values in changes.items():
            content[section] = {**content.get(section, {}), **values}
    return {**content, "diagnosis": False, "ptq_recovery": False}


def prepare(folder, address):
    """A home of its own with the cut-down studies, and the environment in which kernels take the
    stand-ins.
    """
    place, startup = folder / "home", folder / "ipython" / "profile_default" / "startup"
    (place / "studies").mkdir(parents=True)
    (place / "notebooks").symlink_to(ROOT / "notebooks")
    for name in STUDIES:
        (place / "studies" / f"stand_in_{name}.yaml").write_text(
            yaml.safe_dump(small(name), sort_keys=False)
        )
    startup.mkdir(parents=True)
    (startup / "00_stand_ins.py").write_text(
        f"import pathlib, sys\nsys.path.insert(0, {str(ROOT / 'tools')!r})\nimport stand_ins\n"
        f"stand_ins.take_over(pathlib.Path({str(folder / 'served')!r}))\n"
    )
    ours = {
        key: value for key, value in os.environ.items() if key not in ("EDGEQ_ASSETS", "EDGEQ_RUNS")
    }
    return {
        **ours,
        "EDGEQ_HOME": str(place),
        "EDGEQ_MIRROR": address,
        "IPYTHONDIR": str(folder / "ipython"),
    }


def checked(folder, name, environment):
    """What must hold of a study that ran to its end: a line that says so."""
    records = folder / "home" / "runs" / f"stand_in_{name}"
    results, baseline = (
        read_json(records / path) for path in ("report/results.json", "records/baseline.json")
    )
    lost = [line.split(":")[0] for line in baseline["not_loaded"]]
    assert results["data"]["form"].startswith(SYNTHETIC), results["data"]
    assert lost == (
        []
        if name.startswith("imagenet")
        else ["conv_preds" if "mobilenet" in name else "predictions"]
    ), lost
    told = subprocess.run(
        [sys.executable, "-m", "edgeq_lib.cli", "publish", f"stand_in_{name}"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert told.returncode == 1 and SYNTHETIC in told.stderr, "publish must refuse it"
    return (
        f"{len(results['variants'])} variants, not loaded: {lost or 'nothing'}; publish refuses it"
    )


def main(names):
    """Run the studies `names`, all five when empty; stops at the first that fails."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgeq_stand_ins_")))
        (folder / "served").mkdir()
        for make in (make_cifar10, make_cats_vs_dogs, make_imagenet_mini, make_weights):
            make(folder / "served")
        server = stack.enter_context(loopback.serve(folder / "served"))
        server.hang_up, server.hang_ups = 20_000, 2  # the first download breaks off twice
        environment = prepare(folder, server.address)
        for name in names or STUDIES:
            started = time.time()
            subprocess.run(
                [sys.executable, "-m", "edgeq_lib.cli", "run", f"stand_in_{name}"],
                env=environment,
                check=True,
            )
            print(
                f"{name}: {checked(folder, name, environment)} ({time.time() - started:.0f} s)",
                flush=True,
            )
    print("Every study ran to its end on stand-ins. None of these figures is a result.")


if __name__ == "__main__":
    main(sys.argv[1:])
