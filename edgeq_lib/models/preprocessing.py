"""How pixels become a network's input. NumPy only."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgeq_lib.files import EdgeqError


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


SIGNED = Preprocessing()
TORCH = Preprocessing((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
CAFFE = Preprocessing((103.939, 116.779, 123.68), (1.0,), bgr=True)
PREPROCESSING = {
    "signed": SIGNED,
    "unit": Preprocessing((0.0,), (255.0,)),
    "none": Preprocessing((0.0,), (1.0,)),
    "torch": TORCH,
    "caffe": CAFFE,
}


def preprocessing_of(given: str | dict | None) -> Preprocessing | None:
    """Read a study's `preprocessing`.

    Args:
        given: A name in `PREPROCESSING`, a dictionary of mean, std and bgr, or None.

    Returns:
        The preprocessing; None for None.

    Raises:
        EdgeqError: For an unknown name, and when mean or std is missing.
    """
    if given is None:
        return None
    if isinstance(given, str):
        if given not in PREPROCESSING:
            raise EdgeqError(
                f"There is no preprocessing '{given}'; take one of {', '.join(PREPROCESSING)}, or "
                "give mean and std per channel."
            )
        return PREPROCESSING[given]
    try:
        return Preprocessing(
            tuple(given["mean"]), tuple(given["std"]), bool(given.get("bgr", False))
        )
    except (KeyError, TypeError):
        raise EdgeqError(
            "preprocessing must give mean and std as lists of numbers, one per channel (pixels are "
            "0 to 255)."
        ) from None
