"""The Pareto figures: accuracy against what a file costs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import (
    EngFormatter,
    FormatStrFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
)

from edgeq_lib.analysis.criteria import dominated
from edgeq_lib.plots.labels import place_labels
from edgeq_lib.plots.style import (
    Row,
    baseline_row,
    collapse_limit,
    colour_of,
    legend,
    marker_of,
    marker_size,
    new_figure,
    styled,
)

RING = {
    "marker": "o",
    "markersize": 14,
    "markerfacecolor": "none",
    "markeredgecolor": "#B00020",
    "markeredgewidth": 1.6,
    "linestyle": "",
    "clip_on": False,
    "zorder": 5,
}


@styled
def plot_pareto(rows: Sequence[Row], x: str = "bytes", recommended: str | None = None) -> Figure:
    """Accuracy against `bytes` (log) or `latency_ratio`: the front as a step line, dominated variants as ×, peers apart,
    a ring around the `recommended` variant.

    The band is the baseline's interval, always in view, so that a difference of one image looks like what it is.
    """
    rows = [row for row in rows if row["value"] is not None and row[x] is not None]
    figure, axes = new_figure(4.9)
    best = max((row["value"] for row in rows), default=100.0)
    field = 1 if x == "bytes" else 2
    ours = [
        row for row in rows if row.get("kind") != "peer"
    ]  # peers are drawn, the front is made of what we can ship
    ahead = max((row["value"] for row in ours), default=best)
    limit = collapse_limit([ahead - row["value"] for row in ours])
    floor = ahead - limit if np.isfinite(limit) else None
    beaten = dominated(
        [{**row, "technique": "", "drop": -row["value"]} for row in ours], (0, field)
    )
    front = sorted((row for row in ours if row["name"] not in beaten), key=lambda row: row[x])
    seen = min(
        (row["value"] for row in rows if floor is None or row["value"] >= floor), default=0.0
    )
    bottom, top = seen - 0.14 * max(best - seen, 0.5), best + 0.14 * max(best - seen, 0.5)
    base = baseline_row(rows)
    if base and base["low"] is not None:
        margin = 0.08 * (base["high"] - base["low"])
        bottom, top = min(bottom, base["low"] - margin), max(top, base["high"] + margin)
        axes.axhspan(base["low"], base["high"], color="#333333", alpha=0.07, linewidth=0)
    points = np.array([(row[x], max(row["value"], bottom)) for row in rows]).reshape(-1, 2)
    for row, (across, up) in zip(rows, points, strict=True):
        off, cross = row["value"] < bottom, row["name"] in beaten
        look = (
            {"marker": "v", "markersize": 6.5}
            if off
            else {"marker": "x", "markersize": 6.5, "markeredgewidth": 1.6}
            if cross
            else {
                "marker": marker_of(row["technique"]),
                "markersize": marker_size(row),
                "markeredgecolor": "white",
            }
        )
        axes.plot(
            across,
            up,
            color=colour_of(row["technique"]),
            linestyle="",
            clip_on=False,
            zorder=4,
            gid="dominated" if cross else "front" if row in ours else "peer",
            **look,
        )
        if row["name"] == recommended:
            axes.plot(across, up, gid="recommended", **RING)
    spread = points[:, 0] if len(points) else np.array([1.0])
    low, high = spread.min(), spread.max()
    log = (
        x == "bytes" or high > 5 * low
    )  # one file on slow reference kernels must not squeeze the others together
    if log:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(
            EngFormatter(unit="B", sep=" ") if x == "bytes" else FormatStrFormatter("%g")
        )
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlim((low / 1.35, high * 1.35) if log else (max(0, low - 0.12 * high), high * 1.12))
    axes.set_ylim(bottom, top)
    steady = [(row[x], row["value"]) for row in front if row["value"] >= bottom]
    ends = [*steady[1:], (axes.get_xlim()[1], steady[-1][1])] if steady else []
    line = [
        corner
        for here, there in zip(steady, ends, strict=True)
        for corner in (here, (there[0], here[1]))
    ]
    axes.plot(
        *np.reshape(line, (-1, 2)).T,
        color="#555555",
        linewidth=1,
        alpha=0.7,
        zorder=1,
        gid="front line",
    )
    across = "File size" if x == "bytes" else "Latency, ratio to float32 at one thread"
    axes.set(
        xlabel=f"{across}{' (log)' if log else ''}",
        ylabel="Accuracy, %",
        title=f"Accuracy × {'bytes' if x == 'bytes' else 'latency'}",
    )
    axes.yaxis.set_major_locator(MaxNLocator(6, min_n_ticks=3))
    extra = [Line2D([], [], color="#555555", linewidth=1, label="front")]
    if base:
        extra.append(
            Line2D(
                [], [], color="#333333", alpha=0.12, linewidth=6, label="95 % interval of float32"
            )
        )
    if beaten:
        extra.append(
            Line2D(
                [],
                [],
                color="#555555",
                marker="x",
                linestyle="",
                markeredgewidth=1.6,
                label="dominated",
            )
        )
    if any(row["name"] == recommended for row in rows):
        extra.append(Line2D([], [], label="recommended, by validation", **RING))
    legend(axes, rows, extra)
    texts = [
        row["name"] + (f" ({row['value']:.1f} %)" if row["value"] < bottom else "") for row in rows
    ]
    place_labels(axes, points, texts, [colour_of(row["technique"]) for row in rows], line)
    return figure
