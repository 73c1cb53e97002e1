"""One style for every figure: colours, markers and the parts that figures share."""

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

from edgeq_lib.analysis.flow import TECHNIQUES

Row = Mapping[str, Any]
COLOURS = {
    "baseline": "#333333",
    "ptq": "#0072B2",
    "ptq_recovery": "#56B4E9",
    "qat": "#D55E00",
    "data_free": "#009E73",
    "low_bit": "#CC79A7",
    "mixed_precision": "#E69F00",
    "peer": "#888888",
    "pruning": "#882255",
    "distillation": "#44AA99",
    "low_rank": "#117733",
    "search": "#AA4499",
    "clustering": "#999933",
}
MARKERS = {
    "baseline": "s",
    "ptq": "o",
    "ptq_recovery": "p",
    "qat": "D",
    "data_free": "^",
    "low_bit": "v",
    "mixed_precision": "P",
    "peer": "*",
    "pruning": "h",
    "distillation": "<",
    "low_rank": ">",
    "search": "d",
    "clustering": "H",
}
OTHER = ("#666666", "8")
TAKEN, FAINT = "#0072B2", "#9aa0a6"
WIDTH = 7.2
STYLE = {
    **sns.axes_style("whitegrid"),
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
    "figure.dpi": 100,
}


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Draw under the house style, whatever style the caller's notebook has set, and leave that as it was."""

    @functools.wraps(draw)
    def wrapped(*args: Any, **kwargs: Any) -> Figure:
        with matplotlib.rc_context(STYLE):
            figure = draw(*args, **kwargs)
            figure.canvas.draw()  # tick labels and text take their fonts when drawn, so while the style holds
            return figure

    return wrapped


def colour_of(technique: str) -> str:
    """The colour of a technique, the same in every figure and study."""
    return COLOURS.get(technique, OTHER[0])


def marker_of(technique: str) -> str:
    return MARKERS.get(technique, OTHER[1])


def marker_size(row: Row) -> float:
    return {"*": 10.0, "P": 8.0}.get(marker_of(row["technique"]), 6.5)  # these shapes hold less ink


class Picture(Figure):
    """A figure that a notebook shows by itself, though pyplot does not know it."""

    def _repr_png_(self) -> bytes:
        return render_figure(self, "png", dpi=100)  # executed notebooks are kept in git: small


def new_figure(height: float, width: float = WIDTH) -> tuple[Figure, Axes]:
    figure = Picture(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def legend(axes: Axes, rows: Sequence[Row], extra: Sequence[Line2D] = ()) -> None:
    techniques = list(dict.fromkeys(row["technique"] for row in rows))
    handles = [
        Line2D(
            [],
            [],
            color=colour_of(name),
            marker=marker_of(name),
            linestyle="",
            markersize=5.5,
            label=TECHNIQUES.get(name, name.replace("_", " ")),
        )
        for name in techniques
    ]
    axes.figure.legend(
        handles=[*handles, *extra],
        loc="outside lower center",
        ncols=min(3, len(handles) + len(extra)),
        frameon=False,
        handletextpad=0.4,
        columnspacing=1.4,
    )


def collapse_limit(losses: Sequence[float]) -> float:
    """The loss past which a row is drawn at the edge, so that one collapsed variant does not flatten the others."""
    losses = np.asarray([max(loss, 0.0) for loss in losses] or [0.0])
    limit = max(2.0, 6 * float(np.median(losses)))
    return limit if losses.max() > 2 * limit else float("inf")


def baseline_row(rows: Sequence[Row]) -> Row | None:
    return next((row for row in rows if row["technique"] == "baseline"), None)


def label_rows(axes: Axes, rows: Sequence[Row]) -> None:
    axes.set_yticks(range(len(rows)), [row["name"] for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")


def interval_rows(
    rows: Sequence[Row], fields: tuple[str, str, str], worse: int, axes: Axes
) -> list[Row]:
    """A dot and an interval a row; rows far off (`worse` is the side, -1 left or 1 right) as an arrow at the edge."""
    value, low, high = fields
    there = [row for row in rows if row[value] is not None]
    best = min((worse * row[value] for row in there), default=0.0)
    limit = collapse_limit([worse * row[value] - best for row in there])
    inside = [row for row in there if worse * row[value] - best <= limit]
    for row in inside:
        place, ends = rows.index(row), [row[low], row[high]]
        if None not in ends:
            axes.plot(
                ends,
                [place, place],
                color=colour_of(row["technique"]),
                linewidth=2.2,
                alpha=0.55,
                solid_capstyle="butt",
                gid="interval",
            )
        axes.plot(
            row[value],
            place,
            marker=marker_of(row["technique"]),
            color=colour_of(row["technique"]),
            markersize=marker_size(row),
            markeredgecolor="white",
            markeredgewidth=0.6,
            gid="point",
        )
    axes.margins(x=0.06)
    axes.autoscale_view()
    left, right = axes.get_xlim()
    if len(inside) < len(there):  # room for the arrows and their figures
        left, right = (
            (left - 0.16 * (right - left), right)
            if worse < 0
            else (left, right + 0.16 * (right - left))
        )
    axes.set_xlim(left, right)
    for row in there:
        if row not in inside:
            edge = left if worse < 0 else right
            axes.plot(
                edge,
                rows.index(row),
                marker="<" if worse < 0 else ">",
                color=colour_of(row["technique"]),
                markersize=7,
                clip_on=False,
                gid="point",
                zorder=5,
            )
            axes.annotate(
                f"{row[value]:.1f}",
                (edge, rows.index(row)),
                xytext=(-8 * worse, 0),
                va="center",
                textcoords="offset points",
                ha="left" if worse < 0 else "right",
                fontsize=8,
                color=colour_of(row["technique"]),
            )
    return there


def render_figure(figure: Figure, kind: str, dpi: float = 160) -> bytes:
    """A figure as `png` or `svg`, the same bytes for the same figure: no date and no program version inside."""
    file = io.BytesIO()
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": "edgeq"}):
        figure.savefig(
            file,
            format=kind,
            dpi=dpi,
            metadata={"Date": None} if kind == "svg" else {"Software": None},
            facecolor="white",
        )
    return file.getvalue()


SHADES = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00")
DOTS = ("o", "s", "^", "D", "v", "P", "X")  # not as many as shades, so that pairs repeat late


def well_apart(order: Sequence[int], most: int) -> list[int]:
    """The first places of an order, at most so many, that are far enough from each other for a name each."""
    chosen: list[int] = []
    for place in order:
        if len(chosen) < most and all(abs(place - other) > 0.2 * len(order) for other in chosen):
            chosen.append(int(place))
    return chosen
