"""From grids to low-bit files: the classifier's width on its own, biases corrected where that helps, training on the grid."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgeq_lib.data.dataset import Split
from edgeq_lib.data.splits import draw_calibration
from edgeq_lib.files import digest


def fine_tune(
    simulation: Any,
    model: Any,
    images: Any,
    preprocess: Callable[[np.ndarray], np.ndarray],
    *,
    epochs: int,
    learning_rate: float,
    batch: int,
    limit_train: int | None,
    seed: int,
    augmentation: Mapping[str, Any],
    folder: Path,
    key: Any = None,
) -> list[dict[str, float]]:
    """Train weights and steps of `simulation` (see `qat.quantize_aware`) in place towards the outputs of the float Keras
    `model` on training images; labels are not used (Esser et al., arXiv 1902.08153; Hinton et al., arXiv 1503.02531).

    `images` is what `datasets.load` gives; of its training images `limit_train`, class-balanced, or all. What stands in
    `folder` is resumed if the weights of both networks, the calibration images and `key` are the same, which names all else
    that tells one simulation from another (see `training.fit`, whose history of epochs is returned).
    """
    from edgeq_lib.models import training  # the rest of this module does without TensorFlow

    train = images.train
    if limit_train:
        drawn = draw_calibration(train.labels, limit_train, seed)
        train = Split(np.asarray(train.images[drawn]), train.labels[drawn])
    settings = [
        epochs,
        learning_rate,
        batch,
        limit_train,
        seed,
        dict(augmentation),
        images.calibration.tolist(),
        key,
    ]
    start = digest(
        b"".join(
            values.tobytes() for network in (simulation, model) for values in network.get_weights()
        )
    )
    return training.fit(
        simulation,
        train,
        images.validation,
        preprocess,
        epochs=epochs,
        learning_rate=learning_rate,
        optimizer="adam",
        batch=batch,
        schedule="cosine",
        seed=seed,
        teacher=model,
        key={"data": images.manifest["fingerprint"], "settings": settings, "start": start},
        augment=training.augmentation(**augmentation),
        folder=folder,
    )
