"""Figures of the results table, one row per variant: what is lost, size, latency, bits.

Each function returns a matplotlib Figure; `rows` are the variants of results.json, the baseline
among them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from edgeq_lib.analysis.rows import Row, latency_interval
from edgeq_lib.plots.style import (
    BOUND,
    DASHED,
    MUTED,
    TEXT,
    colour_of,
    interval_rows,
    label_rows,
    legend_below,
    new_figure,
    styled,
    technique_handles,
    with_machine,
)


def _names(rows: Sequence[Row]) -> list[str]:
    return [row["name"] for row in rows]


@styled
def plot_drops(rows: Sequence[Row], bound: float | None = None) -> Figure:
    """Draw what each variant loses against the baseline on the same images, with its interval.

    Args:
        rows: Rows of the results table; drops in percent points.
        bound: The criterion max_drop, in percent points.
    """
    rows = [row for row in rows if row["drop"] is not None]
    figure, axes = new_figure(1.3 + 0.24 * len(rows))
    look: dict[str, Any] = {"color": BOUND, "linewidth": 1.2, "linestyle": (0, (1, 1.5))}
    if bound is not None:  # before the intervals, which set the limits: it must lie within
        axes.axvline(bound, zorder=1, gid="bound", **look)
    drawn = interval_rows(axes, rows, ("drop", "drop_low", "drop_high"))
    axes.axvline(0, color=TEXT, linewidth=1, linestyle=DASHED, zorder=1, gid="baseline")
    handles = technique_handles(drawn)
    if bound is not None:
        handles.append(Line2D([], [], label=f"max_drop {bound:g}", **look))
    label_rows(axes, _names(rows))
    axes.set(
        xlabel="Accuracy lost against float32, percentage points (95 % interval, paired)",
        title="Accuracy lost",
    )
    legend_below(figure, handles, 4)
    return figure


@styled
def plot_sizes(rows: Sequence[Row]) -> Figure:
    """Draw the bytes of each file, and of the file after gzip, which is what a download costs.

    Beside the bar stands how many times smaller than float32 the file is.

    Args:
        rows: Rows of the results table.
    """
    rows = [row for row in rows if row["bytes"] is not None]
    figure, axes = new_figure(1.3 + 0.26 * len(rows))
    largest = max((row["bytes"] for row in rows), default=0)
    unit, name = (1e6, "MB") if largest >= 2e6 else (1e3, "kB")
    for index, row in enumerate(rows):
        shade, packed = colour_of(row["technique"]), row["gzip_bytes"]
        axes.barh(index, row["bytes"] / unit, 0.7, color=shade, alpha=0.35, linewidth=0)
        if packed is not None:
            axes.barh(index, packed / unit, 0.34, color=shade, linewidth=0)
        if row["ratio"] is not None and row["technique"] != "baseline":
            axes.annotate(
                f"{row['ratio']:.1f} ×",
                (max(row["bytes"], packed or 0) / unit, index),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
            )
    label_rows(axes, _names(rows))
    axes.margins(x=0.1)
    axes.set(
        xlabel=f"{name} (light: the file, dark: after gzip; × smaller than float32)",
        title="File size",
    )
    legend_below(figure, technique_handles(rows), 4)
    return figure


@styled
def plot_latency(rows: Sequence[Row], machine: str = "") -> Figure:
    """Draw latency as a ratio to float32 with its interval.

    One thread is solid, all threads are hollow below it.

    Args:
        rows: Rows of the results table.
        machine: The processor with its instruction sets, under the axis.
    """
    rows = [row for row in rows if row["latency_ratio"] is not None]
    figure, axes = new_figure(1.3 + 0.28 * len(rows))
    drawn = interval_rows(axes, rows, ("latency_ratio", "latency_ratio_low", "latency_ratio_high"))
    left, right = axes.get_xlim()
    by_threads = [row.get("latency_ratio_by_threads") or {} for row in rows]
    threads = max((int(count) for ratios in by_threads for count in ratios), default=1)
    handles = technique_handles(drawn)
    if threads > 1:
        for index, (row, ratios) in enumerate(zip(rows, by_threads, strict=True)):
            measured = ratios.get(str(threads))
            if measured and (measured["ratio_high"] or measured["ratio"]) < right:
                _all_threads(axes, index + 0.27, measured, colour_of(row["technique"]))
        look: dict[str, Any] = {"marker": "o", "markersize": 4.5, "markerfacecolor": "white"}
        handles.append(Line2D([], [], color=MUTED, linewidth=1, label=f"{threads} threads", **look))
    axes.axvline(1, color=TEXT, linewidth=1, linestyle=DASHED, zorder=1, gid="baseline")
    label_rows(axes, _names(rows))
    axes.set_xlim(min(0.0, left), max(right, 1.05))
    kinds = {kind for row in rows if (kind := latency_interval(row))}
    interval = f"; bar: {' or '.join(sorted(kinds))}" if kinds else ""
    label = f"Latency, ratio to float32 at the same number of threads (less is faster{interval})"
    axes.set(xlabel=with_machine(label, machine), title="Latency")
    legend_below(figure, handles, 4)
    return figure


def _all_threads(axes: Axes, height: float, measured: Mapping[str, Any], shade: str) -> None:
    ends = [measured["ratio_low"], measured["ratio_high"]]
    if None not in ends:
        axes.plot(ends, [height, height], linewidth=1, color=shade, zorder=2)
    axes.plot(
        measured["ratio"],
        height,
        marker="o",
        markersize=4.5,
        markerfacecolor="white",
        color=shade,
        zorder=2,
        gid="all threads",
    )


@styled
def plot_weight_bits(rows: Sequence[Row]) -> Figure:
    """Draw how the weights of each file divide over bit widths, as read from the flatbuffer.

    Args:
        rows: Rows of the results table.
    """
    rows = [row for row in rows if row["weight_bits_share"]]
    widths = sorted({bits for row in rows for bits in row["weight_bits_share"]}, key=float)
    shades = dict(zip(widths, sns.color_palette("mako_r", max(len(widths), 2)), strict=False))
    figure, axes = new_figure(1.3 + 0.24 * len(rows))
    starts = np.zeros(len(rows))
    for bits in widths:
        shares = np.array([100 * row["weight_bits_share"].get(bits, 0) for row in rows])
        axes.barh(range(len(rows)), shares, 0.7, left=starts, color=shades[bits], linewidth=0)
        starts += shares
    label_rows(axes, _names(rows))
    axes.set_xlim(0, 100)
    axes.set(xlabel="Share of the weights, %", title="Bits per weight")
    if widths:
        handles = [Patch(color=shades[bits], label=f"{bits} bits") for bits in widths]
        legend_below(figure, handles, 6)
    return figure


@styled
def plot_ratio_by_size(table: Any, machine: str = "") -> Figure:
    """Draw int8's latency as a ratio to float32 against the image size.

    Args:
        table: A data frame with the index pixels (of a side) and the columns ratio, low and high,
            the 95 % interval of the ratio.
        machine: The processor with its instruction sets, under the axis.
    """
    figure, axes = new_figure(3.0)
    axes.axhline(1.0, color=TEXT, linewidth=1, linestyle=DASHED, zorder=1, gid="baseline")
    errors = np.abs(table[["low", "high"]].to_numpy().T - table["ratio"].to_numpy())
    axes.errorbar(table.index, table["ratio"], errors, fmt="o-", color=colour_of("ptq"), capsize=3)
    axes.set(
        xlabel=with_machine("Image size, pixels per side", machine),
        ylabel="Latency, int8 / float32",
        title="Latency of int8 by image size",
        ylim=(0, None),
    )
    axes.set_xticks(list(table.index))
    return figure
