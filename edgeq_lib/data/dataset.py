"""The decoded images of a study, memory-mapped, and the checks that they must pass.

`prepare.prepare` writes them; everything else reads them from here.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from edgeq_lib.data.source import SPLITS
from edgeq_lib.files import EdgeqError, read_json
from edgeq_lib.progress import progress
from edgeq_lib.study import Study


def pixel_hash(pixels: np.ndarray) -> bytes:
    """Hash an image by its pixels, which tells decoded images apart.

    Args:
        pixels: The image, uint8 (height, width, channels).

    Returns:
        16 bytes.
    """
    return hashlib.blake2b(np.ascontiguousarray(pixels).data, digest_size=16).digest()


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


def load(study: Study) -> Data:
    """Open the prepared data of a study.

    Args:
        study: The study.

    Returns:
        The data; images are memory-mapped.

    Raises:
        EdgeqError: When the images are missing or not those of the record.
    """
    manifest, folder = study.read("data"), study.folder / "data"
    try:
        if (
            read_json(folder / "manifest.json")["manifest"]["fingerprint"]
            != manifest["fingerprint"]
        ):
            raise ValueError
        parts = {split: open_split(folder, split) for split in SPLITS}
    except (OSError, ValueError, KeyError, EdgeqError):
        raise EdgeqError(
            f"The decoded images of study '{study.name}' are missing or not those of its record; "
            f"run `edgeq run {study.name} --force --only 01_data`."
        ) from None
    for path in array_paths(folder):
        study.note_read(path)
    indices = np.array(manifest["calibration"]["indices"], np.int64)
    return Data(**parts, classes=manifest["classes"], calibration=indices, manifest=manifest)


def prove_disjoint(data: Data) -> dict[str, int]:
    """Count the images that any two of train, validation, test and calibration share.

    Calibration lies inside train, so that pair is left out.

    Args:
        data: The data.

    Returns:
        Pair of splits, such as "train and test" → number of shared images: all 0.

    Raises:
        EdgeqError: When a pair shares an image.
    """
    marks = {
        split: {
            pixel_hash(image) for image in progress(getattr(data, split).images, f"compare {split}")
        }
        for split in SPLITS
    }
    marks["calibration"] = {pixel_hash(image) for image in data.calibration_images}
    pairs = (
        ("train", "validation"),
        ("train", "test"),
        ("validation", "test"),
        ("calibration", "validation"),
        ("calibration", "test"),
    )
    shared = {f"{one} and {other}": len(marks[one] & marks[other]) for one, other in pairs}
    for pair, number in shared.items():
        if number:
            raise EdgeqError(
                f"{pair.capitalize()} share {number} images, so that no result on them would be "
                "honest; prepare the data again with `edgeq run STUDY --force --only 01_data`."
            )
    return shared


def check_images(array: np.ndarray, what: str = "the images") -> None:
    """Check that an array can be images.

    Args:
        array: Should be (n, height, width, 1 or 3) and finite.
        what: What it is, for the message.

    Raises:
        EdgeqError: When it is not; the message names the first bad image.
    """
    if array.ndim != 4 or array.shape[-1] not in (1, 3):
        raise EdgeqError(
            f"The array of {what} has the shape {array.shape}; give (n, height, width, 1 or 3)."
        )
    for start in range(0, len(array) if array.dtype.kind == "f" else 0, 256):
        bad = ~np.isfinite(array[start : start + 256]).all(axis=(1, 2, 3))
        if bad.any():
            raise EdgeqError(
                f"Image {start + int(bad.argmax())} of {what} holds NaN or infinite values; "
                "repair it or leave it out."
            )


def check_calibration(array: np.ndarray) -> None:
    """Check that images can set activation ranges.

    Args:
        array: Images (n, height, width, channels).

    Raises:
        EdgeqError: When there are fewer than two, or when they are constant or all the same.
    """
    cure = "draw it from real training images, 100 to 500 of them."
    if len(array) < 2:
        raise EdgeqError(
            f"The representative set holds {'one image' if len(array) else 'no images'}; {cure}"
        )
    check_images(array, "the representative set")
    if (array == array[:1]).all() or (array == array[:, :1, :1]).all():
        raise EdgeqError(
            "The images of the representative set are constant or all the same, so that they show "
            f"no range; {cure}"
        )


def array_paths(folder: Path) -> list[Path]:
    """List the arrays of a study's data.

    Args:
        folder: The study's folder `data`.

    Returns:
        The `.npy` files of images and labels, split by split.
    """
    return [folder / f"{split}_{kind}.npy" for split in SPLITS for kind in ("images", "labels")]


def open_split(folder: Path, split: str) -> Split:
    """Open one split.

    Args:
        folder: The study's folder `data`.
        split: "train", "validation" or "test".

    Returns:
        The split; images are memory-mapped.

    Raises:
        ValueError: When images and labels differ in number.
    """
    labels = np.load(folder / f"{split}_labels.npy")
    pixels = np.load(folder / f"{split}_images.npy", mmap_mode="r")
    if len(pixels) != len(labels):
        raise ValueError(f"{split}: images and labels differ in number")
    return Split(pixels, labels)
