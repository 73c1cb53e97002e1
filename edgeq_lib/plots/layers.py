"""Figures of the notebook on repairing int8: what each tensor and layer holds, what it costs, and the ladder back up.

Same style as `plots`; each function returns a matplotlib Figure and takes plain values, names in the order of the graph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

from edgeq_lib.plots.style import (
    DOTS,
    SHADES,
    WIDTH,
    Picture,
    colour_of,
    interval_rows,
    label_rows,
    new_figure,
    styled,
    well_apart,
)


@styled
def plot_activation_ranges(
    names: Sequence[str],
    deviations: np.ndarray,
    ends: Mapping[str, tuple[np.ndarray, np.ndarray]],
    marked: int = 5,
) -> Figure:
    """How far each tensor's range reaches, in standard deviations of its values, one series a summary in `ends`
    {summary: (low, high)}. Of the farthest of the first series `marked` are named: there steps are coarse or much is cut."""
    figure, axes = new_figure(3.6)
    places, spread = np.arange(len(names)), np.maximum(deviations, 1e-12)
    reaches = {
        label: np.maximum(np.abs(low), np.abs(high)) / spread for label, (low, high) in ends.items()
    }
    for (label, reach), shade, dot in zip(reaches.items(), SHADES, DOTS, strict=False):
        axes.plot(
            places, reach, dot, color=shade, markersize=3.6, alpha=0.8, label=label, linestyle=""
        )
    first = next(iter(reaches.values()))
    for place in well_apart(np.argsort(-first, kind="stable"), marked):
        axes.annotate(
            names[place],
            (place, first[place]),
            xytext=(3, 4),
            textcoords="offset points",
            fontsize=7,
            color="#444444",
            ha="right" if place > 0.7 * len(names) else "left",
        )
    axes.set_yscale("log")
    axes.set_ylim(top=float(first.max()) * 1.8)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set(
        xlabel="Tensor, in the order of the graph",
        ylabel="Reach of the range, standard deviations",
        title="Activation ranges",
    )
    figure.legend(loc="outside lower center", ncols=len(ends), frameon=False)
    return figure


@styled
def plot_signal_to_noise(
    names: Sequence[str], kinds: Sequence[str], ratios: Sequence[float], marked: int = 5
) -> Figure:
    """Signal-to-noise of each tensor against float32, dB, by kind of op; `marked` of the noisiest are named."""
    figure, axes = new_figure(3.4)
    ratios = np.asarray(ratios, float)
    for kind, shade, dot in zip(dict.fromkeys(kinds), SHADES * 4, DOTS * 4, strict=False):
        at = np.flatnonzero(np.array(kinds) == kind)
        axes.plot(
            at,
            ratios[at],
            dot,
            color=shade,
            markersize=4,
            linestyle="",
            label=kind.lower().replace("_", " "),
        )
    axes.plot(ratios, color="#999999", linewidth=0.7, zorder=1)
    for place in well_apart(np.argsort(ratios, kind="stable"), marked):
        axes.annotate(
            names[place],
            (place, ratios[place]),
            xytext=(-3, -8),
            textcoords="offset points",
            fontsize=7,
            color="#444444",
            ha="right" if place > 0.3 * len(names) else "left",
        )
    axes.margins(y=0.14)
    axes.set(
        xlabel="Tensor, in the order of the graph",
        ylabel="Signal to noise, dB",
        title="Where int8 leaves float32",
    )
    figure.legend(loc="outside lower center", ncols=5, frameon=False)
    return figure


@styled
def plot_layer_sensitivity(rows: Sequence[Mapping[str, Any]], most: int = 20) -> Figure:
    """Signal-to-noise of the network's output, left with one layer alone in int8, right with it alone in float32: the
    `most` layers that alone do most harm, worst first. Rows: layer, only_snr, without_snr."""
    rows = sorted(rows, key=lambda row: row["only_snr"])[:most]
    figure = Picture(figsize=(WIDTH, 1.2 + 0.19 * len(rows)), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for place, key, title in zip(
        axes,
        ("only_snr", "without_snr"),
        ("This layer alone in int8", "All but this layer in int8"),
        strict=True,
    ):
        values = [row[key] for row in rows]
        place.hlines(range(len(rows)), min(values) - 0.5, values, color="#bbbbbb", linewidth=1)
        place.plot(values, range(len(rows)), "o", color=colour_of("ptq"), markersize=4.5)
        place.set(title=title, xlabel="Signal to noise of the output, dB")
        place.grid(visible=False, axis="y")
    axes[0].set_yticks(range(len(rows)), [row["layer"] for row in rows], fontsize=7.5)
    axes[0].set_ylim(len(rows) - 0.4, -0.6)
    return figure


@styled
def plot_calibration_sizes(
    sizes: Sequence[int], agreements: Mapping[str, Sequence[float]]
) -> Figure:
    """Agreement with float32 by number of calibration images, one line a disjoint calibration set."""
    figure, axes = new_figure(2.8)
    for (label, values), shade, dot in zip(agreements.items(), SHADES, DOTS, strict=False):
        axes.plot(sizes, values, marker=dot, color=shade, markersize=5, linewidth=1.2, label=label)
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.set(
        xlabel="Calibration images",
        ylabel="Agreement with float32, %",
        title="How many images calibrate?",
    )
    axes.legend(frameon=False)
    return figure


@styled
def plot_ablation(rungs: Sequence[Mapping[str, Any]]) -> Figure:
    """What each rung loses against float32 on the same images, with its interval, and how often it agrees.

    Rungs from the first to the last: rung, technique, drop, drop_low, drop_high, agreement, n, chosen.
    """
    rows = [{**row, "name": f"{row['rung']} ←" if row["chosen"] else row["rung"]} for row in rungs]
    figure = Picture(figsize=(WIDTH, 1.3 + 0.32 * len(rows)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    interval_rows(rows, ("drop", "drop_low", "drop_high"), 1, left)
    left.axvline(0, color="#333333", linewidth=1)
    label_rows(left, rows)
    left.set(
        xlabel="Accuracy lost, points (95 %, paired)",
        title=f"The ladder, {rows[0]['n']:,} validation images",
    )
    right.plot(
        [row["agreement"] for row in rows], range(len(rows)), color="#bbbbbb", linewidth=1, zorder=1
    )
    for place, row in enumerate(rows):
        right.plot(
            row["agreement"],
            place,
            "o",
            color=colour_of(row["technique"]),
            markersize=6,
            gid="point",
        )
        right.annotate(
            f"{row['agreement']:.1f}",
            (row["agreement"], place),
            xytext=(0, 6),
            textcoords="offset points",
            fontsize=7.5,
            ha="center",
            color="#444444",
        )
    lowest = min(row["agreement"] for row in rows)
    right.set_xlim(lowest - 0.15 * (100.5 - lowest), 100.5)
    right.grid(visible=False, axis="y")
    right.set(xlabel="Same class as float32, %", title="Agreement")
    figure.legend(
        handles=[
            Line2D([], [], color=colour_of(name), marker="o", linestyle="", label=label)
            for name, label in (
                ("ptq", "quantizer's defaults"),
                ("ptq_recovery", "repaired, int8"),
                ("low_bit", "low bits"),
                ("data_free", "without data"),
                ("mixed_precision", "some layers float32"),
                ("qat", "QAT"),
            )
            if name in {row["technique"] for row in rows}
        ],
        loc="outside lower center",
        ncols=4,
        frameon=False,
    )
    return figure
