"""From grids to low-bit files: the classifier's width on its own, biases corrected where that helps, training on the grid."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgeq_lib import splits
from edgeq_lib.compress import grid, low_bit, ptq, ptq_repair
from edgeq_lib.compress.bias_correction import correct_biases
from edgeq_lib.datasets import Split
from edgeq_lib.study import digest

Figures = dict[str, float]


def by_classifier(model: bytes, images: np.ndarray, ranges: ptq.Ranges, bits: int, classifier_bits: Collection[int],
                  method: str) -> dict[int, dict[str, grid.Grid]]:
    """Width of the classifier → grids of all kernels, the others as `low_bit.widths` has them for `bits`; one pass over the
    network for all. The arguments are those of `low_bit.round_layers`."""
    last = grid.kernels(model)[-1].name
    widths: dict[str, Collection[int]] = {name: [each] for name, each in low_bit.widths(model, bits=bits).items()}
    found = low_bit.round_each(model, images, ranges, {**widths, last: classifier_bits}, method)
    return {width: {name: each[width] if name == last else next(iter(each.values())) for name, each in found.items()}
            for width in classifier_bits}


def corrected(model: bytes, file: bytes, images: np.ndarray, compare: Callable[[bytes], Figures]) -> tuple[bytes, Figures]:
    """A file made from the float flatbuffer `model`, or the same with corrected biases (see `bias_correction`) if `compare`
    finds that nearer to float32, and what it found; `corrected` there says which. `images`: preprocessed float32 (n, H, W, C).
    """
    files = {"plain": file, "corrected": correct_biases(model, file, images)}
    found = {name: compare(each) for name, each in files.items()}
    best = ptq_repair.best(found)
    return files[best], {**found[best], "corrected": best == "corrected"}


def fine_tune(simulation: Any, model: Any, images: Any, preprocess: Callable[[np.ndarray], np.ndarray], *,
              epochs: int, learning_rate: float, batch: int, limit_train: int | None, seed: int,
              augmentation: Mapping[str, Any], folder: Path, key: Any = None) -> list[dict[str, float]]:
    """Train weights and steps of `simulation` (see `qat.quantize_aware`) in place towards the outputs of the float Keras
    `model` on training images; labels are not used (Esser et al., arXiv 1902.08153; Hinton et al., arXiv 1503.02531).

    `images` is what `datasets.load` gives; of its training images `limit_train`, class-balanced, or all. What stands in
    `folder` is resumed if the weights of both networks, the calibration images and `key` are the same, which names all else
    that tells one simulation from another (see `training.fit`, whose history of epochs is returned).
    """
    from edgeq_lib import training  # the rest of this module does without TensorFlow
    train = images.train
    if limit_train:
        drawn = splits.draw_calibration(train.labels, limit_train, seed)
        train = Split(np.asarray(train.images[drawn]), train.labels[drawn])
    settings = [epochs, learning_rate, batch, limit_train, seed, dict(augmentation), images.calibration.tolist(), key]
    start = digest(b"".join(values.tobytes() for network in (simulation, model) for values in network.get_weights()))
    return training.fit(simulation, train, images.validation, preprocess, epochs=epochs, learning_rate=learning_rate,
                        optimizer="adam", batch=batch, schedule="cosine", seed=seed, teacher=model,
                        key={"data": images.manifest["fingerprint"], "settings": settings, "start": start},
                        augment=training.augmentation(**augmentation), folder=folder)
