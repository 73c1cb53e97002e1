"""The alternatives to a recommendation: the best file of each branch, and what others would ship.

Computed from the same rows and by the same rule as the recommendation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from edgeq_lib.analysis import decision, flow
from edgeq_lib.analysis.criteria import Criteria, meets_all, status
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
    "agreement_low",
    "agreement_high",
    "ratio",
    "latency_ratio",
)
# What belongs to a leaf of the flow that a technique leads to.
LEAVES: dict[str, Callable[[Row], bool]] = {
    "data_free": lambda row: not flow.needs_images(row),
    "ptq": lambda row: flow.effort(row) == "ptq",
    "recovery": lambda row: flow.effort(row) == "recovery",
    "training": lambda row: flow.effort(row) == "training",
}


def _cited(row: Row | None, criteria: Criteria) -> dict[str, Any]:
    """A file's name and figures, and how it stands to the criteria; nulls where there is none."""
    if row is None:
        return {"variant": None, **dict.fromkeys(CITED), "status": {}}
    return {
        "variant": row["name"],
        **{field: row.get(field) for field in CITED},
        "status": status(row, criteria),
    }


def _ours(rows: Sequence[Row]) -> list[Row]:
    """The compressed files that are no peers."""
    return [
        row
        for row in rows
        if row["technique"] not in ("baseline", "peer") and row["kind"] != "peer"
    ]


def _fewer(rows: Sequence[Row], target: str) -> str:
    """The target for files of fewer than 8 bits: the study's own, unless it runs none."""
    few = [row for row in rows if not flow.eight_bits(row) and row["kind"] != "peer"]
    return target if any(flow.runs(row, target) for row in few) else flow.ANY_TARGET


def branches(
    rows: Sequence[Row],
    criteria: Criteria,
    answers: Mapping[str, Any] | None = None,
    strict: bool = False,
) -> list[dict[str, Any]]:
    """Name the best file at each leaf of the flow, with 8 bits per weight or more and with fewer.

    Args:
        rows: Those of `decision.recommend`.
        criteria: As in `decision.recommend`.
        answers: As in `decision.recommend`. Where its target runs no file with weights below 8
            bits, such files are looked for on any.
        strict: As in `decision.recommend`.

    Returns:
        For each leaf and width: leaf, bits, target, and what is cited of the file.
    """
    own = decision.complete_answers(answers)["target"]
    ours = _ours(rows)
    entries = []
    for leaf, belongs in LEAVES.items():
        for eight, target in ((True, own), (False, _fewer(ours, own))):
            pool = [
                row
                for row in ours
                if belongs(row) and flow.eight_bits(row) == eight and flow.runs(row, target)
            ]
            best = decision.best_row(pool, criteria, strict) if pool else None
            bits = "8 or more" if eight else "fewer"
            entries.append({"leaf": leaf, "bits": bits, "target": target, **_cited(best, criteria)})
    return entries


def objectives(
    rows: Sequence[Row],
    criteria: Criteria,
    answers: Mapping[str, Any] | None = None,
    strict: bool = False,
) -> list[dict[str, Any]]:
    """Say what each objective would ship, in the study's own situation.

    Args:
        rows: Those of `decision.recommend`.
        criteria: As in `decision.recommend`.
        answers: As in `decision.recommend`.
        strict: As in `decision.recommend`.

    Returns:
        One entry per objective of `flow.OBJECTIVES`: objective, met (whether the file meets every
        criterion) and what is cited of the file.
    """
    by_name = {row["name"]: row for row in rows}
    entries = []
    for objective in flow.OBJECTIVES:
        choice = decision.recommend(rows, criteria, answers, objective, strict)
        cited = _cited(by_name.get(choice["variant"]), criteria)
        entries.append({"objective": objective, "met": choice["met"], **cited})
    return entries


def smallest_allowed(rows: Sequence[Row], criteria: Criteria, strict: bool = False) -> Row | None:
    """Find the smallest of our files that loses no more than allowed, on whatever target it runs.

    Only the criteria on accuracy count (max_drop, min_agreement).

    Args:
        rows: Those of `decision.recommend`.
        criteria: As in `decision.recommend`.
        strict: As in `decision.recommend`.

    Returns:
        Its row; None where nothing compressed does, or no criterion bounds the loss.
    """
    bounds = [entry for entry in criteria if entry["name"] in ("max_drop", "min_agreement")]
    pool = [
        row for row in _ours(rows) if bounds and row["bytes"] and meets_all(row, bounds, strict)
    ]
    return min(pool, key=lambda row: (row["bytes"], row["name"]), default=None)


def _situations(
    rows: Sequence[Row], answers: Mapping[str, Any]
) -> Iterator[tuple[str, dict[str, Any], bool]]:
    """Situations near the study's: words, the answers that differ, whether 8 bits are too many."""
    yield "as answered", {}, False
    for answer, text in flow.ANSWERS["images"].items():
        if answer != answers["images"]:
            yield text, {"images": answer}, False
    if answers["images"] != "none":
        other = not answers["retraining"]
        yield flow.ANSWERS["retraining"][other], {"retraining": other}, False
    for target in [flow.ANY_TARGET, *decision.judged_targets(rows)]:
        if target != answers["target"]:
            yield _on(target), {"target": target}, False
    target = _fewer(rows, answers["target"])
    small = "fewer than 8 bits wanted"
    if target != answers["target"]:
        small += f", {_on(target)}"
    yield small, {"target": target}, True
    if answers["images"] != "none":
        text = f"{flow.ANSWERS['images']['none']}, and {small}"
        yield text, {"target": target, "images": "none"}, True


def _on(target: str) -> str:
    return "on whatever target" if target == flow.ANY_TARGET else f"on the target {target}"


def what_if(
    rows: Sequence[Row],
    criteria: Criteria,
    answers: Mapping[str, Any] | None = None,
    objective: str = "simplest",
    strict: bool = False,
) -> list[dict[str, Any]]:
    """Say what the flow would ship under other answers than the study's.

    Args:
        rows: Those of `decision.recommend`.
        criteria: As in `decision.recommend`.
        answers: The study's own, as in `decision.recommend`.
        objective: As in `decision.recommend`.
        strict: As in `decision.recommend`.

    Returns:
        One entry per file, the recommendation first: `if` (the situations that lead to it) and
        what is cited of the file.
    """
    answers = decision.complete_answers(answers)
    by_name = {row["name"]: row for row in rows}
    entries: dict[str | None, dict[str, Any]] = {}
    for text, other, fewer in _situations(rows, answers):
        pool = [row for row in rows if not flow.eight_bits(row)] if fewer else rows
        choice = decision.recommend(pool, criteria, {**answers, **other}, objective, strict)
        name = choice["variant"]
        entry = entries.setdefault(name, {"if": [], **_cited(by_name.get(name), criteria)})
        entry["if"].append(text)
    return list(entries.values())
