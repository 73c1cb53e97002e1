"""Labels of crowded scatter plots, placed where they cover nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patheffects import withStroke


def place_labels(
    axes: Axes,
    points: np.ndarray,
    texts: Sequence[str],
    colours: Sequence[str],
    line: Sequence[tuple[float, float]],
) -> None:
    """Write a label a point where it covers nothing: the cheapest spot on rings around it, with a thin leader.

    `line` is a polyline in data coordinates that labels should keep off.
    """
    figure = axes.figure
    figure.canvas.draw()
    renderer, frame = FigureCanvasAgg(figure).get_renderer(), axes.get_window_extent().extents
    scale, inside = figure.dpi / 72, axes.transAxes.inverted()
    pixels = axes.transData.transform(np.reshape(points, (-1, 2)))
    corners = axes.transData.transform(np.reshape(line, (-1, 2)))
    front = np.stack([corners[:-1], corners[1:]], axis=1)
    taken, leaders = np.hstack([pixels - 5 * scale, pixels + 5 * scale]), np.empty((0, 2, 2))
    turns = np.radians(np.arange(0, 360, 15))
    rings = np.repeat([7, 13, 20, 28, 38, 50, 64, 80, 98, 118, 140], len(turns))
    ways = np.tile(np.stack([np.cos(turns), np.sin(turns)], axis=1), (len(rings) // len(turns), 1))
    crowd = [np.sum(np.hypot(*(pixels - pixel).T) < 60 * scale) for pixel in pixels]
    for index in np.argsort(
        crowd, kind="stable"
    ):  # the crowded come last: they have to go farther anyway
        text = axes.text(
            0,
            0,
            texts[index],
            fontsize=7.5,
            color=colours[index],
            transform=axes.transAxes,
            ha="center",
            va="center",
            gid="label",
            zorder=6,
            in_layout=False,
            path_effects=[withStroke(linewidth=2, foreground="white")],
        )
        extent = text.get_window_extent(renderer)
        half = np.array([extent.width / 2 + 1.5 * scale, extent.height / 2 + 0.5 * scale])
        centres = (
            pixels[index] + ways * rings[:, None] * scale + half * np.abs(ways) * np.sign(ways)
        )
        boxes = np.hstack([centres - half, centres + half])
        outside = (boxes[:, :2] < frame[:2]).any(axis=1) | (boxes[:, 2:] > frame[2:]).any(axis=1)
        hits = (
            ((boxes[:, None, :2] < taken[:, 2:]) & (taken[:, :2] < boxes[:, None, 2:]))
            .all(axis=2)
            .sum(axis=1)
        )
        own = np.stack([np.broadcast_to(pixels[index], centres.shape), centres], axis=1)
        crossed = _crossings(own, leaders) * (rings > 13) + _struck(boxes, leaders)
        best = np.argmin(
            10_000 * outside + 1000 * hits + 60 * crossed + 25 * _struck(boxes, front) + rings
        )
        text.set_position(inside.transform(centres[best]))
        taken = np.vstack([taken, boxes[best]])
        if rings[best] > 13:
            leaders = np.concatenate([leaders, own[best : best + 1]])
            end = np.clip(pixels[index], boxes[best, :2], boxes[best, 2:])
            axes.plot(
                *inside.transform([pixels[index], end]).T,
                color=colours[index],
                linewidth=0.5,
                alpha=0.6,
                transform=axes.transAxes,
                zorder=2,
            )


def _crossings(segments: np.ndarray, others: np.ndarray) -> np.ndarray:
    """How many of `others` (m, 2 ends, 2) each of `segments` (n, 2 ends, 2) crosses: (n,)."""

    def side(ends: np.ndarray, point: np.ndarray) -> np.ndarray:
        along, to = ends[..., 1, :] - ends[..., 0, :], point - ends[..., 0, :]
        return np.sign(along[..., 0] * to[..., 1] - along[..., 1] * to[..., 0])

    a, b = segments[:, None], others[None]
    return (
        (side(a, b[..., 0, :]) * side(a, b[..., 1, :]) < 0)
        & (side(b, a[..., 0, :]) * side(b, a[..., 1, :]) < 0)
    ).sum(axis=1)


def _struck(boxes: np.ndarray, segments: np.ndarray) -> np.ndarray:
    """How many of `segments` (m, 2 ends, 2) run through each of `boxes` (n, x0 y0 x1 y1): (n,)."""
    steps = np.linspace(0, 1, 80)[:, None]
    along = segments[:, None, 0] * (1 - steps) + segments[:, None, 1] * steps
    within = (along[None] > boxes[:, None, None, :2]) & (along[None] < boxes[:, None, None, 2:])
    return within.all(axis=3).any(axis=2).sum(axis=1)
