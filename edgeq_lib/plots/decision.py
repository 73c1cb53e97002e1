"""The decision flow as a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from edgeq_lib.plots.style import FAINT, TAKEN, new_figure, styled


@styled
def plot_decision_flow(
    flow: Mapping[str, Mapping[str, Any]],
    path: Sequence[Sequence[Any]],
    notes: Mapping[str, str] | None = None,
) -> Figure:
    """The decision flow as boxes and arrows, with the path that was taken highlighted.

    `notes` are a few short lines a node: right of it, or below where it stands in the last column.
    """
    answers = dict((node, answer) for node, answer in path)
    columns, lines = (max(node["at"][axis] for node in flow.values()) for axis in (0, 1))
    figure, axes = new_figure(0.95 * (lines + 1))
    box, pitch = (1.45, 0.58), (2.35, 1.0)
    where = {
        name: (node["at"][0] * pitch[0], -node["at"][1] * pitch[1]) for name, node in flow.items()
    }
    for name, node in flow.items():
        x, y = where[name]
        taken, leaf = name in answers, "next" not in node
        axes.add_patch(
            FancyBboxPatch(
                (x - box[0] / 2, y - box[1] / 2),
                *box,
                zorder=3,
                gid="node",
                boxstyle=f"round,pad=0.02,rounding_size={0.28 if leaf else 0.08}",
                facecolor=(TAKEN if leaf else "#dcebf5") if taken else "white",
                edgecolor=TAKEN if taken else FAINT,
                linewidth=1.8 if taken else 1.0,
            )
        )
        axes.text(
            x,
            y,
            node["text"],
            ha="center",
            va="center",
            fontsize=9,
            zorder=4,
            linespacing=1.25,
            color="white" if taken and leaf else "#222222" if taken else "#6b7075",
            fontweight="bold" if taken and leaf else "normal",
        )
        if name in (notes or {}):
            last = node["at"][0] == columns
            axes.text(
                x + box[0] / 2 + (0.1 if last else 0.12),
                y - (box[1] / 2 + 0.08 if last else 0),
                notes[name],
                ha="right" if last else "left",
                va="top" if last else "center",
                fontsize=7,
                linespacing=1.3,
                color="#222222" if taken else "#6b7075",
                multialignment="left",
            )
        ways: dict[str, list[str]] = {}
        for answer, target in node.get("next", {}).items():
            ways.setdefault(target, []).append(answer)
        for target, labels in ways.items():
            went = answers.get(name) in labels and target in answers
            below = where[name][0] == where[target][0]
            text = answers[name] if went else (" / " if below else " /\n").join(labels)
            _arrow(axes, where[name], where[target], box, text, went)
    axes.set_xlim(-box[0] / 2 - 0.1, columns * pitch[0] + box[0] / 2 + 0.1)
    axes.set_ylim(-lines * pitch[1] - box[1] / 2 - 0.1, box[1] / 2 + 0.1)
    axes.axis("off")
    return figure


def _arrow(
    axes: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    box: tuple[float, float],
    text: str,
    taken: bool,
) -> None:
    sideways = start[0] != end[0]
    turn = np.sign(end[0] - start[0])
    a = (
        (start[0] + turn * (box[0] / 2 + 0.03), start[1])
        if sideways
        else (start[0], start[1] - box[1] / 2 - 0.03)
    )
    b = (
        (end[0] - turn * (box[0] / 2 + 0.05), end[1])
        if sideways
        else (end[0], end[1] + box[1] / 2 + 0.05)
    )
    shade = TAKEN if taken else FAINT
    axes.annotate(
        "",
        b,
        a,
        arrowprops={
            "arrowstyle": "-|>",
            "color": shade,
            "linewidth": 2.2 if taken else 1.0,
            "shrinkA": 0,
            "shrinkB": 0,
            "mutation_scale": 12,
        },
        zorder=2,
    )
    place = (
        ((a[0] + b[0]) / 2, a[1] + 0.1) if sideways else (a[0] + 0.08, b[1] + 0.17)
    )  # beside a long arrow stand notes
    axes.text(
        *place,
        text,
        ha="center" if sideways else "left",
        va="bottom" if sideways else "center",
        fontsize=8.5,
        color=shade,
        fontweight="bold" if taken else "normal",
    )
