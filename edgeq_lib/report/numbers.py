"""Figures as text: digits, intervals, sizes, names. Computed from rows of results.json alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from edgeq_lib.analysis import flow
from edgeq_lib.analysis.criteria import status
from edgeq_lib.analysis.rows import MEDIAN_95, PERCENTILES, Row, latency_interval

# Criteria, where room is scarce.
SHORT = {
    "max_drop": "drop",
    "min_agreement": "agreement",
    "min_ratio": "size",
    "max_latency_ratio": "speed",
}


def number(value: float | None, digits: int = 2) -> str:
    """Write a figure with its digits and a true minus sign; – for None."""
    return "–" if value is None else f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")


def with_interval(row: Row, value: str, low: str, high: str, digits: int = 2) -> str:
    """Write `value [low, high]` of three fields of a row."""
    if row[value] is None:
        return "–"
    if row.get(low) is None:
        return number(row[value], digits)
    return f"{number(row[value], digits)} [{number(row[low], digits)}, {number(row[high], digits)}]"


def drop(row: Row) -> str:
    """Write the drop of a row, in points, with its 95 % interval."""
    return with_interval(row, "drop", "drop_low", "drop_high")


def latency(row: Row) -> str:
    """Write the latency ratio of a row with its interval; `latency_intervals` names its kind."""
    return with_interval(row, "latency_ratio", "latency_ratio_low", "latency_ratio_high")


def latency_intervals(rows: Iterable[Row]) -> str:
    """Name the intervals that latency ratios have, for the caption of a table.

    Args:
        rows: Rows of results.json, or costs of a board.

    Returns:
        A phrase such as "95 % interval of the median ratio"; empty where no row has any.
    """
    words = {
        MEDIAN_95: "95 % interval of the median ratio",
        PERCENTILES: "10th and 90th percentile of the ratio over rounds, not a 95 % interval",
    }
    kinds = {kind for row in rows if (kind := latency_interval(row))}
    return ", or ".join(words.get(kind, kind) for kind in sorted(kinds, reverse=True))


def shipped_latency(row: Row) -> str:
    """Write the latency ratio of a row where no caption names its interval: only of 95 %."""
    if latency_interval(row) == MEDIAN_95:
        return latency(row)
    return number(row["latency_ratio"])


def agreement(row: Row) -> str:
    """Write the share of images on which a row agrees with float32, with its 95 % interval."""
    return with_interval(row, "agreement", "agreement_low", "agreement_high", 1)


def p_value(value: float | None) -> str:
    """Write a p-value with three digits."""
    return "–" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def kilobytes(count: int | None) -> str:
    """Write bytes as thousands of bytes."""
    return "–" if count is None else f"{count / 1000:,.{1 if count < 1e6 else 0}f}"


def bits(row: Row) -> str:
    """Write the mean bits per weight and per activation, `8 / 8`."""
    both = row["weight_bits"], row["activation_bits"]
    return " / ".join("–" if width is None else f"{width:.3g}" for width in both)


def range_text(values: Iterable[float], digits: int = 2) -> str:
    """Write `low to high`, or one figure where both read the same."""
    values = list(values)
    return " to ".join(dict.fromkeys((number(min(values), digits), number(max(values), digits))))


def listed(names: Iterable[str], limit: int = 99) -> str:
    """Write names as code, `a`, `b` and `c`; past `limit` the rest is counted."""
    coded = [f"`{name}`" for name in names]
    if len(coded) > limit:
        coded = [*coded[: limit - 1], f"{len(coded) - limit + 1} others"]
    return " and ".join([", ".join(coded[:-1]), coded[-1]] if len(coded) > 1 else coded)


def verdict(
    row: Row, criteria: Sequence[Mapping[str, Any]], names: Mapping[str, str] | None = None
) -> str:
    """Say how a row stands to all criteria, the worst first: `missed: max_drop`, …, `met`."""
    return status_text(status(row, criteria), names)


def status_text(marks: Mapping[str, str], names: Mapping[str, str] | None = None) -> str:
    """Say the same of the marks that a row has, by criterion; `names` shortens the criteria."""
    for mark in ("missed", "not measured", "met within noise"):
        marked = [(names or {}).get(name, name) for name, own in marks.items() if own == mark]
        if marked:
            return f"{mark}: {', '.join(marked)}"
    return "met" if marks else "–"


def find_row(results: Mapping[str, Any], name: str) -> Row:
    """Find the row of a variant."""
    return next(row for row in results["variants"] if row["name"] == name)


def data_form(data: Mapping[str, Any]) -> str:
    """Name the images with their form: `CIFAR-10 (JPEG)`, `Digits (8 × 8 grey)`."""
    return data["name"] if "(" in data["name"] else f"{data['name']} ({data['form']})"


def technique(name: str) -> str:
    """Name a technique in words."""
    return flow.TECHNIQUES.get(name, name.replace("_", " "))


def machines(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """List the machines of a study, its own first; results of before version 0.2 name one only."""
    if "machines" in results:
        return results["machines"]
    own = dict(results.get("machine") or {})
    return [{"name": "this machine", "isa": own.get("flags") or [], **own}] if own else []


def own_machine(results: Mapping[str, Any]) -> str:
    """Name the machine that a study ran on, with its instruction sets."""
    return machine_name(next(iter(machines(results)), {}))


def machine_name(machine: Mapping[str, Any]) -> str:
    """Name a machine with its instruction sets: `AMD EPYC (avx2, avx512_vnni)`."""
    name = machine.get("name")
    cpu = machine.get("cpu") or "processor not recorded"
    shown = cpu if not name or name == "this machine" else str(name)
    instruction_sets = ", ".join(machine.get("isa") or machine.get("flags") or [])
    return f"{shown} ({instruction_sets or 'instruction sets not recorded'})"
