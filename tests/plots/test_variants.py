"""Figures of the results table: what is drawn is counted, texts are dark, inside and apart."""

import pandas as pd
import pytest
from matplotlib.figure import Figure
from plot_rows import check_texts, lines_of, shelf, texts_of

from edgeq_lib.plots.variants import (
    plot_drops,
    plot_latency,
    plot_ratio_by_size,
    plot_sizes,
    plot_weight_bits,
)

OF_ROWS = [plot_drops, plot_sizes, plot_latency, plot_weight_bits]


def names_of(figure):
    return [label.get_text() for label in figure.axes[0].get_yticklabels()]


@pytest.mark.parametrize("count", [2, 12, 25])
def test_every_variant_is_drawn_once(count):
    rows = shelf(count)
    assert len(lines_of(plot_drops(rows, 1.0), "point")) == count - 1
    assert len(lines_of(plot_latency(rows), "point")) == count
    assert len(lines_of(plot_latency(rows), "all threads")) == count
    assert len(plot_sizes(rows).axes[0].patches) == 2 * count
    assert len(plot_weight_bits(rows).axes[0].patches) == 2 * count


@pytest.mark.parametrize("count", [2, 25])
@pytest.mark.parametrize("draw", OF_ROWS)
def test_texts_are_inside_dark_and_apart(draw, count):
    check_texts(draw(shelf(count)))


def test_intervals_are_those_of_the_rows():
    rows = shelf(3)
    drawn = lines_of(plot_drops(rows), "interval")
    expected = [[row["drop_low"], row["drop_high"]] for row in rows[1:]]
    assert [list(line.get_xdata()) for line in drawn] == expected


def test_one_collapsed_variant_does_not_flatten_the_others():
    figure = plot_drops(shelf(12))
    assert figure.axes[0].get_xlim()[1] < 5
    assert texts_of(figure, "collapsed") == ["88.2 →"]


def test_a_peer_far_ahead_does_not_hide_that_a_variant_collapsed():
    rows = [
        {**row, "kind": "peer", "drop": -30.0} if row["name"].endswith("_6") else row
        for row in shelf(12)
    ]
    assert texts_of(plot_drops(rows), "collapsed") == ["88.2 →"]


@pytest.mark.parametrize("bound", [0.1, 8.0, 40.0])
def test_the_criterion_of_the_legend_lies_within_the_figure(bound):
    figure = plot_drops(shelf(4), bound)
    left, right = figure.axes[0].get_xlim()
    assert left < bound < right and len(lines_of(figure, "bound")) == 1


@pytest.mark.parametrize("draw", [plot_drops, plot_latency])
def test_the_baseline_lies_behind_the_markers(draw):
    figure = draw(shelf(3))
    (line,) = lines_of(figure, "baseline")
    assert line.get_linestyle() == "--"
    assert all(line.get_zorder() < point.get_zorder() for point in lines_of(figure, "point"))


def test_null_figures_are_left_out():
    missing = dict.fromkeys(("value", "drop", "bytes", "latency_ratio", "weight_bits_share"))
    rows = [*shelf(3), {**shelf(3)[1], "name": "unmeasured", **missing}]
    for draw in (plot_sizes, plot_latency, plot_weight_bits):
        assert names_of(draw(rows)) == [row["name"] for row in rows[:3]]
    for draw in OF_ROWS:
        assert isinstance(draw(rows[3:]), Figure)


def test_the_ratio_by_image_size_has_its_interval():
    table = pd.DataFrame({"ratio": [0.6, 0.4], "low": [0.5, 0.3], "high": [0.8, 0.6]}, [96, 224])
    figure = plot_ratio_by_size(table)
    check_texts(figure)
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["96", "224"]


MACHINE = "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz (avx2, avx512f, avx512_vnni, amx_int8)"


def test_a_latency_names_its_machine_and_what_its_bar_is():
    rows = [{**row, "latency_interval": "95 % of the median"} for row in shelf(4)]
    figure = plot_latency(rows, MACHINE)
    check_texts(figure)
    label = figure.axes[0].get_xlabel().replace("\n", " ")
    assert label.endswith(MACHINE) and "bar: 95 % of the median" in label
    label = plot_latency(shelf(4)).axes[0].get_xlabel().replace("\n", " ")
    assert "bar: 10th to 90th percentile over rounds" in label  # as version 0.2.0 measured
    table = pd.DataFrame({"ratio": [0.6, 0.4], "low": [0.5, 0.3], "high": [0.8, 0.6]}, [96, 224])
    assert MACHINE in plot_ratio_by_size(table, MACHINE).axes[0].get_xlabel()


def test_a_ratio_without_interval_has_no_bar():
    rows = shelf(3)
    rows[1]["latency_ratio_low"] = rows[1]["latency_ratio_high"] = None
    for ratio in rows[1]["latency_ratio_by_threads"].values():
        ratio["ratio_low"] = ratio["ratio_high"] = None
    figure = plot_latency(rows)
    assert len(lines_of(figure, "point")) == len(lines_of(figure, "all threads")) == 3
    assert len(lines_of(figure, "interval")) == 2
