"""Figures on rounding: what they draw, and that texts are dark, inside and apart."""

import numpy as np
import pytest
from plot_rows import check_texts, lines_of, texts_of

from edgeq_lib.plots.rounding import (
    plot_accuracy_by_bits,
    plot_bit_allocation,
    plot_channel_ranges,
    plot_methods_by_bits,
    plot_mixed_front,
)


def test_a_dead_channel_is_left_out():
    before, after = np.array([9.0, 1e-9, 1.0]), np.array([3.0, 2.0, 2.5])
    figure = plot_channel_ranges("conv", {"before": before, "after": after})
    check_texts(figure)
    assert [len(line.get_xdata()) for line in figure.axes[0].lines] == [2, 3]


def test_a_panel_per_file_and_a_line_per_rounding():
    rows = [
        {"bits": width, "rounding": way, "file": file, "top1": 10 * width}
        for width in (8, 4)
        for way in ("nearest", "squant")
        for file in ("weights only", "int8 activations")
    ]
    figure = plot_accuracy_by_bits(rows, 90.0)
    check_texts(figure)
    assert len(figure.axes) == 2
    base, first, _ = figure.axes[0].lines
    assert list(first.get_ydata()) == [80, 40] and list(base.get_ydata()) == [90, 90]
    assert base.get_gid() == "baseline" and base.get_zorder() < first.get_zorder()


@pytest.mark.parametrize("methods", [1, 6])
def test_a_line_per_method_over_the_bits(methods):
    rows = [
        {"method": f"method_{method}", "bits": bits, "agreement": 90.0 + bits - method}
        for method in range(methods)
        for bits in (2, 8, 4)
    ]
    figure = plot_methods_by_bits(rows)
    check_texts(figure)
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["8", "4", "2"]
    assert len(figure.axes[0].lines) == methods + 1
    assert list(lines_of(figure, "baseline")[0].get_ydata()) == [100, 100]
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert words == [*(f"method {method}" for method in range(methods)), "float32"]


def test_bit_allocation_names_the_noisiest_and_has_plain_ticks():
    layers = [
        {"layer": f"l{i}", "noise": {8: 0.0, **({4: 1e-9, 2: 0.1 * i} if i else {})}}
        for i in range(3)
    ]
    figure = plot_bit_allocation(layers, {"9 kB": [8, 8, 4], "5 kB": [8, 4, 2]})
    check_texts(figure)
    above, below = figure.axes
    assert [label.get_text() for label in below.get_yticklabels()] == ["9 kB", "5 kB"]
    assert texts_of(figure, "label") == ["l2", "l1"]
    ticks = [label.get_text() for label in above.get_yticklabels()]
    assert ticks == ["≤ 0.001", "0.01", "0.1", "1", "10", "100"]
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert words == ["8 bits", "4 bits", "2 bits"]


def test_the_front_of_mixes():
    rows = [
        {"kind": kind, "label": kind, "kB": size, "snr": snr, "noise": 0.01 * snr, "predicted": 0.2}
        for kind, size, snr in (("uniform", 9, 20), ("greedy", 6, 9), ("program", 5, 10))
    ]
    figure = plot_mixed_front(rows)
    check_texts(figure)
    points = [line.get_gid() for line in figure.axes[0].lines]
    assert points == ["front line", "front", "dominated", "front"]
    assert [lines_of(figure, "dominated")[0].get_markerfacecolor()] == ["white"]
