"""A data set by name or folder → decoded train, validation and test images, and a calibration set drawn from train.

`prepare` decodes each image once a study; `load` maps the arrays into memory.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL

from edgeq_lib import images
from edgeq_lib.decoding import decode_again, decode_all, decode_item, mark_of
from edgeq_lib.progress import progress
from edgeq_lib.sources import SOURCES, SPLITS, Source, find, some
from edgeq_lib.splits import draw_calibration, make_splits
from edgeq_lib.study import EdgeqError, Study, digest, home, read_json


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
    source = find(data, splits)
    aspect = aspect or source.aspect
    if len(size) != 2 or min(size) < 1 or channels not in (1, 3) or aspect not in images.ASPECTS:
        raise EdgeqError(f"Images of size {image_size} with {channels} channels and aspect '{aspect}' cannot be made: "
                         "give one number or [height, width], 1 or 3 channels, and stretch or crop.")
    chosen = make_splits(source, validation, test, limit_train, seed)
    folder = study.folder / "data"
    key = digest([digest(Path(images.__file__).read_bytes()), PIL.__version__, source.state, size, channels, aspect,
                  source.classes, {split: [[item.name, item.label] for item in chosen[split]] for split in SPLITS}])
    manifest = _stored(folder, key)
    if manifest is None:
        decode = partial(decode_item, size=size, channels=channels, aspect=aspect)
        with nullcontext(executor) if executor else ThreadPoolExecutor(os.cpu_count()) as pool:
            manifest = decode_all(folder, chosen, decode, pool, key, (*size, channels), source.classes)
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
    named = data if data in SOURCES else os.path.relpath(home() / Path(data).expanduser(), home())
    study.write("data_request", {"data": named, "splits": splits, "validation": validation, "test": test,
                                 "limit_train": limit_train, "seed": seed})
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


def at_size(study: Study, data: Data, size: tuple[int, int], channels: int) -> Data:
    """The same data with validation and test decoded at another size, (height, width), from where they came from.

    The very same images in the same order: each is decoded at the study's size too, and its pixels and label must be the
    next ones stored, so that what was left out there (unreadable, copies) is left out here. Decoded once a size, in the
    study's folder `data_at`. Train and calibration stay as they are. Raises EdgeqError when the images have changed since.
    """
    manifest = data.manifest
    own, wanted = (*manifest["image_size"], manifest["channels"]), (*size, channels)
    if own == wanted:
        return data
    folder = study.folder / "data_at" / "x".join(map(str, wanted))
    paths = {split: folder / f"{split}_images.npy" for split in ("validation", "test")}
    key = digest([manifest["fingerprint"], digest(Path(images.__file__).read_bytes()), PIL.__version__])
    whole = (folder / "manifest.json").exists() and all(path.exists() for path in paths.values())
    if not whole or read_json(folder / "manifest.json")["key"] != key:
        request = study.read("data_request")
        name = request["data"]
        source = find(name if name in SOURCES else os.path.normpath(home() / name), request["splits"])
        chosen = make_splits(source, request["validation"], request["test"], request["limit_train"], request["seed"])
        changed = decode_again(folder, chosen, {"validation": data.validation, "test": data.test}, own, wanted,
                               manifest["aspect"], key)
        if changed:
            raise EdgeqError(f"The {changed} images of {source.name} are not those that study '{study.name}' was prepared "
                             f"from; run `edgeq run {study.name} --force --only 01_data`.")
        for path in paths.values():
            study.note_write(path)
    for path in paths.values():
        study.note_read(path)
    return replace(data, **{split: Split(np.load(path, mmap_mode="r"), getattr(data, split).labels)
                            for split, path in paths.items()})


def prove_disjoint(data: Data) -> dict[str, int]:
    """How many images any two of train, validation, test and calibration share, by their pixels as stored.

    Calibration lies inside train, so that pair is left out. Raises EdgeqError when any other pair shares an image.
    """
    marks = {split: {mark_of(image) for image in progress(getattr(data, split).images, f"compare {split}")}
             for split in SPLITS}
    marks["calibration"] = {mark_of(image) for image in data.calibration_images}
    pairs = (("train", "validation"), ("train", "test"), ("validation", "test"), ("calibration", "validation"),
             ("calibration", "test"))
    shared = {f"{one} and {other}": len(marks[one] & marks[other]) for one, other in pairs}
    for pair, number in shared.items():
        if number:
            raise EdgeqError(f"{pair.capitalize()} share {number} images, so that no result on them would be honest; "
                             "prepare the data again with `edgeq run STUDY --force --only 01_data`.")
    return shared


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
            raise EdgeqError(f"The {split} images of {source.name} have none of the classes {some(empty)}; add "
                             "readable images of them, or leave more to train.")
