"""The Pareto figures: who is on the front, who is named, and labels that cover nothing."""

import pytest
from plot_rows import check_texts, lines_of, row, shelf, texts_of

from edgeq_lib.plots.pareto import plot_pareto
from edgeq_lib.plots.style import marker_of

ROWS = [
    row("float32", "baseline", 99.2, 320_000, 1.0),
    row("a", "ptq", 99.2, 100_000, 0.5),
    row("b", "ptq", 98.9, 110_000, 0.6),
    row("c", "qat", 98.0, 50_000, 0.4),
]


@pytest.mark.parametrize("x", ["bytes", "latency_ratio"])
def test_dominated_variants_are_hollow_and_have_no_name(x):
    figure = plot_pareto(ROWS, x)
    assert len(lines_of(figure, "front")) == 2
    dominated = lines_of(figure, "dominated")
    assert [line.get_marker() for line in dominated] == [marker_of("baseline"), marker_of("ptq")]
    assert {line.get_markerfacecolor() for line in dominated} == {"white"}
    assert sorted(texts_of(figure, "label")) == ["a", "c", "float32"]
    assert figure.axes[0].get_xscale() == ("log" if x == "bytes" else "linear")
    assert figure.axes[0].get_title(loc="left").startswith("Accuracy vs. ")
    assert not lines_of(figure, "recommended")


def test_the_recommended_file_has_a_ring_and_a_name():
    figure = plot_pareto(ROWS, "bytes", "b")
    (ring,) = lines_of(figure, "recommended")
    assert ring.get_xdata()[0] == ROWS[2]["bytes"]
    assert "b" in texts_of(figure, "label")


def test_peers_are_drawn_apart_from_the_front():
    rows = [*ROWS, {**row("google", "peer", 99.9, 50_000, 0.1), "kind": "peer"}]
    for x in ("bytes", "latency_ratio"):
        figure = plot_pareto(rows, x)
        assert [line.get_marker() for line in lines_of(figure, "peer")] == ["*"]
        assert max(lines_of(figure, "front line")[0].get_ydata()) < 99.5
        assert "google" not in texts_of(figure, "label")
    alone = plot_pareto([rows[0], rows[-1]])
    assert sorted(texts_of(alone, "label")) == ["float32", "google"]


def test_a_file_dominated_in_bytes_may_lead_in_latency():
    rows = [*ROWS[:2], row("b", "ptq", 99.2, 110_000, 0.4)]
    for x, leader in (("bytes", 100_000), ("latency_ratio", 0.4)):
        assert [line.get_xdata()[0] for line in lines_of(plot_pareto(rows, x), "front")] == [leader]


@pytest.mark.parametrize("count", [2, 12, 25, 40])
@pytest.mark.parametrize("x", ["bytes", "latency_ratio"])
def test_labels_are_inside_dark_and_apart(count, x):
    rows = shelf(count)
    figure = plot_pareto(rows, x, rows[-1]["name"])
    check_texts(figure)
    labels = texts_of(figure, "label")
    assert {"float32", rows[-1]["name"]} <= set(labels)
    assert sum(label.count("↓ 11.0 %") for label in labels) == len(range(7, count - 1, 10))


def test_one_collapsed_variant_does_not_flatten_the_others():
    assert plot_pareto(shelf(12)).axes[0].get_ylim()[0] > 90


def test_null_figures_are_left_out():
    figure = plot_pareto([*ROWS, {**ROWS[1], "name": "unmeasured", "value": None}])
    assert "unmeasured" not in texts_of(figure, "label")
    assert not texts_of(plot_pareto([]), "label")


def test_the_machine_stands_under_the_axis_of_latency():
    machine = "AMD EPYC 7B13 (avx2)"
    figure = plot_pareto(shelf(5), "latency_ratio", None, machine)
    check_texts(figure)
    assert figure.axes[0].get_xlabel().endswith(f"\n{machine}")
