"""Figures of the notebook on data-free quantization: what equalization does to channels, and what rounding costs by bits.

Same style as `plots`; each function returns a matplotlib Figure and takes plain values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter

from edgeq_lib.plots import WIDTH, Picture, _figure, _styled
from edgeq_lib.plots_layers import DOTS, SHADES


@_styled
def channel_ranges(name: str, largest: Mapping[str, np.ndarray]) -> Figure:
    """The largest magnitude of each channel's weights, by rank, one line a series in `largest` {label: (channels,)}: what
    lies far below the top shares few steps of a scale for all. Dead channels, below 1e-4 of the top, are left out."""
    figure, axes = _figure(2.8)
    for (label, values), shade in zip(largest.items(), SHADES[1::-1], strict=False):
        axes.plot(np.sort(values[values > 1e-4 * values.max()])[::-1], color=shade, linewidth=1.4, label=label)
    axes.set_yscale("log")
    axes.set(xlabel="Output channel, by rank", ylabel="Largest |weight|", title=f"Weight ranges of {name}")
    axes.legend(frameon=False)
    return figure


@_styled
def accuracy_by_bits(rows: Sequence[Mapping[str, Any]], float32: float) -> Figure:
    """Top-1 (%) by bits of the weights, one panel a kind of file, one line a way of rounding; dashed: `float32`.

    Rows: bits, file, rounding, top1.
    """
    files, ways = (list(dict.fromkeys(row[key] for row in rows)) for key in ("file", "rounding"))
    bits = sorted({row["bits"] for row in rows}, reverse=True)
    figure = Picture(figsize=(WIDTH, 3.2), layout="constrained")
    panels = figure.subplots(1, len(files), sharey=True, squeeze=False)[0]
    for axes, file in zip(panels, files, strict=True):
        for way, shade, dot in zip(ways, SHADES, DOTS, strict=False):
            points = {row["bits"]: row["top1"] for row in rows if (row["file"], row["rounding"]) == (file, way)}
            axes.plot([bits.index(each) for each in points], list(points.values()), marker=dot, color=shade, markersize=5,
                      linewidth=1.2, alpha=0.85, label=way)
        axes.axhline(float32, color="#333333", linewidth=1, linestyle="--", label="float32")
        axes.set_xticks(range(len(bits)), [str(each) for each in bits])
        axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
        axes.set(title=file.capitalize(), xlabel="Bits of the weights")
    panels[0].set(ylabel="Top-1, %", ylim=(0, None))
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(ways) + 1, frameon=False)
    return figure
