"""Copies that are not equal to the byte: thumbnails, resized photos, photos encoded anew.

1. A photo is looked at as 32 × 32 RGB pixels (`decode.thumbnail`).
2. Its perceptual hash is the sign of its 64 lowest DCT coefficients against their median (pHash:
   Zauner, *Implementation and benchmarking of perceptual image hash functions*, 2010).
3. Two photos with hashes at most `HASH_BITS` apart are near-duplicates when what is coarse in them
   (16 × 16) and what is fine (32 × 32 without 8 × 8) correlate.

Measured on 300 photos each of Cats vs Dogs, ILSVRC-2012, NIPS 2017, Oxford Pets, BCCD and (64
pixels large) Tiny-ImageNet: of their copies as JPEG of quality 75, 50 and 25, WebP 50, GIF, at half
the size and as thumbnail of 64 pixels, at least 99 % are known in each. Among 107 million pairs of
photos eight were within the bound of the hash: three are copies, one shows the same blood cells
shifted a little; of the four others the coarse parts correlate at 0.7 at most. Not known are
mirrored, cropped and most grey copies.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.fft import dctn

SMALLEST = 64  # pixels of the shorter side; what is smaller looks alike too often
HASH_BITS = 8  # of 64
COARSE, FINE = 0.96, 0.92  # least correlations
# A photo that is like more others than this is no copy, but one of a scene where all look alike.
CROWD = 5
_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)


class Photos:
    """The photos of the splits that were read, to find what is like them in the next."""

    def __init__(self) -> None:
        self._hashes: list[np.ndarray] = []
        self._thumbnails: list[np.ndarray] = []
        self._names: list[tuple[str, str, int]] = []

    def add(self, thumbnails: np.ndarray, names: Sequence[tuple[str, str, int]]) -> None:
        """Add photos.

        Args:
            thumbnails: uint8 (n, 32, 32, 3).
            names: Split, name and label of each.
        """
        if len(names):
            self._hashes.append(hashes(thumbnails))
            self._thumbnails.extend(thumbnails)
            self._names.extend(names)

    def alike(self, thumbnails: np.ndarray) -> list[list[tuple[str, str, int]]]:
        """Find the near-duplicates of some photos among those that were added.

        Args:
            thumbnails: uint8 (n, 32, 32, 3).

        Returns:
            For each the split, name and label of all that are like it, in the order of adding.
        """
        result: list[list[tuple[str, str, int]]] = [[] for _ in thumbnails]
        if not self._names or not len(thumbnails):
            return result
        self._hashes = [np.concatenate(self._hashes)]
        bits = np.bitwise_count(hashes(thumbnails)[:, None] ^ self._hashes[0][None])
        for row, other in zip(*np.nonzero(bits <= HASH_BITS), strict=True):
            if correlate(thumbnails[row], self._thumbnails[other]):
                result[row].append(self._names[other])
        return result


def hashes(thumbnails: np.ndarray) -> np.ndarray:
    """Hash photos so that copies differ in few bits.

    Args:
        thumbnails: uint8 (n, 32, 32, 3).

    Returns:
        uint64 (n,).
    """
    grey = thumbnails.astype(np.float32) @ _LUMINANCE
    low = dctn(grey, axes=(1, 2), norm="ortho")[:, :8, :8].reshape(len(grey), 64)
    bits = low > np.median(low, axis=1, keepdims=True)
    return np.packbits(bits, axis=1).view(np.uint64)[:, 0]


def correlate(one: np.ndarray, other: np.ndarray) -> bool:
    """Tell whether two photos agree in what is coarse and in what is fine.

    Args:
        one: A thumbnail, uint8 (32, 32, 3).
        other: Another one.
    """
    coarse = [_shrunk(thumbnail, 16) for thumbnail in (one, other)]
    if _correlation(*coarse) < COARSE:
        return False
    # Of the luminance alone: JPEG keeps colour at half the resolution.
    fine = [
        (thumbnail - _shrunk(thumbnail, 8).repeat(4, 0).repeat(4, 1)) @ _LUMINANCE
        for thumbnail in (one, other)
    ]
    return _correlation(*fine) >= FINE


def _shrunk(thumbnail: np.ndarray, side: int) -> np.ndarray:
    step = 32 // side
    return thumbnail.astype(np.float32).reshape(side, step, side, step, 3).mean((1, 3))


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    """0 where either is constant: a plain surface is no photo that could be known again."""
    one, other = one - one.mean(), other - other.mean()
    size = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float((one * other).sum()) / size if size > 1e-6 else 0.0
