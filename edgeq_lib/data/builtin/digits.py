"""Digits: 8 × 8 grey handwritten digits that scikit-learn ships, as they are and made harder."""

from __future__ import annotations

import numpy as np

from edgeq_lib.data.source import Item, Source
from edgeq_lib.files import digest

CANVAS = 10  # pixels a side, on which a digit of 8 × 8 is shifted
CONTRAST = (60, 100)  # percent of it that is kept, drawn per image
NOISE = 35  # levels of 255 at most, added to or taken from each pixel


def digits() -> Source:
    """The 1,797 digits as they are: networks of any size get nearly all of them right."""
    pixels, labels, classes = _load()
    return Source(
        "Digits",
        "8 × 8 grey",
        "sklearn.datasets.load_digits",
        classes,
        {"train": _items(pixels, labels)},
        digest(pixels.tobytes()),
        validation=0.2,
        test=0.3,
    )


def noisy_digits() -> Source:
    """The same digits made harder, so that what compression costs can be seen.

    Each is shifted on a larger canvas, faded and covered with noise, once and from a fixed seed:
    integer arithmetic on a stream that NumPy has frozen gives the same pixels on every machine.
    """
    pixels, labels, classes = _load()
    corrupted = corrupt(pixels)
    return Source(
        "Noisy digits",
        f"{CANVAS} × {CANVAS} grey",
        "sklearn.datasets.load_digits; shifted, faded and covered with noise by edgeq",
        classes,
        {"train": _items(corrupted, labels)},
        digest(corrupted.tobytes()),
        validation=0.2,
        test=0.4,
    )


def corrupt(pixels: np.ndarray, seed: int = 0) -> np.ndarray:
    """Shift, fade and cover images with noise.

    Args:
        pixels: uint8 (n, 8, 8).
        seed: Of the corruption; the same seed gives the same pixels everywhere.

    Returns:
        uint8 (n, CANVAS, CANVAS).
    """
    stream = np.random.RandomState(seed)
    results = np.zeros((len(pixels), CANVAS, CANVAS), np.int64)
    for result, digit in zip(results, pixels.astype(np.int64), strict=True):
        top, left = stream.randint(0, CANVAS - digit.shape[0] + 1, 2)
        faded = digit * stream.randint(CONTRAST[0], CONTRAST[1] + 1) // 100
        result[top : top + digit.shape[0], left : left + digit.shape[1]] = faded
        result += stream.randint(-NOISE, NOISE + 1, result.shape)
    return np.clip(results, 0, 255).astype(np.uint8)


def _load() -> tuple[np.ndarray, np.ndarray, list[str]]:
    from sklearn.datasets import load_digits  # its import takes a second that no other set owes

    bunch = load_digits()
    pixels = np.round(bunch.images * (255 / 16)).astype(np.uint8)
    return pixels, bunch.target, [str(name) for name in bunch.target_names]


def _items(pixels: np.ndarray, labels: np.ndarray) -> list[Item]:
    return [
        Item(f"digit {index}", image, int(label))
        for index, (image, label) in enumerate(zip(pixels, labels, strict=True))
    ]
