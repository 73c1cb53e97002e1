"""Digits: 8 × 8 grey handwritten digits that scikit-learn ships."""

from __future__ import annotations

import numpy as np

from edgeq_lib.data.source import Item, Source
from edgeq_lib.files import digest


def digits() -> Source:
    from sklearn.datasets import (
        load_digits,  # here, since its import takes a second that no other set owes
    )

    bunch = load_digits()
    pixels = np.round(bunch.images * (255 / 16)).astype(np.uint8)
    items = [
        Item(f"digit {i}", image, int(label))
        for i, (image, label) in enumerate(zip(pixels, bunch.target, strict=True))
    ]
    return Source(
        "Digits",
        "8 × 8 grey",
        "sklearn.datasets.load_digits",
        [str(name) for name in bunch.target_names],
        {"train": items},
        digest(pixels.tobytes()),
        validation=0.2,
        test=0.3,
    )
