"""Training that survives interruption: one checkpoint per epoch, keyed by its causes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeq_lib.files import EdgeqError, digest, read_json, write_json
from edgeq_lib.models.output import class_columns, output_kind
from edgeq_lib.models.tf import keras, tf
from edgeq_lib.progress import progress
from edgeq_lib.records import best_epoch
from edgeq_lib.tflite.output_kind import two_columns

Arrays = tuple[np.ndarray, np.ndarray]
Preprocess = Callable[[np.ndarray], np.ndarray]
OPTIMIZERS = {
    "adam": keras.optimizers.Adam,
    "adamw": keras.optimizers.AdamW,
    "sgd": keras.optimizers.SGD,
}


@dataclass(frozen=True)
class TrainingConfig:
    """How a network is trained.

    Attributes:
        epochs: Passes over the training images; 0 for none.
        learning_rate: Of the optimizer, at the start.
        batch: Images per step.
        seed: Decides the order of images, dropout and augmentation.
        optimizer: A key of `OPTIMIZERS`.
        schedule: Of the learning rate: constant, or cosine (arXiv 1608.03983).
        patience: Epochs without improvement on validation after which training stops.
        label_smoothing: Share of the target that is spread over all classes (arXiv 1512.00567).
        weight_decay: Decoupled from the gradient (arXiv 1711.05101).
        cutmix: Share of steps in which a box of each image, and of its target, comes from another
            image (arXiv 1905.04899).
        augmentation: Arguments of `augmentation`: flip, rotation, zoom, shift.
    """

    epochs: int
    learning_rate: float
    batch: int
    seed: int = 0
    optimizer: str = "adam"
    schedule: str = "constant"
    patience: int | None = None
    label_smoothing: float = 0.0
    weight_decay: float = 0.0
    cutmix: float = 0.0
    augmentation: Mapping[str, Any] = field(default_factory=dict)


def choose_trainable(model: keras.Model, *, head_only: bool, norms: bool = True) -> None:
    """Free the layers that have weights.

    Args:
        model: The network, changed in place; its head is the last layer with weights.
        head_only: Freeze the body.
        norms: Train batch norms too; frozen ones keep their statistics, which few images would only
            spoil.
    """
    *body, head = [layer for layer in model.layers if layer.weights]
    for layer in body:
        is_norm = isinstance(layer, keras.layers.BatchNormalization)
        layer.trainable = not head_only and (norms or not is_norm)
    head.trainable = True


def augmentation(
    flip: bool = False, rotation: float = 0.0, zoom: float = 0.0, shift: float = 0.0
) -> keras.Sequential | None:
    """Make random changes of images as layers, on uint8 or float images.

    Args:
        flip: Mirror left to right.
        rotation: ± turns.
        zoom: ± share.
        shift: ± share, up and sideways, mirrored at the border.

    Returns:
        The layers, or None when nothing is changed.
    """
    steps = [keras.layers.RandomFlip("horizontal")] if flip else []
    steps += [keras.layers.RandomTranslation(shift, shift, fill_mode="reflect")] if shift else []
    steps += [keras.layers.RandomRotation(rotation, fill_mode="nearest")] if rotation else []
    steps += [keras.layers.RandomZoom(zoom, fill_mode="nearest")] if zoom else []
    return keras.Sequential(steps) if steps else None


def batches(
    images: np.ndarray,
    labels: np.ndarray,
    preprocess: Preprocess,
    batch: int,
    order: np.ndarray | None = None,
) -> Any:
    """Make a tf.data set of batches; memory-mapped images are read one batch at a time.

    Args:
        images: uint8 (n, H, W, C).
        labels: int64 (n,).
        preprocess: uint8 images → float32 images.
        batch: Images per step.
        order: Indices (n,); as they stand by default.

    Returns:
        A data set of (float32 images, int64 labels).
    """
    order = np.arange(len(labels)) if order is None else order

    def read(indices: np.ndarray) -> Arrays:
        inside = np.sort(indices)  # a memory map wants ascending reads
        return preprocess(np.asarray(images[inside])), labels[inside].astype(np.int64)

    data = tf.data.Dataset.from_tensor_slices(order).batch(batch)
    data = data.map(
        lambda indices: tf.numpy_function(read, [indices], (tf.float32, tf.int64)),
        num_parallel_calls=1,
    )
    shape = (None, *images.shape[1:])
    return data.map(lambda x, y: (tf.ensure_shape(x, shape), tf.ensure_shape(y, (None,)))).prefetch(
        2
    )


def fit_phases(
    model: keras.Model,
    train: Arrays,
    validation: Arrays,
    preprocess: Preprocess,
    phases: Mapping[str, TrainingConfig],
    *,
    folder: Path,
    key: Mapping[str, Any],
    norms: bool = True,
) -> list[dict[str, float]]:
    """Train in phases, each from where the one before ended; a phase of 0 epochs is skipped.

    Args:
        model: The network, trained in place.
        train: uint8 images (n, H, W, C) and int64 labels (n,).
        validation: Likewise; chooses the epoch.
        preprocess: uint8 images → float32 images.
        phases: Name → how it is trained; `head` trains the last layer alone.
        folder: Where checkpoints go.
        key: What else decides the outcome: the data's fingerprint, the model and its weights.
        norms: Train batch norms too.

    Returns:
        The records of all epochs (see `fit`), epoch 0 of later phases left out.

    Raises:
        EdgeqError: When the loss stops being a number.
    """
    history: list[dict[str, float]] = []
    first = next(iter(phases.values()))
    parts = ("flip", "rotation", "zoom", "shift")
    cutmix = max(config.cutmix for config in phases.values())
    frozen = [] if norms else ["frozen norms"]
    decided = {
        **key,
        "batch": first.batch,
        "optimizer": first.optimizer,
        "seed": first.seed,
        "augment": [first.augmentation.get(part, 0) for part in parts],
        "regularize": [first.weight_decay, first.label_smoothing, cutmix, *frozen],
    }
    for name, config in phases.items():
        decided |= {name: [config.epochs, config.learning_rate, config.schedule, config.patience]}
        choose_trainable(model, head_only=name == "head", norms=norms)
        past = fit(model, train, validation, preprocess, config, folder=folder, key=decided)
        history += [epoch for epoch in past if epoch["epoch"] or not history]
    return history


def phases_of(
    config: TrainingConfig, head_epochs: int, head_learning_rate: float, plain_epochs: int
) -> dict[str, TrainingConfig]:
    """Plan the phases of a fine-tuning: the head alone, all layers, at the end unmixed images.

    Args:
        config: How all layers are trained.
        head_epochs: Of the head alone, in which pretrained features cannot be spoilt.
        head_learning_rate: Of that phase.
        plain_epochs: At the end, at a tenth of the learning rate and without CutMix.
    """
    return {
        "head": replace(config, epochs=head_epochs, learning_rate=head_learning_rate),
        "all": config,
        "plain": replace(
            config, epochs=plain_epochs, learning_rate=config.learning_rate / 10, cutmix=0.0
        ),
    }


def fit(
    model: keras.Model,
    train: Arrays,
    validation: Arrays,
    preprocess: Preprocess,
    config: TrainingConfig,
    *,
    folder: Path,
    key: Any,
    teacher: keras.Model | None = None,
) -> list[dict[str, float]]:
    """Train in place, resuming where an earlier run of the same `key` stopped.

    The model ends at its best epoch, chosen on validation (see `records.best_epoch`), or as it came
    if no epoch was better.

    Args:
        model: The network.
        train: uint8 images (n, H, W, C) and int64 labels (n,).
        validation: Likewise.
        preprocess: uint8 images → float32 images.
        config: How it is trained.
        folder: Where checkpoints go, in a folder named by `key`.
        key: What decides the outcome, as JSON can hold it.
        teacher: A network whose outputs are the target in the place of labels: by the squared
            distance of logits, which sees the small ones too (Ba and Caruana, arXiv 1312.6184), or
            the divergence of probabilities (Hinton et al., arXiv 1503.02531).

    Returns:
        A record per epoch: loss, accuracy, val_loss (against the labels), val_accuracy,
        val_agreement (with a teacher) and seconds. The first, epoch 0, is the model as it came,
        without loss and accuracy. [] when nothing was to be trained.

    Raises:
        EdgeqError: When the loss stops being a number.
    """
    folder = folder / digest(key)[:16]
    log = folder / "history.json"
    history: list[dict[str, float]] = read_json(log) if log.exists() else []
    if history and (folder / "finished").exists():
        model.load_weights(folder / "best")
        return history
    if not config.epochs:
        return history
    step, state = _prepared(model, config, len(train[1]), teacher)
    if history:
        last = folder / f"epoch{history[-1]['epoch']}"
        state.read(str(last)).assert_existing_objects_matched()
    score = _validator(model, validation, preprocess, teacher)
    for epoch in range(len(history), config.epochs + 1):
        started = time.time()
        record: dict[str, float] = {"epoch": epoch}
        if epoch:
            record |= _one_epoch(model, step, train, preprocess, config, epoch)
        record |= score(epoch)
        history.append({**record, "seconds": round(time.time() - started, 1)})
        _keep(model, state, history, folder, log)
        best = best_epoch(history)
        if config.patience is not None and best is not None and epoch - best >= config.patience:
            break
    model.load_weights(folder / "best").expect_partial()
    (folder / "finished").touch()
    for checkpoint in folder.glob("epoch*"):
        checkpoint.unlink()
    return history


def _prepared(
    model: keras.Model, config: TrainingConfig, n: int, teacher: keras.Model | None
) -> tuple[Callable[..., Any], tf.train.Checkpoint]:
    """The compiled step of a fresh optimizer, and the state that a checkpoint holds."""
    keras.utils.set_random_seed(config.seed)
    rate: Any = config.learning_rate
    if config.schedule == "cosine":
        steps = config.epochs * -(-n // config.batch)
        rate = keras.optimizers.schedules.CosineDecay(config.learning_rate, steps)
    optimizer = OPTIMIZERS[config.optimizer](
        learning_rate=rate, weight_decay=config.weight_decay or None
    )
    optimizer.build(model.trainable_variables)
    state = tf.train.Checkpoint(model=model, optimizer=optimizer)
    return _training_step(model, optimizer, config, teacher), state


def _one_epoch(
    model: keras.Model,
    step: Callable[..., Any],
    train: Arrays,
    preprocess: Preprocess,
    config: TrainingConfig,
    epoch: int,
) -> dict[str, float]:
    """Train for one epoch in an order of its own; returns the mean loss and accuracy."""
    order = np.random.default_rng([config.seed, epoch]).permutation(len(train[1]))
    label = f"{model.name}: epoch {epoch} of {config.epochs}"
    steps = -(-len(order) // config.batch)
    losses = []
    for x, y in progress(batches(*train, preprocess, config.batch, order), label, steps):
        losses.append([float(value) for value in step(x, y)])
        _check_loss(model, losses[-1][0], epoch)
    loss, accuracy = np.mean(losses, axis=0)
    return {"loss": float(loss), "accuracy": float(accuracy)}


def _validator(
    model: keras.Model,
    validation: Arrays,
    preprocess: Preprocess,
    teacher: keras.Model | None,
) -> Callable[[int], dict[str, float]]:
    """A function from an epoch's number to its figures on validation."""
    kind = output_kind(model)
    crossentropy = keras.losses.SparseCategoricalCrossentropy(from_logits=kind == "logits")
    images, labels = validation
    taught = None if teacher is None else predict_keras(teacher, images, preprocess).argmax(-1)

    def score(epoch: int) -> dict[str, float]:
        outputs = class_columns(tf.constant(run_keras(model, images, preprocess)), kind).numpy()
        _check_loss(model, outputs.sum(), epoch)
        record = {
            "val_accuracy": float(np.mean(outputs.argmax(-1) == labels)),
            "val_loss": float(crossentropy(labels, outputs)),
        }
        if taught is not None:
            record["val_agreement"] = float(np.mean(outputs.argmax(-1) == taught))
        return record

    return score


def _keep(
    model: keras.Model,
    state: tf.train.Checkpoint,
    history: list[dict[str, float]],
    folder: Path,
    log: Path,
) -> None:
    """Write the epoch's checkpoint, the best weights, and last the log: only then it counts."""
    epoch = history[-1]["epoch"]
    folder.mkdir(parents=True, exist_ok=True)
    state.write(str(folder / f"epoch{epoch}"))
    if best_epoch(history) == epoch:
        model.save_weights(folder / "best", save_format="tf")
    write_json(log, history)
    for checkpoint in folder.glob(f"epoch{epoch - 1}.*"):
        checkpoint.unlink()


def _training_step(
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    config: TrainingConfig,
    teacher: keras.Model | None,
) -> Callable[..., Any]:
    """One compiled step of the optimizer: images and labels of a batch → its loss and accuracy."""
    kind = output_kind(model)
    logits = kind == "logits"
    augment = augmentation(**config.augmentation)
    crossentropy = keras.losses.CategoricalCrossentropy(
        from_logits=logits, label_smoothing=config.label_smoothing
    )
    distance = _logit_distance if logits else keras.losses.KLDivergence()

    @tf.function
    def step(x: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        x = augment(x, training=True) if augment is not None else x
        x, kept = cut_and_mix(x, config.cutmix) if config.cutmix else (x, 1.0)
        with tf.GradientTape() as tape:
            outputs = class_columns(model(x, training=True), kind)
            if teacher is not None:
                loss = distance(class_columns(teacher(x, training=False), kind), outputs)
            else:
                target = tf.one_hot(y, outputs.shape[-1])
                mixed = kept * target + (1 - kept) * target[::-1] if config.cutmix else target
                loss = crossentropy(mixed, outputs)
            total = loss + (tf.add_n(model.losses) if model.losses else 0.0)
        gradients = tape.gradient(total, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss, tf.reduce_mean(tf.cast(tf.argmax(outputs, -1) == y, tf.float32))

    return step


def _check_loss(model: keras.Model, value: float, epoch: int) -> None:
    if not np.isfinite(value):
        raise EdgeqError(
            f"The loss of {model.name} became {value} in epoch {epoch}; lower learning_rate, and "
            "look for NaN in images and weights."
        )


def cut_and_mix(x: tf.Tensor, share: float) -> tuple[tf.Tensor, tf.Tensor]:
    """Apply CutMix (Yun et al., arXiv 1905.04899): a box of each image comes from another image.

    The box's area is uniform before it is cut off at the border; the other images are those of the
    batch in reverse order.

    Args:
        x: Images (n, H, W, C).
        share: Share of calls that do so.

    Returns:
        The images, and the share of pixels kept.
    """
    height, width = x.shape[1:3]
    side = tf.sqrt(tf.random.uniform(())) * tf.cast(tf.random.uniform(()) < share, tf.float32)
    inside = tf.ones((1, 1, 1, 1))
    for axis, length in ((1, height), (2, width)):
        positions = tf.range(length, dtype=tf.float32) + 0.5
        distance = tf.abs(positions - tf.random.uniform((), 0, length))
        shape = [-1 if at == axis else 1 for at in range(4)]
        inside *= tf.reshape(tf.cast(distance < side * length / 2, tf.float32), shape)
    return tf.where(inside > 0, x[::-1], x), 1 - tf.reduce_mean(inside)


def _logit_distance(target: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
    """Mean squared difference of logits (n, classes); what all classes share changes nothing."""
    difference = outputs - target
    centred = difference - tf.reduce_mean(difference, axis=-1, keepdims=True)
    return tf.reduce_mean(tf.square(centred))


def predict_keras(
    model: keras.Model, images: np.ndarray, preprocess: Preprocess, batch: int = 64
) -> np.ndarray:
    """Predict classes with a Keras model.

    Args:
        model: The network.
        images: uint8 (n, H, W, C).
        preprocess: uint8 images → float32 images.
        batch: Images at a time.

    Returns:
        float32 outputs (n, classes), a single output as two columns like those of its file.
    """
    outputs = run_keras(model, images, preprocess, batch)
    return two_columns(outputs, output_kind(model)) if outputs.shape[-1] == 1 else outputs


def run_keras(
    model: keras.Model, images: np.ndarray, preprocess: Preprocess, batch: int = 64
) -> np.ndarray:
    """Run a Keras model, or a part of one, on arrays.

    Args:
        model: The network.
        images: What it takes, (n, …), before `preprocess`.
        preprocess: Makes of it the network's input.
        batch: Images at a time.

    Returns:
        float32 outputs (n, …) as they are.
    """
    forward = tf.function(lambda x: model(x, training=False), reduce_retracing=True)
    parts = [
        forward(preprocess(np.asarray(images[start : start + batch]))).numpy()
        for start in range(0, len(images), batch)
    ]
    return np.concatenate(parts)
