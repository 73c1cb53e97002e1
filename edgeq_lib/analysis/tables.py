"""Tables that notebooks show, built from the shelf."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from edgeq_lib.analysis.rows import as_row
from edgeq_lib.measure.statistics import correctness, paired
from edgeq_lib.study import Variant
from edgeq_lib.tflite.inspect import inspect_file, sizes


def variants_table(chosen: Sequence[Variant], split: str = "validation") -> pd.DataFrame:
    """One row a variant: bits, size, accuracy on `split` with its 95 % interval, and the paired drop."""
    if not chosen:
        return pd.DataFrame()
    base = chosen[0].study.variant("float32").path.stat().st_size
    rows = []
    for variant in chosen:
        report, quality = (
            inspect_file(variant.model()),
            (variant.read("quality") or {}).get(split, {}),
        )
        rows.append(
            {
                "variant": variant.name,
                "engine": variant.facts["engine"],
                "weight bits": report["weight_bits"],
                "activation bits": report["activation_bits"],
                "computes mostly in": report["compute"],
                "kB": variant.path.stat().st_size / 1000,
                "× smaller": base / variant.path.stat().st_size,
                "top-1 %": quality.get("top1"),
                "95 %": _interval(quality, "low", "high"),
                "drop": quality.get("drop"),
                "drop 95 %": _interval(quality, "drop_low", "drop_high"),
                "agrees %": quality.get("agreement"),
                "seconds to make": variant.facts["seconds"],
            }
        )
    return (
        pd.DataFrame(rows)
        .set_index("variant")
        .round(
            {
                "weight bits": 1,
                "activation bits": 1,
                "kB": 1,
                "× smaller": 2,
                "top-1 %": 2,
                "drop": 2,
                "agrees %": 2,
                "seconds to make": 1,
            }
        )
    )


def _interval(quality: dict, low: str, high: str) -> str:
    return f"{quality[low]:.2f} … {quality[high]:.2f}" if quality.get(low) is not None else ""


def compare_table(
    yardstick: Variant, chosen: Sequence[Variant], splits: Mapping[str, np.ndarray]
) -> pd.DataFrame:
    """One row a variant and split, paired with another variant instead of float32: how much smaller its file is, in percent,
    and what it loses in points, with the 95 % interval. `splits`: name → labels (n,). All are scored already."""
    columns, found = (
        ["variant", "split", "% smaller", "drop", "drop_low", "drop_high", "p_value"],
        [],
    )
    base, size = yardstick.arrays(), yardstick.path.stat().st_size
    for variant in chosen:
        outputs, smaller = variant.arrays(), 100 * (1 - variant.path.stat().st_size / size)
        for split, labels in splits.items():
            right = [correctness(each[split], labels)[0] for each in (base, outputs)]
            found.append(
                {"variant": variant.name, "split": split, "% smaller": smaller, **paired(*right)}
            )
    return pd.DataFrame(found, columns=columns)


def rows(
    chosen: Sequence[Variant], split: str = "validation", measured: bool = False
) -> list[dict]:
    """Rows of the results table, for figures; `measured` takes the benchmark's records, else sizes alone.

    The variants are named by the caller: a stage that looked at the whole shelf would depend on all that stands there.
    """
    base = chosen[0].study.variant("float32").path.stat().st_size
    return [
        as_row(
            variant,
            (variant.read("quality") or {}).get(split),
            variant.read("cost")
            if measured
            else {**sizes(variant.model()), "report": inspect_file(variant.model())},
            base,
        )
        for variant in chosen
    ]
