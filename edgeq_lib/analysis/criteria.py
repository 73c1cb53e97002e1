"""The criteria of a study, and how a variant stands to them: met, missed, by how much.

Rows are rows of the results table; which split their accuracies come from is up to the caller.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeq_lib.analysis import pareto
from edgeq_lib.analysis.rows import Row

Criteria = Sequence[Mapping[str, Any]]
FIELDS = {
    "max_drop": "drop",
    "min_agreement": "agreement",
    "min_ratio": "ratio",
    "max_latency_ratio": "latency_ratio",
    "device": "fits",
}
HIGH = {"max_drop": "drop_high", "max_latency_ratio": "latency_ratio_high"}


def value_of(row: Row, name: str) -> Any:
    """Return the figure that criterion `name` bounds; None where it was not measured."""
    if row["technique"] == "baseline" and name in ("max_drop", "min_agreement"):
        return 0.0 if name == "max_drop" else 100.0
    return row.get(FIELDS[name])


def meets(row: Row, criterion: Mapping[str, Any]) -> bool | None:
    """Tell whether a row meets a criterion by the point estimate; None where not measured."""
    name, bound, value = criterion["name"], criterion["bound"], value_of(row, criterion["name"])
    if name == "device":
        return (value or {}).get(bound)
    if value is None:
        return None
    return bool(value >= bound if name.startswith("min_") else value <= bound)


def passed(row: Row, criteria: Criteria) -> dict[str, bool | None]:
    """Tell which criteria a row meets by the point estimate; None where not measured."""
    return {criterion["name"]: meets(row, criterion) for criterion in criteria}


def status(row: Row, criteria: Criteria) -> dict[str, str]:
    """Say `met`, `met within noise`, `missed` or `not measured` of each criterion.

    "met" without reserve is said only when the upper end of the interval is below the bound too.
    """
    words = {None: "not measured", False: "missed", True: "met"}
    standing = {name: words[met] for name, met in passed(row, criteria).items()}
    for criterion in criteria:
        high = row.get(HIGH.get(criterion["name"], ""))
        if standing[criterion["name"]] == "met" and high is not None and high >= criterion["bound"]:
            standing[criterion["name"]] = "met within noise"
    return standing


def costs(row: Row) -> tuple[float, float, float]:
    """Return what a variant costs, less being better: drop (points), bytes, latency ratio.

    What was not measured counts as the worst.
    """
    drop, size, latency = (
        float("inf") if value is None else value
        for value in (value_of(row, "max_drop"), row["bytes"], row["latency_ratio"])
    )
    return drop, size, latency


def compared(criteria: Criteria) -> tuple[int, ...]:
    """Return which of the figures of `costs` a choice by these criteria may look at.

    Latency is among them only where it is a criterion: it belongs to one machine, and two machines
    should choose the same file.
    """
    timed = any(criterion["name"] == "max_latency_ratio" for criterion in criteria)
    return (0, 1, 2) if timed else (0, 1)


def dominated(rows: Sequence[Row], fields: Sequence[int] = (0, 1, 2)) -> dict[str, str]:
    """Name for each dominated variant one that is as good in every figure and better in one.

    Args:
        rows: Rows of the results table.
        fields: Which of the three figures of `costs` count.

    Returns:
        Name to the name of the first variant in the table that dominates it.
    """
    figures = {row["name"]: costs(row) for row in rows}
    return pareto.dominators(
        {name: [own[field] for field in fields] for name, own in figures.items()}
    )


def excess(row: Row, criteria: Criteria) -> float:
    """Return how far a row is from its criteria: a sum of relative distances, 0 if it meets all."""
    total = 0.0
    for criterion in criteria:
        name, bound, value = criterion["name"], criterion["bound"], value_of(row, criterion["name"])
        if meets(row, criterion):
            continue
        if name == "device" or value is None:
            total += 1.0
        elif name == "min_ratio":
            total += bound / max(value, 1e-9) - 1
        elif name == "min_agreement":
            total += (bound - value) / max(100 - bound, 1.0)
        else:  # a bound below one point or one tenth would make any distance look endless
            total += (value - bound) / max(abs(bound), 1.0 if name == "max_drop" else 0.1)
    return total


def misses(row: Row, criteria: Criteria) -> list[str]:
    """Name each criterion that a row misses, as a phrase with its figure and bound."""
    phrases = []
    for criterion in criteria:
        name, bound, value = criterion["name"], criterion["bound"], value_of(row, criterion["name"])
        if meets(row, criterion):
            continue
        if name == "device":
            reason = "it does not fit" if value else "not measured whether it fits"
            phrases.append(f"device ({reason} a {bound})")
        elif value is None:
            phrases.append(f"{name} (not measured)")
        else:
            phrases.append(f"{name} ({value:.3g}, bound {bound:g})")
    return phrases
