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
    "max_latency_ratio": "target_latency_ratio",
}
# The end of the interval that is nearer to the bound, of the criteria that have an interval. In
# records of version 0.2.0 and before, that of latency is the 90th percentile over rounds, which
# lies farther out than the end of the median's 95 % interval.
FAR_END = {
    "max_drop": "drop_high",
    "min_agreement": "agreement_low",
    "max_latency_ratio": "target_latency_ratio_high",
}


def value_of(row: Row, name: str) -> Any:
    """Return the figure that criterion `name` bounds; None where it was not measured.

    Latency is that on the study's target, which this machine need not be; results of before targets
    have this machine's alone.
    """
    if row["technique"] == "baseline" and name in ("max_drop", "min_agreement"):
        return 0.0 if name == "max_drop" else 100.0
    field = FIELDS.get(name, "")
    return row.get(field) if field in row else row.get(field.removeprefix("target_"))


def far_end(row: Row, name: str) -> float | None:
    """Return the end of the interval that criterion `name` is hardest on; None without one."""
    field = FAR_END.get(name, "")
    return row.get(field) if field in row else row.get(field.removeprefix("target_"))


def meets(row: Row, criterion: Mapping[str, Any], strict: bool = False) -> bool | None:
    """Tell whether a row meets a criterion; None where it was not measured.

    Args:
        row: A row of the results table.
        criterion: Its name and bound.
        strict: Whether the whole interval must lie within the bound, where the figure has one; else
            the point estimate decides. A latency of too few rounds for an interval is not within.
    """
    name, bound, value = criterion["name"], criterion["bound"], value_of(row, criterion["name"])
    if value is None:
        return None
    far, sign = far_end(row, name), -1 if name.startswith("min_") else 1
    if strict and far is None and name == "max_latency_ratio":  # too few rounds for an interval
        return False
    return bool(
        sign * value <= sign * bound
        and not (strict and far is not None and sign * far >= sign * bound)
    )


def passed(row: Row, criteria: Criteria, strict: bool = False) -> dict[str, bool | None]:
    """Tell which criteria a row meets, as `meets` does; None where not measured."""
    return {
        criterion["name"]: meets(row, criterion, strict)
        for criterion in criteria
        if criterion["name"] in FIELDS  # studies of before had further ones
    }


def meets_all(row: Row, criteria: Criteria, strict: bool = False) -> bool:
    """Tell whether a row meets all criteria.

    A latency that was not measured on the target rules no file out: the page says so of each.
    Whatever else was not measured counts as not met.
    """
    return all(
        met or (met is None and name == "max_latency_ratio")
        for name, met in passed(row, criteria, strict).items()
    )


def status(row: Row, criteria: Criteria) -> dict[str, str]:
    """Say `met`, `met within noise`, `missed` or `not measured` of each criterion.

    "met" without reserve is said only when the whole interval lies within the bound.
    """
    words = {None: "not measured", False: "missed", True: "met"}
    standing = {name: words[met] for name, met in passed(row, criteria).items()}
    for name, surely in passed(row, criteria, strict=True).items():
        if standing[name] == "met" and not surely:
            standing[name] = "met within noise"
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


def excess(row: Row, criteria: Criteria, strict: bool = False) -> float:
    """Return how far a row is from its criteria: a sum of relative distances, 0 if it meets all."""
    total = 0.0
    for criterion in criteria:
        name, bound, value = criterion["name"], criterion["bound"], value_of(row, criterion["name"])
        if meets(row, criterion, strict):
            continue
        far = far_end(row, name) if strict else None
        value = value if far is None else far
        if value is None:
            total += 0.0 if name == "max_latency_ratio" else 1.0
        elif name == "min_ratio":
            total += bound / max(value, 1e-9) - 1
        elif name == "min_agreement":
            total += (bound - value) / max(100 - bound, 1.0)
        else:  # a bound below one point or one tenth would make any distance look endless
            total += (value - bound) / max(abs(bound), 1.0 if name == "max_drop" else 0.1)
    return total


def misses(row: Row, criteria: Criteria, strict: bool = False) -> list[str]:
    """Name each criterion that a row misses, as a phrase with its figure and bound."""
    phrases = []
    for criterion in criteria:
        name, bound, value = criterion["name"], criterion["bound"], value_of(row, criterion["name"])
        if meets(row, criterion, strict):
            continue
        if value is None:
            if name != "max_latency_ratio":
                phrases.append(f"{name} (not measured)")
        elif meets(row, criterion):
            far = far_end(row, name)
            end = "no interval" if far is None else f"interval to {far:.3g}"
            phrases.append(f"{name} ({value:.3g}, {end}, bound {bound:g})")
        else:
            phrases.append(f"{name} ({value:.3g}, bound {bound:g})")
    return phrases
