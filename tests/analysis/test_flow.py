"""The decision flow as data."""

import itertools

from decision_rows import CRITERIA, FLOAT, row

from edgeq_lib.analysis import alternatives, decision, flow


def recommend(*rows, criteria=CRITERIA, objective="simplest", **answers):
    return decision.recommend([FLOAT, *rows], criteria, answers, objective)


def test_kernels_of_the_target_are_respected():
    criteria = [{"name": "max_drop", "bound": 0.05}]
    rows = {
        "any": row("dynamic", 0.0, scheme="dynamic_int8", integer=False),
        "integer": row("int16x8", 0.0, scheme="int16x8", activation_bits=16),
        "int4": row("w4a8", 0.0, bits=4),
        "int8": row("int8", 0.0),
        "low": row("w2", 0.0, bits=2),
    }
    runs = {
        kernels: {each["name"] for each in rows.values() if flow.runs(each, kernels)}
        for kernels in flow.KERNELS
    }
    assert runs == {
        "any": {"dynamic", "int16x8", "w4a8", "int8", "w2"},
        "integer": {"int16x8", "w4a8", "int8", "w2"},
        "int4": {"w4a8", "int8"},
        "int8": {"int8"},
    }
    found = recommend(rows["int4"], rows["any"], criteria=criteria, kernels="int4")
    assert found["variant"] == "w4a8" and found["rejected"]["dynamic"].startswith(
        "the target runs 8-bit integers and 4-bit"
    )


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
