"""The Pareto front: the candidates that no other one beats, less of every cost being better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def dominators(costs: Mapping[str, Sequence[Any]]) -> dict[str, str]:
    """Name for each dominated candidate one that dominates it.

    A candidate dominates another if none of its costs is larger and one is smaller. Candidates of
    equal costs do not dominate each other.

    Args:
        costs: Name to costs, as many for each, in the same order; anything that compares, a tuple
            being compared entry by entry.

    Returns:
        Name to the first name in `costs` that dominates it; what stands on the front is missing.
    """
    dominated = {}
    for name, own in costs.items():
        for other, theirs in costs.items():
            if tuple(theirs) != tuple(own) and all(
                their <= mine for their, mine in zip(theirs, own, strict=True)
            ):
                dominated[name] = other
                break
    return dominated


def front(costs: Mapping[str, Sequence[Any]]) -> list[str]:
    """Return the names that no other candidate dominates, the lowest first cost first.

    Args:
        costs: As in `dominators`.
    """
    dominated = dominators(costs)
    return sorted(
        (name for name in costs if name not in dominated), key=lambda name: costs[name][0]
    )
