"""Labels of crowded scatter plots, placed by textalloc so that they cover nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import textalloc
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke

from edgeq_lib.plots.style import MUTED, TEXT

Points = Sequence[tuple[float, float]]
MARKER = 4.0  # radius of a marker, pixels
FARTHEST = 0.35  # from a label to its point, as a share of the axes


def place_labels(
    axes: Axes,
    points: Points,
    texts: Sequence[str],
    obstacles: Points,
    line: Points,
    radii: Sequence[float] | None = None,
) -> None:
    """Write a label for each point where it covers nothing, with a thin leader to its point.

    Nothing is random: the same points give the same places. Labels are placed in their order.

    Args:
        axes: Where to write; scales, limits and legends are final.
        points: What is labelled, in data coordinates.
        texts: The labels.
        obstacles: All points, labelled or not, in data coordinates.
        line: A polyline in data coordinates that labels keep off.
        radii: Of each obstacle, pixels; a small marker's where it is not given.
    """
    if not texts:
        return
    labelled, blocked, corners = (
        np.reshape(values, (-1, 2)).T for values in (points, obstacles, line)
    )
    sizes: Any = list(radii or [MARKER] * len(obstacles))  # annotated wrongly there
    textalloc.allocate(
        axes,
        labelled[0],
        labelled[1],
        list(texts),
        x_scatter=blocked[0],
        y_scatter=blocked[1],
        scatter_sizes=sizes,
        x_lines=[corners[0]] if line else [],
        y_lines=[corners[1]] if line else [],
        textsize=8,
        textcolor=TEXT,
        linecolor=MUTED,
        linewidth=0.5,
        margin=0.009,
        min_distance=0.015,
        max_distance=FARTHEST,
        nbr_candidates=1500,
        avoid_crossing_label_lines=True,
        avoid_label_lines_overlap=True,
        plot_kwargs={"zorder": 2, "gid": "leader"},
        gid="label",
        zorder=6,
        in_layout=False,
        path_effects=[withStroke(linewidth=2, foreground="white")],
    )
