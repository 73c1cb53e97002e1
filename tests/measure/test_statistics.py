"""Intervals, paired tests and ties, against published values, other means, and simulation."""

import numpy as np
import pytest
from scipy.stats import binom

from edgeq_lib.files import EdgeqError
from edgeq_lib.measure.statistics import (
    accuracy,
    agreement,
    correctness,
    holm,
    mid_p,
    only_one_right,
    paired,
    quality_record,
    smallest_detectable_drop,
    worst_class,
)


def one_hot(predicted, classes=10, dtype=np.float32):
    return (np.eye(classes)[predicted] * 100).astype(dtype)


def images(hits, n):
    """Correctness of n images of which so many are right."""
    return np.repeat([1.0, 0.0], [hits, n - hits])


def test_ties_count_their_expected_value():
    outputs = np.array(
        [[9, 9, 1, 0, 0, 0, 0], [9, 9, 9, 0, 0, 0, 0], [1, 2, 3, 0, 0, 0, 0], [9, 9, 1, 0, 0, 0, 0]]
    )
    top1, top5, ties = correctness(outputs.astype(np.int8), np.array([0, 2, 2, 2]))
    assert top1 == pytest.approx([1 / 2, 1 / 3, 1, 0])
    assert top5 == pytest.approx([1, 1, 1, 1])
    assert ties == 3  # the last image ties too, though its true class is not among the tied


def test_top5_shares_the_places_that_are_left():
    # Three classes above, four tied for the two ranks that are left.
    outputs = np.array([[9, 8, 7, 5, 5, 5, 5, 0]], np.uint8)
    top1, top5, ties = correctness(outputs, np.array([4]))
    assert (top1[0], top5[0], ties) == (0, 2 / 4, 0)


def test_all_classes_tied_is_chance():
    top1, top5, ties = correctness(np.zeros((3, 10), np.int8), np.array([0, 5, 9]))
    assert top1 == pytest.approx([0.1] * 3) and top5 == pytest.approx([0.5] * 3) and ties == 3


def test_unsigned_outputs_do_not_wrap_around():
    top1, _, _ = correctness(np.array([[0, 255], [255, 0]], np.uint8), np.array([1, 1]))
    assert list(top1) == [1, 0]


@pytest.mark.parametrize(
    "outputs, labels, word",
    [
        (np.zeros((2, 3)), np.array([0, 3]), "3 outputs"),
        (np.zeros((2, 3)), np.array([0]), "shape"),
        (np.zeros((0, 3)), np.zeros(0, int), "at least one image"),
        (np.array([[np.nan, 1.0]]), np.array([1]), "NaN"),
    ],
)
def test_bad_input_is_named(outputs, labels, word):
    with pytest.raises(EdgeqError, match=word):
        correctness(outputs, labels)


def test_wilson_by_hand():
    hits, n, z = 45, 50, 1.959964
    p = hits / n
    centre = (p + z**2 / 2 / n) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + (z / 2 / n) ** 2)
    expected = (90, 100 * (centre - half), 100 * (centre + half))
    assert accuracy(images(hits, n)) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [
        (81, 263, 25.53, 36.62),
        (15, 148, 6.24, 16.05),
        (0, 20, 0.00, 16.11),
        (1, 29, 0.61, 17.18),
    ],
)
def test_wilson_on_published_examples(hits, n, low, high):
    """Newcombe 1998, Statistics in Medicine 17:857-872, Table I, method 3 (score interval)."""
    assert accuracy(images(hits, n)) == pytest.approx((100 * hits / n, low, high), abs=6e-3)


def test_wilson_at_the_bounds_stays_inside_and_open():
    assert accuracy(np.ones(360))[1:] == pytest.approx((98.9442, 100), abs=1e-3)
    _, low, high = accuracy(np.zeros(10))
    assert low == pytest.approx(0, abs=1e-9) and high > 20


@pytest.mark.parametrize("lost, won", [(0, 0), (1, 0), (5, 0), (0, 6), (1, 7), (4, 4), (12, 30)])
def test_mid_p_equals_its_definition_for_whole_counts(lost, won):
    total, small = lost + won, min(lost, won)
    expected = 2 * binom.cdf(small, total, 0.5) - binom.pmf(small, total, 0.5) if total else 1.0
    assert mid_p(lost, won) == pytest.approx(min(expected, 1.0))


@pytest.mark.parametrize(
    ("lost", "won", "expected"),
    [
        (1, 7, 0.039),  # airway hyper-responsiveness; Fagerland et al. 2013, BMC MRM 13:91
        (6, 16, 0.034690),  # complete response; contingencytables, McNemar_midP_test_paired_2x2
    ],
)
def test_mid_p_on_published_examples(lost, won, expected):
    """Both tables are in Fagerland, Lydersen & Laake 2017, chapter 8.

    The book is "Statistical Analysis of Contingency Tables"; `contingencytables` is its R package.
    """
    assert mid_p(lost, won) == pytest.approx(expected, abs=5e-4 if lost == 1 else 5e-7)


def test_mid_p_for_fractions_lies_between_its_neighbours():
    assert mid_p(2, 9) < mid_p(2.5, 9) < mid_p(3, 9)
    assert mid_p(4.5, 4.5) == pytest.approx(1)


def test_paired_counts_each_side_once():
    base = np.array([1, 1, 1, 1, 0, 0, 1, 1, 1, 1.0])
    variant = np.array([1, 1, 0, 0, 0, 1, 1, 1, 1, 1.0])
    result = paired(base, variant)
    assert result["drop"] == pytest.approx(10)
    assert result["p_value"] == pytest.approx(mid_p(2, 1))
    assert result["drop_low"] < 10 < result["drop_high"]
    mirrored = paired(variant, base)
    assert mirrored["drop_low"] == pytest.approx(-result["drop_high"])


@pytest.mark.parametrize(
    ("both_wrong", "lost", "won", "both_right", "low", "high"),
    [
        # statpsych (Bonett's R package), ci.prop.ps(.05, 12, 4, 26, 6)
        (12, 26, 4, 6, 25.48067, 62.51933),
        # statpsych, ci.pairs.prop1 with frequencies 125, 82, 92: its first row
        (92, 125, 82, 0, 5.011508, 23.559920),
    ],
)
def test_drop_interval_on_published_examples(both_wrong, lost, won, both_right, low, high):
    """Bonett & Price 2012, doi:10.3102/1076998611411915, as its author's package computes it."""
    counts = [both_wrong, lost, won, both_right]
    result = paired(np.repeat([0.0, 1, 0, 1], counts), np.repeat([0.0, 0, 1, 1], counts))
    assert (result["drop_low"], result["drop_high"]) == pytest.approx((low, high), abs=1e-5)
    assert result["drop"] == pytest.approx(100 * (lost - won) / sum(counts))


def test_a_file_against_itself_has_no_discordance_even_with_ties():
    correct = np.array([1, 0.5, 1 / 3, 0])
    result = paired(correct, correct)
    assert (result["drop"], result["p_value"]) == (0, 1)
    assert result["drop_low"] < 0 < result["drop_high"]  # four images prove little


def test_interval_at_no_discordance_by_hand():
    result = paired(np.ones(360), np.ones(360))
    assert result["drop_high"] == pytest.approx(100 * 1.959964 * np.sqrt(2 / 362 / 362), abs=1e-4)


@pytest.mark.parametrize(
    "n, lose, win", [(100, 0.02, 0.02), (360, 0.01, 0.002), (360, 0.05, 0.02), (1000, 0.004, 0.0)]
)
def test_drop_interval_covers(n, lose, win):
    rng, truth, covered, runs = np.random.default_rng(7), 100 * (lose - win), 0, 1500
    for lost, won, _ in rng.multinomial(n, [lose, win, 1 - lose - win], runs):
        base, variant = np.ones(n), np.ones(n)
        variant[:lost], base[lost : lost + won] = 0, 0
        result = paired(base, variant)
        covered += result["drop_low"] <= truth <= result["drop_high"]
    assert covered / runs > 0.935


def test_mid_p_keeps_its_level():
    rng, runs = np.random.default_rng(3), 4000
    false = [
        mid_p(lost, won) < 0.05 for lost, won, _ in rng.multinomial(360, [0.02, 0.02, 0.96], runs)
    ]
    assert np.mean(false) < 0.06


@pytest.mark.parametrize("n, discordance", [(1000, 0.05), (360, 0.03), (5000, 0.1)])
def test_the_detectable_drop_is_detected_four_times_in_five(n, discordance):
    drop = smallest_detectable_drop(n, discordance) / 100
    rng = np.random.default_rng(1)
    lose, win = (discordance + drop) / 2, (discordance - drop) / 2
    detected = [
        mid_p(lost, won) < 0.05
        for lost, won, _ in rng.multinomial(n, [lose, win, 1 - discordance], 3000)
    ]
    # The formula is for large counts and errs on the safe side for small ones.
    assert 0.78 < np.mean(detected) < 0.88


def test_the_detectable_drop_without_discordance():
    drop = smallest_detectable_drop(360, 0.0) / 100
    assert 6.5 < 360 * drop < 9  # about eight images
    lost = np.random.default_rng(1).binomial(360, drop, 3000)
    assert np.mean([mid_p(count, 0) < 0.05 for count in lost]) > 0.75
    assert smallest_detectable_drop(10_000, 0.0) < smallest_detectable_drop(1000, 0.0)
    assert smallest_detectable_drop(3, 0.0) == 100


def test_the_detectable_drop_shares_its_error_as_holm_does():
    """What is detected at the shared level four times in five is significant after Holm."""
    n, discordance, comparisons = 1000, 0.05, 20
    drop = smallest_detectable_drop(n, discordance, comparisons=comparisons) / 100
    assert drop > smallest_detectable_drop(n, discordance) / 100
    lose, win = (discordance + drop) / 2, (discordance - drop) / 2
    draws = np.random.default_rng(5).multinomial(n, [lose, win, 1 - discordance], 500)
    p_values = [mid_p(lost, won) for lost, won, _ in draws]
    assert 0.75 < np.mean(np.array(p_values) * comparisons < 0.05) < 0.9
    first = holm([p_values[0], *[1.0] * (comparisons - 1)])[0]  # slow: it collects garbage
    assert first == pytest.approx(min(1, p_values[0] * comparisons))


def test_only_one_right_by_hand():
    table = only_one_right([np.array([1, 1, 0, 0.5]), np.array([1, 0, 1, 0.25])])
    assert table.tolist() == [[0, 1.25], [1, 0]]


def test_holm_by_hand_with_gaps():
    assert holm([0.01, None, 0.04, 0.03]) == pytest.approx([0.03, None, 0.06, 0.06])
    assert holm([None, None]) == [None, None] and holm([]) == []


def test_agreement_on_a_published_example():
    """Two assessments of 85 xeromammograms (Boyd et al. 1982), in the Stata manual's entry `kap`.

    There 63.53 % agree.
    """
    table = np.array([[21, 12, 0, 0], [4, 17, 1, 0], [3, 9, 15, 2], [0, 0, 0, 1]])
    first, second = (np.repeat(index.ravel(), table.ravel()) for index in np.indices(table.shape))
    assert agreement(one_hot(first, 4), one_hot(second, 4)) == pytest.approx(63.53, abs=5e-3)


def test_agreement_takes_the_first_of_tied_classes():
    assert agreement(np.array([[5, 5, 0], [0, 1, 2]]), np.array([[9, 0, 0], [0, 2, 1]])) == 50
    with pytest.raises(EdgeqError):
        agreement(np.zeros((2, 3)), np.zeros((3, 3)))


def test_worst_class_skips_classes_without_images():
    worst = worst_class(np.array([1, 1, 0.5, 0.5]), np.array([0, 0, 2, 2]), ["a", "empty", "c"])
    assert worst == {"name": "c", "top1": 50.0, "n": 2}


def test_quality_is_the_record():
    labels = np.arange(100) % 10
    wrong = labels.copy()
    wrong[:3] = 9
    record = quality_record(
        one_hot(wrong, dtype=np.int8), labels, [str(i) for i in range(10)], one_hot(labels)
    )
    assert record["top1"] == 97 and record["drop"] == pytest.approx(3) and record["agreement"] == 97
    assert record["n"] == 100 and record["ties"] == 0 and record["low"] < 97 < record["high"]
    assert record["worst_class"] == {"name": "0", "top1": 90.0, "n": 10} and record["top5"] < 100
    assert record["p_value"] == pytest.approx(mid_p(3, 0))
    assert record["discordance"] == pytest.approx(0.03)
    low, high = record["agreement_low"], record["agreement_high"]
    assert (low, high) == pytest.approx((record["low"], record["high"])), "Wilson's, both 97 of 100"


def test_quality_of_the_baseline_and_of_few_classes():
    record = quality_record(one_hot([0, 1, 1], 3), np.array([0, 1, 2]), ["a", "b", "c"])
    assert record["top5"] is None
    assert all(
        record[field] is None for field in ("drop", "drop_low", "drop_high", "p_value", "agreement")
    )
