"""How pixels become a network's input. NumPy only."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgeq_lib.scaling import USUAL, check_scaling


@dataclass(frozen=True)
class Preprocessing:
    """How pixels become the model's float32 input: `(pixels - mean) / std` per channel.

    Attributes:
        mean: One number per channel, or one for all; pixels are 0 … 255.
        std: The same.
        bgr: The model wants the channels in the order blue, green, red.
    """

    mean: tuple[float, ...] = (127.5,)
    std: tuple[float, ...] = (127.5,)
    bgr: bool = False

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Float32 images of the same shape."""
        pixels = images[..., ::-1] if self.bgr else images
        return (pixels.astype(np.float32) - np.asarray(self.mean, np.float32)) / np.asarray(
            self.std, np.float32
        )

    @property
    def range(self) -> tuple[float, float]:
        """The smallest and the largest value that the model's input can hold."""
        ends = np.stack(
            [
                (np.float32(end) - np.asarray(self.mean, np.float32))
                / np.asarray(self.std, np.float32)
                for end in (0, 255)
            ]
        )
        return float(ends.min()), float(ends.max())

    def record(self) -> dict[str, Any]:
        """As JSON holds it; `Preprocessing(**record)` reads it back."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
        }


PREPROCESSING = {name: Preprocessing(*facts) for name, facts in USUAL.items()}
SIGNED, TORCH, CAFFE = (PREPROCESSING[name] for name in ("signed", "torch", "caffe"))


def preprocessing_of(given: str | dict | None, channels: int | None = None) -> Preprocessing | None:
    """Read a study's `preprocessing`.

    Args:
        given: A name in `PREPROCESSING`, a dictionary of mean, std and bgr, or None.
        channels: Of the study's images, which mean and std must fit; None when it is not known.

    Returns:
        The preprocessing; None for None.

    Raises:
        EdgeqError: See `scaling.check_scaling`.
    """
    check_scaling(given, channels)
    if given is None:
        return None
    if isinstance(given, str):
        return PREPROCESSING[given]
    mean, std = (tuple(map(float, given[part])) for part in ("mean", "std"))
    return Preprocessing(mean, std, bool(given.get("bgr", False)))


def usual(channels: int) -> dict[str, Preprocessing]:
    """List the usual preprocessings that fit images of so many channels.

    Args:
        channels: Of the images.

    Returns:
        Name → preprocessing, the most common first.
    """
    return {
        name: preprocess
        for name, preprocess in PREPROCESSING.items()
        if {len(preprocess.mean), len(preprocess.std)} <= {1, channels}
    }
