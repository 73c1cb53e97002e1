"""Which images train, validate, test and calibrate: drawn class by class from a seed."""

from __future__ import annotations

import numpy as np

from edgeq_lib.data.source import Item, Source
from edgeq_lib.files import EdgeqError


def make_splits(
    source: Source,
    validation: float | int | None,
    test: float | int | None,
    limit_train: int | None,
    seed: int,
) -> dict[str, list[Item]]:
    """Choose the items of train, validation and test.

    Where the source brings no validation or test of its own, they are taken class by class.

    Args:
        source: The data set.
        validation: What validation takes: a share of its pool (float), a number (int), or None for
            the source's habit.
        test: The same for test.
        limit_train: Keep a class-balanced part of train, of so many items; None for all.
        seed: Decides which items are drawn.

    Returns:
        Split → its items, in a fixed order that mixes the classes.

    Raises:
        EdgeqError: For numbers that the pools cannot give.
    """
    # One fixed order: any prefix is class-mixed, and a given test set looks the same in all
    # studies.
    pools = {
        split: [items[i] for i in np.random.default_rng(0).permutation(len(items))]
        for split, items in source.pools.items()
    }
    rng = np.random.default_rng([seed, 0])
    sizes = {split: len(items) for split, items in pools.items()}
    for split, asked, habit, pool in (
        ("test", test, source.test, "train"),
        ("validation", validation, source.validation, source.validation_from),
    ):
        if split in source.pools:
            if asked is not None:
                raise EdgeqError(
                    f"The data set {source.name} brings its own {split} images; leave `{split}` "
                    "out."
                )
            continue
        share = habit if asked is None else asked
        n = round(share * sizes[pool]) if isinstance(share, float) else share
        if not 0 < n < len(pools[pool]):
            raise EdgeqError(
                f"{n} {split} images cannot be taken from the {len(pools[pool])} {pool} images of "
                f"{source.name}; change `{split}` or add images."
            )
        pools[split], pools[pool] = _cut(pools[pool], n, rng, not source.sparse)
    if limit_train is not None and limit_train < len(pools["train"]):
        pools["train"], _ = _cut(pools["train"], limit_train, rng, False)
    return pools


def draw_calibration(labels: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Draw the calibration set from train, the same number from each class (± 1).

    Args:
        labels: Labels of train, int64 (images,).
        n: How many images.
        seed: Decides which.

    Returns:
        Indices into train, sorted, int64 (n,).

    Raises:
        EdgeqError: When train holds fewer, or for fewer than two.
    """
    if not 2 <= n <= len(labels):
        raise EdgeqError(
            f"A representative set of {n} images cannot be drawn from {len(labels)} training "
            f"images; set `calibration` to a number from 2 to {len(labels)} (100 to 500 is usual)."
        )
    order = np.random.default_rng([seed, 1]).permutation(len(labels))
    turn = np.empty(
        len(labels), np.int64
    )  # how many of its class come before an item in that order
    for label in np.unique(labels):
        members = order[labels[order] == label]
        turn[members] = np.arange(len(members))
    return np.sort(order[np.argsort(turn[order], kind="stable")[:n]])


def _cut(
    items: list[Item], n: int, rng: np.random.Generator, leave_one: bool
) -> tuple[list[Item], list[Item]]:
    mask = _draw(np.array([item.label for item in items], np.int64), n, rng, leave_one)
    return (
        [item for item, taken in zip(items, mask, strict=True) if taken],
        [item for item, taken in zip(items, mask, strict=True) if not taken],
    )


def _draw(labels: np.ndarray, n: int, rng: np.random.Generator, leave_one: bool) -> np.ndarray:
    """Mask exactly `n` items, each class with its share (± 1).

    With `leave_one` no class is emptied while `n` allows it.
    """
    order = rng.permutation(len(labels))
    ranks = np.empty(len(labels))
    for label in np.unique(labels):
        members = order[labels[order] == label]
        # Item k of m stands at quantile (k + u) / m: the n smallest ranks are the same share of
        # each class.
        ranks[members] = (np.arange(len(members)) + rng.random()) / len(members)
        ranks[members[-1]] += leave_one
    mask = np.zeros(len(labels), bool)
    mask[np.argsort(ranks, kind="stable")[:n]] = True
    return mask
