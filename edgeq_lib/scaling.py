"""The usual ways to scale pixels, and the check of a stated one. Plain Python.

It is read before anything is decoded, hence by the pipeline, which knows no models.
"""

from __future__ import annotations

import math
from typing import Any

from edgeq_lib.files import EdgeqError

# Name → mean, std (pixels are 0 … 255), and whether channels go in the order blue, green, red.
USUAL: dict[str, tuple[tuple[float, ...], tuple[float, ...], bool]] = {
    "signed": ((127.5,), (127.5,), False),
    "unit": ((0.0,), (255.0,), False),
    "none": ((0.0,), (1.0,), False),
    "torch": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375), False),
    "caffe": ((103.939, 116.779, 123.68), (1.0,), True),
}


def check_scaling(given: str | dict[str, Any] | None, channels: int | None = None) -> None:
    """Check a study's `preprocessing`.

    Args:
        given: A name in `USUAL`, a dictionary of mean, std and bgr, or None (which passes).
        channels: Of the study's images; None when it is not known.

    Raises:
        EdgeqError: For an unknown name, for mean or std that are no finite numbers or have another
            length than 1 or `channels`, and for a deviation that is not above 0.
    """
    if given is None:
        return
    if isinstance(given, str):
        if given not in USUAL:
            raise EdgeqError(
                f"There is no preprocessing '{given}'; take one of {', '.join(USUAL)}, or "
                "give mean and std per channel."
            )
        mean, std, _ = USUAL[given]
        label = f"The preprocessing '{given}'"
    else:
        mean, std = (_numbers(given.get(part)) for part in ("mean", "std"))
        label = "The preprocessing"
        unknown = sorted(set(given) - {"mean", "std", "bgr"})
        if unknown or not isinstance(given.get("bgr", False), bool):
            raise EdgeqError(
                f"preprocessing takes mean, std and bgr (true or false), not "
                f"{', '.join(unknown) or 'a bgr of ' + repr(given['bgr'])}; correct it."
            )
    if min(std) <= 0:
        raise EdgeqError(
            f"{label} divides by a std of {min(std):g}; every std must be above 0 (1 leaves the "
            "pixels as they are)."
        )
    sizes = {len(mean), len(std)} - {1}
    if len(sizes) == 2 or (channels and sizes - {channels}):
        images = f" and the images have {channels}" if channels else ""
        grey = (
            "; for grey images state one number each, such as {mean: [0], std: [255]}"
            if channels == 1
            else "; state one number each, or one per channel"
        )
        raise EdgeqError(
            f"{label} has a mean of {len(mean)} and a std of {len(std)} numbers{images}"
            f"{' channel' + 's' * (channels != 1) if channels else ''}{grey}."
        )


def _numbers(values: Any) -> tuple[float, ...]:
    """A list of finite numbers as a tuple."""
    fits = isinstance(values, list | tuple) and len(values) > 0
    if not fits or not all(
        isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        for value in values
    ):
        raise EdgeqError(
            "preprocessing must give mean and std as lists of numbers, one per channel (pixels are "
            "0 to 255)."
        )
    return tuple(float(value) for value in values)
