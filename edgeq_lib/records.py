"""Which epoch of a training is the best: one rule for what is kept, reported and drawn. It imports no TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def best_epoch(history: Sequence[Mapping[str, float]]) -> int | None:
    """The place in `history`, a record an epoch (see `training.fit`), of the epoch to keep; None without history.

    With a teacher, most agreement with it. Without, most validation accuracy, and as a few hundred images tie often, then
    the lower validation loss. Of equals the first.
    """

    def score(place: int) -> tuple[float, ...]:
        record = history[place]
        return (
            (record["val_agreement"],)
            if "val_agreement" in record
            else (record["val_accuracy"], -record["val_loss"])
        )

    return max(range(len(history)), key=score, default=None)
