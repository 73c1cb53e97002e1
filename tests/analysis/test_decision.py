"""The recommendation on shelves whose right answer is known."""

import copy
import itertools

import numpy as np
import pytest
from decision_rows import CRITERIA, FLOAT, proven, row

from edgeq_lib.analysis import decision, flow, pairs
from edgeq_lib.analysis.criteria import status
from edgeq_lib.files import EdgeqError
from edgeq_lib.measure.statistics import only_one_right


def recommend(*rows, criteria=CRITERIA, objective="simplest", strict=False, **answers):
    return decision.recommend([FLOAT, *rows], criteria, answers, objective, strict)


def test_the_simplest_technique_that_meets_all_wins():
    found = recommend(
        row("qat", -0.2, technique="qat"),
        row("int8", 0.3),
        row("mixed", 0.1, 80, technique="mixed_precision"),
    )
    assert found["variant"] == "int8" and found["met"]
    assert found["path"] == [
        ["target", "any"],
        ["images", "labelled"],
        ["retraining", "yes"],
        ["meets", "yes"],
        ["objective", "simplest"],
        ["ptq_enough", "yes"],
        ["ptq", None],
    ]
    assert "simpler" in found["rejected"]["qat"] and "min_ratio" in found["rejected"]["float32"]


def test_recovery_before_training():
    rows = (
        row("int8", 3.0),
        row("recovered", 0.5, technique="ptq_recovery"),
        row("qat", 0.0, technique="qat"),
    )
    assert recommend(*rows)["variant"] == "recovered"
    assert recommend(rows[0], rows[2])["variant"] == "qat"
    assert recommend(rows[0], rows[2])["path"][-2:] == [
        ["recovery_enough", "no"],
        ["training", None],
    ]


def test_a_technique_of_the_future_counts_as_training():
    rows = row("int8", 2.0), row("pruned", 0.1, technique="pruning")
    assert recommend(*rows)["variant"] == "pruned"
    assert recommend(*rows, retraining=False)["variant"] == "int8"


def test_without_retraining_the_nearest_is_named_with_what_it_misses():
    found = recommend(
        row("int8", 2.0), row("w4", 9.0, 50), row("qat", 0.0, technique="qat"), retraining=False
    )
    assert (
        found["variant"] == "int8"
        and not found["met"]
        and found["path"][-2:] == [["meets", "no"], ["nearest", None]]
    )
    assert found["misses"] == ["max_drop (2, bound 1)"]
    assert any("max_drop" in reason and "nearest" in reason for reason in found["reasons"])
    assert "training" in found["rejected"]["qat"]


def test_without_images_only_what_needs_none_is_left():
    rows = (
        row("int8", 0.1, 90),
        row("dynamic", 0.2, scheme="dynamic_int8"),
        row("squant", 0.2, 95, technique="data_free"),
    )
    found = recommend(*rows, images="none")
    assert found["variant"] == "squant" and found["path"][-2:] == [
        ["free_meets", "yes"],
        ["data_free", None],
    ]
    assert "images" in found["rejected"]["int8"]
    found = recommend(row("int8"), row("squant", 2.0, technique="data_free"), images="none")
    assert found["variant"] == "squant" and found["path"][-2:] == [
        ["free_meets", "no"],
        ["nearest", None],
    ]


def test_without_labels_only_training_towards_outputs_is_left():
    rows = [
        row("int8", 2.0),
        row("by_labels", 0.0, technique="qat", trained="labels"),
        row("older", 0.0, technique="qat"),
    ]
    found = recommend(*rows, images="unlabelled")
    assert (
        found["variant"] == "int8"
        and "labels" in found["rejected"]["by_labels"]
        and "labels" in found["rejected"]["older"]
    )
    distilled = row("by_outputs", 0.2, technique="qat", trained="outputs")
    assert recommend(*rows, distilled, images="unlabelled")["variant"] == "by_outputs"
    assert recommend(*rows, distilled, images="unlabelled", retraining=False)["variant"] == "int8"


def test_what_was_trained_asks_for_training_whatever_its_technique():
    rows = (
        row("low", 2.0, technique="low_bit"),
        row("low_trained", 0.0, technique="low_bit", trained="outputs"),
    )
    assert recommend(*rows)["path"][-1] == ["training", None]
    assert recommend(*rows, retraining=False)["variant"] == "low"


OBJECTIVE_SHELF = proven(
    row("int8", 0.3, 100, 0.5),
    row("int8_fast", 0.4, 110, 0.3),
    row("w4a8", 0.9, 60, 0.9, bits=4),
    row("mixed", 0.5, 50, 0.8, technique="mixed_precision", bits=4),
    row("float16", 0.0, 130, 1.0, integer=False),
    row("tiny", 3.0, 20, 0.1, bits=2),
    int8__w4a8=(9, 1),
    int8_fast__w4a8=(8, 1),
    float16__w4a8=(12, 1),
    mixed__w4a8=(7, 4),
    float16__mixed=(6, 3),
)


@pytest.mark.parametrize(
    "objective, file",
    [
        ("simplest", "int8"),
        ("smallest", "mixed"),
        ("fastest", "int8_fast"),
        ("accurate", "float16"),
    ],
)
def test_each_objective_ships_its_file(objective, file):
    found = recommend(*OBJECTIVE_SHELF, objective=objective)
    assert found["variant"] == file and found["met"]
    leaf = "ptq" if objective == "simplest" else "by_objective"
    assert ["objective", objective] in found["path"] and found["path"][-1] == [leaf, None]
    assert set(found["rejected"]) == {each["name"] for each in [FLOAT, *OBJECTIVE_SHELF]} - {file}


def test_an_objective_keeps_to_what_the_answers_allow():
    allowed = {"target": "int8"}
    found = [recommend(*OBJECTIVE_SHELF, objective=name, **allowed) for name in flow.OBJECTIVES]
    assert [each["variant"] for each in found] == ["int8", "int8", "int8_fast", "int8"]
    with pytest.raises(EdgeqError, match="cheapest.*simplest, smallest"):
        recommend(objective="cheapest")


@pytest.mark.parametrize("seed", range(20))
def test_objectives_are_what_they_say_on_random_shelves(seed):
    """Random images right or wrong per file; the counts follow from them, as in a study."""
    rng, n = np.random.default_rng(seed), 200
    levels = ["ptq", "ptq_recovery", "qat"]
    right = rng.random((9, n)) < rng.uniform(0.8, 0.99, 9)[:, None]
    names = [f"v{index}" for index in range(len(right))]
    rows = [
        row(name, 100 - 100 * own.mean(), int(rng.integers(20, 130)), rng.uniform(0.1, 2),
            technique=levels[rng.integers(3)])
        for name, own in zip(names, right, strict=True)
    ]  # fmt: skip
    rows = pairs.attach(rows, pairs.encode(names, only_one_right(right)))
    asked = [{"name": "max_drop", "bound": 12.0}]
    meeting = [each for each in rows if each["drop"] <= 12]
    if not meeting:
        return
    chosen = {
        objective: next(
            each
            for each in rows
            if each["name"] == recommend(*rows, criteria=asked, objective=objective)["variant"]
        )
        for objective in flow.OBJECTIVES
    }
    assert chosen["smallest"]["bytes"] == min(each["bytes"] for each in meeting)
    assert chosen["fastest"]["latency_ratio"] == min(each["latency_ratio"] for each in meeting)
    assert chosen["accurate"]["drop"] == min(each["drop"] for each in meeting)
    simplest = chosen["simplest"]
    level = levels.index(simplest["technique"])
    rivals = [each for each in meeting if levels.index(each["technique"]) >= level]
    assert not any(pairs.beats(rival, simplest) for rival in rivals)
    same = [each for each in rivals if each["technique"] == simplest["technique"]]
    for other in same:
        beaten = any(pairs.beats(rival, other) for rival in rivals)
        assert beaten or other["bytes"] >= simplest["bytes"]
    for other in meeting:  # every simpler technique has nothing that stands
        if levels.index(other["technique"]) < level:
            assert any(pairs.beats(rival, other) for rival in meeting)


def test_strictly_the_whole_interval_must_meet_a_criterion():
    rows = (
        row("int8", 0.7, 100, half=0.4),
        row("int8_recovered", 0.4, half=0.4, technique="ptq_recovery"),
    )
    assert recommend(*rows)["variant"] == "int8"
    found = recommend(*rows, strict=True)
    assert found["variant"] == "int8_recovered" and found["met"]
    assert set(found["status"].values()) == {"met"}
    assert found["rejected"]["int8"] == "misses max_drop (0.7, interval to 1.1, bound 1)"
    found = recommend(rows[0], strict=True)
    assert found["variant"] == "int8" and not found["met"]
    assert found["misses"] == ["max_drop (0.7, interval to 1.1, bound 1)"]
    asked = [{"name": "min_agreement", "bound": 96.0}]
    sure, unsure = (
        {"agreement": 97.0, "agreement_low": low, "agreement_high": 99.0} for low in (96.5, 95)
    )
    agreeing = row("a", 0.0, 90, **unsure), row("b", 0.0, 100, **sure)
    assert recommend(*agreeing, criteria=asked)["variant"] == "a"
    assert recommend(*agreeing, criteria=asked, strict=True)["variant"] == "b"


def test_a_hundredth_of_a_bound_is_no_reason_to_be_nearer():
    asked = [{"name": "max_latency_ratio", "bound": 1.0}]
    rows = row("worse", 0.9, latency=1.146), row("better", 0.1, latency=1.151)
    assert decision.recommend(rows, asked)["variant"] == "better"


def test_what_no_paired_test_tells_apart_goes_by_bytes_then_accuracy_then_name():
    timed = [*CRITERIA, {"name": "max_latency_ratio", "bound": 1.0}]
    rows = (
        row("a", 0.0, 100),
        row("b", 0.2, 90, 0.5),
        row("c", 0.1, 90, 0.6),
        row("d", 0.1, 90, 0.1),
    )
    found = recommend(*rows, criteria=timed)
    assert found["variant"] == "c"
    assert any(
        "cannot tell the accuracy of c from that of a, b, d" in text for text in found["reasons"]
    )


def test_latency_decides_nothing_unless_it_is_a_criterion():
    """It belongs to one machine, and the same study should ship the same file on another."""
    for fast, slow in itertools.permutations((0.2, 5.0)):
        rows = row("a", 0.2, 90, fast), row("b", 0.1, 90, slow), row("c", 0.3, 95, fast / 2)
        found = recommend(*rows)
        assert found["variant"] == "b" and "fast" not in " ".join(found["rejected"].values())
        far = [row("x", 9.0, latency=fast), row("y", 9.0, latency=slow)]
        assert decision.nearest(far, CRITERIA)["name"] == "x"


def test_a_file_proven_less_accurate_is_not_taken_for_its_size():
    rows = row("best", 0.0), row("small", 0.4, 90)
    assert recommend(*rows)["variant"] == "small"
    assert recommend(*proven(*rows, best__small=(6, 4)))["variant"] == "small"
    found = recommend(*proven(*rows, best__small=(9, 1)))
    assert found["variant"] == "best"
    assert (
        "best has a higher accuracy on validation (paired test, 95 %)" in found["rejected"]["small"]
    )
    found = recommend(*proven(*rows, best__small=(9, 1)), objective="smallest")
    assert found["variant"] == "small", "it was asked for"


def test_a_costlier_technique_is_taken_only_when_a_paired_test_proves_it_better():
    rows = row("int8", 0.9), row("int8_recovered", 0.1, technique="ptq_recovery")
    qat = row("qat_int8", 0.0, technique="qat")
    found = recommend(*proven(*rows, qat, int8_recovered__int8=(10, 2), qat_int8__int8=(11, 2)))
    assert found["variant"] == "int8_recovered" and found["met"]
    assert found["path"][-3:] == [
        ["ptq_enough", "no"],
        ["recovery_enough", "yes"],
        ["recovery", None],
    ]
    assert any("a costlier technique has a higher accuracy" in text for text in found["reasons"])
    assert recommend(*proven(*rows, qat, int8_recovered__int8=(5, 4)))["variant"] == "int8"
    wide = row("int8_tensor", 0.5, 90)
    found = recommend(*proven(*rows, wide, int8_recovered__int8=(10, 2)))
    assert found["variant"] == "int8_tensor", "one file that stands is enough for its technique"


def test_where_agreement_is_a_criterion_the_point_estimate_of_ties_is_agreement():
    asked = [{"name": "min_agreement", "bound": 90.0}]
    rows = row("a", 0.0, agreement=94.0), row("b", 0.5, agreement=96.0)
    assert recommend(*rows, criteria=asked)["variant"] == "b"
    assert recommend(*rows)["variant"] == "a"


def test_a_shelf_like_efficientnetv2b0():
    """Plain int8 collapses, float activations cost too much, QAT and recovery come back."""
    criteria = [
        {"name": "max_drop", "bound": 0.5},
        {"name": "min_ratio", "bound": 3.25},
        {"name": "max_latency_ratio", "bound": 0.4},
    ]
    rows = [
        row("float16", 0.0, 200, 1.02),
        row("dynamic_int8", 0.05, 110, 0.6, scheme="dynamic_int8"),
        row("int8", 2.4, 118, 0.35, half=0.9),
        row("int8_per_tensor", 2.3, 102, 0.35, half=0.9),
        row("int16x8", 0.1, 117, 30.0),
        row("w4a8", 3.0, 70, 1.1, bits=4),
        row("qat_selective", 0.4, 119, 0.6, technique="qat"),
        row("google", -5.0, 50, 0.1, technique="peer", kind="peer"),
    ]
    qat = row("qat_int8", 0.1, 118, 0.35, technique="qat", half=0.8)
    recovered = row("int8_recovered", 0.2, 118, 0.35, technique="ptq_recovery", half=0.8)
    assert recommend(*rows, qat, criteria=criteria)["variant"] == "qat_int8"
    found = recommend(*rows, qat, recovered, criteria=criteria)
    assert found["variant"] == "int8_recovered" and len(found["reasons"]) <= 7
    assert max(map(len, found["reasons"])) < 250


def test_without_a_bound_on_the_drop_accuracy_is_not_given_away():
    rows = proven(row("int8", 0.1, half=0.3), row("w2", 70.0, 30), int8__w2=(350, 2))
    assert recommend(*rows, criteria=[])["variant"] == "int8"


def test_peers_are_never_recommended():
    found = recommend(row("peer", -1.0, 10, kind="peer", technique="peer"), row("int8", 2.0))
    assert found["variant"] == "int8" and "peer" in found["rejected"]["peer"]
    assert recommend(row("peer", 0.0, 90, kind="peer"), row("int8", 0.0))["variant"] == "int8"


def test_float32_is_kept_when_only_it_meets_the_criteria():
    found = recommend(row("int8", 5.0), criteria=CRITERIA[:1])
    assert found["variant"] == "float32" and found["met"]


def test_nothing_runs():
    found = recommend(row("dynamic", integer=False), target="integer")
    assert found["variant"] is None and not found["met"] and "No variant" in found["reasons"][-1]


def test_unmeasured_figures_do_not_pass_but_a_latency_elsewhere_rules_nothing_out():
    found = recommend(
        row("int8", agreement=None), criteria=[{"name": "min_agreement", "bound": 90.0}]
    )
    assert found["variant"] == "float32"
    criteria = [{"name": "max_latency_ratio", "bound": 2.0}, *CRITERIA]
    elsewhere = row("int8", latency=9.0, target_latency_ratio=None)
    found = recommend(elsewhere, criteria=criteria)
    assert found["variant"] == "int8" and found["met"] and not found["misses"]
    assert found["status"]["max_latency_ratio"] == "not measured"
    there = recommend(row("int8", latency=0.1, target_latency_ratio=9.0), criteria=criteria)
    assert not there["met"] and "max_latency_ratio (9, bound 2)" in there["rejected"]["int8"]
    old = [{"name": "device", "bound": "phone"}]  # of a study of before
    assert status(row("x"), old) == {}


def test_every_row_but_the_chosen_has_a_reason_and_order_does_not_matter():
    rows = [
        FLOAT,
        row("int8", 0.2),
        row("tensor", 0.3, 95),
        row("w4", 4.0, 60),
        row("qat", 0.0, technique="qat"),
    ]
    answers = [decision.recommend(order, CRITERIA) for order in itertools.permutations(rows)]
    assert {answer["variant"] for answer in answers} == {"tensor"}
    assert all(
        set(answer["rejected"]) == {each["name"] for each in rows} - {"tensor"}
        for answer in answers
    )
    before = copy.deepcopy(rows)
    decision.recommend(rows, CRITERIA)
    assert rows == before


def test_the_target_is_said_with_how_it_is_known():
    found = recommend(row("w4a8", bits=4), row("int8", 0.1), target="int8")
    assert found["variant"] == "int8" and "it is no int8" in found["rejected"]["w4a8"]
    assert "On the target int8: 1 of 3 files are left." in found["reasons"]
    assert "executed in the runtime of that target" in found["reasons"][-1]
    assert "1.0 kB of RAM and 2.0 kB of flash" in found["reasons"][-1]
    unknown = {"runs": None, "how": "checked", "why": "no compiler", "ram_bytes": None}
    other = row("int8", targets={"new": {**unknown, "flash_bytes": None}})
    found = decision.recommend([other], CRITERIA, {"target": "new"})
    assert found["variant"] == "int8" and "is not known: no compiler" in found["reasons"][-1]
    with pytest.raises(EdgeqError, match="No file was tried on the target 'toaster'.*int8"):
        recommend(row("x"), target="toaster")


@pytest.mark.parametrize(
    "criteria, answers, word",
    [
        ([{"name": "max_dorp", "bound": 1}], {}, "max_dorp"),
        (CRITERIA[:1] * 2, {}, "twice"),
        ([], {"images": "some"}, "some"),
        ([], {"weather": "fair"}, "weather"),
    ],
)
def test_unknown_criteria_and_answers_are_refused(criteria, answers, word):
    with pytest.raises(EdgeqError, match=word):
        decision.recommend([FLOAT], criteria, answers)


def test_agreement_can_be_asked_for_where_accuracy_on_few_images_says_little():
    rows = (
        row("int8", drop=-0.3, agreement=94.0),
        row("int8_recovered", technique="ptq_recovery", drop=0.3, agreement=97.5),
    )
    choice = recommend(*rows, criteria=[{"name": "min_agreement", "bound": 96.0}])
    assert choice["variant"] == "int8_recovered" and choice["met"]
    assert "min_agreement (94, bound 96)" in choice["rejected"]["int8"]
    assert any("97.5 %" in reason for reason in choice["reasons"])
