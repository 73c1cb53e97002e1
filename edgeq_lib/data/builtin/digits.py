"""Digits: 8 × 8 grey handwritten digits that scikit-learn ships, as they are and made harder."""

from __future__ import annotations

import numpy as np

from edgeq_lib.data.source import Item, Source
from edgeq_lib.files import digest

PAPER = (0, 200)  # grey levels of 255 of the background, drawn per image
CONTRAST = (30, 50)  # how many levels brighter than it full ink is, drawn per image
NOISE = 5  # levels, each of two draws that are added to a pixel


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


def faint_digits() -> Source:
    """The same digits, faint on paper of any brightness, so that compression costs something.

    To read them, a kernel's weights must cancel the brightness of the paper, and coarse rounding
    spoils just that: plain 4 bits lose much, however the training came out.
    """
    pixels, labels, classes = _load()
    faded = fade(pixels)
    return Source(
        "Faint digits",
        "8 × 8 grey, low contrast",
        "sklearn.datasets.load_digits; faded, on grey paper and with noise by edgeq",
        classes,
        {"train": _items(faded, labels)},
        digest(faded.tobytes()),
        validation=0.25,
        test=0.35,
    )


def fade(pixels: np.ndarray, seed: int = 0) -> np.ndarray:
    """Draw images faintly on grey paper and add noise.

    Integer arithmetic on a stream that NumPy has frozen (NEP 19), cut to 0 to 255 at the end:
    the same seed gives the same pixels on every machine.

    Args:
        pixels: uint8 (n, height, width), 255 is full ink.
        seed: Of the draws.

    Returns:
        uint8, the same shape.
    """
    stream, ink = np.random.RandomState(seed), pixels.astype(np.int64)
    one_each = (len(ink), 1, 1)
    paper = stream.randint(PAPER[0], PAPER[1] + 1, one_each)
    contrast = stream.randint(CONTRAST[0], CONTRAST[1] + 1, one_each)
    noise = stream.randint(-NOISE, NOISE + 1, (2, *ink.shape)).sum(axis=0)
    return np.clip(paper + ink * contrast // 255 + noise, 0, 255).astype(np.uint8)


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
