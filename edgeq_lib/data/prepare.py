"""Decode whole splits into arrays on disk: in parallel, in order, copies left out."""

from __future__ import annotations

import hashlib
import io
import itertools
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import PIL

from edgeq_lib.data import decode as decoder
from edgeq_lib.data import near_duplicates
from edgeq_lib.data.catalog import SOURCES, find_source
from edgeq_lib.data.dataset import (
    Data,
    Split,
    array_paths,
    check_calibration,
    open_split,
    pixel_hash,
)
from edgeq_lib.data.decode import ASPECTS, Unreadable, decode_with_thumbnail
from edgeq_lib.data.near_duplicates import CROWD, Photos
from edgeq_lib.data.source import SPLITS, UNKNOWN, Item, Source, first_names, increment
from edgeq_lib.data.splits import draw_calibration, make_splits
from edgeq_lib.files import (
    EdgeqError,
    digest,
    guard_disk,
    home,
    read_json,
    replace_folder,
    write_bytes,
    write_json,
)
from edgeq_lib.progress import progress
from edgeq_lib.study import Study


def decode_all(
    folder: Path,
    chosen: dict[str, list[Item]],
    decode: Callable,
    executor: Executor,
    key: str,
    shape: tuple[int, ...],
    classes: list[str],
) -> dict:
    """Decode all splits into a folder, and put it in place whole.

    Args:
        folder: The study's folder `data`.
        chosen: Split → its items.
        decode: Makes pixels and notes of an item's content, see `decode_item`.
        executor: Runs the decoding.
        key: Identifies what the images depend on.
        shape: (height, width, channels).
        classes: Names of the classes.

    Returns:
        The log of what was decoded, skipped and converted, which is the manifest.

    Raises:
        EdgeqError: When the disk is full.
    """
    staging = folder.with_name(f".{folder.name}")
    log: dict[str, Any] = {
        "splits": dict.fromkeys(SPLITS),
        "skipped": [],
        "converted": {},
        "duplicates": {
            **{"removed": {}, "inside": {}, "other_class": 0},
            **{"near": {}, "near_other_class": 0, "near_crowd": 0, "names": {}},
        },
    }
    seen: dict[bytes, tuple[str, int]] = {}
    photos = Photos()
    shutil.rmtree(staging, ignore_errors=True)
    try:
        with guard_disk("the decoded images"):
            staging.mkdir(parents=True)
            for split in (
                "test",
                "validation",
                "train",
            ):  # so that of two copies the one in train goes
                decoded = progress(
                    _decoded(chosen[split], decode, executor), f"decode {split}", len(chosen[split])
                )
                log["splits"][split] = _write_split(
                    split,
                    _near_found(decoded, photos),
                    staging,
                    (len(chosen[split]), *shape),
                    len(classes),
                    seen,
                    log,
                )
            log["fingerprint"] = digest(
                [classes, {split: log["splits"][split]["fingerprint"] for split in SPLITS}]
            )
            write_json(staging / "manifest.json", {"key": key, "manifest": log})
            replace_folder(staging, folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return log


def decode_at_size(
    folder: Path,
    chosen: dict[str, list[Item]],
    stored: dict[str, tuple[np.ndarray, np.ndarray]],
    own: tuple[int, ...],
    wanted: tuple[int, ...],
    aspect: str,
    key: str,
) -> str | None:
    """Decode splits at another size, exactly the images that are stored.

    Args:
        folder: Where they go.
        chosen: Split → its items; taken are those whose pixels at the study's size, and whose
            labels, are the next ones stored.
        stored: Split → its images and labels as the study has them.
        own: The study's (height, width, channels).
        wanted: The other one.
        aspect: See `decode.decode_image`.
        key: Identifies what the images depend on.

    Returns:
        None, or the split that has no such items for all; then nothing is written.
    """
    staging = folder.with_name(f".{folder.name}")
    decode = partial(_decode_twice, own=own, wanted=wanted, aspect=aspect)
    shutil.rmtree(staging, ignore_errors=True)
    try:
        with guard_disk("the decoded images"), ThreadPoolExecutor(os.cpu_count()) as pool:
            staging.mkdir(parents=True)
            for split, (pictures, labels) in stored.items():
                row = 0
                with open(staging / f"{split}_images.npy", "wb") as file:
                    write_header(file, (len(labels), *wanted))
                    for item, (mark, pixels) in progress(
                        _decoded(chosen[split], decode, pool),
                        f"decode {split} again",
                        len(chosen[split]),
                    ):
                        if row < len(labels) and (mark, item.label) == (
                            pixel_hash(pictures[row]),
                            labels[row],
                        ):
                            file.write(pixels.tobytes())
                            row += 1
                if row != len(labels):
                    return split
            write_json(staging / "manifest.json", {"key": key})
            replace_folder(staging, folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return None


def _decode_twice(
    content: Any, own: tuple[int, ...], wanted: tuple[int, ...], aspect: str
) -> tuple[bytes, Any]:
    """The mark of an image as the study has it, and its pixels at the size wanted."""
    (first, *_), (second, *_) = (
        decode_item(content, (height, width), channels, aspect)
        for height, width, channels in (own, wanted)
    )
    return b"" if first is None else pixel_hash(first), second


def decode_item(
    content: Any, size: tuple[int, int], channels: int, aspect: str
) -> tuple[np.ndarray | None, Any, np.ndarray | None]:
    """Decode an image without raising.

    Args:
        content: See `decode.decode_image`, as all that follows.
        size: (height, width).
        channels: 1 or 3.
        aspect: "stretch" or "crop".

    Returns:
        The image, its conversions and its thumbnail (see `decode.decode_with_thumbnail`); or None,
        the reason, and None for an image that cannot be read.
    """
    try:
        return decode_with_thumbnail(content, size, channels, aspect)
    except Unreadable as error:
        return None, str(error), None


def _decoded(
    items: list[Item], decode: Callable, executor: Executor
) -> Iterator[tuple[Item, tuple]]:
    """Yield the items with their images, in order.

    Two batches at a time are under way, so that memory stays bounded.
    """
    under_way: deque = deque()
    for start in range(0, len(items), 256):
        batch = items[start : start + 256]
        under_way.append(
            zip(
                batch,
                executor.map(decode, [item.content for item in batch], chunksize=16),
                strict=True,
            )
        )
        if len(under_way) == 2:
            yield from under_way.popleft()
    for rest in under_way:
        yield from rest


def _near_found(decoded: Iterator, photos: Photos) -> Iterator[tuple[Item, Any, Any, list, Any]]:
    """Yield items, pixels and notes with the near-duplicates in the splits before this one.

    The fifth is called with the split for an image that stays, so that the next split knows it.
    """
    kept: list[tuple[np.ndarray, tuple[str, str, int]]] = []
    while block := list(itertools.islice(decoded, 256)):
        smalls = [small for _, (_, _, small) in block if small is not None]
        alike = iter(photos.alike(np.stack(smalls)) if smalls else [])
        for item, (pixels, notes, small) in block:
            near = next(alike) if small is not None else []

            def keep(split: str, item: Item = item, small: np.ndarray | None = small) -> None:
                if small is not None and split != "train":
                    kept.append((small, (split, item.name, item.label)))

            yield item, pixels, notes, near, keep
    if kept:
        photos.add(np.stack([small for small, _ in kept]), [name for _, name in kept])


def _is_near_copy(split: str, item: Item, near: list, twice: dict) -> bool:
    """Tell whether a photo goes since another split holds nearly the same; counts in `twice`."""
    same = [(other, name) for other, name, label in near if label == item.label]
    twice["near_other_class"] += len(same) < len(near)
    if len(same) > CROWD:
        twice["near_crowd"] += 1
        return False
    if same:
        other, name = same[0]
        increment(twice["near"], f"{split}, being in {other}")
        _note_name(twice, "near", f"{item.name} like {name}")
    return bool(same)


def _note_name(twice: dict, kind: str, name: str) -> None:
    names = twice["names"].setdefault(kind, [])
    if len(names) < 5:
        names.append(name)


def _write_split(
    split: str,
    decoded: Iterator,
    folder: Path,
    shape: tuple[int, ...],
    classes: int,
    seen: dict,
    log: dict,
) -> dict:
    """Write one split's arrays, by plain writes: a full disk under a memory map kills."""
    labels: list[int] = []
    fingerprint, twice = hashlib.sha256(str(shape[1:]).encode()), log["duplicates"]
    with open(folder / f"{split}_images.npy", "wb") as file:
        write_header(file, shape)
        for item, pixels, notes, near, keep in decoded:
            if pixels is None:
                log["skipped"].append({"file": item.name, "why": notes})
                continue
            mark = pixel_hash(pixels)
            other, label = seen.get(mark, (None, item.label))
            twice["other_class"] += label != item.label
            if other not in (None, split):
                increment(twice["removed"], f"{split}, being in {other}")
                _note_name(twice, "removed", item.name)
                continue
            if _is_near_copy(split, item, near, twice):
                continue
            if other == split:
                increment(twice["inside"], split)
            seen[mark] = (split, item.label)
            keep(split)
            for note in notes:
                increment(log["converted"], note)
            content = pixels.tobytes()
            file.write(content)
            fingerprint.update(content)
            labels.append(item.label)
        write_header(file, (len(labels), *shape[1:]))
    stored = np.array(labels, np.int64)
    buffer = io.BytesIO()
    np.save(buffer, stored)
    write_bytes(folder / f"{split}_labels.npy", buffer.getvalue())
    fingerprint.update(stored.tobytes())
    return {
        "n": len(labels),
        "fingerprint": fingerprint.hexdigest(),
        "per_class": np.bincount(stored, minlength=classes).tolist(),
    }


def write_header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    """Write the `.npy` header.

    NumPy pads it, so that it can be written again with the final number of images.

    Args:
        file: The open file.
        shape: (images, height, width, channels).
    """
    file.seek(0)
    np.lib.format.write_array_header_1_0(
        file, {"descr": "|u1", "fortran_order": False, "shape": shape}
    )


def prepare(
    study: Study,
    data: str,
    image_size: int | Sequence[int],
    channels: int = 3,
    *,
    splits: dict[str, str] | None = None,
    validation: float | int | None = None,
    test: float | int | None = None,
    limit_train: int | None = None,
    calibration: int = 128,
    seed: int = 0,
    max_skipped: float = 0.01,
    aspect: str | None = None,
    executor: Executor | None = None,
) -> dict:
    """Decode a data set into the study's folder `data`, and write its record.

    An image whose pixels also stand in test goes out of train and validation, one that stands in
    validation goes out of train; both are counted. So do near-duplicates (`near_duplicates`). What
    was prepared before from the same files with the same splits is not decoded again.

    Args:
        study: The study.
        data: A name in `catalog.SOURCES`, or a folder of class folders.
        image_size: One number, or (height, width).
        channels: 1 or 3.
        splits: Split → its sub-folder of the folder.
        validation: What validation takes where the set brings none: a share (float), a number
            (int), or None for the set's own habit.
        test: The same for test.
        limit_train: Keep a class-balanced part of train, of so many images; None for all.
        calibration: Images in the calibration set.
        seed: Decides the splits and the calibration set.
        max_skipped: Share of images that may be unreadable.
        aspect: See `decode.decode_image`; None for the set's own.
        executor: Runs the decoding; threads of its own by default.

    Returns:
        The record, which is the manifest.

    Raises:
        EdgeqError: For whatever is wrong with the data.
    """
    source = find_source(data, splits)
    aspect = aspect or source.aspect
    size = _checked_size(image_size, channels, aspect)
    chosen = make_splits(source, validation, test, limit_train, seed)
    folder = study.folder / "data"
    log = _stored_or_decoded(folder, source, chosen, (*size, channels), aspect, executor)
    total = sum(map(len, chosen.values())) + len(source.ignored.get(UNKNOWN, []))
    _check_result(log, source, total, max_skipped)
    manifest = {
        "name": source.name,
        "form": source.form,
        "source": source.origin,
        "classes": source.classes,
        "image_size": list(size),
        "channels": channels,
        "aspect": aspect,
        "seed": seed,
        **log,
        "left_out": left_out(log, source.ignored),
        "calibration": _calibration_record(folder, calibration, seed, len(source.classes)),
    }
    for path in array_paths(folder):
        study.note_write(path)
    study.write("data", manifest)
    request = {
        "data": _name_from_home(data),
        "splits": splits,
        "validation": validation,
        "test": test,
        "limit_train": limit_train,
        "seed": seed,
    }
    study.write("data_request", request)
    return manifest


def unread_names(log: Mapping[str, Any], ignored: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Sort what may be a photo and could not be read by reason.

    Args:
        log: The log of `decode_all`.
        ignored: Names of files that are no photos, see `Source`.

    Returns:
        Reason → names.
    """
    by_reason: dict[str, list[str]] = {}
    for entry in log["skipped"]:
        by_reason.setdefault(entry["why"], []).append(entry["file"])
    return {**by_reason, **({UNKNOWN: ignored[UNKNOWN]} if ignored.get(UNKNOWN) else {})}


def left_out(log: Mapping[str, Any], ignored: Mapping[str, list[str]]) -> list[dict[str, Any]]:
    """List what stands in the folder and in no split.

    Args:
        log: The log of `decode_all`.
        ignored: Names of files that are no photos, see `Source`.

    Returns:
        For each reason: `why`, the number `n`, and up to five `names`.
    """
    twice = log["duplicates"]
    rows = [
        *(
            (f"unreadable: {why}", len(names), names)
            for why, names in unread_names(log, {}).items()
        ),
        *(
            (why, sum(twice[kind].values()), twice["names"].get(kind, []))
            for why, kind in (
                ("copy of a photo in test or validation", "removed"),
                ("near-duplicate of a photo in test or validation", "near"),
            )
        ),
        *((why, len(names), names) for why, names in sorted(ignored.items())),
    ]
    return [{"why": why, "n": n, "names": names[:5]} for why, n, names in rows if n]


def _checked_size(image_size: int | Sequence[int], channels: int, aspect: str) -> tuple[int, int]:
    """(height, width); raises where images cannot be made so."""
    size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    if len(size) != 2 or min(size) < 1 or channels not in (1, 3) or aspect not in ASPECTS:
        raise EdgeqError(
            f"Images of size {image_size} with {channels} channels and aspect '{aspect}' cannot "
            "be made: give one number or [height, width], 1 or 3 channels, and stretch or crop."
        )
    return size


def _stored_or_decoded(
    folder: Path,
    source: Source,
    chosen: dict[str, list[Item]],
    shape: tuple[int, int, int],
    aspect: str,
    executor: Executor | None,
) -> dict:
    """The log of the decoded images, which are made where they do not stand in the folder."""
    key = _key(source, chosen, shape, aspect)
    log = _stored(folder, key)
    if log is None:
        decode = partial(decode_item, size=shape[:2], channels=shape[2], aspect=aspect)
        with nullcontext(executor) if executor else ThreadPoolExecutor(os.cpu_count()) as pool:
            log = decode_all(folder, chosen, decode, pool, key, shape, source.classes)
    return log


def _calibration_record(folder: Path, n: int, seed: int, n_classes: int) -> dict[str, Any]:
    """Draw the calibration images out of train: their indices, and how many are of each class."""
    train = open_split(folder, "train")
    indices = draw_calibration(train.labels, n, seed)
    check_calibration(train.images[indices])
    per_class = np.bincount(train.labels[indices], minlength=n_classes)
    return {
        "n": len(indices),
        "seed": seed,
        "indices": indices.tolist(),
        "per_class": per_class.tolist(),
    }


def _name_from_home(data: str) -> str:
    """The name of a known data set, or the folder as it is reached from edgeq's home."""
    if data in SOURCES:
        return data
    return os.path.relpath(home() / Path(data).expanduser(), home())


def _key(source: Source, chosen: dict[str, list[Item]], shape: tuple[int, ...], aspect: str) -> str:
    """Identify what the decoded images depend on."""
    return digest(
        [
            digest(Path(decoder.__file__).read_bytes()),
            digest(Path(near_duplicates.__file__).read_bytes()),
            PIL.__version__,
            find_spec("pillow_heif") is not None,
            source.state,
            shape[:2],
            shape[2],
            aspect,
            source.classes,
            {split: [[item.name, item.label] for item in chosen[split]] for split in SPLITS},
        ]
    )


def at_size(study: Study, data: Data, size: tuple[int, int], channels: int) -> Data:
    """Give the same data with validation and test decoded at another size.

    The very same images in the same order, decoded once per size into the study's folder `data_at`.
    Train and calibration stay as they are.

    Args:
        study: The study.
        data: Its data.
        size: (height, width).
        channels: 1 or 3.

    Returns:
        The data at that size.

    Raises:
        EdgeqError: When the images have changed since they were prepared.
    """
    manifest = data.manifest
    own, wanted = (*manifest["image_size"], manifest["channels"]), (*size, channels)
    if own == wanted:
        return data
    folder = study.folder / "data_at" / "x".join(map(str, wanted))
    paths = {split: folder / f"{split}_images.npy" for split in ("validation", "test")}
    key = digest(
        [manifest["fingerprint"], digest(Path(decoder.__file__).read_bytes()), PIL.__version__]
    )
    whole = (folder / "manifest.json").exists() and all(path.exists() for path in paths.values())
    if not whole or read_json(folder / "manifest.json")["key"] != key:
        source, chosen = _as_requested(study.read("data_request"))
        stored: dict[str, Any] = {"validation": data.validation, "test": data.test}
        changed = decode_at_size(folder, chosen, stored, own, wanted, manifest["aspect"], key)
        if changed:
            raise EdgeqError(
                f"The {changed} images of {source.name} are not those that study '{study.name}' "
                f"was prepared from; run `edgeq run {study.name} --force --only 01_data`."
            )
        for path in paths.values():
            study.note_write(path)
    for path in paths.values():
        study.note_read(path)
    sized: dict[str, Any] = {
        split: Split(np.load(path, mmap_mode="r"), getattr(data, split).labels)
        for split, path in paths.items()
    }
    return replace(data, **sized)


def _as_requested(request: dict[str, Any]) -> tuple[Source, dict[str, list[Item]]]:
    """The data set of a study's record `data_request`, and the items of each split."""
    name = request["data"]
    source = find_source(
        name if name in SOURCES else os.path.normpath(home() / name), request["splits"]
    )
    chosen = make_splits(
        source, request["validation"], request["test"], request["limit_train"], request["seed"]
    )
    return source, chosen


def _stored(folder: Path, key: str) -> dict | None:
    """The manifest of a finished preparation with that key whose arrays are all there."""
    try:
        stored = read_json(folder / "manifest.json")
        if stored["key"] != key:
            return None
        for split in SPLITS:
            if stored["manifest"]["splits"][split]["n"] != len(open_split(folder, split).labels):
                return None
    except (OSError, ValueError, KeyError, EdgeqError):
        return None
    return stored["manifest"]


def _check_result(manifest: dict, source: Source, total: int, max_skipped: float) -> None:
    by_reason = unread_names(manifest, source.ignored)
    n_unread = sum(map(len, by_reason.values()))
    if n_unread > max_skipped * total:
        reasons = "; ".join(f"{why}: {first_names(names)}" for why, names in by_reason.items())
        raise EdgeqError(
            f"{n_unread} of {total} images of {source.name} cannot be read ({reasons}), more than "
            f"the share max_skipped = {max_skipped:g}; repair or remove them, or raise max_skipped."
        )
    for split in SPLITS:
        count = manifest["splits"][split]
        empty = [name for name, n in zip(source.classes, count["per_class"], strict=True) if not n]
        if not count["n"] or (split == "train" and empty and not source.sparse):
            raise EdgeqError(
                f"The {split} images of {source.name} have none of the classes "
                f"{first_names(empty)}; add readable images of them, or leave more to train."
            )
