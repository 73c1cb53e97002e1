"""What other answers would ship, and the best file of each branch."""

import itertools

from decision_rows import CRITERIA, FLOAT, SHELF, row

from edgeq_lib.analysis import alternatives, decision, flow
from edgeq_lib.report.text import (
    ALTERNATIVES_HEAD,
    alternatives_table,
    branch_notes,
)


def test_what_if_names_the_file_of_every_situation_and_merges_like_ones():
    found = alternatives.what_if(SHELF, CRITERIA, {"target": "int8"})
    by_name = {entry["variant"]: entry["if"] for entry in found}
    assert (
        found[0]["variant"]
        == decision.recommend(SHELF, CRITERIA, {"target": "int8"})["variant"]
        == "int8"
    )
    assert by_name["int8"][:3] == ["as answered", "images without labels", "training not possible"]
    assert by_name["squant"] == ["no image at all"] and list(by_name) == [
        "int8",
        "squant",
        "w4a8",
        "squant_w4",
    ]
    wanted = "fewer than 8 bits wanted, on whatever target"
    assert any(text.startswith(wanted) for text in by_name["w4a8"])
    assert (
        found[-1]["status"] == {"max_drop": "missed", "min_ratio": "met"}
        and found[-1]["drop"] == 4.0
    )
    shipped = [cells[1] for cells in alternatives_table({"what_if": found})]
    assert shipped == ["`int8`", "`squant`", "`w4a8`", "nothing; nearest `squant_w4`"]


def test_what_if_follows_the_answers_given():
    for given in itertools.product(*flow.ANSWERS.values()):
        answers = dict(zip(flow.ANSWERS, given, strict=True))
        found = alternatives.what_if(SHELF, CRITERIA, answers)
        said = [text for entry in found for text in entry["if"]]
        assert said[0] == "as answered" and len(said) == len(set(said)) <= 10
        assert found[0]["variant"] == decision.recommend(SHELF, CRITERIA, answers)["variant"]
        assert not {flow.ANSWERS[name][answer] for name, answer in answers.items()} & set(said)


def test_a_situation_that_leaves_no_file_says_so():
    found = alternatives.what_if([FLOAT, row("int8")], CRITERIA, {"target": "int8"})
    assert [entry["variant"] for entry in found] == ["int8", None]
    results = {"what_if": found, "validation": {"int8": {"n": 500}}, "answers": {}}
    assert alternatives_table(results)[1][1] == "nothing yet"
    assert {len(cells) for cells in alternatives_table(results)} == {len(ALTERNATIVES_HEAD)}


def test_every_branch_cites_its_best_file_with_8_bits_and_with_fewer():
    branches = alternatives.branches(SHELF, CRITERIA, {"target": "int8"})
    found = {(entry["leaf"], entry["bits"]): entry["variant"] for entry in branches}
    assert found == {
        ("data_free", "8 or more"): "squant",
        ("data_free", "fewer"): "squant_w4",
        ("ptq", "8 or more"): "int8",
        ("ptq", "fewer"): "w4a8",
        ("recovery", "8 or more"): "squant",
        ("recovery", "fewer"): "mixed",
        ("training", "8 or more"): "qat",
        ("training", "fewer"): None,
    }
    results = {"branches": branches, "validation": {"int8": {"n": 500}}}
    notes = branch_notes(results)
    assert notes["data_free"].splitlines()[-2] == "< 8 bits: squant_w4"
    assert "drop 4.00, 7.27 × smaller, missed: drop" in notes["data_free"]
    assert notes["training"].startswith("≥ 8 bits: qat") and "<" not in notes["training"]


def test_the_four_objectives_are_those_that_the_decision_would_take():
    answers = {"target": "int4"}
    entries = alternatives.objectives(SHELF, CRITERIA, answers)
    for entry in entries:
        choice = decision.recommend(SHELF, CRITERIA, answers, entry["objective"])
        assert (entry["variant"], entry["met"]) == (choice["variant"], choice["met"])
    assert [entry["objective"] for entry in entries] == list(flow.OBJECTIVES)
    assert entries[1]["variant"] == "w4a8" and entries[1]["ratio"] == 400 / 55
    nothing = [{"name": "max_drop", "bound": -9.0}]
    assert not any(entry["met"] for entry in alternatives.objectives(SHELF, nothing, answers))


def test_the_smallest_allowed_file_looks_at_the_loss_alone():
    bound = CRITERIA[:1]
    assert alternatives.smallest_allowed(SHELF, bound)["name"] == "w4a8", "no peer, no float32"
    assert alternatives.smallest_allowed(SHELF, bound, strict=True)["name"] == "mixed"
    assert alternatives.smallest_allowed(SHELF, [{"name": "min_ratio", "bound": 9}]) is None
    assert alternatives.smallest_allowed([FLOAT], bound) is None
