"""Figures on rounding: channel ranges, results by bits, bit allocation and the front of mixes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FormatStrFormatter, FuncFormatter, NullLocator

from edgeq_lib.analysis import pareto
from edgeq_lib.plots.labels import place_labels
from edgeq_lib.plots.style import (
    DASHED,
    DOTS,
    MUTED,
    SHADES,
    TEXT,
    WIDTH,
    Picture,
    colour_of,
    legend_below,
    new_figure,
    styled,
)

BITS = {8: "#0072B2", 6: "#44AA99", 4: "#56B4E9", 3: "#F0E442", 2: "#E69F00"}
DECADES = 4  # of noise that are drawn below the decade of the largest, at most
KINDS = {  # of mixes: colour, marker, words
    "program": (colour_of("mixed_precision"), "P", "integer linear program"),
    "greedy": ("#666666", "s", "greedy"),
    "uniform": (colour_of("low_bit"), "D", "same width everywhere"),
}


@styled
def plot_channel_ranges(name: str, largest: Mapping[str, np.ndarray]) -> Figure:
    """Draw the largest magnitude of each channel's weights, by rank.

    What lies far below the top gets few codes where all channels share one scale. Dead channels,
    below 1e-4 of the top, are left out.

    Args:
        name: Name of the layer.
        largest: Label of a series to its magnitudes, float (channels,).
    """
    figure, axes = new_figure(2.8)
    for (label, values), shade in zip(largest.items(), SHADES[1::-1], strict=False):
        alive = values[values > 1e-4 * values.max()]
        axes.plot(np.sort(alive)[::-1], color=shade, linewidth=1.4, label=label)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    axes.set(
        xlabel="Output channel, by rank",
        ylabel="Largest |weight| (log scale)",
        title=f"Weight ranges of {name}",
    )
    axes.legend(frameon=False)
    return figure


def _lines_by_bits(
    axes: Axes, rows: Sequence[Mapping[str, Any]], key: str, value: str, dodge: float
) -> list[Line2D]:
    """A line per value of `key` over the bits, the most bits first; returns handles of a legend.

    Lines stand beside each other by `dodge`, so that equal values do not hide each other.
    """
    bits = sorted({row["bits"] for row in rows}, reverse=True)
    names = list(dict.fromkeys(row[key] for row in rows))
    handles = []
    for index, (name, shade, dot) in enumerate(zip(names, SHADES * 2, DOTS * 2, strict=False)):
        points = {row["bits"]: row[value] for row in rows if row[key] == name}
        shift = dodge * (index - (len(names) - 1) / 2)
        handles += axes.plot(
            [bits.index(width) + shift for width in points],
            list(points.values()),
            marker=dot,
            color=shade,
            markersize=5,
            linewidth=1.1,
            label=str(name).replace("_", " "),
        )
    axes.set_xticks(range(len(bits)), [str(width) for width in bits])
    axes.set_xlim(-0.4, len(bits) - 0.6)
    axes.grid(visible=False, axis="x")
    axes.set_xlabel("Bits per weight")
    return handles


def _baseline_line(axes: Axes, value: float) -> Line2D:
    return axes.axhline(
        value, color=TEXT, linewidth=1, linestyle=DASHED, label="float32", zorder=1, gid="baseline"
    )


@styled
def plot_accuracy_by_bits(rows: Sequence[Mapping[str, Any]], float32: float) -> Figure:
    """Draw accuracy by bits of the weights: a panel per kind of file, a line per rounding method.

    Args:
        rows: Of bits, file, rounding and top1 (%).
        float32: Top-1 of float32, %.
    """
    files = list(dict.fromkeys(row["file"] for row in rows))
    figure = Picture(figsize=(WIDTH, 3.2), layout="constrained")
    panels = figure.subplots(1, len(files), sharey=True, squeeze=False)[0]
    handles: dict[str, Line2D] = {}
    for axes, file in zip(panels, files, strict=True):
        base = _baseline_line(axes, float32)
        own = [row for row in rows if row["file"] == file]
        for handle in (*_lines_by_bits(axes, own, "rounding", "top1", 0), base):
            handles.setdefault(str(handle.get_label()), handle)
        axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
        axes.set_title(file[:1].upper() + file[1:])
    panels[0].set(ylabel="Top-1 accuracy, %", ylim=(0, None))
    legend_below(figure, list(handles.values()), 6)
    return figure


@styled
def plot_methods_by_bits(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw agreement with float32 by rounding method and bits of the weights.

    A group per width, a marker per method, beside each other in the order of the rows. The dashed
    line is float32, which agrees with itself on every image.

    Args:
        rows: Of method, bits and agreement (%).
    """
    figure, axes = new_figure(3.3)
    methods = len({row["method"] for row in rows})
    base = _baseline_line(axes, 100.0)
    handles = _lines_by_bits(axes, rows, "method", "agreement", 0.3 / max(methods, 1))
    lowest = min((row["agreement"] for row in rows), default=0.0)
    axes.set_ylim(max(0.0, lowest - 0.08 * (100 - lowest) - 0.2), 100 + 0.05 * (100 - lowest) + 0.1)
    axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    axes.set(ylabel="Agreement with float32, %", title="Agreement by rounding method and bits")
    legend_below(figure, [*handles, base], 5)
    return figure


@styled
def plot_bit_allocation(
    layers: Sequence[Mapping[str, Any]], mixes: Mapping[str, Sequence[int]], marked: int = 4
) -> Figure:
    """Draw the noise that each layer adds at each width, and below it the widths that it has.

    Noise that is smaller than the largest by more than four decades stands at the foot.

    Args:
        layers: Of layer (its name) and noise (bits to share of the output's energy).
        mixes: Label of a budget to the bits of each layer, the largest budget first.
        marked: How many of the noisiest layers are named at most.
    """
    figure = Picture(figsize=(WIDTH, 3.1 + 0.17 * len(mixes)), layout="constrained")
    heights = (2.2, 0.17 * len(mixes) + 0.5)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=heights)
    widths = {bits for row in layers for bits in row["noise"]}
    used = sorted(widths | {bits for mix in mixes.values() for bits in mix})
    points = _draw_noise(above, layers, [bits for bits in used if bits < 8])
    below.pcolormesh(
        np.arange(len(layers) + 1) - 0.5,
        np.arange(len(mixes) + 1) - 0.5,
        np.array(list(mixes.values())),
        cmap=ListedColormap([BITS[bits] for bits in used]),
        norm=BoundaryNorm([*(bits - 0.5 for bits in used), used[-1] + 0.5], len(used)),
        edgecolors="white",
        linewidth=0.4,
    )
    below.set_yticks(range(len(mixes)), list(mixes), fontsize=7.5)
    below.invert_yaxis()
    below.grid(visible=False)
    below.set(xlabel="Layer, in the order of the graph", ylabel="Budget")
    handles = [Patch(color=BITS[bits], label=f"{bits} bits") for bits in reversed(used)]
    legend_below(figure, handles, 6)
    loudest: dict[float, float] = {}
    for layer, noise in points:
        loudest[layer] = max(noise, loudest.get(layer, 0.0))
    noisiest = sorted(loudest.items(), key=lambda point: -point[1])[:marked]
    texts = [layers[int(layer)]["layer"] for layer, _ in noisiest]
    place_labels(above, noisiest, texts, points, [])
    return figure


def _draw_noise(
    axes: Axes, layers: Sequence[Mapping[str, Any]], widths: Sequence[int]
) -> list[tuple[float, float]]:
    """A marker per layer and width, percent of the output's energy on a log scale with plain ticks.

    Returns the points that were drawn: index of the layer and noise.
    """
    loudest = np.array([100 * max(row["noise"].values()) for row in layers])
    decade = int(np.floor(np.log10(loudest.max() or 1.0)))
    least = min(100 * noise for row in layers for noise in row["noise"].values() if noise > 0)
    lowest = max(int(np.floor(np.log10(least))), decade - DECADES)
    floor = 10.0**lowest
    points: list[tuple[float, float]] = []
    for bits, dot in zip(widths, DOTS, strict=False):
        at = [index for index, row in enumerate(layers) if row["noise"].get(bits, 0) > 0]
        noise = [max(100 * layers[index]["noise"][bits], floor) for index in at]
        axes.plot(at, noise, dot, color=BITS[bits], markersize=4.5, clip_on=False, zorder=3)
        points += zip(at, noise, strict=True)
    axes.set_yscale("log")
    axes.set_ylim(floor, 6 * (loudest.max() or 1.0))
    ticks = [10.0**power for power in range(lowest, decade + 2)]
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(
        FuncFormatter(lambda value, _: _plain(value, floor if least < floor else 0.0))
    )
    axes.set(ylabel="Noise added, % of the output", title="Layer sensitivity and bit allocation")
    return points


def _plain(value: float, floor: float) -> str:
    """A power of ten without an exponent; the lowest tick also holds what is below it."""
    digits = f"{value:.9f}".rstrip("0").rstrip(".")
    return f"≤ {digits}" if value < 1.01 * floor else digits


@styled
def plot_mixed_front(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw mixes of widths: signal to noise against size with the front, and how noise adds up.

    Dominated mixes are hollow. Right, the noise that was predicted (the sum of the layers' own)
    against the noise measured; a point on the line was predicted exactly.

    Args:
        rows: Of kind (program, greedy or uniform), label, kB, snr (dB), noise and predicted
            (shares of the output's energy). Later rows are drawn over earlier ones.
    """
    figure = Picture(figsize=(WIDTH, 3.7), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    costs = {str(index): (row["kB"], -row["snr"]) for index, row in enumerate(rows)}
    front = [int(index) for index in pareto.front(costs)]
    left.plot(
        [rows[index]["kB"] for index in front],
        [rows[index]["snr"] for index in front],
        color="#bbbbbb",
        linewidth=1,
        zorder=1,
        gid="front line",
    )
    for index, row in enumerate(rows):
        _draw_mix(left, right, row, index in front)
    ends = [100 * row[key] for row in rows for key in ("predicted", "noise")]
    span = [min(ends), max(ends)]
    right.plot(span, span, color="#bbbbbb", linewidth=1, zorder=1)
    right.set(xscale="log", yscale="log", title="Does noise add up?")
    right.set(xlabel="Predicted noise, % of the output", ylabel="Measured noise, %")
    for axis in (right.xaxis, right.yaxis):
        axis.set_major_formatter(FormatStrFormatter("%g"))
        axis.set_minor_locator(NullLocator())
    left.margins(0.09)
    left.set(xlabel="Size, kB", ylabel="Signal to noise of the output, dB", title="Pareto front")
    handles = [
        Line2D([], [], color=shade, marker=dot, linestyle="", label=words)
        for shade, dot, words in KINDS.values()
    ]
    hollow: dict[str, Any] = {"marker": "o", "markerfacecolor": "white", "linestyle": ""}
    handles.append(Line2D([], [], color=MUTED, label="dominated", **hollow))
    legend_below(figure, handles, 4)
    return figure


def _draw_mix(left: Axes, right: Axes, row: Mapping[str, Any], on_front: bool) -> None:
    shade, dot, _ = KINDS[row["kind"]]
    left.plot(
        row["kB"],
        row["snr"],
        dot,
        color=shade,
        markerfacecolor=shade if on_front else "white",
        markersize=6,
        gid="front" if on_front else "dominated",
    )
    if row["kind"] == "uniform":
        left.annotate(
            row["label"],
            (row["kB"], row["snr"]),
            xytext=(6, -10),
            textcoords="offset points",
            fontsize=7.5,
        )
    predicted, measured = 100 * row["predicted"], 100 * row["noise"]
    right.plot(predicted, measured, dot, color=shade, markersize=4.5, gid="prediction")
