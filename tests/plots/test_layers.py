"""Figures of tensors and layers: what they name, and that texts are dark, inside and apart."""

import numpy as np
from plot_rows import check_texts, lines_of, texts_of

from edgeq_lib.plots.layers import (
    plot_ablation,
    plot_activation_ranges,
    plot_calibration_sizes,
    plot_layer_sensitivity,
    plot_signal_to_noise,
)


def names_of(figure):
    return [label.get_text() for label in figure.axes[0].get_yticklabels()]


def test_of_many_tensors_the_farthest_are_shown():
    reach = np.arange(1.0, 268.0)
    names = [f"block_{index}" for index in range(267)]
    figure = plot_activation_ranges(
        names,
        np.ones(267),
        {"min_max": (-reach, reach / 2), "moving_average": (-reach / 9, reach / 9)},
    )
    check_texts(figure)
    assert names_of(figure) == names[:-21:-1], "the farthest first"
    assert len(figure.axes[0].lines) == 2, "a series per summary"
    assert "20 farthest of 267" in figure.axes[0].get_title(loc="left")


def test_of_few_tensors_all_are_shown():
    figure = plot_activation_ranges(
        ["a", "b"], np.array([1.0, 2.0]), {"x": (-np.ones(2), np.ones(2))}
    )
    assert names_of(figure) == ["a", "b"]
    assert figure.axes[0].get_title(loc="left") == "Activation ranges: 2 tensors"


def test_the_noisiest_tensors_are_named():
    names = [f"tensor_{index}" for index in range(60)]
    figure = plot_signal_to_noise(names, ["CONV_2D", "MUL"] * 30, np.arange(60) / 2)
    check_texts(figure)
    assert texts_of(figure, "label") == names[:5]


def test_the_most_sensitive_layers_come_first():
    rows = [{"layer": f"l{i}", "only_snr": 9.0 - i, "without_snr": float(i)} for i in range(3)]
    figure = plot_layer_sensitivity(rows, limit=2)
    check_texts(figure)
    assert names_of(figure) == ["l2", "l1"]


def test_a_line_per_calibration_set():
    figure = plot_calibration_sizes([16, 32], {"a": [90, 91], "b": [92, 93]})
    check_texts(figure)
    assert len(figure.axes[0].lines) == 2


def step(name, technique, drop, agreement, chosen=False):
    bounds = {"drop": drop, "drop_low": drop - 1, "drop_high": drop + 1}
    return {
        "step": name,
        "technique": technique,
        **bounds,
        "agreement": agreement,
        "n": 400,
        "chosen": chosen,
    }


def test_the_ablation_joins_no_unordered_rows():
    steps = [
        step("naive", "ptq", 60.0, 12.0),
        step("ranges", "ptq_recovery", 1.0, 96.0),
        step("biases", "ptq_recovery", 0.4, 97.0, chosen=True),
        step("weights", "ptq_recovery", 0.5, 96.5),
        step("trained", "qat", 0.1, 99.0),
    ]
    figure = plot_ablation(steps)
    check_texts(figure)
    assert names_of(figure) == ["naive", "ranges", "biases ←", "weights", "trained"]
    right = figure.axes[1]
    assert all(len(set(line.get_ydata())) == 1 for line in right.lines), "a line stays in its row"
    assert [text.get_text() for text in right.texts] == ["12.0", "96.0", "97.0", "96.5", "99.0"]
    assert right.get_xlim()[0] > 90, "one that collapsed does not flatten the others"
    assert texts_of(figure, "collapsed") == ["60.0 →"]
    assert len(lines_of(figure, "point")) == len(steps)
    assert "Ablation" in figure.axes[0].get_title(loc="left")


def test_an_ablation_where_all_agree():
    figure = plot_ablation([step("a", "ptq", 0.0, 100.0)])
    check_texts(figure)
