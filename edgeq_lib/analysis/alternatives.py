"""The alternatives to a recommendation: the best file of each branch, and what others would ship.

Computed from the same rows and by the same rule as the recommendation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from edgeq_lib.analysis import decision, flow
from edgeq_lib.analysis.criteria import Criteria, status
from edgeq_lib.analysis.rows import Row

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
    "recovery": (
        lambda row: flow.effort(row) == "recovery",
        "asks for some minutes, and mostly for images without labels",
    ),
    "training": (
        lambda row: flow.effort(row) == "training",
        "asks for training images and a network that can be trained again",
    ),
}


def _cited(row: Row | None, criteria: Criteria) -> dict[str, Any]:
    """A file's name and figures, and how it stands to the criteria; nulls where there is none."""
    if row is None:
        return {"variant": None, **dict.fromkeys(CITED), "status": {}}
    return {
        "variant": row["name"],
        **{field: row[field] for field in CITED},
        "status": status(row, criteria),
    }


def _fewer(kernels: str) -> str:
    """The target for files of fewer than 8 bits: the study's own, unless it runs none."""
    return "int4" if kernels == "int8" else kernels


def branches(
    rows: Sequence[Row], criteria: Criteria, answers: Mapping[str, Any] | None = None
) -> list[dict[str, Any]]:
    """Name the best file at each leaf of the flow, with 8 bits per weight or more and with fewer.

    Args:
        rows: Those of `decision.recommend`.
        criteria: As in `decision.recommend`.
        answers: As in `decision.recommend`. Where its target runs no weight below 8 bits, such
            files are looked for on one that runs 4 bits too.

    Returns:
        For each leaf and width: leaf, bits, kernels (the target), and what is cited of the file.
    """
    kernels = decision.complete_answers(answers)["kernels"]
    ours = [
        row
        for row in rows
        if row["technique"] not in ("baseline", "peer") and row["kind"] != "peer"
    ]
    entries = []
    for leaf, (belongs, _) in LEAVES.items():
        for eight, target in ((True, kernels), (False, _fewer(kernels))):
            pool = [
                row
                for row in ours
                if belongs(row) and flow.eight_bits(row) == eight and flow.runs(row, target)
            ]
            best = decision.best_row(pool, criteria) if pool else None
            bits = "8 or more" if eight else "fewer"
            entries.append(
                {"leaf": leaf, "bits": bits, "kernels": target, **_cited(best, criteria)}
            )
    return entries


def _situations(answers: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any], bool]]:
    """Eight situations at most: words, the answers that differ, and whether 8 bits are too many."""
    yield "as answered", {}, False
    for answer, text in flow.ANSWERS["images"].items():
        if answer != answers["images"]:
            yield text, {"images": answer}, False
    if answers["images"] != "none":
        other = not answers["retraining"]
        yield flow.ANSWERS["retraining"][other], {"retraining": other}, False
    targets = [target for target in ("any", "int8", "int4") if target != answers["kernels"]]
    for target in targets[:2]:
        yield flow.ANSWERS["kernels"][target], {"kernels": target}, False
    target = _fewer(answers["kernels"])
    small = "fewer than 8 bits wanted"
    if target != answers["kernels"]:
        small += f", on {flow.ANSWERS['kernels'][target]}"
    yield small, {"kernels": target}, True
    if answers["images"] != "none":
        text = f"{flow.ANSWERS['images']['none']}, and {small}"
        yield text, {"kernels": target, "images": "none"}, True


def what_if(
    rows: Sequence[Row], criteria: Criteria, answers: Mapping[str, Any] | None = None
) -> list[dict[str, Any]]:
    """Say what the flow would ship under other answers than the study's.

    Args:
        rows: Those of `decision.recommend`.
        criteria: As in `decision.recommend`.
        answers: The study's own, as in `decision.recommend`.

    Returns:
        One entry per file, the recommendation first: `if` (the situations that lead to it) and
        what is cited of the file.
    """
    answers = decision.complete_answers(answers)
    by_name = {row["name"]: row for row in rows}
    entries: dict[str | None, dict[str, Any]] = {}
    for text, other, fewer in _situations(answers):
        pool = [row for row in rows if not flow.eight_bits(row)] if fewer else rows
        name = decision.recommend(pool, criteria, {**answers, **other})["variant"]
        entry = entries.setdefault(name, {"if": [], **_cited(by_name.get(name), criteria)})
        entry["if"].append(text)
    return list(entries.values())
