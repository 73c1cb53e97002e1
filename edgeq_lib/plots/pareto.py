"""The Pareto figures: accuracy against what a file costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import (
    EngFormatter,
    FormatStrFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
)

from edgeq_lib.analysis import pareto
from edgeq_lib.analysis.rows import Row
from edgeq_lib.plots.labels import MARKER, place_labels
from edgeq_lib.plots.style import (
    BOUND,
    MUTED,
    baseline_row,
    collapse_limit,
    colour_of,
    legend_below,
    marker_of,
    marker_size,
    new_figure,
    styled,
    technique_handles,
    with_machine,
)

RING: dict[str, Any] = {
    "marker": "o",
    "markersize": 14,
    "markerfacecolor": "none",
    "markeredgecolor": BOUND,
    "markeredgewidth": 1.6,
    "linestyle": "",
    "clip_on": False,
    "zorder": 5,
}
RING_RADIUS = 10.0  # pixels
NEIGHBOURS = 0.03  # of the width of the axes, up to which collapsed files share a label
BAND: dict[str, Any] = {"color": "#333333", "alpha": 0.08, "linewidth": 0}
AXES = {
    "bytes": ("Accuracy vs. file size", "File size"),
    "latency_ratio": ("Accuracy vs. latency", "Latency, ratio to float32 at one thread"),
}


@styled
def plot_pareto(
    rows: Sequence[Row], x: str = "bytes", recommended: str | None = None, machine: str = ""
) -> Figure:
    """Draw accuracy against `bytes` (log) or `latency_ratio`, with the front as a step line.

    Only what one looks for is named: the front, the baseline, the recommended file and what
    collapsed, which stands at the foot with its accuracy. Dominated variants are hollow and without
    a name. Peers are drawn, but the front is made of what can be shipped; they are named where
    nothing else is there. The band is the baseline's interval, always in view, so that a difference
    of one image looks like what it is.

    Args:
        rows: Rows of the results table.
        x: The field of the horizontal axis.
        recommended: Name of the variant to put a ring around.
        machine: The processor with its instruction sets that latencies belong to, under the axis.
    """
    rows = [row for row in rows if row["value"] is not None and row[x] is not None]
    ours = [row for row in rows if row.get("kind") != "peer"]
    front = pareto.front({row["name"]: (row[x], -row["value"]) for row in ours})
    figure, axes = new_figure(4.7)
    bottom = _set_accuracy_axis(axes, rows, ours)
    _set_cost_axis(axes, rows, x)
    for row in rows:
        on_front = row["name"] in front
        gid = "peer" if row not in ours else "front" if on_front else "dominated"
        _mark(axes, row[x], max(row["value"], bottom), row["technique"], gid)
        if row["name"] == recommended:
            axes.plot(row[x], max(row["value"], bottom), gid="recommended", **RING)
    if machine:
        axes.set_xlabel(with_machine(axes.get_xlabel(), machine))
    by_name = {row["name"]: row for row in ours}
    line = _front_line(axes, [by_name[name] for name in front], x, bottom)
    _add_legend(figure, rows, ours, front, recommended)  # before the labels: it moves the axes
    named = [row for row in rows if _is_named(row, front, recommended, ours)]
    labels = [(row[x], row["value"], row["name"]) for row in named if row["value"] >= bottom]
    labels += _collapsed_labels(axes, [row for row in ours if row["value"] < bottom], x, bottom)
    place_labels(
        axes,
        [(across, up) for across, up, _ in labels],
        [text for *_, text in labels],
        [(row[x], max(row["value"], bottom)) for row in rows],
        line,
        [RING_RADIUS if row["name"] == recommended else MARKER for row in rows],
    )
    return figure


def _is_named(row: Row, front: Sequence[str], recommended: str | None, ours: Sequence[Row]) -> bool:
    if row.get("kind") == "peer":
        return all(other["technique"] == "baseline" for other in ours)
    return row["name"] in (*front, recommended) or row["technique"] == "baseline"


def _collapsed_labels(
    axes: Axes, rows: Sequence[Row], x: str, bottom: float
) -> list[tuple[float, float, str]]:
    """Position and text of the labels at the foot; neighbours share one, a line for each."""
    labels: list[tuple[float, float, str]] = []
    shares: list[float] = []  # of the axes' width
    for row in sorted(rows, key=lambda row: row[x]):
        share = axes.transAxes.inverted().transform(axes.transData.transform((row[x], bottom)))[0]
        text = f"{row['name']} ↓ {row['value']:.1f} %"
        if labels and share - shares[-1] < NEIGHBOURS:
            across, up, before = labels[-1]
            labels[-1] = (across, up, f"{before}\n{text}")
        else:
            labels.append((row[x], bottom, text))
            shares.append(share)
    return labels


def _set_accuracy_axis(axes: Axes, rows: Sequence[Row], ours: Sequence[Row]) -> float:
    """Set the range of the vertical axis and draw the baseline's band; returns the lower end."""
    best = max((row["value"] for row in rows), default=100.0)
    ahead = max((row["value"] for row in ours), default=best)
    floor = ahead - collapse_limit([ahead - row["value"] for row in ours])
    lowest = min((row["value"] for row in rows if row["value"] >= floor), default=0.0)
    margin = 0.14 * max(best - lowest, 0.5)
    bottom, top = lowest - margin, best + margin
    base = baseline_row(rows)
    if base and base["low"] is not None:
        margin = 0.08 * (base["high"] - base["low"])
        bottom, top = min(bottom, base["low"] - margin), max(top, base["high"] + margin)
        axes.axhspan(base["low"], base["high"], zorder=0, **BAND)
    axes.set_ylim(bottom, top)
    axes.set_ylabel("Accuracy, %")
    axes.yaxis.set_major_locator(MaxNLocator(6, min_n_ticks=3))
    return float(bottom)


def _set_cost_axis(axes: Axes, rows: Sequence[Row], x: str) -> None:
    """Set the range and scale of the horizontal axis, and the words.

    Latency is logarithmic too where one file on slow reference kernels would squeeze the others.
    """
    figures = [row[x] for row in rows] or [1.0]
    low, high = min(figures), max(figures)
    log = x == "bytes" or high > 5 * low
    if log:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(
            EngFormatter(unit="B", sep=" ") if x == "bytes" else FormatStrFormatter("%g")
        )
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlim((low / 1.35, high * 1.35) if log else (max(0, low - 0.12 * high), high * 1.12))
    title, label = AXES[x]
    axes.set(title=title, xlabel=f"{label}{' (log scale)' if log else ''}")


def _mark(axes: Axes, x: float, y: float, technique: str, gid: str) -> None:
    """A marker: filled on the front and for peers, hollow and faint where dominated."""
    hollow = gid == "dominated"
    axes.plot(
        x,
        y,
        marker=marker_of(technique),
        markersize=marker_size(technique) - 0.7 * hollow,
        markerfacecolor="white" if hollow else colour_of(technique),
        markeredgecolor=colour_of(technique) if hollow else "white",
        markeredgewidth=1.1 if hollow else 0.6,
        alpha=0.75 if hollow else 1.0,
        linestyle="",
        clip_on=False,
        zorder=3 if hollow else 4,
        gid=gid,
    )


def _front_line(
    axes: Axes, front: Sequence[Row], x: str, bottom: float
) -> list[tuple[float, float]]:
    """Draw the front as a step line; returns its corners."""
    steady = [(row[x], row["value"]) for row in front if row["value"] >= bottom]
    right = axes.get_xlim()[1]
    corners = []
    for index, (across, up) in enumerate(steady):
        following = steady[index + 1][0] if index + 1 < len(steady) else right
        corners += [(across, up), (following, up)]
    axes.plot(
        *np.reshape(corners, (-1, 2)).T, color="#777777", linewidth=1, zorder=1, gid="front line"
    )
    return corners


def _add_legend(
    figure: Figure,
    rows: Sequence[Row],
    ours: Sequence[Row],
    front: Sequence[str],
    recommended: str | None,
) -> None:
    handles: list[Any] = technique_handles(rows)
    handles.append(Line2D([], [], color="#777777", linewidth=1, label="Pareto front"))
    if baseline_row(rows):
        handles.append(Patch(label="95 % interval of float32", **BAND))
    if len(front) < len(ours):
        look: dict[str, Any] = {"markerfacecolor": "white", "markeredgecolor": MUTED}
        handles.append(
            Line2D([], [], marker="o", linestyle="", markersize=5.5, label="dominated", **look)
        )
    if any(row["name"] == recommended for row in rows):
        ring = {**RING, "markersize": 9}
        handles.append(Line2D([], [], label="recommended (by validation)", **ring))
    legend_below(figure, handles, 4)
