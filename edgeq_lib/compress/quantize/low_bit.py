"""Fine-tuning on the grid: weights and scales learn to give the float network's outputs again.

1. The simulation computes with rounded weights and activations (`qat.quantize_aware`).
2. It learns float32's outputs on training images, labels unused (Hinton et al., arXiv 1503.02531).
3. Scales are learned with the weights (LSQ: Esser et al., arXiv 1902.08153).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeq_lib.data.dataset import Data, Split
from edgeq_lib.data.splits import draw_calibration
from edgeq_lib.files import digest
from edgeq_lib.tflite.rewrite import as_dense

if TYPE_CHECKING:
    from edgeq_lib.models.network import FloatNetwork
    from edgeq_lib.models.training import Preprocess, TrainingConfig


def with_dense_layers(network: FloatNetwork, *, trainable: bool) -> tuple[Any | None, bytes]:
    """Bring a network into the form whose weights are rounded: 1 × 1 convolutions as dense layers.

    Args:
        network: The float network.
        trainable: It can be trained on the grid of its rounded weights.

    Returns:
        The Keras network with folded batch norms (None where it is not trainable), and the float
        flatbuffer: of that network, else of `network` itself.
    """
    from edgeq_lib.models.convert import convert
    from edgeq_lib.models.graph import fold_batch_norms

    model = fold_batch_norms(network.keras) if trainable else None
    return model, as_dense(network.to_file() if model is None else convert(model))


def fine_tune(
    simulation: Any,
    model: Any,
    data: Data,
    preprocess: Preprocess,
    config: TrainingConfig,
    *,
    folder: Path,
    limit_train: int | None = None,
    key: Any = None,
) -> list[dict[str, float]]:
    """Train a simulation in place towards the outputs of the float network.

    What stands in `folder` is resumed if the weights of both networks, the calibration images and
    `key` are the same.

    Args:
        simulation: The rounded network (see `qat.quantize_aware`).
        model: The float Keras network, the teacher.
        data: The study's images.
        preprocess: uint8 images → float32 images.
        config: How it is trained.
        folder: Where checkpoints go.
        limit_train: Use only so many training images, class-balanced.
        key: All else that tells one simulation from another.

    Returns:
        The records of the epochs (see `training.fit`).

    Raises:
        EdgeqError: When the loss stops being a number.
    """
    from edgeq_lib.models import training  # importing this module must not load TensorFlow

    settings = [
        config.epochs,
        config.learning_rate,
        config.batch,
        limit_train,
        config.seed,
        dict(config.augmentation),
        data.calibration.tolist(),
        key,
    ]
    weights = [
        array.tobytes() for network in (simulation, model) for array in network.get_weights()
    ]
    return training.fit(
        simulation,
        limited(data.train, limit_train, config.seed),
        data.validation,
        preprocess,
        config,
        folder=folder,
        key={
            "data": data.manifest["fingerprint"],
            "settings": settings,
            "start": digest(b"".join(weights)),
        },
        teacher=model,
    )


def limited(train: Split, limit: int | None, seed: int) -> Split:
    """Draw a class-balanced part of the training images; all of them without a limit."""
    if limit is None:
        return train
    drawn = draw_calibration(train.labels, limit, seed)
    return Split(np.asarray(train.images[drawn]), train.labels[drawn])
