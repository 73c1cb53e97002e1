"""Figures: one style, one colour and one marker a technique, colour-blind safe (Okabe & Ito, then Tol).

Each function returns a matplotlib Figure. `rows` are the variants of results.json, the baseline
among them. Figures are made outside pyplot, so that a notebook shows them once and nothing has to be closed.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from edgeq_lib.flow import TECHNIQUES

Row = Mapping[str, Any]
COLOURS = {"baseline": "#333333", "ptq": "#0072B2", "ptq_repair": "#56B4E9", "qat": "#D55E00", "data_free": "#009E73",
           "low_bit": "#CC79A7", "mixed_precision": "#E69F00", "peer": "#888888", "pruning": "#882255",
           "distillation": "#44AA99", "low_rank": "#117733", "search": "#AA4499", "clustering": "#999933"}
MARKERS = {"baseline": "s", "ptq": "o", "ptq_repair": "p", "qat": "D", "data_free": "^", "low_bit": "v",
           "mixed_precision": "P", "peer": "*", "pruning": "h", "distillation": "<", "low_rank": ">", "search": "d",
           "clustering": "H"}
OTHER = ("#666666", "8")
TAKEN, FAINT = "#0072B2", "#9aa0a6"
WIDTH = 7.2
STYLE = {**sns.axes_style("whitegrid"), "font.size": 9, "axes.titlesize": 10.5, "axes.titleweight": "bold",
         "axes.titlelocation": "left", "axes.labelsize": 9, "xtick.labelsize": 8.5, "ytick.labelsize": 8.5,
         "legend.fontsize": 8, "axes.edgecolor": "#888888", "grid.color": "#e4e4e4", "font.family": "DejaVu Sans",
         "axes.spines.top": False, "axes.spines.right": False, "figure.dpi": 100}


def _styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Draw under the house style, whatever style the caller's notebook has set, and leave that as it was."""
    @functools.wraps(draw)
    def wrapped(*args: Any, **kwargs: Any) -> Figure:
        with matplotlib.rc_context(STYLE):
            figure = draw(*args, **kwargs)
            figure.canvas.draw()  # tick labels and text take their fonts when drawn, so while the style holds
            return figure
    return wrapped


def colour(technique: str) -> str:
    """The colour of a technique, the same in every figure and study."""
    return COLOURS.get(technique, OTHER[0])


def _marker(technique: str) -> str:
    return MARKERS.get(technique, OTHER[1])


def _size(row: Row) -> float:
    return {"*": 10.0, "P": 8.0}.get(_marker(row["technique"]), 6.5)  # these shapes hold less ink


class Picture(Figure):
    """A figure that a notebook shows by itself, though pyplot does not know it."""

    def _repr_png_(self) -> bytes:
        return picture(self, "png", dpi=100)  # executed notebooks are kept in git: small


def _figure(height: float, width: float = WIDTH) -> tuple[Figure, Axes]:
    figure = Picture(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def _legend(axes: Axes, rows: Sequence[Row], extra: Sequence[Line2D] = ()) -> None:
    techniques = list(dict.fromkeys(row["technique"] for row in rows))
    handles = [Line2D([], [], color=colour(name), marker=_marker(name), linestyle="", markersize=5.5,
                      label=TECHNIQUES.get(name, name.replace("_", " "))) for name in techniques]
    axes.figure.legend(handles=[*handles, *extra], loc="outside lower center", ncols=min(3, len(handles) + len(extra)),
                       frameon=False, handletextpad=0.4, columnspacing=1.4)


def _far_off(losses: Sequence[float]) -> float:
    """The loss past which a row is drawn at the edge, so that one collapsed variant does not flatten the others."""
    losses = np.asarray([max(loss, 0.0) for loss in losses] or [0.0])
    limit = max(2.0, 6 * float(np.median(losses)))
    return limit if losses.max() > 2 * limit else float("inf")


def _baseline(rows: Sequence[Row]) -> Row | None:
    return next((row for row in rows if row["technique"] == "baseline"), None)


def _names(axes: Axes, rows: Sequence[Row]) -> None:
    axes.set_yticks(range(len(rows)), [row["name"] for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")


def _intervals(rows: Sequence[Row], fields: tuple[str, str, str], worse: int, axes: Axes) -> list[Row]:
    """A dot and an interval a row; rows far off (`worse` is the side, -1 left or 1 right) as an arrow at the edge."""
    value, low, high = fields
    there = [row for row in rows if row[value] is not None]
    best = min((worse * row[value] for row in there), default=0.0)
    limit = _far_off([worse * row[value] - best for row in there])
    inside = [row for row in there if worse * row[value] - best <= limit]
    for row in inside:
        place, ends = rows.index(row), [row[low], row[high]]
        if None not in ends:
            axes.plot(ends, [place, place], color=colour(row["technique"]), linewidth=2.2, alpha=0.55,
                      solid_capstyle="butt", gid="interval")
        axes.plot(row[value], place, marker=_marker(row["technique"]), color=colour(row["technique"]),
                  markersize=_size(row), markeredgecolor="white", markeredgewidth=0.6, gid="point")
    axes.margins(x=0.06)
    axes.autoscale_view()
    left, right = axes.get_xlim()
    if len(inside) < len(there):  # room for the arrows and their figures
        left, right = (left - 0.16 * (right - left), right) if worse < 0 else (left, right + 0.16 * (right - left))
    axes.set_xlim(left, right)
    for row in there:
        if row not in inside:
            edge = left if worse < 0 else right
            axes.plot(edge, rows.index(row), marker="<" if worse < 0 else ">", color=colour(row["technique"]),
                      markersize=7, clip_on=False, gid="point", zorder=5)
            axes.annotate(f"{row[value]:.1f}", (edge, rows.index(row)), xytext=(-8 * worse, 0), va="center",
                          textcoords="offset points", ha="left" if worse < 0 else "right", fontsize=8,
                          color=colour(row["technique"]))
    return there


@_styled
def accuracy_bars(rows: Sequence[Row]) -> Figure:
    """Accuracy with its 95 % interval, a row a variant; the band is the baseline's interval."""
    rows = [row for row in rows if row["value"] is not None]
    figure, axes = _figure(1.5 + 0.26 * len(rows))
    there = _intervals(rows, ("value", "low", "high"), -1, axes)
    base = _baseline(rows)
    if base:
        axes.axvspan(base["low"], base["high"], color="#333333", alpha=0.07, linewidth=0)
        axes.axvline(base["value"], color="#333333", linewidth=1, linestyle=(0, (4, 3)))
    _names(axes, rows)
    axes.set_xlim(right=min(axes.get_xlim()[1], 100.0 + 0.02 * np.ptp(axes.get_xlim())))
    metric = {"top1": "Top-1 accuracy"}.get(rows[0]["metric"], rows[0]["metric"]) if rows else "Accuracy"
    axes.set(xlabel=f"{metric}, % (95 % interval, n = {rows[0]['n'] if rows else 0:,})", title="Accuracy")
    _legend(axes, there)
    return figure


@_styled
def drop_bars(rows: Sequence[Row], bound: float | None = None) -> Figure:
    """What each variant loses against the baseline on the same images, with its interval; `bound` is max_drop."""
    rows = [row for row in rows if row["drop"] is not None]
    figure, axes = _figure(1.5 + 0.26 * len(rows))
    there = _intervals(rows, ("drop", "drop_low", "drop_high"), 1, axes)
    axes.axvline(0, color="#333333", linewidth=1)
    extra = []
    if bound is not None:
        axes.axvline(bound, color="#B00020", linewidth=1.2, linestyle=(0, (4, 3)))
        extra = [Line2D([], [], color="#B00020", linewidth=1.2, linestyle=(0, (4, 3)), label=f"max_drop {bound:g}")]
    _names(axes, rows)
    axes.set(xlabel="Accuracy lost against float32, points (95 % interval, paired on the same images)",
             title="Accuracy lost")
    _legend(axes, there, extra)
    return figure


@_styled
def size_bars(rows: Sequence[Row]) -> Figure:
    """Bytes of each file, and of the file after gzip (what a download costs); the ratio to float32 beside the bar."""
    rows = [row for row in rows if row["bytes"] is not None]
    figure, axes = _figure(1.3 + 0.3 * len(rows))
    unit, name = (1e6, "MB") if max((row["bytes"] for row in rows), default=0) >= 2e6 else (1e3, "KB")
    for place, row in enumerate(rows):
        axes.barh(place, row["bytes"] / unit, height=0.7, color=colour(row["technique"]), alpha=0.35, linewidth=0)
        if row["gzip_bytes"] is not None:
            axes.barh(place, row["gzip_bytes"] / unit, height=0.34, color=colour(row["technique"]), linewidth=0)
        if row["ratio"] is not None and row["technique"] != "baseline":
            axes.annotate(f"{row['ratio']:.1f} ×", (max(row["bytes"], row["gzip_bytes"] or 0) / unit, place),
                          xytext=(4, 0), textcoords="offset points", va="center", fontsize=8)
    _names(axes, rows)
    axes.margins(x=0.1)
    axes.set(xlabel=f"{name} (light: the file, dark: after gzip; × smaller than float32)", title="Size")
    _legend(axes, rows)
    return figure


@_styled
def latency_bars(rows: Sequence[Row]) -> Figure:
    """Latency as a ratio to float32 with its spread over rounds: one thread solid, all threads hollow below it."""
    rows = [row for row in rows if row["latency_ratio"] is not None]
    figure, axes = _figure(1.5 + 0.3 * len(rows))
    there = _intervals(rows, ("latency_ratio", "latency_ratio_low", "latency_ratio_high"), 1, axes)
    left, right = axes.get_xlim()
    by_threads = [row.get("latency_ratio_by_threads") or {} for row in rows]
    most, extra = max((int(threads) for spent in by_threads for threads in spent), default=1), []
    if most > 1:
        for place, (row, spent) in enumerate(zip(rows, by_threads, strict=True)):
            all_threads = spent.get(str(most))
            if all_threads and all_threads["ratio_high"] < right:
                look = {"color": colour(row["technique"]), "zorder": 2}
                ends = [all_threads["ratio_low"], all_threads["ratio_high"]]
                axes.plot(ends, [place + 0.27] * 2, linewidth=1, **look)
                axes.plot(all_threads["ratio"], place + 0.27, marker="o", markersize=4.5, markerfacecolor="white",
                          gid="all threads", **look)
        extra = [Line2D([], [], marker="o", markersize=4.5, markerfacecolor="white", color="#555555", linewidth=1,
                        label=f"{most} threads")]
    axes.axvline(1, color="#333333", linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    _names(axes, rows)
    axes.set_xlim(min(0.0, left), max(right, 1.05))
    axes.set(xlabel="Latency, ratio to float32 at the same number of threads (less is faster)", title="Latency")
    _legend(axes, there, extra)
    return figure


@_styled
def weight_bits(rows: Sequence[Row]) -> Figure:
    """How the weights of each file divide over bit widths, in percent of the weights; read from the flatbuffer."""
    rows = [row for row in rows if row["weight_bits_share"]]
    widths = sorted({bits for row in rows for bits in row["weight_bits_share"]}, key=float)
    shades = dict(zip(widths, sns.color_palette("mako_r", max(len(widths), 2)), strict=False))
    figure, axes = _figure(1.3 + 0.26 * len(rows))
    starts = np.zeros(len(rows))
    for bits in widths:
        shares = np.array([100 * row["weight_bits_share"].get(bits, 0) for row in rows])
        axes.barh(range(len(rows)), shares, left=starts, height=0.7, color=shades[bits], linewidth=0,
                  label=f"{bits} bits")
        starts += shares
    _names(axes, rows)
    axes.set_xlim(0, 100)
    axes.set(xlabel="Weights, %", title="Bits a weight")
    if widths:
        figure.legend(loc="outside lower center", ncols=len(widths), frameon=False)
    return figure


def picture(figure: Figure, kind: str, dpi: float = 160) -> bytes:
    """A figure as `png` or `svg`, the same bytes for the same figure: no date and no program version inside."""
    file = io.BytesIO()
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": "edgeq"}):
        figure.savefig(file, format=kind, dpi=dpi, metadata={"Date": None} if kind == "svg" else {"Software": None},
                       facecolor="white")
    return file.getvalue()


@_styled
def ratio_by_size(table: Any) -> Figure:
    """int8's latency as a ratio to float32 against the image size: a data frame with the index pixels and the columns ratio,
    low and high."""
    figure, axes = _figure(3.0)
    errors = np.abs(table[["low", "high"]].to_numpy().T - table["ratio"].to_numpy())
    axes.errorbar(table.index, table["ratio"], errors, fmt="o-", color=colour("ptq"), capsize=3)
    axes.axhline(1.0, color="#888888", linewidth=0.8, linestyle="--")
    axes.set(xlabel="Pixels a side", ylabel="Latency, int8 / float32", title="int8's speed by image size", ylim=(0, None))
    axes.set_xticks(list(table.index))
    return figure
