"""The ends of the decision flow that a study did not take: the best file of each branch, and what other answers would ship.

Computed from the same rows and by the same rule as the recommendation, and said in words for notebook and report.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from edgeq_lib.analysis import decision, flow
from edgeq_lib.analysis.criteria import Row, status

CITED = (
    "technique",
    "stage",
    "trained",
    "weight_bits",
    "activation_bits",
    "drop",
    "drop_low",
    "drop_high",
    "n",
    "agreement",
    "ratio",
    "latency_ratio",
)
# What belongs to a leaf of the flow, and what it asks for.
LEAVES: dict[str, tuple[Callable[[Row], bool], str]] = {
    "data_free": (lambda row: not flow.needs_images(row), "asks for nothing but the network"),
    "ptq": (
        lambda row: flow.effort(row) == "ptq",
        "asks for images without labels, or for none where only weights are rounded",
    ),
    "repair": (
        lambda row: flow.effort(row) == "repair",
        "asks for some minutes, and mostly for images without labels",
    ),
    "training": (
        lambda row: flow.effort(row) == "training",
        "asks for training images and a network that can be trained again",
    ),
}


def _cited(row: Row | None, criteria: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What is cited of a file: its name and figures, and how it stands to the criteria; nulls where there is none."""
    if row is None:
        return {"variant": None, **dict.fromkeys(CITED), "status": {}}
    return {
        "variant": row["name"],
        **{field: row[field] for field in CITED},
        "status": status(row, criteria),
    }


def _fewer(kernels: str) -> str:
    """The target that files of fewer than 8 bits are looked for on: the study's own, unless it runs none."""
    return "int4" if kernels == "int8" else kernels


def branches(
    rows: Sequence[Row],
    criteria: Sequence[Mapping[str, Any]],
    answers: Mapping[str, Any] | None = None,
) -> list[dict]:
    """The best file at each leaf of the flow, whether it was taken or not, with 8 bits a weight or more and with fewer.

    `rows` are those of `decision.recommend`. The target is the study's; where it runs no weight below 8 bits, such files
    are looked for on one that runs 4 bits too.
    """
    kernels, found = decision.complete_answers(answers)["kernels"], []
    ours = [
        row
        for row in rows
        if row["technique"] not in ("baseline", "peer") and row["kind"] != "peer"
    ]
    for leaf, (belongs, _) in LEAVES.items():
        for eight, target in ((True, kernels), (False, _fewer(kernels))):
            pool = [
                row
                for row in ours
                if belongs(row) and flow.eight_bits(row) == eight and flow.runs(row, target)
            ]
            best = decision.best_row(pool, criteria) if pool else None
            found.append(
                {
                    "leaf": leaf,
                    "bits": "8 or more" if eight else "fewer",
                    "kernels": target,
                    **_cited(best, criteria),
                }
            )
    return found


def _situations(given: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any], bool]]:
    """Eight situations at most: what is other than answered, in words and as answers, and whether 8 bits are too many."""
    yield "as answered", {}, False
    for answer, text in flow.ANSWERS["images"].items():
        if answer != given["images"]:
            yield text, {"images": answer}, False
    if given["images"] != "none":
        again = not given["retraining"]
        yield flow.ANSWERS["retraining"][again], {"retraining": again}, False
    for kernels in [each for each in ("any", "int8", "int4") if each != given["kernels"]][:2]:
        yield flow.ANSWERS["kernels"][kernels], {"kernels": kernels}, False
    target = _fewer(given["kernels"])
    small = "fewer than 8 bits wanted" + (
        "" if target == given["kernels"] else f", on {flow.ANSWERS['kernels'][target]}"
    )
    yield small, {"kernels": target}, True
    if given["images"] != "none":
        yield (
            f"{flow.ANSWERS['images']['none']}, and {small}",
            {"kernels": target, "images": "none"},
            True,
        )


def what_if(
    rows: Sequence[Row],
    criteria: Sequence[Mapping[str, Any]],
    answers: Mapping[str, Any] | None = None,
) -> list[dict]:
    """What the flow would ship under other answers than the study's; situations that lead to the same file share an entry.

    The first entry is the recommendation. Each holds `if` (the situations) and what is cited of the file.
    """
    given, found = decision.complete_answers(answers), {}
    by_name = {row["name"]: row for row in rows}
    for text, other, fewer in _situations(given):
        left = [row for row in rows if not flow.eight_bits(row)] if fewer else rows
        name = decision.recommend(left, criteria, given | other)["variant"]
        entry = found.setdefault(name, {"if": [], **_cited(by_name.get(name), criteria)})
        entry["if"].append(text)
    return list(found.values())
