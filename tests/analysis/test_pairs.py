"""Which of two files is more accurate, from counts that a file of results can hold."""

import json

import numpy as np
import pytest
from decision_rows import FLOAT, proven, row

from edgeq_lib.analysis import pairs
from edgeq_lib.measure.statistics import mid_p, only_one_right, paired


def test_the_measure_is_agreement_only_where_it_is_a_criterion():
    assert pairs.measure_of([{"name": "max_drop", "bound": 1}]) == "top1"
    assert pairs.measure_of([{"name": "min_agreement", "bound": 96}]) == "agreement"
    other = row("a", 2.0, agreement=97.0)
    assert [pairs.loss(other, measure) for measure in pairs.MEASURES] == [2.0, 3.0]
    assert pairs.loss(row("a", agreement=None), "agreement") == float("inf")
    assert pairs.loss(FLOAT, "top1") == 0


@pytest.mark.parametrize("seed", range(5))
def test_counts_survive_the_file_and_test_as_the_images_do(seed):
    rng, names = np.random.default_rng(seed), ["a", "b", "c", "d"]
    correct = rng.choice([0, 1 / 3, 0.5, 1], (4, 300), p=[0.1, 0.05, 0.05, 0.8])
    correct[0] = np.maximum(correct[0], correct[1])
    stored = json.loads(json.dumps(pairs.encode(names, only_one_right(correct))))
    rows = pairs.attach([row(name) for name in [*names, "unknown"]], stored)
    assert rows[-1]["paired"] == {} and not pairs.beats(rows[-1], rows[0])
    for own, one in enumerate(rows[:4]):
        for theirs, other in enumerate(rows[:4]):
            if own != theirs:
                expected = paired(correct[own], correct[theirs])
                counts = one["paired"][other["name"]]
                assert mid_p(*counts) == pytest.approx(expected["p_value"], abs=1e-3)
                proof = expected["p_value"] < 0.05 and expected["drop"] > 0
                assert pairs.beats(one, other) == proof
    best = max(range(4), key=lambda index: correct[index].sum())
    assert rows[best] in pairs.unbeaten(rows[:4], rows[:4])


def test_no_evidence_is_no_proof():
    one, other = proven(row("one", 0.0), row("other", 50.0))
    assert not pairs.beats(one, other)
    assert pairs.unbeaten([one, other], [one, other]) == [one, other]
