"""The JSON records of a study as types, and which epoch of a training is the best.

It imports no TensorFlow: plots and reports read records too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NotRequired, TypedDict


class EpochRecord(TypedDict):
    """One epoch of a training (see `models.training.fit`); epoch 0 is the model as it came.

    Attributes:
        epoch: Its number.
        loss: Mean loss on the training images; missing in epoch 0.
        accuracy: Share of the training images that were right, 0 to 1; missing in epoch 0.
        val_accuracy: Share of the validation images that are right, 0 to 1.
        val_loss: Cross-entropy on validation, against the labels.
        val_agreement: Share of the validation images on which the teacher answers the same, 0 to 1;
            only with a teacher.
        seconds: How long the epoch took.
    """

    epoch: int
    loss: NotRequired[float]
    accuracy: NotRequired[float]
    val_accuracy: float
    val_loss: float
    val_agreement: NotRequired[float]
    seconds: float


class VariantFacts(TypedDict):
    """The record `variant.json`: how a variant was made (see `Study.save_variant`).

    Attributes:
        kind: A variant of the study's own, a peer from elsewhere, or a repeat with another seed.
        technique: What made it: baseline, ptq, qat, peer, and so on.
        scheme: Its number formats: float32, int8, w4a8, and so on.
        engine: The program that wrote the file.
        seconds: How long it took to make; None where that is unknown (peers).
        parent: The variant that it was made from, if any.
        seed: The seed that decided its random draws, if any.
        stage: The notebook that made it.
        order: Its position among the variants of that stage.
        sha256: The hash of its file.
        trained: What it learned from: labels, or the outputs of float32; missing if untrained.
        repeats: The variant that a repeat makes again.
        class_offset: How many outputs of a peer stand before the first class.
        preprocessing: How a peer wants its pixels.
        image_size: Height and width in pixels that a peer declares, or one number for both.
        source: Where a peer comes from.
        licence: A peer's licence.
        data_fingerprint: The data that a peer was measured on.
    """

    kind: Literal["variant", "peer", "repeat"]
    technique: str
    scheme: str
    engine: str
    seconds: float | None
    parent: str | None
    seed: int | None
    stage: str
    order: int
    sha256: str
    trained: NotRequired[Literal["labels", "outputs"]]
    repeats: NotRequired[str]
    class_offset: NotRequired[int]
    preprocessing: NotRequired[str | dict]
    image_size: NotRequired[int | list[int] | None]
    source: NotRequired[str | None]
    licence: NotRequired[str | None]
    data_fingerprint: NotRequired[str]


class SplitRecord(TypedDict):
    """One split in a data manifest: number of images, hash of the content, images per class."""

    n: int
    fingerprint: str
    per_class: list[int]


class SkippedImage(TypedDict):
    """An image that could not be read, and why."""

    file: str
    why: str


class DuplicatesRecord(TypedDict):
    """Copies among the images.

    Attributes:
        removed: Number left out of a split because another split holds the same pixels.
        inside: Number of copies inside a split, by split; these stay.
        other_class: Number of copies whose labels differ.
        near: Number left out of a split because another holds nearly the same photo of its class.
        near_other_class: Number of photos that are nearly the same as one of another class; they
            stay.
        near_crowd: Number of photos that are like so many others that they are no copies; they
            stay.
        names: Up to five names of what was left out, by `removed` and `near`.
    """

    removed: dict[str, int]
    inside: dict[str, int]
    other_class: int
    near: dict[str, int]
    near_other_class: int
    near_crowd: int
    names: dict[str, list[str]]


class LeftOut(TypedDict):
    """Files that stand in a data set's folder and in no split: why, how many, up to five names."""

    why: str
    n: int
    names: list[str]


class DecodingLog(TypedDict):
    """What decoding a data set found: the part of a manifest that the images themselves decide.

    Attributes:
        splits: The splits by name.
        skipped: The images that could not be read.
        converted: Number of images by the conversion that they took (`data.decode.decode_image`).
        duplicates: Copies.
        fingerprint: Hash of classes and splits: what "the same data" means.
    """

    splits: dict[str, SplitRecord]
    skipped: list[SkippedImage]
    converted: dict[str, int]
    duplicates: DuplicatesRecord
    fingerprint: str


class CalibrationRecord(TypedDict):
    """The representative data set: indices into train, and how many of them per class."""

    n: int
    seed: int
    indices: list[int]
    per_class: list[int]


class DataManifest(DecodingLog):
    """The record `data`: which images a study uses, and how they were decoded.

    Attributes:
        name: The data set's name, as published figures name it.
        form: What the images are.
        source: Where they come from.
        classes: The names of the classes, in the order of their labels.
        image_size: [height, width] in pixels.
        channels: 1 (grey) or 3 (RGB).
        aspect: `stretch` or `crop`.
        seed: The seed of the splits.
        left_out: What stands in the folder and in no split, by reason.
        calibration: The representative data set.
    """

    name: str
    form: str
    source: str
    classes: list[str]
    image_size: list[int]
    channels: int
    aspect: str
    seed: int
    left_out: list[LeftOut]
    calibration: CalibrationRecord


def best_epoch(history: Sequence[Mapping[str, float]]) -> int | None:
    """Return the index of the epoch to keep: one rule for what is kept, reported and drawn.

    Args:
        history: One record per epoch, with the keys of `EpochRecord`.

    Returns:
        With a teacher, the epoch that agrees most with it. Without, the one of highest validation
        accuracy; as a few hundred images tie often, then the lower validation loss. Of equals the
        first. None without history.
    """

    def score(index: int) -> tuple[float, ...]:
        record = history[index]
        if "val_agreement" in record:
            return (record["val_agreement"],)
        return (record["val_accuracy"], -record["val_loss"])

    return max(range(len(history)), key=score, default=None)
