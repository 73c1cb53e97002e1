"""The two Pareto charts of the HTML report, as Vega specifications computed from results.json.

Vega (BSD-3, https://vega.github.io/vega/docs/specification/) draws them as SVG. Colours are CSS
variables of the page, so that the charts follow the light, the dark and the print style without
being drawn again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from edgeq_lib.analysis.criteria import dominated
from edgeq_lib.analysis.rows import Row
from edgeq_lib.plots.style import baseline_row, collapse_limit, marker_of
from edgeq_lib.report.markers import svg_path
from edgeq_lib.report.numbers import own_machine

Results = Mapping[str, Any]
Spec = dict[str, Any]
# Field of a row → which of the figures that `dominated` compares, name of the axis.
CHARTS = {
    "bytes": (1, "File size"),
    "latency_ratio": (2, "Latency, ratio to float32 at one thread"),
}
HEIGHT = 340  # pixels
EDGE = 16  # pixels below the lowest true height, where files that collapsed are drawn
# Where a label is tried, nearest first. Vega pairs each anchor with the offset (pixels) at the
# same index.
ANCHORS = ("top-right", "top", "right", "bottom-right", "top-left", "bottom", "left", "bottom-left")
OFFSETS = (1, 5, 11, 20, 30)
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"
COLOUR = {"scale": "colour", "field": "technique"}


def charts(results: Results) -> dict[str, Spec]:
    """The Vega specification of each chart, by the field on its x axis.

    Args:
        results: The content of results.json.

    Returns:
        `bytes` and `latency_ratio`, without those that no file has both figures for. Signals that
        the page sets: `shown` (names of the rows that a filter leaves, null for all), `active`
        (the name to highlight) and `width` (pixels).
    """
    found = {}
    for field in CHARTS:
        rows = [row for row in results["variants"] if None not in (row["value"], row[field])]
        if rows:
            found[field] = _chart(
                rows, field, results["recommendation"]["variant"], own_machine(results)
            )
    return found


def front(rows: Sequence[Row], field: str) -> list[Row]:
    """Our rows that no other of ours beats in accuracy and in `field`, sorted by `field`."""
    ours = _ours(rows)
    beaten = dominated(
        [{**row, "technique": "", "drop": -row["value"]} for row in ours], (0, CHARTS[field][0])
    )
    return sorted((row for row in ours if row["name"] not in beaten), key=lambda row: row[field])


def _ours(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row["kind"] != "peer"]


def _heights(rows: Sequence[Row]) -> tuple[float, float]:
    """The range of the y axis in percent, without collapsed files, with float32's interval."""
    best = max(row["value"] for row in rows)
    ahead = max((row["value"] for row in _ours(rows)), default=best)
    floor = ahead - collapse_limit([ahead - row["value"] for row in _ours(rows)])
    lowest = min(row["value"] for row in rows if row["value"] >= floor)
    margin = 0.1 * max(best - lowest, 0.5)
    bottom, top = lowest - margin, best + margin
    base = baseline_row(rows)
    if base and base["low"] is not None:
        bottom, top = min(bottom, base["low"] - margin / 2), max(top, base["high"] + margin / 2)
    return bottom, top


def _breadth(rows: Sequence[Row], field: str) -> tuple[str, list[float]]:
    """Kind and range of the x axis."""
    low, high = (bound(row[field] for row in rows) for bound in (min, max))
    # One file on slow reference kernels must not squeeze the others together.
    if field == "bytes" or high > 5 * low:
        return "log", [low / 1.35, high * 1.35]
    return "linear", [max(0.0, low - 0.12 * high), high * 1.12]


def _ticks(domain: Sequence[float]) -> list[float]:
    """1, 2 and 5 of each power of ten within the range of a logarithmic axis."""
    powers = range(math.floor(math.log10(domain[0])), math.ceil(math.log10(domain[1])) + 1)
    values = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
    return [value for value in values if domain[0] <= value <= domain[1]]


def _steps(ahead: Sequence[Row], field: str, bottom: float, end: float) -> list[Spec]:
    """The corners of the front as a step line that ends at the right edge."""
    corners, height = [], None
    for row in ahead:
        if row["value"] >= bottom:
            if height is not None:
                corners.append({"x": row[field], "y": height})
            height = row["value"]
            corners.append({"x": row[field], "y": height})
    return [*corners, {"x": end, "y": height}] if height is not None else []


def _points(rows: Sequence[Row], field: str, bottom: float, recommended: str | None) -> list[Spec]:
    ahead = [row["name"] for row in front(rows, field)]
    points = []
    for row in rows:
        is_front, is_chosen = row["name"] in ahead, row["name"] == recommended
        collapsed = row["value"] < bottom
        labelled = is_chosen or row["technique"] == "baseline" or (is_front and not collapsed)
        points.append(
            {
                "name": row["name"],
                "technique": row["technique"],
                "x": row[field],
                "y": None if collapsed else row["value"],
                "low": None if collapsed or row["low"] is None else max(row["low"], bottom),
                "high": None if collapsed else row["high"],
                # What no other file beats is filled, peers too, which have no part in the front.
                "filled": is_front or row["kind"] == "peer",
                "recommended": is_chosen,
                "label": row["name"] if labelled else "",
                "order": 0 if is_chosen else 1 if row["technique"] == "baseline" else 2,
            }
        )
    return points


def _chart(rows: Sequence[Row], field: str, recommended: str | None, machine: str) -> Spec:
    bottom, top = _heights(rows)
    kind, domain = _breadth(rows, field)
    return {
        "width": 600,
        "height": HEIGHT,
        "padding": {"left": 2, "right": 10, "top": 6, "bottom": 2},
        "autosize": {"type": "fit", "contains": "padding"},
        "background": None,
        "signals": [
            {"name": "shown", "value": None},
            {"name": "active", "value": None},
            {"name": "edge", "value": EDGE if any(row["value"] < bottom for row in rows) else 0},
        ],
        "data": _data(rows, field, recommended, bottom, domain[1]),
        "scales": _scales(rows, kind, domain, [bottom, top]),
        "axes": _axes(field, kind, domain, machine),
        "marks": _marks(),
    }


def _data(
    rows: Sequence[Row], field: str, recommended: str | None, bottom: float, end: float
) -> list[Spec]:
    """The points that a filter leaves, subsets of them, the front, the interval of float32."""

    def part(name: str, source: Spec, condition: str) -> Spec:
        return {"name": name, **source, "transform": [{"type": "filter", "expr": condition}]}

    base, of_rows = baseline_row(rows), {"source": "rows"}
    band = [] if base is None or base["low"] is None else [{"y": base["low"], "y2": base["high"]}]
    points = {"values": _points(rows, field, bottom, recommended)}
    return [
        part("rows", points, "shown === null || indexof(shown, datum.name) >= 0"),
        part("labelled", of_rows, "datum.label !== ''"),
        part("ring", of_rows, "datum.recommended"),
        part("one", of_rows, "datum.name === active"),
        part("collapsed", of_rows, "datum.y === null"),
        {"name": "front", "values": _steps(front(rows, field), field, bottom, end)},
        {"name": "band", "values": band},
    ]


def _scales(
    rows: Sequence[Row], kind: str, across: Sequence[float], up: Sequence[float]
) -> list[Spec]:
    techniques = list(dict.fromkeys(row["technique"] for row in rows))
    exact = {"nice": False, "zero": False}
    return [
        {"name": "x", "type": kind, "domain": list(across), "range": "width", **exact},
        {
            "name": "y",
            "domain": list(up),
            "range": [{"signal": "height - edge"}, 0],
            **exact,
        },
        {
            "name": "shape",
            "type": "ordinal",
            "domain": techniques,
            "range": [svg_path(marker_of(name)) for name in techniques],
        },
        {
            "name": "colour",
            "type": "ordinal",
            "domain": techniques,
            "range": [f"var(--technique-{name})" for name in techniques],
        },
    ]


def _axes(field: str, kind: str, domain: Sequence[float], machine: str) -> list[Spec]:
    look = {
        "domainColor": "var(--line)",
        "tickColor": "var(--line)",
        "gridColor": "var(--line)",
        "gridOpacity": 0.6,
        "grid": True,
        "labelColor": "var(--soft)",
        "titleColor": "var(--ink)",
        "titleFontWeight": 500,
        "labelFontSize": 11,
        "titleFontSize": 12,
        "labelFont": FONT,
        "titleFont": FONT,
        "labelOverlap": True,
    }
    unit = (
        "datum.value >= 1e6 ? format(datum.value / 1e6, '~g') + ' MB' : "
        "format(datum.value / 1e3, '~g') + ' KB'"
    )
    log = kind == "log"
    title = CHARTS[field][1] + (" (log)" if log else "")
    across: Spec = {
        "scale": "x",
        "orient": "bottom",
        "title": [title, machine] if field == "latency_ratio" else title,
        "titlePadding": 6,
        "titleLimit": {"signal": "width"},
    }
    across |= {"values": _ticks(domain)} if log else {"tickCount": 6}
    text = {"signal": unit if field == "bytes" else "format(datum.value, '~g')"}
    across["encode"] = {"labels": {"update": {"text": text}}}
    up = {"scale": "y", "orient": "left", "title": "Top-1, %", "tickCount": 6}
    return [look | across, look | up]


def _marks() -> list[Spec]:
    across = {"scale": "x", "field": "x"}
    up = [
        {"test": "datum.y === null", "signal": "height - 0.625 * edge"},
        {"scale": "y", "field": "y"},
    ]
    return [*_lines(across), *_symbols(across, up), *_labels(across, up)]


def _lines(across: Spec) -> list[Spec]:
    """The band of float32's interval, the front, and the interval of the active point."""
    return [
        _mark("rect", "band", {
            "x": {"value": 0},
            "x2": {"signal": "width"},
            "y": {"scale": "y", "field": "y"},
            "y2": {"scale": "y", "field": "y2"},
            "fill": {"value": "var(--soft)"},
            "fillOpacity": {"value": 0.12},
        }),
        _mark("line", "front", {
            "x": across,
            "y": {"scale": "y", "field": "y"},
            "stroke": {"value": "var(--soft)"},
            "strokeWidth": {"value": 1.3},
        }) | {"name": "steps"},
        _mark("rule", "one", {
            "x": across,
            "y": {"scale": "y", "field": "low"},
            "y2": {"scale": "y", "field": "high"},
            "stroke": COLOUR,
            "strokeWidth": {"value": 3},
            "strokeOpacity": [{"test": "datum.low === null", "value": 0}, {"value": 0.6}],
        }),
    ]  # fmt: skip


def _symbols(across: Spec, up: Sequence[Spec]) -> list[Spec]:
    """The points, with rings around the recommended and the active one."""
    faint = [{"test": "active === null || active === datum.name", "value": 1}, {"value": 0.55}]
    ring = {"x": across, "y": up, "shape": {"value": "circle"}, "fill": {"value": None}}
    return [
        _mark("symbol", "rows", {
            "x": across,
            "y": up,
            "shape": {"scale": "shape", "field": "technique"},
            "size": {"value": 95},
            "stroke": COLOUR,
            "strokeWidth": {"value": 1.6},
            "fill": [{"test": "datum.filled", **COLOUR}, {"value": "var(--page)"}],
            "opacity": faint,
        }) | {"name": "points"},
        # A small arrow says that the file lies below what the axis shows.
        _mark("symbol", "collapsed", {
            "x": across,
            "y": {"signal": "height - 0.125 * edge"},
            "shape": {"value": "triangle-down"},
            "size": {"value": 14},
            "fill": COLOUR,
            "opacity": faint,
        }),
        _mark("symbol", "ring", ring | {
            "size": {"value": 330},
            "stroke": {"value": "var(--ring)"},
            "strokeWidth": {"value": 2},
        }),
        _mark("symbol", "one", ring | {
            "size": {"value": 330},
            "stroke": {"value": "var(--ink)"},
            "strokeWidth": {"value": 2.5},
        }),
    ]  # fmt: skip


def _labels(across: Spec, up: Sequence[Spec]) -> list[Spec]:
    """Names, placed by Vega's label transform where they cover nothing, the recommended first."""
    anchor = {"x": across, "y": up, "size": {"value": 330}, "opacity": {"value": 0}}
    text = {
        "type": "text",
        "from": {"data": "anchors"},
        "interactive": False,
        "encode": {
            "update": {
                "text": {"field": "datum.label"},
                "fill": {"value": "var(--ink)"},
                "font": {"value": FONT},
                "fontSize": {"value": 11},
                "fontWeight": [
                    {"test": "datum.datum.recommended", "value": 600},
                    {"value": 400},
                ],
            }
        },
        "transform": [
            {
                "type": "label",
                "size": {"signal": "[width, height]"},
                "sort": {"field": "datum.datum.order"},
                "anchor": [anchor for _ in OFFSETS for anchor in ANCHORS],
                "offset": [offset for offset in OFFSETS for _ in ANCHORS],
                "avoidMarks": ["points", "steps"],
            }
        ],
    }  # fmt: skip
    return [_mark("symbol", "labelled", anchor) | {"name": "anchors"}, text]


def _mark(kind: str, data: str, update: Spec) -> Spec:
    return {
        "type": kind,
        "from": {"data": data},
        "interactive": False,
        "encode": {"update": update},
    }
