"""The decision flow as data."""

import itertools

from decision_rows import CRITERIA, FLOAT, TARGETS, row

from edgeq_lib.analysis import alternatives, decision, flow


def recommend(*rows, criteria=CRITERIA, objective="simplest", **answers):
    return decision.recommend([FLOAT, *rows], criteria, answers, objective)


def test_what_the_target_does_not_run_is_left_out():
    criteria = [{"name": "max_drop", "bound": 0.05}]
    rows = [
        row("dynamic", 0.0, scheme="dynamic_int8", integer=False),
        row("w4a8", 0.0, bits=4),
        row("int8", 0.0),
        row("w2", 0.0, bits=2),
    ]
    runs = {
        target: {each["name"] for each in rows if flow.runs(each, target)}
        for target in (flow.ANY_TARGET, *TARGETS)
    }
    assert runs == {
        "any": {"dynamic", "w4a8", "int8", "w2"},
        "any_width": {"dynamic", "w4a8", "int8", "w2"},
        "integer": {"w4a8", "int8", "w2"},
        "int4": {"w4a8", "int8"},
        "int8": {"int8"},
    }
    found = recommend(rows[1], rows[0], criteria=criteria, target="int4")
    assert found["variant"] == "w4a8"
    assert found["rejected"]["dynamic"] == "int4 does not run it: it is no int4"
    assert flow.why_not_on(row("x", targets=None), "int4") == "it was not tried"


def test_the_flow_is_whole_and_every_path_is_in_it():
    for node in flow.FLOW.values():
        assert all(target in flow.FLOW for target in node.get("next", {}).values())
    shelves = [
        [row("x", 0.0)],
        [row("x", 5.0)],
        [row("x", technique="low_bit", bits=4)],
        [row("x", technique="qat")],
        [row("x", technique="data_free")],
        [],
    ]
    ends = set()
    asked = [*flow.ANSWERS, "objective"]
    for shelf, *given in itertools.product(shelves, *flow.ANSWERS.values(), flow.OBJECTIVES):
        path = recommend(*shelf, **dict(zip(asked, given, strict=True)))["path"]
        for (node, answer), (following, _) in itertools.pairwise(path):
            assert flow.FLOW[node]["next"][answer] == following
        ends.add(path[-1][0])
    assert (
        ends
        == {name for name, node in flow.FLOW.items() if "next" not in node}
        == {*alternatives.LEAVES, "by_objective", "nearest"}
    )
