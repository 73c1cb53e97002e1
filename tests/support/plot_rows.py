"""Rows to draw, and what is asked of every figure: texts that are inside, dark and apart."""

from __future__ import annotations

import itertools

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.transforms import Bbox

TECHNIQUES = [
    "ptq",
    "ptq_recovery",
    "qat",
    "data_free",
    "low_bit",
    "mixed_precision",
    "peer",
    "pruning",
    "unheard_of",
]


def row(name, technique, value, size, latency, base=99.2):
    """A row of the results table with the fields that figures read."""
    drop = (
        {"drop": None, "drop_low": None, "drop_high": None}
        if technique == "baseline"
        else {"drop": base - value, "drop_low": base - value - 0.8, "drop_high": base - value + 0.8}
    )
    return {
        "name": name,
        "kind": "variant",
        "technique": technique,
        "metric": "top1",
        "value": value,
        "n": 360,
        "low": value - 1,
        "high": min(value + 0.5, 100),
        **drop,
        "bytes": size,
        "gzip_bytes": int(size * 0.9),
        "ratio": 320e3 / size,
        "latency_ratio": latency,
        "latency_ratio_low": latency * 0.95,
        "latency_ratio_high": latency * 1.06,
        "weight_bits_share": {"8": 0.9, "4": 0.1},
        "latency_ratio_by_threads": {
            count: {"ratio": latency, "ratio_low": latency * 0.9, "ratio_high": latency * 1.1}
            for count in ("1", "2")
        },
    }


def shelf(count):
    """A baseline and variants most of which nearly coincide; every tenth collapsed."""
    random = np.random.default_rng(count)
    rows = [row("float32", "baseline", 99.2, 320_000, 1.0)]
    for index in range(count - 1):
        value = 11.0 if index % 10 == 7 else 99.2 - 0.28 * (index % 4)
        size, latency = int(9e4 + 2e4 * random.random()), 0.3 + 0.1 * random.random()
        technique = TECHNIQUES[index % len(TECHNIQUES)]
        rows.append(row(f"variant_number_{index}", technique, value, size, latency))
    return rows


def lines_of(figure, gid):
    """The lines of the first axes that carry a gid."""
    return [line for line in figure.axes[0].lines if line.get_gid() == gid]


def texts_of(figure, gid):
    """The words of the texts of all axes that carry a gid."""
    return [
        text.get_text()
        for axes in figure.axes
        for text in axes.texts
        if text.get_gid() == gid and text.get_text()
    ]


def contrast(one, other):
    """The contrast ratio of two colours, from 1 to 21 (WCAG 2.2, relative luminance in sRGB)."""

    def luminance(colour):
        linear = [
            c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)
        ]
        return float(np.dot([0.2126, 0.7152, 0.0722], linear))

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def shown_texts(figure):
    """The texts of a figure that are drawn, with their boxes in pixels."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    off_axis = set()  # ticks that a locator keeps past the ends of an axis: never drawn
    for axes in figure.axes:
        for axis, place, limits in (
            (axes.xaxis, 0, axes.get_xlim()),
            (axes.yaxis, 1, axes.get_ylim()),
        ):
            off_axis |= {
                id(tick)
                for tick in axis.get_ticklabels(which="both")
                if not axes.axison or not min(limits) <= tick.get_position()[place] <= max(limits)
            }
    return [
        (text, text.get_window_extent(renderer))
        for text in figure.findobj(matplotlib.text.Text)
        if text.get_visible() and text.get_text().strip() and id(text) not in off_axis
    ]


def check_texts(figure):
    """Every text is inside the figure, has a contrast of 4.5 on its ground, and covers no other."""
    shown = shown_texts(figure)
    paper = Bbox.from_bounds(0, 0, *figure.canvas.get_width_height()).padded(1)
    outside = [
        text.get_text()
        for text, box in shown
        if not (
            paper.x0 <= box.x0 and box.x1 <= paper.x1 and paper.y0 <= box.y0 and box.y1 <= paper.y1
        )
    ]
    assert not outside, outside
    for text, _ in shown:
        ground = "#0072B2" if text.get_gid() == "on dark" else "#ebebeb"  # the darkest light ground
        assert contrast(text.get_color(), ground) >= 4.5, (text.get_text(), text.get_color())
    overlaps = [
        (one[0].get_text(), other[0].get_text())
        for one, other in itertools.combinations(shown, 2)
        if (common := Bbox.intersection(one[1], other[1])) is not None
        and common.width > 2
        and common.height > 2
    ]
    assert not overlaps, overlaps
