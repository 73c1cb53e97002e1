"""The figure of other runtimes: what each file loses, and how fast it is on this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from edgeq_lib.plots.style import (
    DASHED,
    DOTS,
    SHADES,
    TEXT,
    WIDTH,
    Picture,
    label_rows,
    legend_below,
    styled,
)


@styled
def plot_runtimes(rows: Sequence[Mapping[str, Any]], machine: str) -> Figure:
    """Draw accuracy lost and latency of each runtime's files, with their intervals.

    Args:
        rows: name, engine, validation (its paired drop) and latency (its ratio) of each.
        machine: The processor's name and its instruction sets.

    Returns:
        The figure: two panels with a line per row.
    """
    height = 1.5 + 0.3 * len(rows)
    figure = Picture(figsize=(WIDTH, height), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    engines = list(dict.fromkeys(row["engine"] for row in rows))
    looks = {name: (SHADES[at], DOTS[at]) for at, name in enumerate(engines)}
    for number, row in enumerate(rows):
        quality, latency = row["validation"], row["latency"]
        _interval(left, number, quality, ("drop", "drop_low", "drop_high"), looks[row["engine"]])
        _interval(
            right, number, latency, ("ratio", "ratio_low", "ratio_high"), looks[row["engine"]]
        )
    for axes, neutral in ((left, 0.0), (right, 1.0)):
        axes.axvline(neutral, color=TEXT, linewidth=1, linestyle=DASHED, zorder=1, gid="baseline")
    label_rows(left, [row["name"] for row in rows])
    left.set(xlabel="Accuracy lost, points", title="Accuracy lost")
    right.set(xlabel="Latency, ratio to LiteRT float32", title="Latency")
    right.set_xlim(0, None)
    handles = [
        Line2D([], [], color=shade, marker=dot, linestyle="", label=name)
        for name, (shade, dot) in looks.items()
    ]
    figure.suptitle(machine, fontsize=9, color=TEXT)
    legend_below(figure, handles, len(handles))
    return figure


def _interval(
    axes: Axes,
    number: int,
    values: Mapping[str, float | None],
    fields: tuple[str, str, str],
    look: tuple[str, str],
) -> None:
    """A mark with its interval; nothing where the value is unknown."""
    middle, low, high = (values[field] for field in fields)
    if middle is None:
        return
    if low is not None and high is not None:
        axes.plot([low, high], [number, number], color=look[0], linewidth=1.4, zorder=2)
    axes.plot(middle, number, color=look[0], marker=look[1], linestyle="", zorder=3)
