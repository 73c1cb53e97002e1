"""Decoding whole splits into arrays on disk: in parallel, in order, each image once, copies left out."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from edgeq_lib import images
from edgeq_lib.downloads import guard_disk, replace_folder
from edgeq_lib.progress import progress
from edgeq_lib.sources import SPLITS, Item, count
from edgeq_lib.study import digest, write_bytes, write_json


def decode_all(folder: Path, chosen: dict[str, list[Item]], decode: Callable, executor: Executor, key: str,
               shape: tuple[int, ...], classes: list[str]) -> dict:
    """Decode the splits into a folder beside `folder`, and put it in place whole; returns the log, which is the manifest."""
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


def decode_again(folder: Path, chosen: dict[str, list[Item]], stored: dict[str, tuple[np.ndarray, np.ndarray]],
                 own: tuple[int, ...], wanted: tuple[int, ...], aspect: str, key: str) -> str | None:
    """Decode splits at another size into `folder`: of `chosen` the items whose pixels at the study's `own` size, and whose
    labels, are the next ones `stored`. Returns the split that has no such items for all, writing nothing; None for success.
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
                    for item, (mark, pixels) in progress(_decoded(chosen[split], decode, pool), f"decode {split} again",
                                                         len(chosen[split])):
                        if row < len(labels) and (mark, item.label) == (mark_of(pictures[row]), labels[row]):
                            file.write(pixels.tobytes())
                            row += 1
                if row != len(labels):
                    return split
            write_json(staging / "manifest.json", {"key": key})
            replace_folder(staging, folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return None


def _decode_twice(content: Any, own: tuple[int, ...], wanted: tuple[int, ...], aspect: str) -> tuple[bytes, Any]:
    """The mark of an image as the study has it, and its pixels at the size wanted."""
    (first, _), (second, _) = (decode_item(content, size, channels, aspect) for *size, channels in (own, wanted))
    return b"" if first is None else mark_of(first), second


def decode_item(content: Any, size: tuple[int, int], channels: int, aspect: str) -> tuple[np.ndarray | None, Any]:
    """`images.decode`, or None and the reason for an image that cannot be read."""
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


def _write_split(split: str, decoded: Iterator, folder: Path, shape: tuple[int, ...], classes: int, seen: dict,
                 log: dict) -> dict:
    """Write one split's arrays. By plain writes, since a full disk under a memory map kills the process."""
    labels: list[int] = []
    fingerprint, twice = hashlib.sha256(str(shape[1:]).encode()), log["duplicates"]
    with open(folder / f"{split}_images.npy", "wb") as file:
        write_header(file, shape)
        for item, (pixels, notes) in decoded:
            if pixels is None:
                log["skipped"].append({"file": item.name, "why": notes})
                continue
            mark = mark_of(pixels)
            other, label = seen.get(mark, (None, item.label))
            twice["other_class"] += label != item.label
            if other not in (None, split):
                count(twice["removed"], f"{split}, being in {other}")
                continue
            if other == split:
                count(twice["inside"], split)
            seen[mark] = (split, item.label)
            for note in notes:
                count(log["converted"], note)
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
    return {"n": len(labels), "fingerprint": fingerprint.hexdigest(),
            "per_class": np.bincount(stored, minlength=classes).tolist()}


def write_header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    """The `.npy` header; NumPy pads it, so that it can be written again with the final number of images."""
    file.seek(0)
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})


def mark_of(pixels: np.ndarray) -> bytes:
    """What tells decoded images apart: a hash of their pixels."""
    return hashlib.blake2b(np.ascontiguousarray(pixels), digest_size=16).digest()
