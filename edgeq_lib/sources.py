"""Where data sets come from: a name or a folder becomes named pools of images, nothing decoded yet.

A data set is a function in `SOURCES` that returns a `Source`: to add one, write that function.
"""

from __future__ import annotations

import csv
import importlib
import io
import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from edgeq_lib import images
from edgeq_lib.downloads import asset, fetch, unpack
from edgeq_lib.study import EdgeqError, digest, home, read_json

SPLITS = ("train", "validation", "test")
STAND_IN = "STAND-IN"  # begins the form of data that only prove the way; no study of them may be published
# File name, address, and the checksum that its publisher or (all but CIFAR-10) its widely used loaders state.
DOWNLOADS = {
    "cifar10": ("cifar-10-python.tar.gz", "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
                "c58f30108f718f92721af3b95e74349a"),
    "cats_vs_dogs": ("kagglecatsanddogs_5340.zip", "https://download.microsoft.com/download/3/E/1/"
                     "3E1C3F21-ECDB-4869-8368-6DEBA77B919F/kagglecatsanddogs_5340.zip",
                     "b7974bd00a84a99921f36ee4403f089853777b5ae8d151c76a86e64900334af9"),
    "tiny_imagenet": ("tiny-imagenet-200.zip", "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
                      "90528d7ca1a48142e341f4ef8d21d0de"),
}


class Item(NamedTuple):
    """One image before decoding."""

    name: str  # says to the user which it is, without machine paths
    content: bytes | Path | np.ndarray  # a file's bytes, its path, or pixels
    label: int


@dataclass(frozen=True)
class Source:
    """A data set as it was found: its pools of items, and how it is split unless the study says otherwise."""

    name: str  # as published figures name it
    form: str  # what the images are
    origin: str  # where they come from
    classes: list[str]
    pools: dict[str, list[Item]]  # "train" always; "validation" and "test" where the set has them
    state: Any  # changes when the files change
    validation: float | int = 0.15
    test: float | int = 0.25
    validation_from: str = "train"  # the pool out of which validation is taken
    aspect: str = "stretch"
    sparse: bool = False  # classes may be absent (fewer photos than classes)
    ignored: dict[str, int] = field(default_factory=dict)  # files that are no images, by suffix


def count(counts: dict[str, int], what: str) -> None:
    counts[what] = counts.get(what, 0) + 1


def some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(f"'{name}'" for name in names[:5]) + more


def find(data: str, splits: dict[str, str] | None) -> Source:
    if data in SOURCES:
        if splits:
            raise EdgeqError(f"`splits` names sub-folders of a folder, and '{data}' is a data set; leave `splits` out.")
        return SOURCES[data]()
    folder = home() / Path(data).expanduser()
    if not folder.is_dir():
        raise EdgeqError(f"There is no data set and no folder '{data}': take one of {', '.join(SOURCES)}, or give the "
                         "path of a folder that holds one folder of images a class.")
    return _from_roots(_roots(folder, splits), folder.name)


def _roots(folder: Path, splits: dict[str, str] | None) -> dict[str, Path]:
    """Which sub-folder is which split; a lone `val` beside `train` is what was held out, so it is the test set."""
    if splits:
        if "train" not in splits or not set(splits) <= set(SPLITS):
            raise EdgeqError(f"`splits` names {', '.join(splits)}; it must map train, and may map validation and test, "
                             "to sub-folders.")
        roots = {split: folder / name for split, name in splits.items()}
        for split, root in roots.items():
            if not root.is_dir():
                raise EdgeqError(f"The folder '{splits[split]}' of the split {split} does not exist in "
                                 f"'{folder.name}'; correct `splits`.")
        return roots
    inside = {child.name.lower(): child for child in _folders(folder)}
    if "train" not in inside or not _folders(inside["train"]):
        return {"train": folder}
    roots = {"train": inside["train"]}
    held = next((inside[name] for name in ("validation", "valid", "val") if name in inside), None)
    if held and "test" in inside:
        roots["validation"] = held
    if held or "test" in inside:
        roots["test"] = inside.get("test", held)
    return roots


def _folders(folder: Path) -> list[Path]:
    return sorted(child for child in folder.iterdir()
                  if child.is_dir() and not child.name.startswith((".", "__MACOSX")))


def _from_roots(roots: dict[str, Path], name: str, **facts: Any) -> Source:
    """A source from folders of class folders, one a split; the classes stand in alphabetical order."""
    classes = [folder.name for folder in _folders(roots["train"])]
    if len(classes) < 2:
        has = f"only the class folder '{classes[0]}'" if classes else "no class folders"
        raise EdgeqError(f"The folder '{roots['train'].name}' holds {has}; put the images of each class, two classes "
                         "at least, into a folder of its own.")
    pools: dict[str, list[Item]] = {}
    ignored: dict[str, int] = {}
    state: list = []
    for split, root in roots.items():
        there = {folder.name for folder in _folders(root)}
        if there != set(classes):
            only = [f"{some(sorted(names))} only in {where}" for names, where in (
                (set(classes) - there, "train"), (there - set(classes), split)) if names]
            raise EdgeqError(f"The class folders of '{name}' differ between train and {split}: {', '.join(only)}; "
                             "make them the same.")
        pools[split] = []
        for label, class_name in enumerate(classes):
            before = len(pools[split])
            for path in _files(root / class_name):
                if path.suffix.lower() not in images.SUFFIXES:
                    count(ignored, path.suffix.lower() or "no suffix")
                    continue
                item = Item(f"{root.name}/{path.relative_to(root).as_posix()}", path, label)
                pools[split].append(item)
                state.append([item.name, *_state(path)])
            if len(pools[split]) == before:
                raise EdgeqError(f"The class folder '{root.name}/{class_name}' holds no image; put some there, or "
                                 "remove that class everywhere.")
    facts = {"form": "image files", "origin": f"folder {name}", **facts}
    return Source(name=name, classes=classes, pools=pools, state=state, ignored=ignored, **facts)


def _files(folder: Path) -> Iterator[Path]:
    for path, folders, files in os.walk(folder):
        folders.sort()
        yield from (Path(path) / file for file in sorted(files) if not file.startswith("."))


def _state(path: Path) -> list:
    facts = path.stat()
    return [path.name, facts.st_size, facts.st_mtime_ns]


def _official(key: str) -> Path:
    """The official archive of a data set, unpacked."""
    folder = home() / "data" / key
    name, url, checksum = DOWNLOADS[key]
    return unpack(fetch(name, url, checksum, folder), folder / "unpacked")


def _assets(key: str, *names: str) -> list[Path]:
    """Files that only `EDGEQ_ASSETS` can bring; archives among them are unpacked, and their folders returned."""
    missing = [name for name in names if asset(name) is None]
    if missing:
        raise EdgeqError(f"The data set '{key}' needs {', '.join(missing)}, which no public address offers in "
                         "this form (data/README.md names the sources); set EDGEQ_ASSETS to a folder that holds it.")
    return [unpack(path, home() / "data" / key / path.stem) if path.suffix == ".tar" else path
            for path in map(asset, names)]


def _has_assets(key: str, *names: str) -> bool:
    """Whether `EDGEQ_ASSETS` brings this smaller form of a data set, and not the official file itself."""
    return all(map(asset, names)) and not asset(DOWNLOADS[key][0])


def _digits() -> Source:
    from sklearn.datasets import load_digits  # here, since its import takes a second that no other set owes

    bunch = load_digits()
    pixels = np.round(bunch.images * (255 / 16)).astype(np.uint8)
    items = [Item(f"digit {i}", image, int(label))
             for i, (image, label) in enumerate(zip(pixels, bunch.target, strict=True))]
    return Source("Digits", "8 × 8 grey", "sklearn.datasets.load_digits", [str(name) for name in bunch.target_names],
                  {"train": items}, digest(pixels.tobytes()), validation=0.2, test=0.3)


class _ArraysOnly(pickle.Unpickler):
    """Reads pickles that hold arrays and plain values; anything else could run code."""

    def find_class(self, module: str, name: str) -> Any:
        if name == "_reconstruct" and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            return np.empty(0).__reduce__()[0]
        if module == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        raise EdgeqError(f"A file of CIFAR-10 holds {module}.{name}, so it is not the official one; delete it and "
                         "fetch it anew.")


def _cifar10() -> Source:
    if _has_assets("cifar10", "cifar10_jpeg60k.npz"):
        return _cifar10_jpeg(*_assets("cifar10", "cifar10_jpeg60k.npz"))
    folder = _official("cifar10") / "cifar-10-batches-py"

    def read(name: str) -> dict:
        return _ArraysOnly(io.BytesIO((folder / name).read_bytes()), encoding="bytes").load()

    pools: dict[str, list[Item]] = {"train": [], "test": []}
    for name in [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]:
        batch = read(name)
        rows = batch[b"data"].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        pools["test" if name == "test_batch" else "train"] += [
            Item(f"{name}/{i}", row, int(label))
            for i, (row, label) in enumerate(zip(rows, batch[b"labels"], strict=True))]
    classes = [name.decode() for name in read("batches.meta")[b"label_names"]]
    return Source("CIFAR-10", "lossless, 32 × 32", DOWNLOADS["cifar10"][1], classes, pools, DOWNLOADS["cifar10"][2],
                  validation=0.1)


def _cifar10_jpeg(path: Path) -> Source:
    with np.load(path) as packed:
        stored = dict(packed)
    header = stored["header"].tobytes()
    pools = {}
    for split in ("train", "test"):
        data, ends = stored[f"{split}_bytes"].tobytes(), stored[f"{split}_offsets"]
        pools[split] = [Item(f"{split}/{i}", header + data[ends[i]:ends[i + 1]], int(label))
                        for i, label in enumerate(stored[f"{split}_labels"])]
    return Source("CIFAR-10 (JPEG)", "JPEG of quality 75, 32 × 32", path.name, stored["class_names"].tolist(), pools,
                  _state(path), validation=0.1)


def _cats_vs_dogs() -> Source:
    parts = "catsdogs_train_600pc_224_q88.tar", "catsdogs_test_400pc_224_q88.tar"
    if _has_assets("cats_vs_dogs", *parts):
        roots = dict(zip(("train", "test"), _assets("cats_vs_dogs", *parts), strict=True))
        return _from_roots(roots, "Cats vs Dogs (2,000 photos)", form="JPEG of quality 88, 224 × 224",
                           origin=", ".join(parts), validation=200)
    source = _from_roots({"train": _official("cats_vs_dogs") / "PetImages"}, "Cats vs Dogs",
                         form="photos of many sizes", origin=DOWNLOADS["cats_vs_dogs"][1], validation=0.1, test=0.2)
    return replace(source, classes=[name.lower() for name in source.classes])


def _tiny_imagenet() -> Source:
    parts = "tiny_imagenet_train_60pc.tar", "tiny_imagenet_val_40pc.tar"
    facts = {"form": "JPEG, 64 × 64", "validation": 2000, "validation_from": "test"}
    if _has_assets("tiny_imagenet", *parts, "classes.json"):
        train, held, named = _assets("tiny_imagenet", *parts, "classes.json")
        source = _from_roots({"train": train / "train", "test": held / "val"}, "Tiny-ImageNet (60 + 40 images a class)",
                             origin=", ".join(parts), **facts)
        return replace(source, classes=_readable(source.classes, dict(read_json(named))))
    folder = _official("tiny_imagenet") / "tiny-imagenet-200"
    source = _from_roots({"train": folder / "train"}, "Tiny-ImageNet", origin=DOWNLOADS["tiny_imagenet"][1], **facts)
    rows = [line.split("\t") for line in (folder / "val" / "val_annotations.txt").read_text().splitlines()]
    test = [Item(f"val/{row[0]}", folder / "val" / "images" / row[0], source.classes.index(row[1])) for row in rows]
    words = dict(line.split("\t", 1) for line in (folder / "words.txt").read_text().splitlines())
    return replace(source, classes=_readable(source.classes, words), pools={**source.pools, "test": test})


def _imagenet_nips2017() -> Source:
    """One photo of each ImageNet class to calibrate and validate with; the photos of the NIPS 2017 contest to test."""
    photos, contest, index, table = _assets(
        "imagenet_nips2017", "imagenet1000_one_per_class_256sq_q90.tar", "nips2017_dev1000_s256_q90.tar",
        "class_index.json", "nips2017_dev1000_labels.csv")
    named = {int(i): pair for i, pair in read_json(index).items()}
    wnids = [named[i][0] for i in range(len(named))]
    label_of = {wnid: i for i, wnid in enumerate(wnids)}
    with open(table, newline="") as file:
        answers = {row["image_id"]: int(row["class_index"]) for row in csv.DictReader(file)}
    pools = {"train": [Item(path.name, path, label_of[path.name.split("_")[0]]) for path in _files(photos)],
             "test": [Item(path.name, path, answers[path.stem]) for path in _files(contest)]}
    return Source("ImageNet (one photo a class) and NIPS 2017", "JPEG of quality 90, short side 256",
                  "imagenet1000_one_per_class, nips2017_dev1000", _readable(wnids, dict(named.values())), pools,
                  [_state(item.content) for pool in pools.values() for item in pool], validation=400, aspect="crop",
                  sparse=True)


def _readable(wnids: list[str], words: dict[str, str]) -> list[str]:
    """The first word for each WordNet id, with the id where two classes have the same."""
    short = [words.get(wnid, wnid).split(",")[0].replace("_", " ") for wnid in wnids]
    return [f"{word} ({wnid})" if short.count(word) > 1 else word for word, wnid in zip(short, wnids, strict=True)]


def _imagenet_mini() -> Source:
    cure = "or put imagenetmini-1000.zip into the folder that EDGEQ_ASSETS names."
    archive = asset("imagenetmini-1000.zip")
    try:
        found = unpack(archive, home() / "data" / "imagenet_mini") if archive else Path(
            importlib.import_module("kagglehub").dataset_download("ifigotin/imagenetmini-1000"))
    except EdgeqError:
        raise
    except ImportError:
        raise EdgeqError("The data set 'imagenet_mini' comes from Kaggle: run `pip install kagglehub`, "
                         f"{cure}") from None
    except Exception as error:  # kagglehub's errors have no base class of their own
        raise EdgeqError(f"Kaggle did not deliver ifigotin/imagenetmini-1000 ({type(error).__name__}: {error}); sign "
                         f"in as kagglehub's documentation says, {cure}") from None
    root = next((path.parent for path in sorted(found.rglob("train")) if (path.parent / "val").is_dir()), None)
    if root is None:
        raise EdgeqError("What came as 'imagenet_mini' holds no folders train and val; delete it and fetch it anew.")
    return _from_roots({"train": root / "train", "test": root / "val"}, "ImageNet-Mini", form="photos of many sizes",
                       origin="kaggle.com/datasets/ifigotin/imagenetmini-1000", validation=0.05, aspect="crop")


SOURCES: dict[str, Callable[[], Source]] = {
    "digits": _digits, "cifar10": _cifar10, "cats_vs_dogs": _cats_vs_dogs, "tiny_imagenet": _tiny_imagenet,
    "imagenet_nips2017": _imagenet_nips2017, "imagenet_mini": _imagenet_mini,
}
