"""Figures of tensors and layers: how far they reach, what noise they bring, and the ablation.

Each function returns a matplotlib Figure and takes plain values, names in the order of the graph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, MaxNLocator, NullFormatter

from edgeq_lib.plots.labels import place_labels
from edgeq_lib.plots.style import (
    DASHED,
    DOTS,
    MUTED,
    SHADES,
    TEXT,
    WIDTH,
    Picture,
    collapse_limit,
    colour_of,
    interval_rows,
    label_rows,
    legend_below,
    marker_of,
    marker_size,
    new_figure,
    styled,
    technique_handles,
)


@styled
def plot_activation_ranges(
    names: Sequence[str],
    deviations: np.ndarray,
    bounds: Mapping[str, tuple[np.ndarray, np.ndarray]],
    limit: int = 20,
) -> Figure:
    """Draw how far tensors reach, in standard deviations of their values; the farthest only.

    There the scales of int8 are coarse, or much is cut off. A row per tensor, the farthest first by
    the first summary; a marker per summary, joined by a line.

    Args:
        names: Names of the tensors.
        deviations: Standard deviation of each tensor's values, float (tensors,).
        bounds: Summary of the calibration images to (low, high), float (tensors,) each.
        limit: How many tensors at most.
    """
    spread = np.maximum(deviations, 1e-12)
    reaches = {
        label: np.maximum(np.abs(low), np.abs(high)) / spread
        for label, (low, high) in bounds.items()
    }
    first = next(iter(reaches.values()))
    farthest = np.argsort(-first, kind="stable")[:limit]
    figure, axes = new_figure(1.4 + 0.2 * len(farthest))
    axes.set_xscale("log")
    shown = np.array([reach[farthest] for reach in reaches.values()])
    rows = np.arange(len(farthest))
    axes.hlines(rows, shown.min(axis=0), shown.max(axis=0), color="#cccccc", linewidth=1.2)
    handles = []
    for label, values, shade, dot in zip(reaches, shown, SHADES, DOTS, strict=False):
        look: dict[str, Any] = {"color": shade, "markersize": 5, "label": label.replace("_", " ")}
        handles += axes.plot(values, rows, dot, **look)
    label_rows(axes, [names[index] for index in farthest])
    axes.tick_params(axis="y", labelsize=7.5)
    which = "" if len(farthest) == len(names) else f"the {len(farthest)} farthest of "
    axes.set(
        xlim=(shown.min() / 1.3, shown.max() * 1.3),
        xlabel="Reach of the range, standard deviations (log scale)",
        title=f"Activation ranges: {which}{len(names)} tensors",
    )
    _plain_log_axis(axes.xaxis)
    legend_below(figure, handles, 4)
    return figure


def _plain_log_axis(axis: Any) -> None:
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FormatStrFormatter("%g"))
    axis.set_minor_formatter(NullFormatter())


@styled
def plot_signal_to_noise(
    names: Sequence[str], kinds: Sequence[str], ratios: Sequence[float], marked: int = 5
) -> Figure:
    """Draw the signal-to-noise ratio of each tensor against float32, by kind of op.

    Args:
        names: Names of the tensors, in the order of the graph.
        kinds: The op that makes each.
        ratios: Signal to noise, dB, of each.
        marked: How many of the noisiest are named at most.
    """
    figure, axes = new_figure(3.4)
    decibels = np.asarray(ratios, float)
    axes.plot(decibels, color="#bbbbbb", linewidth=0.7, zorder=1)
    handles = []
    for kind, shade, dot in zip(dict.fromkeys(kinds), SHADES * 4, DOTS * 4, strict=False):
        at = np.flatnonzero(np.array(kinds) == kind)
        label = kind.lower().replace("_", " ")
        handles += axes.plot(at, decibels[at], dot, color=shade, markersize=4, label=label)
    axes.set_ylim(decibels.min() - 0.3 * (np.ptp(decibels) or 1.0))  # room for names below
    axes.set(
        xlabel="Tensor, in the order of the graph",
        ylabel="Signal to noise, dB",
        title="Signal-to-noise ratio of int8 by tensor",
    )
    legend_below(figure, handles, 5)
    noisiest = np.argsort(decibels, kind="stable")[:marked]
    points = list(enumerate(decibels.tolist()))
    place_labels(axes, [points[i] for i in noisiest], [names[i] for i in noisiest], points, [])
    return figure


@styled
def plot_layer_sensitivity(rows: Sequence[Mapping[str, Any]], limit: int = 20) -> Figure:
    """Draw the signal-to-noise ratio of the output by layer, the most sensitive first.

    Left with this layer alone in int8, right with this layer alone in float32.

    Args:
        rows: Of layer, only_snr and without_snr (dB).
        limit: How many layers at most.
    """
    rows = sorted(rows, key=lambda row: row["only_snr"])[:limit]
    figure = Picture(figsize=(WIDTH, 1.2 + 0.19 * len(rows)), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    titles = {"only_snr": "Only this layer in int8", "without_snr": "All but this layer in int8"}
    for axes, (field, title) in zip(panels, titles.items(), strict=True):
        values = [row[field] for row in rows]
        axes.hlines(range(len(rows)), min(values) - 0.5, values, color="#bbbbbb", linewidth=1)
        axes.plot(values, range(len(rows)), "o", color=colour_of("ptq"), markersize=4.5)
        axes.set(title=title, xlabel="Signal to noise of the output, dB")
        axes.grid(visible=False, axis="y")
    label_rows(panels[0], [row["layer"] for row in rows])
    panels[0].tick_params(axis="y", labelsize=7.5)
    return figure


@styled
def plot_calibration_sizes(
    sizes: Sequence[int], agreements: Mapping[str, Sequence[float]]
) -> Figure:
    """Draw agreement with float32 by number of calibration images.

    Args:
        sizes: Numbers of images.
        agreements: Label of a disjoint calibration set to agreement, %, for each size.
    """
    figure, axes = new_figure(2.8)
    for (label, values), shade, dot in zip(agreements.items(), SHADES, DOTS, strict=False):
        axes.plot(sizes, values, marker=dot, color=shade, markersize=5, linewidth=1.2, label=label)
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.set(
        xlabel="Calibration images (log scale)",
        ylabel="Agreement with float32, %",
        title="Agreement by number of calibration images",
    )
    axes.legend(frameon=False)
    return figure


@styled
def plot_ablation(steps: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw what each row of an ablation loses against float32, and how often it agrees.

    Args:
        steps: The rows, the first at the top: step (its name), technique, drop, drop_low,
            drop_high, agreement (%), n (images) and chosen.
    """
    rows = [{**row, "name": f"{row['step']} ←" if row["chosen"] else row["step"]} for row in steps]
    figure = Picture(figsize=(WIDTH, 1.25 + 0.26 * len(rows)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    figure.set_layout_engine("constrained", wspace=0.07)
    interval_rows(left, rows, ("drop", "drop_low", "drop_high"))
    left.axvline(0, color=TEXT, linewidth=1, linestyle=DASHED, zorder=1, gid="baseline")
    label_rows(left, [row["name"] for row in rows])
    for label, row in zip(left.get_yticklabels(), rows, strict=True):
        label.set_fontweight("bold" if row["chosen"] else "normal")
    left.set(
        xlabel="Accuracy lost, points (95 % interval, paired)",
        title=f"Ablation, n = {rows[0]['n']:,}",
    )
    _agreement_rows(right, rows)
    left.xaxis.set_major_locator(MaxNLocator(6))
    right.xaxis.set_major_locator(MaxNLocator(4))
    legend_below(figure, technique_handles(rows), 6)
    return figure


def _agreement_rows(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    """A marker per row on a thin line from the left, and its figure in a column at the right."""
    missed = [100 - row["agreement"] for row in rows]
    limit = collapse_limit(missed)
    left = 100 - 1.12 * max(0.5, *(figure for figure in missed if figure <= limit))
    for index, row in enumerate(rows):
        shown = max(row["agreement"], left)  # what collapsed stands at the edge
        axes.plot([left, shown], [index, index], color="#cccccc", linewidth=1, zorder=1)
        axes.plot(
            shown,
            index,
            marker=marker_of(row["technique"]),
            color=colour_of(row["technique"]),
            markersize=marker_size(row["technique"]),
            markeredgecolor="white",
            markeredgewidth=0.6,
            clip_on=False,
            gid="point",
        )
        axes.annotate(
            f"{row['agreement']:.1f}",
            (1, index),
            xycoords=("axes fraction", "data"),
            xytext=(8, 0),
            textcoords="offset points",
            fontsize=7.5,
            va="center",
            ha="left",
            color=MUTED,
            annotation_clip=False,
        )
    axes.set_xlim(left, 100)
    axes.grid(visible=False, axis="y")
    axes.set(xlabel="Same class as float32, %", title="Agreement")
