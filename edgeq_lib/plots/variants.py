"""Figures: one style, one colour and one marker a technique, colour-blind safe (Okabe & Ito, then Tol).

Each function returns a matplotlib Figure. `rows` are the variants of results.json, the baseline
among them. Figures are made outside pyplot, so that a notebook shows them once and nothing has to be closed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from edgeq_lib.plots.style import (
    Row,
    baseline_row,
    colour_of,
    interval_rows,
    label_rows,
    legend,
    new_figure,
    styled,
)


@styled
def plot_accuracy(rows: Sequence[Row]) -> Figure:
    """Accuracy with its 95 % interval, a row a variant; the band is the baseline's interval."""
    rows = [row for row in rows if row["value"] is not None]
    figure, axes = new_figure(1.5 + 0.26 * len(rows))
    there = interval_rows(rows, ("value", "low", "high"), -1, axes)
    base = baseline_row(rows)
    if base:
        axes.axvspan(base["low"], base["high"], color="#333333", alpha=0.07, linewidth=0)
        axes.axvline(base["value"], color="#333333", linewidth=1, linestyle=(0, (4, 3)))
    label_rows(axes, rows)
    axes.set_xlim(right=min(axes.get_xlim()[1], 100.0 + 0.02 * np.ptp(axes.get_xlim())))
    metric = (
        {"top1": "Top-1 accuracy"}.get(rows[0]["metric"], rows[0]["metric"]) if rows else "Accuracy"
    )
    axes.set(
        xlabel=f"{metric}, % (95 % interval, n = {rows[0]['n'] if rows else 0:,})", title="Accuracy"
    )
    legend(axes, there)
    return figure


@styled
def plot_drops(rows: Sequence[Row], bound: float | None = None) -> Figure:
    """What each variant loses against the baseline on the same images, with its interval; `bound` is max_drop."""
    rows = [row for row in rows if row["drop"] is not None]
    figure, axes = new_figure(1.5 + 0.26 * len(rows))
    there = interval_rows(rows, ("drop", "drop_low", "drop_high"), 1, axes)
    axes.axvline(0, color="#333333", linewidth=1)
    extra = []
    if bound is not None:
        axes.axvline(bound, color="#B00020", linewidth=1.2, linestyle=(0, (4, 3)))
        extra = [
            Line2D(
                [],
                [],
                color="#B00020",
                linewidth=1.2,
                linestyle=(0, (4, 3)),
                label=f"max_drop {bound:g}",
            )
        ]
    label_rows(axes, rows)
    axes.set(
        xlabel="Accuracy lost against float32, points (95 % interval, paired on the same images)",
        title="Accuracy lost",
    )
    legend(axes, there, extra)
    return figure


@styled
def plot_sizes(rows: Sequence[Row]) -> Figure:
    """Bytes of each file, and of the file after gzip (what a download costs); the ratio to float32 beside the bar."""
    rows = [row for row in rows if row["bytes"] is not None]
    figure, axes = new_figure(1.3 + 0.3 * len(rows))
    unit, name = (
        (1e6, "MB") if max((row["bytes"] for row in rows), default=0) >= 2e6 else (1e3, "KB")
    )
    for place, row in enumerate(rows):
        axes.barh(
            place,
            row["bytes"] / unit,
            height=0.7,
            color=colour_of(row["technique"]),
            alpha=0.35,
            linewidth=0,
        )
        if row["gzip_bytes"] is not None:
            axes.barh(
                place,
                row["gzip_bytes"] / unit,
                height=0.34,
                color=colour_of(row["technique"]),
                linewidth=0,
            )
        if row["ratio"] is not None and row["technique"] != "baseline":
            axes.annotate(
                f"{row['ratio']:.1f} ×",
                (max(row["bytes"], row["gzip_bytes"] or 0) / unit, place),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
            )
    label_rows(axes, rows)
    axes.margins(x=0.1)
    axes.set(
        xlabel=f"{name} (light: the file, dark: after gzip; × smaller than float32)", title="Size"
    )
    legend(axes, rows)
    return figure


@styled
def plot_latency(rows: Sequence[Row]) -> Figure:
    """Latency as a ratio to float32 with its spread over rounds: one thread solid, all threads hollow below it."""
    rows = [row for row in rows if row["latency_ratio"] is not None]
    figure, axes = new_figure(1.5 + 0.3 * len(rows))
    there = interval_rows(
        rows, ("latency_ratio", "latency_ratio_low", "latency_ratio_high"), 1, axes
    )
    left, right = axes.get_xlim()
    by_threads = [row.get("latency_ratio_by_threads") or {} for row in rows]
    most, extra = max((int(threads) for spent in by_threads for threads in spent), default=1), []
    if most > 1:
        for place, (row, spent) in enumerate(zip(rows, by_threads, strict=True)):
            all_threads = spent.get(str(most))
            if all_threads and all_threads["ratio_high"] < right:
                look = {"color": colour_of(row["technique"]), "zorder": 2}
                ends = [all_threads["ratio_low"], all_threads["ratio_high"]]
                axes.plot(ends, [place + 0.27] * 2, linewidth=1, **look)
                axes.plot(
                    all_threads["ratio"],
                    place + 0.27,
                    marker="o",
                    markersize=4.5,
                    markerfacecolor="white",
                    gid="all threads",
                    **look,
                )
        extra = [
            Line2D(
                [],
                [],
                marker="o",
                markersize=4.5,
                markerfacecolor="white",
                color="#555555",
                linewidth=1,
                label=f"{most} threads",
            )
        ]
    axes.axvline(1, color="#333333", linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    label_rows(axes, rows)
    axes.set_xlim(min(0.0, left), max(right, 1.05))
    axes.set(
        xlabel="Latency, ratio to float32 at the same number of threads (less is faster)",
        title="Latency",
    )
    legend(axes, there, extra)
    return figure


@styled
def plot_weight_bits(rows: Sequence[Row]) -> Figure:
    """How the weights of each file divide over bit widths, in percent of the weights; read from the flatbuffer."""
    rows = [row for row in rows if row["weight_bits_share"]]
    widths = sorted({bits for row in rows for bits in row["weight_bits_share"]}, key=float)
    shades = dict(zip(widths, sns.color_palette("mako_r", max(len(widths), 2)), strict=False))
    figure, axes = new_figure(1.3 + 0.26 * len(rows))
    starts = np.zeros(len(rows))
    for bits in widths:
        shares = np.array([100 * row["weight_bits_share"].get(bits, 0) for row in rows])
        axes.barh(
            range(len(rows)),
            shares,
            left=starts,
            height=0.7,
            color=shades[bits],
            linewidth=0,
            label=f"{bits} bits",
        )
        starts += shares
    label_rows(axes, rows)
    axes.set_xlim(0, 100)
    axes.set(xlabel="Weights, %", title="Bits a weight")
    if widths:
        figure.legend(loc="outside lower center", ncols=len(widths), frameon=False)
    return figure


@styled
def plot_ratio_by_size(table: Any) -> Figure:
    """int8's latency as a ratio to float32 against the image size: a data frame with the index pixels and the columns ratio,
    low and high."""
    figure, axes = new_figure(3.0)
    errors = np.abs(table[["low", "high"]].to_numpy().T - table["ratio"].to_numpy())
    axes.errorbar(table.index, table["ratio"], errors, fmt="o-", color=colour_of("ptq"), capsize=3)
    axes.axhline(1.0, color="#888888", linewidth=0.8, linestyle="--")
    axes.set(
        xlabel="Pixels a side",
        ylabel="Latency, int8 / float32",
        title="int8's speed by image size",
        ylim=(0, None),
    )
    axes.set_xticks(list(table.index))
    return figure
