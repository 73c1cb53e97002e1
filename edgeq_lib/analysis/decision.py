"""Which variant to ship: the recommendation that follows from criteria and decision flow.

1. The answers leave some variants (`flow.runs`, `flow.needs_images`, `flow.needs_labels`).
2. Of these the ones that meet every criterion by the point estimate go on; fewer than 8 bits only
   where no file of 8 or more does.
3. The simplest technique is taken that has one of them, unless validation can tell, at 95 %, that a
   costlier one is more accurate.
4. Within it the one-standard-error rule chooses (Breiman et al., Classification and Regression
   Trees, 1984): the smallest of those that come within one standard error of the most accurate.
   Latency counts only where it is a criterion: it depends on the machine, the choice must not.
5. Where nothing compressed meets all criteria: float32 if it does, else what comes nearest.

Everything is decided on rows whose accuracies come from the validation split; the caller sees to
that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from edgeq_lib.analysis import flow
from edgeq_lib.analysis.criteria import (
    FIELDS,
    Criteria,
    compared,
    costs,
    dominated,
    excess,
    misses,
    passed,
    status,
)
from edgeq_lib.analysis.rows import Row
from edgeq_lib.files import EdgeqError

TELL = 1.96  # standard errors that validation needs to tell two files apart, at 95 %
EFFORT_WORDS = {"ptq": "Post-training quantization", "recovery": "Recovery without training"}


def check_question(
    criteria: Iterable[Mapping[str, Any]], answers: Mapping[str, Any] | None = None
) -> None:
    """Check what a study asks for.

    Args:
        criteria: Of {"name", "bound"}.
        answers: What the decision flow is told; keys and values are those of `flow.ANSWERS`.

    Raises:
        EdgeqError: For a criterion or an answer that the flow does not know.
    """
    names = [criterion["name"] for criterion in criteria]
    for name in names:
        if name not in FIELDS or names.count(name) > 1:
            raise EdgeqError(
                f"The criterion '{name}' is unknown or given twice; there are {', '.join(FIELDS)}."
            )
    for key, answer in (answers or {}).items():
        if answer not in list(flow.ANSWERS.get(key, ())):
            known = "; ".join(
                f"{name}: {' or '.join(map(str, values))}" for name, values in flow.ANSWERS.items()
            )
            raise EdgeqError(
                f"The decision flow does not know the answer {key}: {answer!r}; there are {known}."
            )


def complete_answers(answers: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the answers, with the first that the flow knows where one was not given."""
    return {name: next(iter(known)) for name, known in flow.ANSWERS.items()} | dict(answers or {})


def _names(rows: Iterable[Row], limit: int = 4) -> str:
    names = [row["name"] for row in rows]
    return ", ".join(names[:limit]) + (
        f" and {len(names) - limit} more" if len(names) > limit else ""
    )


def _alike(pool: Sequence[Row], errors: float) -> list[Row]:
    """The most accurate of a pool, and those that come within `errors` standard errors of it.

    The standard error is the other's own.
    """
    best = min(pool, key=_accurate)
    return [
        row for row in pool if row is best or costs(row)[0] - errors * _error(row) <= costs(best)[0]
    ]


def _accurate(row: Row) -> tuple[Any, ...]:
    return *costs(row)[:2], row["name"]


def _error(row: Row) -> float:
    """The standard error of a drop, in percent points, from its 95 % interval."""
    return 0.0 if row["drop_low"] is None else (row["drop_high"] - row["drop_low"]) / (2 * TELL)


def _choose(pool: list[Row], criteria: Criteria, reasons: list[str]) -> tuple[Row, dict[str, str]]:
    """The smallest of those within one standard error of the most accurate, see the module.

    Of equally small ones the fastest if latency is a criterion, else the most accurate.
    """
    fields = compared(criteria)
    dominators = dominated(pool, fields)
    qualities = "as accurate, as small and as fast" if 2 in fields else "as accurate and as small"
    rejected = {
        name: f"{other} is {qualities}, and better in one of these"
        for name, other in dominators.items()
    }
    front = [row for row in pool if row["name"] not in dominators]
    best, alike = min(front, key=_accurate), _alike(front, 1)
    order = [*(field for field in fields if field), 0]
    chosen = min(alike, key=lambda row: (*(costs(row)[field] for field in order), row["name"]))
    others = [row for row in alike if row is not chosen]
    if others and best is not chosen:
        reasons.append(
            f"On {chosen['n']} validation images {chosen['name']} lies within one standard error "
            f"of the most accurate ({best['name']}), as {'does' if len(others) < 2 else 'do'} "
            f"{_names(others)}; the fewest bytes decide."
        )
    elif others:
        reasons.append(
            f"{chosen['name']} is the most accurate on validation, and the smallest of those that "
            f"come within one standard error of it ({_names(others)})."
        )
    for row in front:
        if row is not chosen:
            rejected[row["name"]] = (
                f"meets the criteria, but {chosen['name']} is smaller"
                + (", or as small and faster" if 2 in fields else "")
                if row in alike
                else "meets the criteria, but is more than one standard error "
                f"less accurate on validation than {best['name']}"
            )
    return chosen, rejected


def _judge(row: Row, criteria: Criteria) -> list[str]:
    """One sentence per figure of the chosen variant, with how the criterion on it stands."""
    standing = status(row, criteria)
    bounds = {criterion["name"]: criterion["bound"] for criterion in criteria}
    marks = {
        name: f" (bound {bounds[name]:g}: {mark})"
        for name, mark in standing.items()
        if name != "device"
    }
    sentences = []
    if row["drop"] is not None:
        verb, mark = "loses" if row["drop"] >= 0 else "gains", marks.get("max_drop", "")
        sentences.append(
            f"{row['name']} {verb} {abs(row['drop']):.2f} points of accuracy on {row['n']} "
            f"validation images; 95 % interval of the drop {row['drop_low']:.2f} to "
            f"{row['drop_high']:.2f}{mark}."
        )
    if row["agreement"] is not None:
        sentences.append(
            f"It names the class that float32 names on {row['agreement']:.1f} % of them"
            f"{marks.get('min_agreement', '')}."
        )
    if row["ratio"] is not None:
        sentences.append(
            f"Its file is {row['ratio']:.2f} times smaller than float32's"
            f"{marks.get('min_ratio', '')}."
        )
    if row["latency_ratio"] is not None:
        sentences.append(
            f"It takes {row['latency_ratio']:.2f} of float32's time"
            f"{marks.get('max_latency_ratio', '')}."
        )
    if "device" in standing:
        fit = {"met": "fits", "missed": "does not fit"}.get(
            standing["device"], "was not measured against"
        )
        sentences.append(f"It {fit} the device class {bounds['device']}.")
    return sentences


def _sort_out(rows: Sequence[Row], answers: Mapping[str, Any]) -> tuple[list[Row], dict[str, str]]:
    """The variants that the answers leave, and why not the others."""
    usable, rejected = [], {}
    for row in rows:
        baseline = row["technique"] == "baseline"
        if row["kind"] == "peer" or row["technique"] == "peer":
            rejected[row["name"]] = "a published peer, there for comparison"
        elif not flow.runs(row, answers["kernels"]):
            rejected[row["name"]] = f"the target runs {flow.KERNELS[answers['kernels']]}" + (
                ", and its ops were not looked at" if row["integer_only"] is None else ""
            )
        elif not baseline and answers["images"] == "none" and flow.needs_images(row):
            rejected[row["name"]] = "it needs images, and there are none"
        elif not baseline and not answers["retraining"] and flow.effort(row) == "training":
            rejected[row["name"]] = "it needs training, which is not possible"
        elif not baseline and answers["images"] != "labelled" and flow.needs_labels(row):
            rejected[row["name"]] = "it was trained on labels, and there are none"
        else:
            usable.append(row)
    return usable, rejected


def _bits(
    meeting: list[Row], usable: list[Row], criteria: Criteria, reasons: list[str]
) -> tuple[str, list[Row]]:
    """How many bits per weight the flow allows, as FLOW answers it, and the variants with them.

    Fewer than 8 only where no file of 8 or more meets every criterion.
    """
    eight = [row for row in meeting if flow.eight_bits(row)]
    fewer = [row for row in meeting if row not in eight]
    if eight:
        reason = "A file with 8 bits per weight or more meets every criterion, so fewer are not "
        reason += "called for."
        small = min(fewer, key=lambda row: (costs(row)[1], *_accurate(row)), default=None)
        if small and small["ratio"] and costs(small)[1] < min(costs(row)[1] for row in eight):
            reason += (
                f" {small['name']}, with fewer, meets them too and is {small['ratio']:.2f} times "
                "smaller than float32: a larger min_ratio would ask for it."
            )
        reasons.append(reason)
        return "8 or more", eight
    if not fewer:
        return "none", []
    reason = "No file with 8 bits per weight or more meets every criterion"
    larger = [row for row in usable if flow.eight_bits(row) and row["technique"] != "baseline"]
    if larger:
        near = nearest(larger, criteria)
        missed = " and ".join(misses(near, criteria))
        reason += f" ({near['name']} comes nearest and misses {missed})"
    verb = "does" if len(fewer) == 1 else "do"
    reasons.append(f"{reason}; with fewer, {_names(fewer)} {verb}.")
    return "fewer", fewer


def _walk(
    pool: list[Row], bits: str, answers: Mapping[str, Any], reasons: list[str]
) -> tuple[list[Row], list[list[Any]]]:
    """The variants at the leaf where the flow arrives, and the pairs of node and answer up to it.

    A technique is enough when one of its variants meets every criterion and validation cannot tell,
    at 95 %, that a costlier one is more accurate.
    """
    path: list[list[Any]] = [["kernels", answers["kernels"]], ["images", answers["images"]]]
    free = answers["images"] == "none"
    if free:
        path.append(["free_bits", bits])
    else:
        path += [["retraining", "yes" if answers["retraining"] else "no"], ["bits", bits]]
    if bits == "none":
        return [], [*path, ["nearest", None]]
    if free:
        return pool, [*path, ["data_free", None]]
    alike = _alike(pool, TELL)
    for level, words in EFFORT_WORDS.items():
        own = [row for row in pool if flow.effort(row) == level]
        enough = any(flow.effort(row) == level for row in alike)
        path.append([f"{level}_enough", "yes" if enough else "no"])
        if enough:
            reasons.append(
                f"{words} meets every criterion on validation ({_names(own)}), and validation "
                "cannot tell that anything costlier is more accurate."
            )
            return own, [*path, [level, None]]
        if own:
            reasons.append(
                f"{words} meets every criterion ({_names(own)}), but validation can tell that a "
                "costlier technique is more accurate."
            )
        else:
            verb = "does not meet" if level == "ptq" else "has no variant that meets"
            reasons.append(f"{words} {verb} every criterion on validation.")
    own = [row for row in pool if flow.effort(row) == "training"]
    reasons.append(f"Training meets every criterion on validation ({_names(own)}).")
    return own, [*path, ["training", None]]


def nearest(rows: Sequence[Row], criteria: Criteria) -> Row:
    """Return the variant that is nearest to its criteria.

    Of those equally near, to a hundredth of a bound, the least costly.
    """
    fields = compared(criteria)
    return min(
        rows,
        key=lambda row: (
            round(excess(row, criteria), 2),
            *(costs(row)[field] for field in fields),
            row["name"],
        ),
    )


def best_row(rows: Sequence[Row], criteria: Criteria) -> Row:
    """Return the variant that the flow would take of those at one leaf.

    It is chosen among those that meet every criterion; if there is none, it is the nearest.
    """
    meeting = [row for row in rows if all(passed(row, criteria).values())]
    return _choose(meeting, criteria, [])[0] if meeting else nearest(rows, criteria)


def _check_device(rows: Sequence[Row], criteria: Criteria) -> None:
    classes = {name for row in rows for name in row["fits"] or {}}
    for criterion in criteria:
        if criterion["name"] == "device" and classes and criterion["bound"] not in classes:
            raise EdgeqError(
                f"The criterion device names '{criterion['bound']}', which is no device class; "
                f"there are {', '.join(sorted(classes))}."
            )


def _restrictions(answers: Mapping[str, Any], left: int, total: int) -> list[str]:
    reasons = []
    if answers["kernels"] != "any":
        kernels = flow.KERNELS[answers["kernels"]]
        reasons.append(f"The target runs {kernels}: {left} of {total} files are left.")
    if answers["images"] == "none":
        reasons.append(
            "There are no images of the task, so only techniques that need none are left."
        )
    return reasons


def _reject(
    usable: Sequence[Row], meeting: Sequence[Row], criteria: Criteria
) -> tuple[list[Row], dict[str, str]]:
    """The compressed variants among those that meet all, and why each variant is not shipped.

    The reasons hold unless the variant goes farther; later steps overwrite them.
    """
    rejected = {}
    for row in usable:
        if row not in meeting:
            reason = "misses " + " and ".join(misses(row, criteria))
        elif row["technique"] == "baseline":
            reason = "the uncompressed network, what the others are compared with"
        else:
            reason = "meets the criteria, but so does a file with more bits"
        rejected[row["name"]] = reason
    return [row for row in meeting if row["technique"] != "baseline"], rejected


def _fall_back(
    meeting: Sequence[Row], usable: Sequence[Row], criteria: Criteria, reasons: list[str]
) -> Row | None:
    """What is left to ship where no compressed variant meets every criterion."""
    if meeting:
        name = meeting[0]["name"]
        reasons.append(f"Nothing that compresses {name} meets every criterion, {name} itself does.")
        return meeting[0]
    if not usable:
        reasons.append("No variant on the shelf is left to ship.")
        return None
    chosen = nearest(usable, criteria)
    reasons.append(
        f"No variant meets every criterion on validation; {chosen['name']} comes nearest and "
        f"misses {' and '.join(misses(chosen, criteria))}."
    )
    return chosen


def recommend(
    rows: Sequence[Row], criteria: Criteria, answers: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Walk the decision flow and say which variant to ship, why, and why not the others.

    Peers are never recommended. The same rows give the same answer, whatever their order.

    Args:
        rows: Rows of the results table whose accuracies (value, drop, drop_low, drop_high, n) are
            those of the validation split.
        criteria: Of {"name", "bound"}; names are those of `criteria.FIELDS`.
        answers: What `flow.ANSWERS` knows: kernels, images and retraining; the first of each where
            it is not given.

    Returns:
        A dictionary of variant (None when nothing runs on the target), its weight_bits and
        activation_bits, met (all criteria), misses (phrases), status (by criterion), reasons
        (sentences), path (pairs of node and answer in FLOW) and rejected (name to reason).

    Raises:
        EdgeqError: For an unknown criterion, answer or device class.
    """
    check_question(criteria, answers)
    _check_device(rows, criteria)
    answers = complete_answers(answers)
    usable, rejected = _sort_out(rows, answers)
    reasons = _restrictions(answers, len(usable), len(rows))
    meeting = [row for row in usable if all(passed(row, criteria).values())]
    compressed, why = _reject(usable, meeting, criteria)
    rejected |= why
    bits, pool = _bits(compressed, usable, criteria, reasons)
    simpler = "meets the criteria, but so does a simpler technique, or a more accurate one"
    rejected |= {row["name"]: simpler for row in pool}
    pool, path = _walk(pool, bits, answers, reasons)
    chosen: Row | None = None
    if pool:
        chosen, why = _choose(pool, criteria, reasons)
        rejected |= why
    else:
        chosen = _fall_back(meeting, usable, criteria, reasons)
    if chosen is not None:
        rejected.pop(chosen["name"], None)
        reasons += _judge(chosen, criteria)
    return {
        "variant": chosen["name"] if chosen else None,
        "weight_bits": chosen["weight_bits"] if chosen else None,
        "activation_bits": chosen["activation_bits"] if chosen else None,
        "met": chosen in meeting,
        "misses": misses(chosen, criteria) if chosen else [],
        "status": status(chosen, criteria) if chosen else {},
        "reasons": reasons,
        "path": path,
        "rejected": rejected,
    }
