"""Which of two files is more accurate, if validation can tell: a paired test on the same images.

The evidence is two counts per pair of files: the images that only the one gets right, and that only
the other does. "Right" is naming the true class or, where a study bounds agreement, naming the
class that float32 names. A file is preferred for its accuracy only where the mid-p McNemar test of
these counts says so at 95 %.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from edgeq_lib.analysis.rows import Row

SIGNIFICANT = 0.05
Measure = Literal["top1", "agreement"]
MEASURES: dict[str, str] = {"top1": "accuracy", "agreement": "agreement with float32"}


def measure_of(criteria: Sequence[Mapping[str, Any]]) -> Measure:
    """Return what files are compared by: agreement where a criterion bounds it, else accuracy."""
    bounded = any(criterion["name"] == "min_agreement" for criterion in criteria)
    return "agreement" if bounded else "top1"


def loss(row: Row, measure: Measure) -> float:
    """Return a row's point estimate, less being better, infinite where it was not measured.

    Args:
        row: A row of the results table.
        measure: The drop of accuracy, or the share of images on which it does not agree.
    """
    if row["technique"] == "baseline":
        return 0.0
    value = row["drop"] if measure == "top1" else row["agreement"]
    if value is None:
        return float("inf")
    return value if measure == "top1" else 100 - value


def encode(names: Sequence[str], counts: Any) -> dict[str, Any]:
    """Write the counts of `measure.statistics.only_one_right` compactly, one line per file.

    Args:
        names: Of the files.
        counts: Numbers (files, files).
    """
    rows = [" ".join(f"{round(float(count), 3):g}" for count in line) for line in counts]
    return {"names": list(names), "only_one_right": rows}


def attach(rows: Sequence[Row], pairs: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Give each row its counts against the others, as `beats` reads them.

    Args:
        rows: Rows of the results table.
        pairs: As `encode` writes them; rows that it does not name stay without evidence.

    Returns:
        The rows, each with `paired`: other's name → (images that only this file gets right, images
        that only the other does).
    """
    names = pairs.get("names", [])
    counts = [[float(count) for count in line.split()] for line in pairs.get("only_one_right", [])]
    evidence = {
        name: {
            other: (counts[own][theirs], counts[theirs][own])
            for theirs, other in enumerate(names)
            if theirs != own
        }
        for own, name in enumerate(names)
    }
    return [{**row, "paired": evidence.get(row["name"], {})} for row in rows]


def beats(row: Row, other: Row) -> bool:
    """Tell whether validation says, at 95 %, that a file is more accurate than another."""
    own, theirs = row.get("paired", {}).get(other["name"], (0, 0))
    if own <= theirs:
        return False
    # SciPy takes a second to import, and the command line only shows what was decided.
    from edgeq_lib.measure.statistics import mid_p

    return mid_p(own, theirs) < SIGNIFICANT


def unbeaten(pool: Sequence[Row], rivals: Sequence[Row]) -> list[Row]:
    """Return the rows of a pool that none of the rivals beats."""
    return [row for row in pool if not any(beats(rival, row) for rival in rivals)]
