"""Markers and colours of the static figures, made fit for the HTML page."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np
from matplotlib.colors import to_hex, to_rgb
from matplotlib.markers import MarkerStyle

# The commands of SVG for the codes of matplotlib.path.Path.
COMMANDS, CLOSE = {1: "M", 2: "L", 3: "Q", 4: "C"}, 79
INK = {
    "*": 1.35,
    "P": 1.15,
    "o": 0.95,
    "s": 0.85,
    "D": 1.1,
    "p": 1.05,
}  # some shapes hold less ink than others


def svg_path(marker: str) -> str:
    """A marker of matplotlib as an SVG path.

    Args:
        marker: Its letter, such as `o` or `D`.

    Returns:
        The path's `d`, centred at the origin, about -1 to 1 wide, y down, as Vega takes shapes.
    """
    style = MarkerStyle(marker)
    path = style.get_path().transformed(style.get_transform())
    reach = np.abs(path.vertices).max() / INK.get(marker, 1.0)
    parts = []
    for points, code in path.iter_segments(curves=True, simplify=False):
        corners = points.reshape(-1, 2) / reach * (1, -1)
        numbers = " ".join(f"{x:g},{y:g}" for x, y in corners.round(3) + 0.0)  # no minus zero
        parts.append("Z" if code == CLOSE else COMMANDS[int(code)] + numbers)
    return "".join(parts)


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two colours, 1 to 21, as WCAG 2.2 defines it."""
    light, dark = sorted((_luminance(to_rgb(one)), _luminance(to_rgb(other))), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(rgb: Sequence[float]) -> float:
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in rgb]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def readable(colour: str, page: str, ratio: float) -> str:
    """The nearest shade of a colour that stands out from the page.

    Args:
        colour: What the static figures use.
        page: The colour behind it.
        ratio: The contrast that is asked for.

    Returns:
        The colour itself where it has that contrast, else the same hue made darker on a light page
        and lighter on a dark one.
    """
    hue, lightness, saturation = colorsys.rgb_to_hls(*to_rgb(colour))
    step = -0.01 if _luminance(to_rgb(page)) > 0.18 else 0.01
    shade = to_hex(to_rgb(colour))
    while contrast(shade, page) < ratio and 0 < lightness + step < 1:
        lightness += step
        shade = to_hex(colorsys.hls_to_rgb(hue, lightness, saturation))
    return shade
