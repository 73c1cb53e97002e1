"""One style for every figure: colours, markers and the parts that figures share.

Text is dark on light, at least 4.5 to 1 (WCAG 2.2, AA); colour is carried by markers and lines, and
a marker tells apart what colour does. Figures are made outside pyplot, so that a notebook shows
them once and nothing has to be closed.
"""

from __future__ import annotations

import functools
import io
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from edgeq_lib.analysis.rows import Row
from edgeq_lib.analysis.techniques import TABLE, label_of

COLOURS = {technique.name: technique.colour for technique in TABLE}
MARKERS = {technique.name: technique.marker for technique in TABLE}
OTHER = ("#666666", "8")  # colour and marker of a technique that the table does not know
TEXT, MUTED = "#222222", "#595f66"  # of text; muted is what was not taken, and small print
TAKEN, FAINT = "#0072B2", "#9aa0a6"  # of lines; faint lines carry no text
BOUND = "#B00020"  # of a criterion, and of the ring around the recommended file
# Of series that are no techniques.
SHADES = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#666666")
DOTS = ("o", "s", "^", "D", "v", "P", "X")
DASHED = (0, (4, 3))
WIDTH = 7.2  # inches
ACROSS = 95  # characters of an axis label that fit into it
DPI = 100  # of published figures and of notebooks, which are kept in git
STYLE = {
    **sns.axes_style("whitegrid"),
    "text.color": TEXT,
    "axes.labelcolor": TEXT,
    "axes.titlecolor": TEXT,
    "xtick.labelcolor": TEXT,
    "ytick.labelcolor": TEXT,
    "font.size": 9,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 8,
    "axes.edgecolor": "#888888",
    "grid.color": "#e4e4e4",
    "font.family": "DejaVu Sans",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.dpi": DPI,
}


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Draw under the house style, and restore whatever style the caller's notebook has set."""

    @functools.wraps(draw)
    def wrapped(*args: Any, **kwargs: Any) -> Figure:
        with matplotlib.rc_context(STYLE):
            figure = draw(*args, **kwargs)
            figure.canvas.draw()  # text takes its font when drawn, so while the style holds
            return figure

    return wrapped


def colour_of(technique: str) -> str:
    """Return the colour of a technique, the same in every figure and study."""
    return COLOURS.get(technique, OTHER[0])


def marker_of(technique: str) -> str:
    """Return the marker of a technique, the same in every figure and study."""
    return MARKERS.get(technique, OTHER[1])


def marker_size(technique: str) -> float:
    """Return the size (points) at which a technique's marker looks as large as the others."""
    return {"*": 10.0, "P": 8.0}.get(marker_of(technique), 6.5)  # these shapes hold less ink


class Picture(Figure):
    """A figure that a notebook shows by itself, though pyplot does not know it."""

    def _repr_png_(self) -> bytes:
        return render_figure(self)


def new_figure(height: float, width: float = WIDTH) -> tuple[Figure, Axes]:
    """Make a figure of so many inches with one pair of axes.

    Args:
        height: Inches.
        width: Inches.

    Returns:
        The figure and its axes.
    """
    figure = Picture(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def render_figure(figure: Figure, dpi: float = DPI) -> bytes:
    """Return a figure as PNG, the same bytes for the same figure: no program version inside.

    Args:
        figure: The figure.
        dpi: Pixels per inch.
    """
    file = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(file, format="png", dpi=dpi, metadata={"Software": None}, facecolor="white")
    return file.getvalue()


def legend_below(figure: Figure, handles: Sequence[Any], columns: int) -> None:
    """Draw a legend below the figure.

    Args:
        figure: The figure.
        handles: What stands in it; each has its label.
        columns: At most so many side by side.
    """
    figure.legend(
        handles=list(handles),
        loc="outside lower center",
        ncols=max(1, min(columns, len(handles))),
        frameon=False,
        handletextpad=0.5,
        columnspacing=1.4,
    )


def technique_handles(rows: Sequence[Row]) -> list[Line2D]:
    """Return a legend's handles for the techniques of some rows, in the order of the rows."""
    return [
        Line2D(
            [],
            [],
            color=colour_of(name),
            marker=marker_of(name),
            linestyle="",
            markersize=5.5,
            label=label_of(name),
        )
        for name in dict.fromkeys(row["technique"] for row in rows)
    ]


def collapse_limit(losses: Sequence[float]) -> float:
    """Return the loss past which a row is drawn at the edge.

    One collapsed variant must not flatten the differences between the others.

    Args:
        losses: Of each row against the best, in any unit.

    Returns:
        The limit in that unit; infinite where nothing collapsed.
    """
    clipped = np.asarray([max(loss, 0.0) for loss in losses] or [0.0])
    limit = max(2.0, 6 * float(np.median(clipped)))
    return limit if clipped.max() > 2 * limit else float("inf")


def baseline_row(rows: Sequence[Row]) -> Row | None:
    """Return the row of the baseline, or None."""
    return next((row for row in rows if row["technique"] == "baseline"), None)


def label_rows(axes: Axes, names: Sequence[str]) -> None:
    """Name the rows of a horizontal figure, the first at the top."""
    axes.set_yticks(range(len(names)), list(names))
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")


def interval_rows(axes: Axes, rows: Sequence[Row], fields: tuple[str, str, str]) -> list[Row]:
    """Draw a marker and an interval per row, less being better; collapsed rows stand at the edge.

    Args:
        axes: Where to draw; row i stands at height i.
        rows: The rows; those whose value is None stay empty.
        fields: Names of the value, of the lower and of the upper end of its interval.

    Returns:
        The rows that were drawn.
    """
    value, low, high = fields
    drawn = [row for row in rows if row[value] is not None]
    ours = [row[value] for row in drawn if row.get("kind") != "peer"]
    best = min(ours, default=0.0)
    limit = best + collapse_limit([figure - best for figure in ours])
    for index, row in enumerate(rows):
        if row[value] is None or row[value] > limit:
            continue
        name = row["technique"]
        if row[low] is not None and row[high] is not None:
            axes.plot(
                [row[low], row[high]],
                [index, index],
                color=colour_of(name),
                linewidth=2.2,
                alpha=0.55,
                solid_capstyle="butt",
                zorder=3,
                gid="interval",
            )
        _mark(axes, row[value], index, name)
    axes.margins(x=0.06)
    axes.autoscale_view()
    left, right = axes.get_xlim()
    collapsed = {
        index: row for index, row in enumerate(rows) if row in drawn and row[value] > limit
    }
    if collapsed:  # room for the arrows and their figures
        right += 0.16 * (right - left)
    axes.set_xlim(left, right)
    for index, row in collapsed.items():
        _mark_collapsed(axes, right, index, row["technique"], row[value])
    return drawn


def _mark_collapsed(axes: Axes, edge: float, y: float, technique: str, value: float) -> None:
    _mark(axes, edge, y, technique)
    axes.annotate(
        f"{value:.1f} →",
        (edge, y),
        xytext=(-8, 0),
        textcoords="offset points",
        va="center",
        ha="right",
        fontsize=8,
        gid="collapsed",
    )


def _mark(axes: Axes, x: float, y: float, technique: str) -> None:
    axes.plot(
        x,
        y,
        marker=marker_of(technique),
        color=colour_of(technique),
        markersize=marker_size(technique),
        markeredgecolor="white",
        markeredgewidth=0.6,
        clip_on=False,
        zorder=4,
        gid="point",
    )


def with_machine(label: str, machine: str) -> str:
    """Add the machine that a latency belongs to below the label of an axis.

    Args:
        label: What the axis shows.
        machine: The processor with its instruction sets; empty for none.
    """
    return "\n".join(part for text in (label, machine) for part in textwrap.wrap(text, ACROSS))
