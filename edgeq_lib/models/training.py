"""Training that survives interruption: a checkpoint an epoch, keyed by what decides the outcome."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edgeq_lib.files import EdgeqError, digest, read_json, write_json
from edgeq_lib.models.tf import keras, tf
from edgeq_lib.progress import progress
from edgeq_lib.records import best_epoch

Arrays = tuple[np.ndarray, np.ndarray]
OPTIMIZERS = {
    "adam": keras.optimizers.Adam,
    "adamw": keras.optimizers.AdamW,
    "sgd": keras.optimizers.SGD,
}


def ends_in_softmax(model: keras.Model) -> bool:
    """Whether the model's outputs are probabilities, not logits."""
    last = model.layers[-1]
    return (
        isinstance(last, keras.layers.Softmax) or last.get_config().get("activation") == "softmax"
    )


def choose_trainable(model: keras.Model, *, head_only: bool, norms: bool = True) -> None:
    """Free every layer that has weights, but for the body when `head_only` (the head is the last of them), and but for batch
    norms without `norms`: those then keep their statistics, which few images would only spoil."""
    *body, head = [layer for layer in model.layers if layer.weights]
    for layer in body:
        layer.trainable = not head_only and (
            norms or not isinstance(layer, keras.layers.BatchNormalization)
        )
    head.trainable = True


def augmentation(
    flip: bool, rotation: float, zoom: float, shift: float = 0.0
) -> keras.Sequential | None:
    """Random horizontal flip, shift (± share, mirrored at the border), rotation (± turns) and zoom (± share), as layers on
    uint8 or float images; None for none."""
    steps = [keras.layers.RandomFlip("horizontal")] if flip else []
    steps += [keras.layers.RandomTranslation(shift, shift, fill_mode="reflect")] if shift else []
    steps += [keras.layers.RandomRotation(rotation, fill_mode="nearest")] if rotation else []
    steps += [keras.layers.RandomZoom(zoom, fill_mode="nearest")] if zoom else []
    return keras.Sequential(steps) if steps else None


def batches(
    images: np.ndarray,
    labels: np.ndarray,
    preprocess: Callable[[np.ndarray], np.ndarray],
    batch: int,
    order: np.ndarray | None = None,
) -> Any:
    """A tf.data set of (float32 images, labels); memory-mapped images are read a batch at a time, in `order`."""
    order = np.arange(len(labels)) if order is None else order

    def read(indices: np.ndarray) -> Arrays:
        inside = np.sort(
            indices
        )  # a memory map wants ascending reads; the order within a batch does not matter
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


def fit(
    model: keras.Model,
    train: Arrays,
    validation: Arrays,
    preprocess: Callable[[np.ndarray], np.ndarray],
    *,
    epochs: int,
    learning_rate: float,
    optimizer: str,
    batch: int,
    seed: int,
    folder: Path,
    key: Any,
    schedule: str = "constant",
    patience: int | None = None,
    augment: keras.Sequential | None = None,
    teacher: keras.Model | None = None,
    label_smoothing: float = 0.0,
    weight_decay: float = 0.0,
    cutmix: float = 0.0,
) -> list[dict[str, float]]:
    """Train in place, resuming where an earlier run of the same `key` stopped; the model ends at its best epoch, or as it
    came if no epoch was better.

    Images are uint8 (n, H, W, C), labels int64 (n,). `schedule` is constant or cosine (arXiv 1608.03983). With a
    `teacher`, its outputs are the target and labels only score: the squared distance of logits (Ba and Caruana, arXiv
    1312.6184), which sees the small ones too, or the divergence of probabilities (Hinton et al., arXiv 1503.02531). With
    `label_smoothing` (arXiv 1512.00567) that share of the target is spread over all classes; `weight_decay` is
    decoupled from the gradient (arXiv 1711.05101); `cutmix` (arXiv 1905.04899) is the share of steps in which a box of
    each image and its share of the target come from another. The best epoch is chosen on validation (see `best_epoch`),
    never by test. Returns a record an epoch: loss, accuracy, val_loss (against the labels), val_accuracy, val_agreement
    (with a teacher) and seconds; the first, epoch 0, is the model as it came, without loss and accuracy.

    Raises EdgeqError when the loss stops being a number.
    """
    folder = folder / digest(key)[:16]
    log = folder / "history.json"
    history: list[dict[str, float]] = read_json(log) if log.exists() else []
    if history and (folder / "finished").exists():
        model.load_weights(folder / "best")
        return history

    keras.utils.set_random_seed(seed)
    steps = -(-len(train[1]) // batch)
    rate = (
        keras.optimizers.schedules.CosineDecay(learning_rate, epochs * steps)
        if schedule == "cosine"
        else learning_rate
    )
    opt = OPTIMIZERS[optimizer](learning_rate=rate, weight_decay=weight_decay or None)
    opt.build(model.trainable_variables)
    state = tf.train.Checkpoint(model=model, optimizer=opt)
    if history:
        state.read(str(folder / f"epoch{history[-1]['epoch']}")).assert_existing_objects_matched()

    step = _training_step(model, opt, augment, teacher, label_smoothing, cutmix)
    crossentropy = keras.losses.SparseCategoricalCrossentropy(
        from_logits=not ends_in_softmax(model)
    )
    taught = (
        predict_keras(teacher, validation[0], preprocess).argmax(-1)
        if teacher is not None
        else None
    )
    for epoch in range(len(history), epochs + 1 if epochs else 0):
        started = time.time()
        record = {"epoch": epoch}
        if epoch:
            order = np.random.default_rng([seed, epoch]).permutation(len(train[1]))
            losses = []
            for x, y in progress(
                batches(*train, preprocess, batch, order),
                f"{model.name}: epoch {epoch} of {epochs}",
                steps,
            ):
                losses.append([float(value) for value in step(x, y)])
                _check_loss(model, losses[-1][0], epoch)
            record |= dict(
                zip(("loss", "accuracy"), map(float, np.mean(losses, axis=0)), strict=True)
            )
        outputs = predict_keras(model, validation[0], preprocess)
        _check_loss(model, outputs.sum(), epoch)
        record |= {
            "val_accuracy": float(np.mean(outputs.argmax(-1) == validation[1])),
            "val_loss": float(crossentropy(validation[1], outputs)),
        }
        if teacher is not None:
            record["val_agreement"] = float(np.mean(outputs.argmax(-1) == taught))
        history.append({**record, "seconds": round(time.time() - started, 1)})
        best = best_epoch(history)
        folder.mkdir(parents=True, exist_ok=True)
        state.write(str(folder / f"epoch{epoch}"))
        if best == epoch:
            model.save_weights(folder / "best", save_format="tf")
        write_json(log, history)  # last: an epoch counts once all that belongs to it is on disk
        for old in folder.glob(f"epoch{epoch - 1}.*"):
            old.unlink()
        if patience is not None and epoch - best >= patience:
            break
    if history:
        model.load_weights(folder / "best").expect_partial()
        (folder / "finished").touch()
        for old in folder.glob("epoch*"):
            old.unlink()
    return history


def _training_step(
    model: keras.Model,
    opt: keras.optimizers.Optimizer,
    augment: keras.Sequential | None,
    teacher: keras.Model | None,
    label_smoothing: float,
    cutmix: float,
) -> Callable[..., Any]:
    """One compiled step of the optimizer: images and labels of a batch → its loss and accuracy (see `fit`)."""
    logits = not ends_in_softmax(model)
    crossentropy = keras.losses.CategoricalCrossentropy(
        from_logits=logits, label_smoothing=label_smoothing
    )
    repeated = _logit_distance if logits else keras.losses.KLDivergence()

    @tf.function
    def step(x: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        x = augment(x, training=True) if augment is not None else x
        x, kept = cut_and_mix(x, cutmix) if cutmix else (x, 1.0)
        with tf.GradientTape() as tape:
            outputs = model(x, training=True)
            if teacher is not None:
                loss = repeated(teacher(x, training=False), outputs)
            else:
                target = tf.one_hot(y, outputs.shape[-1])
                loss = crossentropy(
                    kept * target + (1 - kept) * target[::-1] if cutmix else target, outputs
                )
            total = loss + (tf.add_n(model.losses) if model.losses else 0.0)
        opt.apply_gradients(
            zip(
                tape.gradient(total, model.trainable_variables),
                model.trainable_variables,
                strict=True,
            )
        )
        return loss, tf.reduce_mean(tf.cast(tf.argmax(outputs, -1) == y, tf.float32))

    return step


def _check_loss(model: keras.Model, value: float, epoch: int) -> None:
    if not np.isfinite(value):
        raise EdgeqError(
            f"The loss of {model.name} became {value} in epoch {epoch}; lower learning_rate, and look for NaN in "
            "images and weights."
        )


def cut_and_mix(x: tf.Tensor, share: float) -> tuple[tf.Tensor, tf.Tensor]:
    """CutMix: in a `share` of calls, one random box of the images (n, H, W, C) comes from the batch in reverse order.

    The box's area is uniform before it is cut off at the border. Returns the images and the share of pixels kept.
    """
    height, width = x.shape[1:3]
    side = tf.sqrt(tf.random.uniform(())) * tf.cast(tf.random.uniform(()) < share, tf.float32)
    inside = tf.ones((1, 1, 1, 1))
    for axis, length in ((1, height), (2, width)):
        away = tf.abs(tf.range(length, dtype=tf.float32) + 0.5 - tf.random.uniform((), 0, length))
        inside *= tf.reshape(
            tf.cast(away < side * length / 2, tf.float32),
            [-1 if at == axis else 1 for at in range(4)],
        )
    return tf.where(inside > 0, x[::-1], x), 1 - tf.reduce_mean(inside)


def _logit_distance(target: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
    """Mean squared difference of logits (n, classes); what is added to all classes alike changes no probability."""
    difference = outputs - target
    return tf.reduce_mean(
        tf.square(difference - tf.reduce_mean(difference, axis=-1, keepdims=True))
    )


def predict_keras(
    model: keras.Model,
    images: np.ndarray,
    preprocess: Callable[[np.ndarray], np.ndarray],
    batch: int = 64,
) -> np.ndarray:
    """Outputs (n, classes), float32, of a Keras model on uint8 images."""
    forward = tf.function(lambda x: model(x, training=False), reduce_retracing=True)
    return np.concatenate(
        [
            forward(preprocess(np.asarray(images[start : start + batch]))).numpy()
            for start in range(0, len(images), batch)
        ]
    )
