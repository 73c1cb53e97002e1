"""Tables that notebooks show, built from the shelf."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from edgeq_lib.analysis.rows import as_row
from edgeq_lib.measure.statistics import correctness, paired
from edgeq_lib.study import Variant
from edgeq_lib.tflite.inspect import inspect_file, sizes

DECIMALS = {
    "weight bits": 1,
    "activation bits": 1,
    "kB": 1,
    "× smaller": 2,
    "top-1 %": 2,
    "drop": 2,
    "agrees %": 2,
    "seconds to make": 1,
}


def variants_table(chosen: Sequence[Variant], split: str = "validation") -> pd.DataFrame:
    """Tabulate variants: bits, size, accuracy with its 95 % interval, and the paired drop.

    Args:
        chosen: The variants, a row for each.
        split: The split that accuracies are of.

    Returns:
        A data frame with the names as index; empty without variants. Percent, percent points, kB of
        1,000 bytes, seconds.
    """
    if not chosen:
        return pd.DataFrame()
    base = chosen[0].study.variant("float32").path.stat().st_size
    table = pd.DataFrame([_line(variant, split, base) for variant in chosen])
    return table.set_index("variant").round(DECIMALS)


def _line(variant: Variant, split: str, base_bytes: int) -> dict[str, Any]:
    report, size = inspect_file(variant.model()), variant.path.stat().st_size
    quality = (variant.read("quality") or {}).get(split, {})
    return {
        "variant": variant.name,
        "engine": variant.facts["engine"],
        "weight bits": report["weight_bits"],
        "activation bits": report["activation_bits"],
        "computes mostly in": report["compute"],
        "kB": size / 1000,
        "× smaller": base_bytes / size,
        "top-1 %": quality.get("top1"),
        "95 %": _interval(quality, "low", "high"),
        "drop": quality.get("drop"),
        "drop 95 %": _interval(quality, "drop_low", "drop_high"),
        "agrees %": quality.get("agreement"),
        "seconds to make": variant.facts["seconds"],
    }


def _interval(quality: Mapping[str, Any], low: str, high: str) -> str:
    return f"{quality[low]:.2f} … {quality[high]:.2f}" if quality.get(low) is not None else ""


def compare_table(
    reference: Variant, chosen: Sequence[Variant], splits: Mapping[str, np.ndarray]
) -> pd.DataFrame:
    """Compare variants with another variant instead of float32, image by image.

    Args:
        reference: The variant to compare with.
        chosen: The variants, all of them scored, as the reference is.
        splits: Name of the split to labels, int (n,).

    Returns:
        A data frame, a row per variant and split: variant, split, how much smaller its file is (%),
        and the drop in percent points with its 95 % interval and p-value, as
        `measure.statistics.paired` gives them.
    """
    columns = ["variant", "split", "% smaller", "drop", "drop_low", "drop_high", "p_value"]
    lines: list[dict[str, Any]] = []
    base, size = reference.arrays(), reference.path.stat().st_size
    for variant in chosen:
        outputs, smaller = variant.arrays(), 100 * (1 - variant.path.stat().st_size / size)
        for split, labels in splits.items():
            right = [correctness(scores[split], labels)[0] for scores in (base, outputs)]
            facts = {"variant": variant.name, "split": split, "% smaller": smaller}
            lines.append({**facts, **paired(*right)})
    return pd.DataFrame(lines, columns=columns)


def rows(
    chosen: Sequence[Variant], split: str = "validation", measured: bool = False
) -> list[dict[str, Any]]:
    """Return rows of the results table, for figures.

    The variants are named by the caller: a stage that looked at the whole shelf would depend on all
    that stands there.

    Args:
        chosen: The variants.
        split: The split that accuracies are of.
        measured: Whether to take the benchmark's records; else rows hold sizes alone.
    """
    base = chosen[0].study.variant("float32").path.stat().st_size
    return [
        as_row(
            variant,
            (variant.read("quality") or {}).get(split),
            variant.read("cost") if measured else _sizes(variant),
            base,
        )
        for variant in chosen
    ]


def _sizes(variant: Variant) -> dict[str, Any]:
    content = variant.model()
    return {**sizes(content), "report": inspect_file(content)}
