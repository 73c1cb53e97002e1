"""The rows of the table that one explores, with the text, the sort value and the hover of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from edgeq_lib.analysis.criteria import status
from edgeq_lib.analysis.rows import Row
from edgeq_lib.plots.style import colour_of, marker_of
from edgeq_lib.report.markers import readable, svg_path
from edgeq_lib.report.numbers import (
    SHORT,
    bits,
    data_form,
    drop,
    kilobytes,
    latency_intervals,
    machine_name,
    machines,
    number,
    technique,
    verdict,
    with_interval,
)

Results = Mapping[str, Any]
# --page of style.css, and the contrast to it that markers have; WCAG 2.2, 1.4.11, asks for 3.
PAGES = {"light": ("#ffffff", 3.2), "dark": ("#15181b", 4.5)}


@dataclass(frozen=True)
class Column:
    """A column of the table: heading, field that it sorts by, text, ends of the interval."""

    heading: str
    field: str
    text: Callable[[Row], str]
    interval: tuple[str, str] | None = None
    descending: bool = False


COLUMNS = (
    Column("Bits w\u00a0/\u00a0a", "weight_bits", bits),
    Column("Top\u20111,\u00a0%", "value", lambda row: number(row["value"]), ("low", "high"), True),
    Column("Drop, points", "drop", lambda row: number(row["drop"]), ("drop_low", "drop_high")),
    Column(
        "Agrees,\u00a0%",
        "agreement",
        lambda row: number(row["agreement"], 1),
        ("agreement_low", "agreement_high"),
        True,
    ),
    Column("KB", "bytes", lambda row: kilobytes(row["bytes"])),
    Column("Smaller\u00a0×", "ratio", lambda row: number(row["ratio"]), None, True),
    Column(
        "Latency\u00a0×",
        "latency_ratio",
        lambda row: number(row["latency_ratio"]),
        ("latency_ratio_low", "latency_ratio_high"),
    ),
    Column("Integer only", "integer_only", lambda row: _yes_no(row["integer_only"]), None, True),
)
STANDING = ("met", "met within noise", "not measured", "missed")  # the order of the criteria column


def explorer(results: Results) -> dict[str, Any]:
    """What the table, its filters and the hover show.

    Args:
        results: The content of results.json.

    Returns:
        `caption`, `columns` (heading, key, descending), `rows` (name, badges, technique, cells,
        hover, sort values, whether it meets every criterion) and `techniques` (key, words, count,
        SVG path, light and dark colour), all in the order of results["variants"].
    """
    columns = [
        {"heading": "Variant", "key": "name", "descending": False},
        {"heading": "Technique", "key": "technique", "descending": False},
        *(
            {"heading": column.heading, "key": column.field, "descending": column.descending}
            for column in COLUMNS
        ),
    ]
    if results["criteria"]:
        columns.append({"heading": "Criteria", "key": "standing", "descending": False})
    return {
        "caption": _caption(results),
        "columns": columns,
        "rows": [_row(row, results) for row in results["variants"]],
        "techniques": _techniques(results),
        "has_criteria": bool(results["criteria"]),
    }


def _yes_no(value: bool | None) -> str:
    return "–" if value is None else "yes" if value else "no"


def _caption(results: Results) -> str:
    n = results["data"]["n_test"]
    bounds = ", ".join(f"{entry['name']} {entry['bound']}" for entry in results["criteria"])
    kind = latency_intervals(results["variants"])
    return (
        f"All files on the {n:,} test images of {data_form(results['data'])}, latency on "
        f"{machine(results)}. Drop: paired drop, points of top-1 against float32 on the same "
        f"{n:,} test images, 95 % interval. "
        "Agrees: test images on which a file names the class that float32 names. KB: 1,000 bytes. "
        "Smaller: bytes of the float32 file over those of the file. Latency: ratio to float32 at "
        f"one thread, interleaved{kind and ', with the '}{kind}."
        + (f" Criteria, as they stand on test: {bounds}." if bounds else "")
    )


def machine(results: Results) -> str:
    """Name the machine that the latencies come from, with its instruction sets and cores."""
    own = next(iter(machines(results)), None)
    if own is None:
        return "a machine that was not recorded"
    cores = own.get("cores")
    return machine_name(own) + (f", {cores} core{'' if cores == 1 else 's'}" if cores else "")


def _techniques(results: Results) -> list[dict[str, Any]]:
    keys = [row["technique"] for row in results["variants"]]
    return [
        {
            "key": key,
            "words": technique(key),
            "count": keys.count(key),
            "path": svg_path(marker_of(key)),
            **{theme: readable(colour_of(key), *page) for theme, page in PAGES.items()},
        }
        for key in dict.fromkeys(keys)
    ]


def _row(row: Row, results: Results) -> dict[str, Any]:
    judged = bool(results["criteria"]) and row["kind"] != "peer"
    marks = list(status(row, results["criteria"]).values()) if judged else []
    is_chosen = row["name"] == results["recommendation"]["variant"]
    badges = [
        *(["recommended"] if is_chosen else []),
        *([row["technique"]] if row["technique"] == "baseline" else []),
        *(["peer"] if row["kind"] == "peer" else []),
    ]
    sort = {"name": row["name"], "technique": technique(row["technique"])}
    sort |= {column.field: _sortable(row[column.field]) for column in COLUMNS}
    sort["standing"] = max(map(STANDING.index, marks), default=None)
    cells = [_cell(row, column) for column in COLUMNS]
    if results["criteria"]:
        text = verdict(row, results["criteria"], SHORT) if judged else "–"
        why = None if judged else "a peer is there for comparison"
        cells.append({"text": text, "note": "", "why": why, "key": "standing"})
    return {
        "name": row["name"],
        "badges": badges,
        "chosen": is_chosen,
        "technique": row["technique"],
        "technique_words": technique(row["technique"]),
        "cells": cells,
        "sort": sort,
        "meets": bool(marks) and all(mark.startswith("met") for mark in marks),
        "hover": _hover(row, results),
    }


def _sortable(value: float | bool | None) -> float | None:
    return int(value) if isinstance(value, bool) else value


def _cell(row: Row, column: Column) -> dict[str, Any]:
    note = ""
    if column.interval and row[column.field] is not None:
        low, high = (row.get(field) for field in column.interval)
        note = "" if low is None else f"[{number(low)}, {number(high)}]"
    why = row.get("why", {}).get(column.field)
    return {"text": column.text(row), "note": note, "why": why, "key": column.field}


def _hover(row: Row, results: Results) -> list[tuple[str, str]]:
    """What the hover says of a file: label and text with unit, null figures with their reason."""

    def told(field: str, text: str, unit: str) -> str:
        if row[field] is not None:
            return f"{text} {unit}".strip()
        return f"– ({row.get('why', {}).get(field, 'not recorded')})"

    interval = with_interval(row, "latency_ratio", "latency_ratio_low", "latency_ratio_high")
    size = "" if row["bytes"] is None else f"{row['bytes']:,}"
    ratio = "" if row["ratio"] is None else f", {number(row['ratio'])} × smaller"
    return [
        ("Technique", technique(row["technique"])),
        ("Bits w / a", bits(row)),
        ("Top-1", told("value", with_interval(row, "value", "low", "high"), "%")),
        ("Paired drop", told("drop", drop(row), "points")),
        ("File", told("bytes", size, "bytes") + ratio),
        ("Latency", told("latency_ratio", interval, "× float32")),
        ("Machine", machine(results)),
    ]
