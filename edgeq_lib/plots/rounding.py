"""Figures on rounding: channel ranges, accuracy by bits, bit allocation and the front of mixes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FormatStrFormatter

from edgeq_lib.plots.style import (
    DOTS,
    SHADES,
    WIDTH,
    Picture,
    colour_of,
    new_figure,
    styled,
    well_apart,
)


@styled
def plot_channel_ranges(name: str, largest: Mapping[str, np.ndarray]) -> Figure:
    """The largest magnitude of each channel's weights, by rank, one line a series in `largest` {label: (channels,)}: what
    lies far below the top shares few steps of a scale for all. Dead channels, below 1e-4 of the top, are left out."""
    figure, axes = new_figure(2.8)
    for (label, values), shade in zip(largest.items(), SHADES[1::-1], strict=False):
        axes.plot(
            np.sort(values[values > 1e-4 * values.max()])[::-1],
            color=shade,
            linewidth=1.4,
            label=label,
        )
    axes.set_yscale("log")
    axes.set(
        xlabel="Output channel, by rank",
        ylabel="Largest |weight|",
        title=f"Weight ranges of {name}",
    )
    axes.legend(frameon=False)
    return figure


@styled
def plot_accuracy_by_bits(rows: Sequence[Mapping[str, Any]], float32: float) -> Figure:
    """Top-1 (%) by bits of the weights, one panel a kind of file, one line a way of rounding; dashed: `float32`.

    Rows: bits, file, rounding, top1.
    """
    files, ways = (list(dict.fromkeys(row[key] for row in rows)) for key in ("file", "rounding"))
    bits = sorted({row["bits"] for row in rows}, reverse=True)
    figure = Picture(figsize=(WIDTH, 3.2), layout="constrained")
    panels = figure.subplots(1, len(files), sharey=True, squeeze=False)[0]
    for axes, file in zip(panels, files, strict=True):
        for way, shade, dot in zip(ways, SHADES, DOTS, strict=False):
            points = {
                row["bits"]: row["top1"]
                for row in rows
                if (row["file"], row["rounding"]) == (file, way)
            }
            axes.plot(
                [bits.index(each) for each in points],
                list(points.values()),
                marker=dot,
                color=shade,
                markersize=5,
                linewidth=1.2,
                alpha=0.85,
                label=way,
            )
        axes.axhline(float32, color="#333333", linewidth=1, linestyle="--", label="float32")
        axes.set_xticks(range(len(bits)), [str(each) for each in bits])
        axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
        axes.set(title=file.capitalize(), xlabel="Bits of the weights")
    panels[0].set(ylabel="Top-1, %", ylim=(0, None))
    figure.legend(
        *panels[0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=len(ways) + 1,
        frameon=False,
    )
    return figure


BITS = {8: "#0072B2", 4: "#56B4E9", 3: "#F0E442", 2: "#E69F00"}


@styled
def plot_bit_allocation(
    layers: Sequence[Mapping[str, Any]], mixes: Mapping[str, Sequence[int]], marked: int = 4
) -> Figure:
    """Above, the noise that each layer adds at each width; below, the widths that it has in each of `mixes` {label: bits a
    layer}, largest budget first. Layers: layer (its name), noise {bits: energy share}."""
    figure = Picture(figsize=(WIDTH, 3.2 + 0.19 * len(mixes)), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2.2, 0.19 * len(mixes) + 0.5))
    used = sorted(
        {bits for row in layers for bits in row["noise"]}
        | {bits for mix in mixes.values() for bits in mix}
    )
    loudest = np.array([max(row["noise"].values()) for row in layers])
    for bits in (each for each in used if each < 8):
        at = [place for place, row in enumerate(layers) if row["noise"].get(bits, 0) > 0]
        above.plot(
            at,
            [100 * layers[place]["noise"][bits] for place in at],
            "o",
            color=BITS[bits],
            markersize=4.5,
        )
    above.set_yscale("log")
    above.margins(y=0.16)
    for place in well_apart(
        [each for each in np.argsort(-loudest, kind="stable") if loudest[each] > 0], marked
    ):
        above.annotate(
            layers[place]["layer"],
            (place, 100 * loudest[place]),
            xytext=(0, 5),
            textcoords="offset points",
            fontsize=7,
            color="#444444",
            ha="right" if place > 0.83 * len(layers) else "left",
        )
    above.set(
        ylabel="Noise added, % of the output",
        title="What each layer's bits are worth, and who gets them",
    )
    shades = ListedColormap([BITS[bits] for bits in used])
    below.pcolormesh(
        np.arange(len(layers) + 1) - 0.5,
        np.arange(len(mixes) + 1) - 0.5,
        np.array(list(mixes.values())),
        cmap=shades,
        norm=BoundaryNorm([*(bits - 0.5 for bits in used), used[-1] + 0.5], len(used)),
        edgecolors="white",
        linewidth=0.6,
    )
    below.set_yticks(range(len(mixes)), list(mixes), fontsize=7.5)
    below.invert_yaxis()
    below.grid(visible=False)
    below.set(xlabel="Layer, in the order of the graph", ylabel="Budget")
    figure.legend(
        handles=[Patch(color=BITS[bits], label=f"{bits} bits") for bits in reversed(used)],
        loc="outside lower center",
        ncols=len(used),
        frameon=False,
    )
    return figure


@styled
def plot_mixed_front(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Left, signal-to-noise against size: the front as a line, what another mix beats as ×. Right, the noise that was
    predicted (the sum of the layers' own) against the noise measured.

    Rows: kind ("programme", "greedy" or "uniform"), label, kB, snr, noise, predicted. Later rows are drawn over earlier.
    """
    figure = Picture(figsize=(WIDTH, 3.7), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    looks = {
        "programme": (colour_of("mixed_precision"), "P"),
        "greedy": ("#888888", "s"),
        "uniform": (colour_of("low_bit"), "D"),
    }
    front = sorted(
        (
            row
            for row in rows
            if not any(other["kB"] <= row["kB"] and other["snr"] > row["snr"] for other in rows)
        ),
        key=lambda row: row["kB"],
    )
    left.plot(
        [row["kB"] for row in front],
        [row["snr"] for row in front],
        color="#bbbbbb",
        linewidth=1,
        zorder=1,
    )
    for row in rows:
        shade, dot = looks[row["kind"]]
        beaten = row not in front
        left.plot(
            row["kB"],
            row["snr"],
            "x" if beaten else dot,
            color=shade,
            markersize=6,
            linestyle="",
            gid="beaten" if beaten else "front",
        )
        if row["kind"] == "uniform":
            left.annotate(
                row["label"],
                (row["kB"], row["snr"]),
                xytext=(5, -10),
                textcoords="offset points",
                fontsize=7.5,
                color=shade,
            )
        right.plot(
            100 * row["predicted"],
            100 * row["noise"],
            dot,
            color=shade,
            markersize=4.5,
            gid="prediction",
        )
    ends = [100 * row[key] for row in rows for key in ("predicted", "noise")]
    right.plot(
        [min(ends), max(ends)], [min(ends), max(ends)], color="#bbbbbb", linewidth=1, zorder=1
    )
    right.set(
        xscale="log",
        yscale="log",
        xlabel="Predicted noise, % of the output",
        ylabel="Measured, %",
        title="Does noise add up?",
    )
    left.margins(0.09)
    left.set(xlabel="Size, kB", ylabel="Signal to noise of the output, dB", title="The front")
    figure.legend(
        handles=[
            *(
                Line2D([], [], color=shade, marker=dot, linestyle="", label=label)
                for label, (shade, dot) in zip(
                    ("integer programme", "greedy", "same width everywhere"),
                    looks.values(),
                    strict=True,
                )
            ),
            Line2D([], [], color="#555555", marker="x", linestyle="", label="beaten by another"),
        ],
        loc="outside lower center",
        ncols=4,
        frameon=False,
    )
    return figure
