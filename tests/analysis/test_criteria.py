"""How a variant stands to the criteria of a study."""

import pytest
from decision_rows import CRITERIA, FLOAT, row

from edgeq_lib.analysis.criteria import dominated, excess, misses, passed, status


@pytest.mark.parametrize(
    "drop, half, expected",
    [
        (0.2, 0.5, "met"),
        (0.5, 0.5, "met within noise"),
        (1.0, 0.5, "met within noise"),
        (1.1, 0.5, "missed"),
    ],
)
def test_the_point_estimate_decides_and_the_interval_reserves(drop, half, expected):
    assert status(row("x", drop, half=half), CRITERIA[:1]) == {"max_drop": expected}
    assert passed(row("x", drop, half=half), CRITERIA[:1]) == {"max_drop": expected != "missed"}


def test_dominated():
    rows = [FLOAT, row("a", 0.0), row("b", 0.1, 110), row("c", 1.0, 50, 0.5), row("twin", 0.0)]
    assert dominated(rows) == {"float32": "a", "b": "a"}
    assert dominated(rows, (2,)) == {"float32": "a", "c": "a"}


@pytest.mark.parametrize(
    "low, high, expected",
    [(96.5, 99, "met"), (96.0, 99, "met within noise"), (94, 99, "met within noise")],
)
def test_agreement_has_an_interval_like_every_other_criterion(low, high, expected):
    asked = [{"name": "min_agreement", "bound": 96.0}]
    agreeing = row("x", agreement=97.0, agreement_low=low, agreement_high=high)
    assert status(agreeing, asked) == {"min_agreement": expected}
    assert passed(agreeing, asked, strict=True) == {"min_agreement": expected == "met"}
    assert status(FLOAT, asked) == {"min_agreement": "met"}
    assert excess(agreeing, asked) == 0
    assert (excess(agreeing, asked, strict=True) > 0) == (low < 96)


def test_a_latency_of_too_few_rounds_for_an_interval_is_met_within_noise():
    asked = [{"name": "max_latency_ratio", "bound": 0.5}]
    timed = row("x", latency=0.4)
    assert status(timed, asked) == {"max_latency_ratio": "met"}
    alone = timed | {"latency_ratio_low": None, "latency_ratio_high": None}
    assert status(alone, asked) == {"max_latency_ratio": "met within noise"}
    assert misses(alone, asked) == []
    assert misses(alone, asked, strict=True) == ["max_latency_ratio (0.4, no interval, bound 0.5)"]
