"""The figure of other runtimes: every file has its mark in both panels, texts are dark, apart."""

import pytest
from plot_rows import check_texts

from edgeq_lib.plots.runtimes import plot_runtimes

MACHINE = "A processor: avx2, avx512_vnni"


def rows(*names):
    return [
        {
            "name": name,
            "engine": name.rsplit(" ", 1)[0],
            "validation": {
                "drop": None if number == 0 else 0.5 * number,
                "drop_low": None if number == 0 else 0.1 * number,
                "drop_high": None if number == 0 else 0.9 * number,
            },
            "latency": {"ratio": 1 / (1 + number), "ratio_low": 0.2, "ratio_high": None},
        }
        for number, name in enumerate(names)
    ]


@pytest.mark.parametrize("count", [2, 6])
def test_each_row_is_marked_once_a_panel(count):
    names = ["LiteRT float32", "LiteRT int8", "OpenVINO float32", "OpenVINO int8"]
    names = [*names, "ONNX Runtime float32", "ONNX Runtime int8"][:count]
    figure = plot_runtimes(rows(*names), MACHINE)
    left, right = figure.axes
    marked = [
        [line for line in axes.lines if line.get_marker() != "None"] for axes in (left, right)
    ]
    assert [len(lines) for lines in marked] == [count - 1, count], "float32 has no drop"
    assert [label.get_text() for label in left.get_yticklabels()] == names
    assert len(figure.legends[0].get_texts()) == len({name.rsplit(" ", 1)[0] for name in names})
    check_texts(figure)
    assert figure._suptitle.get_text() == MACHINE


def test_an_interval_is_drawn_where_there_is_one():
    figure = plot_runtimes(rows("LiteRT float32", "LiteRT int8"), MACHINE)
    bars = [[line for line in axes.lines if line.get_linestyle() == "-"] for axes in figure.axes]
    assert [len(lines) for lines in bars] == [1, 0]
    assert list(bars[0][0].get_xdata()) == [0.1, 0.9]
