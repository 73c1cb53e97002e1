"""Small ImageNet sets: one photo per class with the NIPS 2017 photos, and ImageNet mini."""

from __future__ import annotations

import csv
import importlib
from pathlib import Path

from edgeq_lib.data.download import asset, unpack
from edgeq_lib.data.source import (
    Item,
    Source,
    file_state,
    from_assets,
    from_class_folders,
    image_files,
    readable_names,
)
from edgeq_lib.files import EdgeqError, home, read_json


def imagenet_nips2017() -> Source:
    """Find one photo of each ImageNet class, and the photos of the NIPS 2017 contest for test.

    Returns:
        The data set; train holds the former, which calibrate and validate.

    Raises:
        EdgeqError: When `EDGEQ_ASSETS` does not bring it.
    """
    photos, contest, index, table = from_assets(
        "imagenet_nips2017",
        "imagenet1000_one_per_class_256sq_q90.tar",
        "nips2017_dev1000_s256_q90.tar",
        "class_index.json",
        "nips2017_dev1000_labels.csv",
    )
    named = {int(i): pair for i, pair in read_json(index).items()}
    wnids = [named[i][0] for i in range(len(named))]
    label_of = {wnid: i for i, wnid in enumerate(wnids)}
    with open(table, newline="") as file:
        answers = {row["image_id"]: int(row["class_index"]) for row in csv.DictReader(file)}
    pools = {
        "train": [
            Item(path.name, path, label_of[path.name.split("_")[0]]) for path in image_files(photos)
        ],
        "test": [Item(path.name, path, answers[path.stem]) for path in image_files(contest)],
    }
    return Source(
        "ImageNet (one photo a class) and NIPS 2017",
        "JPEG of quality 90, short side 256",
        "imagenet1000_one_per_class, nips2017_dev1000",
        readable_names(wnids, dict(named.values())),
        pools,
        [file_state(Path(str(item.content))) for pool in pools.values() for item in pool],
        validation=400,
        aspect="crop",
        sparse=True,
    )


def imagenet_mini() -> Source:
    """Find the photos of ImageNet-mini.

    Returns:
        The data set.

    Raises:
        EdgeqError: When `EDGEQ_ASSETS` does not bring it.
    """
    cure = "or put imagenetmini-1000.zip into the folder that EDGEQ_ASSETS names."
    archive = asset("imagenetmini-1000.zip")
    try:
        folder = (
            unpack(archive, home() / "data" / "imagenet_mini")
            if archive
            else Path(
                importlib.import_module("kagglehub").dataset_download("ifigotin/imagenetmini-1000")
            )
        )
    except EdgeqError:
        raise
    except ImportError:
        raise EdgeqError(
            f"The data set 'imagenet_mini' comes from Kaggle: run `pip install kagglehub`, {cure}"
        ) from None
    except Exception as error:  # kagglehub's errors have no base class of their own
        raise EdgeqError(
            f"Kaggle did not deliver ifigotin/imagenetmini-1000 ({type(error).__name__}: "
            f"{error}); sign in as kagglehub's documentation says, {cure}"
        ) from None
    root = next(
        (path.parent for path in sorted(folder.rglob("train")) if (path.parent / "val").is_dir()),
        None,
    )
    if root is None:
        raise EdgeqError(
            "What came as 'imagenet_mini' holds no folders train and val; delete it and fetch it "
            "anew."
        )
    return from_class_folders(
        {"train": root / "train", "test": root / "val"},
        "ImageNet-Mini",
        form="photos of many sizes",
        origin="kaggle.com/datasets/ifigotin/imagenetmini-1000",
        validation=0.05,
        aspect="crop",
    )
