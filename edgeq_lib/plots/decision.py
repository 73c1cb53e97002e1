"""The decision flow as a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from edgeq_lib.analysis.flow import BITS
from edgeq_lib.plots.style import FAINT, MUTED, TAKEN, TEXT, new_figure, styled

Point = tuple[float, float]
BOX, PITCH = (1.45, 0.58), (2.35, 1.0)  # width and height of a box, and from box to box


@styled
def plot_decision_flow(
    flow: Mapping[str, Mapping[str, Any]],
    path: Sequence[Sequence[Any]],
    notes: Mapping[str, str] | None = None,
) -> Figure:
    """Draw the decision flow as boxes and arrows, with the path that was taken highlighted.

    Args:
        flow: Node to text, at (column, row) and next, as in `analysis.flow.FLOW`.
        path: Pairs of node and answer, the last with None.
        notes: Node to a few short lines: right of it, or below where it stands in the last column.
    """
    answers = {node: answer for node, answer in path}
    columns, lines = (max(node["at"][axis] for node in flow.values()) for axis in (0, 1))
    figure, axes = new_figure(0.95 * (lines + 1))
    centres = {
        name: (node["at"][0] * PITCH[0], -node["at"][1] * PITCH[1]) for name, node in flow.items()
    }
    for name, node in flow.items():
        taken = name in answers
        _draw_box(axes, centres[name], node["text"], taken, leaf="next" not in node)
        if notes and name in notes:
            _draw_note(axes, centres[name], notes[name], taken, node["at"][0] == columns)
        by_target: dict[str, list[str]] = {}
        for answer, target in node.get("next", {}).items():
            by_target.setdefault(target, []).append(answer)
        for target, labels in by_target.items():
            went = answers.get(name) in labels and target in answers
            below = centres[name][0] == centres[target][0]
            shown = [BITS.get(label, label) for label in labels]
            text = (
                BITS.get(answers[name], answers[name])
                if went
                else (" / " if below else " /\n").join(shown)
            )
            _draw_arrow(axes, centres[name], centres[target], text, went)
    axes.set_xlim(-BOX[0] / 2 - 0.1, columns * PITCH[0] + BOX[0] / 2 + 0.1)
    axes.set_ylim(-lines * PITCH[1] - BOX[1] / 2 - 0.1, BOX[1] / 2 + 0.1)
    axes.axis("off")
    return figure


def _draw_box(axes: Axes, centre: Point, text: str, taken: bool, leaf: bool) -> None:
    filled = taken and leaf
    axes.add_patch(
        FancyBboxPatch(
            (centre[0] - BOX[0] / 2, centre[1] - BOX[1] / 2),
            *BOX,
            zorder=3,
            gid="node",
            boxstyle=f"round,pad=0.02,rounding_size={0.28 if leaf else 0.08}",
            facecolor=TAKEN if filled else "#dcebf5" if taken else "white",
            edgecolor=TAKEN if taken else FAINT,
            linewidth=1.8 if taken else 1.0,
        )
    )
    axes.text(
        *centre,
        text,
        ha="center",
        va="center",
        fontsize=9,
        zorder=4,
        linespacing=1.25,
        color="white" if filled else TEXT if taken else MUTED,
        fontweight="bold" if filled else "normal",
        gid="on dark" if filled else "",
    )


def _draw_note(axes: Axes, centre: Point, note: str, taken: bool, last: bool) -> None:
    """Lines on a leaf's best files: right of it, below it in the last column."""
    axes.text(
        centre[0] + BOX[0] / 2 + (0.1 if last else 0.12),
        centre[1] - (BOX[1] / 2 + 0.08 if last else 0),
        note,
        ha="right" if last else "left",
        va="top" if last else "center",
        fontsize=7,
        linespacing=1.3,
        color=TEXT if taken else MUTED,
        multialignment="left",
    )


def _draw_arrow(axes: Axes, start: Point, end: Point, text: str, taken: bool) -> None:
    sideways, turn = start[0] != end[0], np.sign(end[0] - start[0])
    if sideways:
        tail = (start[0] + turn * (BOX[0] / 2 + 0.03), start[1])
        tip = (end[0] - turn * (BOX[0] / 2 + 0.05), end[1])
        spot = ((tail[0] + tip[0]) / 2, tail[1] + 0.1)
    else:
        tail = (start[0], start[1] - BOX[1] / 2 - 0.03)
        tip = (end[0], end[1] + BOX[1] / 2 + 0.05)
        spot = (tail[0] + 0.08, tip[1] + 0.17)  # beside a long arrow stand notes
    axes.annotate(
        "",
        tip,
        tail,
        arrowprops={
            "arrowstyle": "-|>",
            "color": TAKEN if taken else FAINT,
            "linewidth": 2.2 if taken else 1.0,
            "shrinkA": 0,
            "shrinkB": 0,
            "mutation_scale": 12,
        },
        zorder=2,
    )
    axes.text(
        *spot,
        text,
        ha="center" if sideways else "left",
        va="bottom" if sideways else "center",
        fontsize=8.5,
        color=TEXT if taken else MUTED,
        fontweight="bold" if taken else "normal",
    )
