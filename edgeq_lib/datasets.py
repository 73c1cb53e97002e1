"""A data set by name or folder → decoded train, validation and test images, and a calibration set drawn from train.

`prepare` decodes each image once a study; `load` maps the arrays into memory. A data set is a function in `SOURCES`
that returns a `Source`: to add one, write that function.
"""

from __future__ import annotations

import csv
import hashlib
import importlib
import io
import os
import pickle
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import PIL

from edgeq_lib import images
from edgeq_lib.downloads import asset, fetch, guard_disk, replace_folder, unpack
from edgeq_lib.progress import progress
from edgeq_lib.study import EdgeqError, Study, digest, home, read_json, write_bytes, write_json

SPLITS = ("train", "validation", "test")
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


class Split(NamedTuple):
    """images: uint8 (n, height, width, channels), memory-mapped; labels: int64 (n,)."""

    images: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Data:
    """The prepared data of a study; `calibration` holds indices into train."""

    train: Split
    validation: Split
    test: Split
    classes: list[str]
    calibration: np.ndarray
    manifest: dict

    @property
    def calibration_images(self) -> np.ndarray:
        """uint8 (n, height, width, channels), in memory."""
        return self.train.images[self.calibration]


def prepare(study: Study, data: str, image_size: int | Sequence[int], channels: int = 3, *,
            splits: dict[str, str] | None = None, validation: float | int | None = None,
            test: float | int | None = None, limit_train: int | None = None, calibration: int = 128, seed: int = 0,
            max_skipped: float = 0.01, aspect: str | None = None, executor: Executor | None = None) -> dict:
    """Decode a data set into the study's folder `data`, write the record `data`, and return it (the manifest).

    `data` is a name in `SOURCES` or a folder of class folders; `splits` may map train, validation and test to its
    sub-folders. Where the set brings no validation or test images of its own, they are taken class by class with
    `seed`: a share of the pool (float) or a number of images (int); None means the set's own habit. `limit_train`
    keeps a class-balanced part of train. `aspect` is `stretch` or `crop` (see `images.decode`), `image_size` one
    number or (height, width). An image whose pixels also stand in test goes out of train and validation, one that
    stands in validation goes out of train; both are counted. Images that cannot be read are listed, and are an error
    past the share `max_skipped`. What was prepared before from the same files with the same splits is not decoded
    again. `executor` runs the decoding (threads of its own by default). Raises EdgeqError for whatever is wrong with
    the data.
    """
    size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    source = _find(data, splits)
    aspect = aspect or source.aspect
    if len(size) != 2 or min(size) < 1 or channels not in (1, 3) or aspect not in images.ASPECTS:
        raise EdgeqError(f"Images of size {image_size} with {channels} channels and aspect '{aspect}' cannot be made: "
                         "give one number or [height, width], 1 or 3 channels, and stretch or crop.")
    chosen = _make_splits(source, validation, test, limit_train, seed)
    folder = study.folder / "data"
    key = digest([digest(Path(images.__file__).read_bytes()), PIL.__version__, source.state, size, channels, aspect,
                  source.classes, {split: [[item.name, item.label] for item in chosen[split]] for split in SPLITS}])
    manifest = _stored(folder, key)
    if manifest is None:
        decode = partial(_decode_item, size=size, channels=channels, aspect=aspect)
        with nullcontext(executor) if executor else ThreadPoolExecutor(os.cpu_count()) as pool:
            manifest = _decode_all(folder, chosen, decode, pool, key, (*size, channels), source.classes)
    _check_result(manifest, source, sum(map(len, chosen.values())), max_skipped)
    train = _open_split(folder, "train")
    indices = draw_calibration(train.labels, calibration, seed)
    check_calibration(train.images[indices])
    manifest = {"name": source.name, "form": source.form, "source": source.origin, "classes": source.classes,
                "image_size": list(size), "channels": channels, "aspect": aspect, "seed": seed, **manifest,
                "ignored": source.ignored, "calibration": {
                    "n": len(indices), "seed": seed, "indices": indices.tolist(),
                    "per_class": np.bincount(train.labels[indices], minlength=len(source.classes)).tolist()}}
    for path in _arrays(folder):
        study.note_write(path)
    study.write("data", manifest)
    return manifest


def load(study: Study) -> Data:
    """The prepared data, images memory-mapped. Raises EdgeqError when they are missing or not those of the record."""
    manifest, folder = study.read("data"), study.folder / "data"
    try:
        if read_json(folder / "manifest.json")["manifest"]["fingerprint"] != manifest["fingerprint"]:
            raise ValueError
        parts = {split: _open_split(folder, split) for split in SPLITS}
    except (OSError, ValueError, KeyError, EdgeqError):
        raise EdgeqError(f"The decoded images of study '{study.name}' are missing or not those of its record; run "
                         f"`edgeq run {study.name} --force --only 01_data`.") from None
    for path in _arrays(folder):
        study.note_read(path)
    indices = np.array(manifest["calibration"]["indices"], np.int64)
    return Data(**parts, classes=manifest["classes"], calibration=indices, manifest=manifest)


def prove_disjoint(data: Data) -> dict[str, int]:
    """How many images any two of train, validation, test and calibration share, by their pixels as stored.

    Calibration lies inside train, so that pair is left out. Raises EdgeqError when any other pair shares an image.
    """
    marks = {split: {_mark(image) for image in progress(getattr(data, split).images, f"compare {split}")}
             for split in SPLITS}
    marks["calibration"] = {_mark(image) for image in data.calibration_images}
    pairs = (("train", "validation"), ("train", "test"), ("validation", "test"), ("calibration", "validation"),
             ("calibration", "test"))
    shared = {f"{one} and {other}": len(marks[one] & marks[other]) for one, other in pairs}
    for pair, number in shared.items():
        if number:
            raise EdgeqError(f"{pair.capitalize()} share {number} images, so that no result on them would be honest; "
                             "prepare the data again with `edgeq run STUDY --force --only 01_data`.")
    return shared


def draw_calibration(labels: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Indices (sorted, int64) of `n` items, the same number from each class (± 1) as far as the classes have them."""
    if not 2 <= n <= len(labels):
        raise EdgeqError(f"A representative set of {n} images cannot be drawn from {len(labels)} training images; set "
                         f"`calibration` to a number from 2 to {len(labels)} (100 to 500 is usual).")
    order = np.random.default_rng([seed, 1]).permutation(len(labels))
    turn = np.empty(len(labels), np.int64)  # how many of its class come before an item in that order
    for label in np.unique(labels):
        members = order[labels[order] == label]
        turn[members] = np.arange(len(members))
    return np.sort(order[np.argsort(turn[order], kind="stable")[:n]])


def check_images(array: np.ndarray, what: str = "the images") -> None:
    """Raise EdgeqError unless `array` is (n, height, width, 1 or 3) and finite; it names the first bad image."""
    if array.ndim != 4 or array.shape[-1] not in (1, 3):
        raise EdgeqError(f"The array of {what} has the shape {array.shape}; give (n, height, width, 1 or 3).")
    for start in range(0, len(array) if array.dtype.kind == "f" else 0, 256):
        bad = ~np.isfinite(array[start:start + 256]).all(axis=(1, 2, 3))
        if bad.any():
            raise EdgeqError(f"Image {start + int(bad.argmax())} of {what} holds NaN or infinite values; repair it or "
                             "leave it out.")


def check_calibration(array: np.ndarray) -> None:
    """Raise EdgeqError unless the images (n, height, width, channels) can set ranges: two at least, not constant."""
    cure = "draw it from real training images, 100 to 500 of them."
    if len(array) < 2:
        raise EdgeqError(f"The representative set holds {'one image' if len(array) else 'no images'}; {cure}")
    check_images(array, "the representative set")
    if (array == array[:1]).all() or (array == array[:, :1, :1]).all():
        raise EdgeqError(f"The images of the representative set are constant or all the same, so that they show no "
                         f"range; {cure}")


# ------------------------------------------------------------------------------------------------ splits and decoding


def _draw(labels: np.ndarray, n: int, rng: np.random.Generator, leave_one: bool) -> np.ndarray:
    """Mask of exactly `n` items, each class with its share (± 1); `leave_one`: no class is emptied while n allows."""
    order = rng.permutation(len(labels))
    ranks = np.empty(len(labels))
    for label in np.unique(labels):
        members = order[labels[order] == label]
        # Item k of m stands at quantile (k + u) / m: the n smallest ranks are the same share of each class.
        ranks[members] = (np.arange(len(members)) + rng.random()) / len(members)
        ranks[members[-1]] += leave_one
    mask = np.zeros(len(labels), bool)
    mask[np.argsort(ranks, kind="stable")[:n]] = True
    return mask


def _make_splits(source: Source, validation: float | int | None, test: float | int | None, limit_train: int | None,
                 seed: int) -> dict[str, list[Item]]:
    # One fixed order: any prefix is class-mixed, and a given test set looks the same in all studies.
    pools = {split: [items[i] for i in np.random.default_rng(0).permutation(len(items))]
             for split, items in source.pools.items()}
    rng = np.random.default_rng([seed, 0])
    sizes = {split: len(items) for split, items in pools.items()}
    for split, asked, habit, pool in (("test", test, source.test, "train"),
                                      ("validation", validation, source.validation, source.validation_from)):
        if split in source.pools:
            if asked is not None:
                raise EdgeqError(f"The data set {source.name} brings its own {split} images; leave `{split}` out.")
            continue
        share = habit if asked is None else asked
        n = round(share * sizes[pool]) if isinstance(share, float) else share
        if not 0 < n < len(pools[pool]):
            raise EdgeqError(f"{n} {split} images cannot be taken from the {len(pools[pool])} {pool} images of "
                             f"{source.name}; change `{split}` or add images.")
        pools[split], pools[pool] = _cut(pools[pool], n, rng, not source.sparse)
    if limit_train is not None and limit_train < len(pools["train"]):
        pools["train"], _ = _cut(pools["train"], limit_train, rng, False)
    return pools


def _cut(items: list[Item], n: int, rng: np.random.Generator, leave_one: bool) -> tuple[list[Item], list[Item]]:
    mask = _draw(np.array([item.label for item in items], np.int64), n, rng, leave_one)
    return ([item for item, taken in zip(items, mask, strict=True) if taken],
            [item for item, taken in zip(items, mask, strict=True) if not taken])


def _decode_item(content: Any, size: tuple[int, int], channels: int, aspect: str) -> tuple[np.ndarray | None, Any]:
    try:
        return images.decode(content, size, channels, aspect)
    except images.Unreadable as error:
        return None, str(error)


def _decoded(items: list[Item], decode: Callable, executor: Executor) -> Iterator[tuple[Item, tuple]]:
    """The items with their decoded images, in order; two batches at a time are under way, so memory stays bounded."""
    under_way: deque = deque()
    for start in range(0, len(items), 256):
        batch = items[start:start + 256]
        under_way.append(zip(batch, executor.map(decode, [item.content for item in batch], chunksize=16), strict=True))
        if len(under_way) == 2:
            yield from under_way.popleft()
    for rest in under_way:
        yield from rest


def _mark(pixels: np.ndarray) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(pixels), digest_size=16).digest()


def _decode_all(folder: Path, chosen: dict[str, list[Item]], decode: Callable, executor: Executor, key: str,
                shape: tuple[int, ...], classes: list[str]) -> dict:
    """Decode the splits into a folder beside `folder`, and put it in place whole."""
    staging = folder.with_name(f".{folder.name}")
    log: dict[str, Any] = {"splits": dict.fromkeys(SPLITS), "skipped": [], "converted": {},
                           "duplicates": {"removed": {}, "inside": {}, "other_class": 0}}
    seen: dict[bytes, tuple[str, int]] = {}
    shutil.rmtree(staging, ignore_errors=True)
    try:
        with guard_disk("the decoded images"):
            staging.mkdir(parents=True)
            for split in ("test", "validation", "train"):  # so that of two copies the one in train goes
                decoded = progress(_decoded(chosen[split], decode, executor), f"decode {split}", len(chosen[split]))
                log["splits"][split] = _write_split(split, decoded, staging, (len(chosen[split]), *shape),
                                                    len(classes), seen, log)
            log["fingerprint"] = digest([classes, {split: log["splits"][split]["fingerprint"] for split in SPLITS}])
            write_json(staging / "manifest.json", {"key": key, "manifest": log})
            replace_folder(staging, folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return log


def _write_split(split: str, decoded: Iterator, folder: Path, shape: tuple[int, ...], classes: int, seen: dict,
                 log: dict) -> dict:
    """Write one split's arrays. By plain writes, since a full disk under a memory map kills the process."""
    labels: list[int] = []
    fingerprint, twice = hashlib.sha256(str(shape[1:]).encode()), log["duplicates"]
    with open(folder / f"{split}_images.npy", "wb") as file:
        _write_header(file, shape)
        for item, (pixels, notes) in decoded:
            if pixels is None:
                log["skipped"].append({"file": item.name, "why": notes})
                continue
            mark = _mark(pixels)
            other, label = seen.get(mark, (None, item.label))
            twice["other_class"] += label != item.label
            if other not in (None, split):
                _count(twice["removed"], f"{split}, being in {other}")
                continue
            if other == split:
                _count(twice["inside"], split)
            seen[mark] = (split, item.label)
            for note in notes:
                _count(log["converted"], note)
            content = pixels.tobytes()
            file.write(content)
            fingerprint.update(content)
            labels.append(item.label)
        _write_header(file, (len(labels), *shape[1:]))
    stored = np.array(labels, np.int64)
    buffer = io.BytesIO()
    np.save(buffer, stored)
    write_bytes(folder / f"{split}_labels.npy", buffer.getvalue())
    fingerprint.update(stored.tobytes())
    return {"n": len(labels), "fingerprint": fingerprint.hexdigest(),
            "per_class": np.bincount(stored, minlength=classes).tolist()}


def _count(counts: dict[str, int], what: str) -> None:
    counts[what] = counts.get(what, 0) + 1


def _write_header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    """The `.npy` header; NumPy pads it, so that it can be written again with the final number of images."""
    file.seek(0)
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})


def _arrays(folder: Path) -> list[Path]:
    return [folder / f"{split}_{kind}.npy" for split in SPLITS for kind in ("images", "labels")]


def _open_split(folder: Path, split: str) -> Split:
    labels = np.load(folder / f"{split}_labels.npy")
    pixels = np.load(folder / f"{split}_images.npy", mmap_mode="r")
    if len(pixels) != len(labels):
        raise ValueError(f"{split}: images and labels differ in number")
    return Split(pixels, labels)


def _stored(folder: Path, key: str) -> dict | None:
    """The manifest of a finished preparation with that key whose arrays are all there."""
    try:
        stored = read_json(folder / "manifest.json")
        if stored["key"] != key:
            return None
        for split in SPLITS:
            if stored["manifest"]["splits"][split]["n"] != len(_open_split(folder, split).labels):
                return None
    except (OSError, ValueError, KeyError, EdgeqError):
        return None
    return stored["manifest"]


def _check_result(manifest: dict, source: Source, total: int, max_skipped: float) -> None:
    skipped = manifest["skipped"]
    if len(skipped) > max_skipped * total:
        first = "; ".join(f"{entry['file']}: {entry['why']}" for entry in skipped[:3])
        more = f"; and {len(skipped) - 3} more" if len(skipped) > 3 else ""
        raise EdgeqError(f"{len(skipped)} of {total} images of {source.name} cannot be read ({first}{more}), more than "
                         f"the share max_skipped = {max_skipped:g}; repair or remove them, or raise max_skipped.")
    for split in SPLITS:
        found = manifest["splits"][split]
        empty = [name for name, n in zip(source.classes, found["per_class"], strict=True) if not n]
        if not found["n"] or (split == "train" and empty and not source.sparse):
            raise EdgeqError(f"The {split} images of {source.name} have none of the classes {_some(empty)}; add "
                             "readable images of them, or leave more to train.")


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(f"'{name}'" for name in names[:5]) + more


# --------------------------------------------------------------------------------------- where data sets come from


def _find(data: str, splits: dict[str, str] | None) -> Source:
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
            only = [f"{_some(sorted(names))} only in {where}" for names, where in (
                (set(classes) - there, "train"), (there - set(classes), split)) if names]
            raise EdgeqError(f"The class folders of '{name}' differ between train and {split}: {', '.join(only)}; "
                             "make them the same.")
        pools[split] = []
        for label, class_name in enumerate(classes):
            before = len(pools[split])
            for path in _files(root / class_name):
                if path.suffix.lower() not in images.SUFFIXES:
                    _count(ignored, path.suffix.lower() or "no suffix")
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
        raise EdgeqError(f"The data set '{key}' needs {', '.join(missing)}, which no public address offers; set "
                         "EDGEQ_ASSETS to a folder that holds it.")
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
