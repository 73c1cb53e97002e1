"""Which variant to ship: the recommendation that follows from criteria, situation and objective.

1. The answers leave some variants (`flow.runs`, `flow.needs_images`, `flow.needs_labels`).
2. Of these the ones that meet every criterion go on: by the point estimate or, in a strict study,
   by the whole interval.
3. The objective chooses among them: the smallest, the fastest, the most accurate, or the simplest:
   the simplest technique that has one of them, unless a costlier one has a file that is proven more
   accurate; of its files that no other is proven to beat, the smallest.
4. One file is more accurate than another where a paired test on validation says so (`pairs.beats`).
   Latency counts where it is a criterion or the objective: it depends on the machine, and the
   choice should not.
5. Where nothing compressed meets all criteria: float32 if it does, else what comes nearest.

Everything is decided on rows whose accuracies come from the validation split; the caller sees to
that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from edgeq_lib.analysis import flow
from edgeq_lib.analysis.criteria import (
    FIELDS,
    Criteria,
    compared,
    costs,
    excess,
    meets_all,
    misses,
    status,
)
from edgeq_lib.analysis.pairs import MEASURES, Measure, beats, loss, measure_of, unbeaten
from edgeq_lib.analysis.rows import Row
from edgeq_lib.files import EdgeqError

LEVELS = {
    "ptq": "Post-training quantization",
    "recovery": "Recovery without training",
    "training": "Training",
}


def check_question(
    criteria: Iterable[Mapping[str, Any]],
    answers: Mapping[str, Any] | None = None,
    objective: str = "simplest",
) -> None:
    """Check what a study asks for.

    Args:
        criteria: Of {"name", "bound"}.
        answers: What the decision flow is told; keys and values are those of `flow.ANSWERS`.
        objective: What is wanted of the files, one of `flow.OBJECTIVES`.

    Raises:
        EdgeqError: For a criterion, an answer or an objective that the flow does not know.
    """
    if objective not in flow.OBJECTIVES:
        raise EdgeqError(
            f"The objective '{objective}' is unknown; there are {', '.join(flow.OBJECTIVES)}."
        )
    names = [criterion["name"] for criterion in criteria]
    for name in names:
        if name not in FIELDS or names.count(name) > 1:
            raise EdgeqError(
                f"The criterion '{name}' is unknown or given twice; there are {', '.join(FIELDS)}."
            )
    for key, answer in (answers or {}).items():
        if key == "target":
            continue
        if answer not in list(flow.ANSWERS.get(key, ())):
            known = "; ".join(
                f"{name}: {' or '.join(map(str, values))}" for name, values in flow.ANSWERS.items()
            )
            raise EdgeqError(
                f"The decision flow does not know the answer {key}: {answer!r}; there are {known}."
            )


def complete_answers(answers: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the answers, with the first that the flow knows where one was not given."""
    first = {name: next(iter(known)) for name, known in flow.ANSWERS.items()}
    return {"target": flow.ANY_TARGET, **first} | dict(answers or {})


def _names(rows: Iterable[Row], limit: int = 4) -> str:
    names = [row["name"] for row in rows]
    return ", ".join(names[:limit]) + (
        f" and {len(names) - limit} more" if len(names) > limit else ""
    )


def _order(objective: str, measure: Measure) -> Callable[[Row], tuple[Any, ...]]:
    """The key that sorts rows for an objective, the best first."""

    def key(row: Row) -> tuple[Any, ...]:
        _, size, latency = costs(row)
        off = loss(row, measure)
        if objective == "accurate":
            return off, size, row["name"]
        return *((latency,) if objective == "fastest" else ()), size, off, row["name"]

    return key


def _choose(
    pool: Sequence[Row], objective: str, measure: Measure, rivals: Sequence[Row] = ()
) -> Row:
    """What an objective takes of a pool in which everything meets every criterion.

    Accuracy matters to two of them: they take what none of the pool, nor of the rivals, beats.
    """
    if objective in ("simplest", "accurate"):
        pool = unbeaten(pool, [*pool, *rivals])
    return min(pool, key=_order(objective, measure))


def _explain(
    chosen: Row,
    pool: Sequence[Row],
    objective: str,
    measure: Measure,
    rivals: Sequence[Row],
    reasons: list[str],
) -> dict[str, str]:
    """Say why the objective took this row of a pool, and return why not each other."""
    name, what, others = (
        chosen["name"],
        MEASURES[measure],
        [row for row in pool if row is not chosen],
    )
    if objective in ("smallest", "fastest"):
        timed = objective == "smallest" or chosen["latency_ratio"] is not None
        reasons.append(
            f"Of the files that meet every criterion ({len(pool)}) {name} is the {objective}."
            if timed
            else f"No latency was measured, so of the files that meet every criterion {name}, the "
            "smallest, stands in for the fastest."
        )
        word = "smaller" if objective == "smallest" or not timed else "faster"
        same = f"meets the criteria, but {name} is {word}"
        return {row["name"]: same for row in others}
    winners = {row["name"]: _winner(row, [*pool, *rivals], measure) for row in others}
    level = [row for row in others if winners[row["name"]] is None]
    if level:
        merit = "is the smallest" if objective == "simplest" else f"has the highest {what}"
        reasons.append(
            f"A paired test on {chosen['n']} validation images cannot tell the {what} of {name} "
            f"from that of {_names(level)}; {name} {merit}."
        )
    merit = "is smaller" if objective == "simplest" else f"has the higher {what} on validation"
    return {
        other: _beaten(winner, measure)
        if winner
        else f"meets the criteria, and a paired test on validation does not tell its {what} from "
        f"that of {name}, which {merit}"
        for other, winner in winners.items()
    }


def _winner(row: Row, rivals: Iterable[Row], measure: Measure) -> str | None:
    """Name the most accurate of the rivals that beat a row."""
    ordered = sorted(rivals, key=_order("accurate", measure))
    return next((rival["name"] for rival in ordered if beats(rival, row)), None)


def _beaten(winner: str | None, measure: Measure) -> str:
    return (
        f"meets the criteria, but {winner} has a higher {MEASURES[measure]} on validation (paired "
        "test, 95 %)"
    )


def _judge(row: Row, criteria: Criteria) -> list[str]:
    """One sentence per figure of the chosen variant, with how the criterion on it stands."""
    standing = status(row, criteria)
    bounds = {criterion["name"]: criterion["bound"] for criterion in criteria}
    marks = {name: f" (bound {bounds[name]:g}: {mark})" for name, mark in standing.items()}
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
            f"{_agreement_interval(row)}{marks.get('min_agreement', '')}."
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
    return sentences


def _judge_target(row: Row, target: str) -> list[str]:
    """How it is known that the target runs the chosen file, in one sentence."""
    verdict = (row.get("targets") or {}).get(target)
    if target == flow.ANY_TARGET or verdict is None:
        return []
    if verdict["runs"] is None:
        return [f"Whether {target} runs it is not known: {verdict['why'] or 'it was not tried'}."]
    how = {
        "executed": "it was executed in the runtime of that target",
        "compiled": "the compiler of that target took it",
        "checked": "its operations, widths and size were checked; it was not executed there",
    }[verdict["how"]]
    memory = [
        f"{verdict[field] / 1000:,.1f} kB of {words}"
        for field, words in (("ram_bytes", "RAM"), ("flash_bytes", "flash"))
        if verdict[field] is not None
    ]
    takes = f", and takes {' and '.join(memory)}" if memory else ""
    return [f"It runs on {target} ({how}){takes}."]


def _agreement_interval(row: Row) -> str:
    if row.get("agreement_low") is None:
        return ""
    return f", 95 % interval {row['agreement_low']:.1f} to {row['agreement_high']:.1f}"


def _sort_out(rows: Sequence[Row], answers: Mapping[str, Any]) -> tuple[list[Row], dict[str, str]]:
    """The variants that the answers leave, and why not the others."""
    usable, rejected = [], {}
    for row in rows:
        baseline = row["technique"] == "baseline"
        if row["kind"] == "peer" or row["technique"] == "peer":
            rejected[row["name"]] = "a published peer, there for comparison"
        elif (why := flow.why_not_on(row, answers["target"])) is not None:
            rejected[row["name"]] = f"{answers['target']} does not run it: {why}"
        elif not baseline and answers["images"] == "none" and flow.needs_images(row):
            rejected[row["name"]] = "it needs images, and there are none"
        elif not baseline and not answers["retraining"] and flow.effort(row) == "training":
            rejected[row["name"]] = "it needs training, which is not possible"
        elif not baseline and answers["images"] != "labelled" and flow.needs_labels(row):
            rejected[row["name"]] = "it was trained on labels, and there are none"
        else:
            usable.append(row)
    return usable, rejected


def _walk(
    pool: list[Row],
    answers: Mapping[str, Any],
    objective: str,
    measure: Measure,
    reasons: list[str],
) -> tuple[Row | None, list[list[Any]], dict[str, str]]:
    """Walk the flow with the compressed files that meet every criterion.

    A technique is enough when it has a file that meets every criterion and that no other of its
    files, nor one of a costlier technique, beats.

    Returns:
        The file at the leaf where the flow arrives, the pairs of node and answer up to it, and why
        not each other file of the pool.
    """
    named = "any" if answers["target"] == flow.ANY_TARGET else "named"
    path: list[list[Any]] = [["target", named], ["images", answers["images"]]]
    free, met = answers["images"] == "none", "yes" if pool else "no"
    if free:
        path.append(["free_meets", met])
    else:
        path += [["retraining", "yes" if answers["retraining"] else "no"], ["meets", met]]
    if not pool:
        return None, [*path, ["nearest", None]], {}
    if not free:
        path.append(["objective", objective])
    if free or objective != "simplest":
        chosen = _choose(pool, objective, measure)
        why = _explain(chosen, pool, objective, measure, (), reasons)
        return chosen, [*path, ["data_free" if free else "by_objective", None]], why
    rejected: dict[str, str] = {}
    levels = [[row for row in pool if flow.effort(row) == level] for level in LEVELS]
    for number, (level, own) in enumerate(zip(LEVELS, levels, strict=True)):
        costlier = [row for later in levels[number + 1 :] for row in later]
        enough = bool(unbeaten(own, [*own, *costlier]))
        if level != "training":
            path.append([f"{level}_enough", "yes" if enough else "no"])
        reasons.append(_say_level(level, own, costlier, enough, measure))
        if enough:
            simpler = "meets the criteria, but so does a simpler technique"
            rejected |= {row["name"]: simpler for row in costlier}
            chosen = _choose(own, objective, measure, costlier)
            rejected |= _explain(chosen, own, objective, measure, costlier, reasons)
            return chosen, [*path, [level, None]], rejected
        for row in own:
            rejected[row["name"]] = _beaten(_winner(row, [*own, *costlier], measure), measure)
    raise AssertionError("nothing beats the last of the levels")


def _say_level(
    level: str, own: list[Row], costlier: list[Row], enough: bool, measure: Measure
) -> str:
    """Say why the files of one level of effort are enough, or are not."""
    words, what = LEVELS[level], MEASURES[measure]
    if not own:
        verb = "does not meet" if level == "ptq" else "has no variant that meets"
        return f"{words} {verb} every criterion on validation."
    if not enough:
        best = min(own, key=_order("accurate", measure))
        return (
            f"{words} meets every criterion ({_names(own)}), but a costlier technique has a higher "
            f"{what}: a paired test on {best['n']} validation images tells "
            f"{_winner(best, costlier, measure)} from {best['name']}, at 95 %."
        )
    more = f", and no file of a costlier technique is proven to have a higher {what}"
    return f"{words} meets every criterion on validation ({_names(own)}){more if costlier else ''}."


def nearest(rows: Sequence[Row], criteria: Criteria, strict: bool = False) -> Row:
    """Return the variant that is nearest to its criteria.

    Of those equally near, to a hundredth of a bound, the least costly.
    """
    fields = compared(criteria)
    return min(
        rows,
        key=lambda row: (
            round(excess(row, criteria, strict), 2),
            *(costs(row)[field] for field in fields),
            row["name"],
        ),
    )


def best_row(rows: Sequence[Row], criteria: Criteria, strict: bool = False) -> Row:
    """Return the variant that the flow would take of those at one leaf.

    It is chosen among those that meet every criterion, as within the simplest technique; if there
    is none, it is the nearest.
    """
    meeting = [row for row in rows if meets_all(row, criteria, strict)]
    if not meeting:
        return nearest(rows, criteria, strict)
    return _choose(meeting, "simplest", measure_of(criteria))


def judged_targets(rows: Sequence[Row]) -> list[str]:
    """Return the targets that files were tried on, in their order."""
    return list(dict.fromkeys(name for row in rows for name in row.get("targets") or {}))


def _check_target(rows: Sequence[Row], target: str) -> None:
    tried = judged_targets(rows)
    if target != flow.ANY_TARGET and target not in tried:
        raise EdgeqError(
            f"No file was tried on the target '{target}'; the benchmark tried "
            f"{', '.join(tried) or 'none'}. Name it in the study's common section and run 80 again."
        )


def _restrictions(answers: Mapping[str, Any], left: int, total: int) -> list[str]:
    reasons = []
    if answers["target"] != flow.ANY_TARGET:
        reasons.append(f"On the target {answers['target']}: {left} of {total} files are left.")
    if answers["images"] == "none":
        reasons.append(
            "There are no images of the task, so only techniques that need none are left."
        )
    return reasons


def _reject(
    usable: Sequence[Row], meeting: Sequence[Row], criteria: Criteria, strict: bool
) -> dict[str, str]:
    """Why each variant is not shipped that does not go on to the choice by objective."""
    rejected = {}
    for row in usable:
        if row not in meeting:
            rejected[row["name"]] = "misses " + " and ".join(misses(row, criteria, strict))
        elif row["technique"] == "baseline":
            rejected[row["name"]] = "the uncompressed network, what the others are compared with"
    return rejected


def _fall_back(
    meeting: Sequence[Row],
    usable: Sequence[Row],
    criteria: Criteria,
    strict: bool,
    reasons: list[str],
) -> Row | None:
    """What is left to ship where no compressed variant meets every criterion."""
    if meeting:
        name = meeting[0]["name"]
        reasons.append(f"Nothing that compresses {name} meets every criterion, {name} itself does.")
        return meeting[0]
    if not usable:
        reasons.append("No variant on the shelf is left to ship.")
        return None
    chosen = nearest(usable, criteria, strict)
    reasons.append(
        f"No variant meets every criterion on validation; {chosen['name']} comes nearest and "
        f"misses {' and '.join(misses(chosen, criteria, strict))}."
    )
    return chosen


def recommend(
    rows: Sequence[Row],
    criteria: Criteria,
    answers: Mapping[str, Any] | None = None,
    objective: str = "simplest",
    strict: bool = False,
) -> dict[str, Any]:
    """Walk the decision flow and say which variant to ship, why, and why not the others.

    Peers are never recommended. The same rows give the same answer, whatever their order.

    Args:
        rows: Rows of the results table whose accuracies (value, drop, drop_low, drop_high, n) are
            those of the validation split, and whose `paired` counts (see `pairs.attach`) are of
            what the criteria ask for (`pairs.measure_of`). Without these counts no file is proven
            more accurate than another.
        criteria: Of {"name", "bound"}; names are those of `criteria.FIELDS`.
        answers: target (a name, `flow.ANY_TARGET` without), and what `flow.ANSWERS` knows: images
            and retraining; the first of each where it is not given.
        objective: What is wanted of the files that meet every criterion, one of `flow.OBJECTIVES`.
        strict: Whether a criterion is met by its whole interval only.

    Returns:
        A dictionary of variant (None when nothing runs on the target), its weight_bits and
        activation_bits, met (all criteria), misses (phrases), status (by criterion), reasons
        (sentences), path (pairs of node and answer in FLOW) and rejected (name to reason).

    Raises:
        EdgeqError: For an unknown criterion, answer or objective, or a target that no file was
            tried on.
    """
    check_question(criteria, answers, objective)
    answers, measure = complete_answers(answers), measure_of(criteria)
    _check_target(rows, answers["target"])
    usable, rejected = _sort_out(rows, answers)
    reasons = _restrictions(answers, len(usable), len(rows))
    if strict:
        reasons.append("A criterion counts as met only where its whole interval meets it.")
    meeting = [row for row in usable if meets_all(row, criteria, strict)]
    rejected |= _reject(usable, meeting, criteria, strict)
    compressed = [row for row in meeting if row["technique"] != "baseline"]
    chosen, path, why = _walk(compressed, answers, objective, measure, reasons)
    rejected |= why
    if chosen is None:
        chosen = _fall_back(meeting, usable, criteria, strict, reasons)
    if chosen is not None:
        rejected.pop(chosen["name"], None)
        reasons += [*_judge(chosen, criteria), *_judge_target(chosen, answers["target"])]
    return {
        "variant": chosen["name"] if chosen else None,
        "weight_bits": chosen["weight_bits"] if chosen else None,
        "activation_bits": chosen["activation_bits"] if chosen else None,
        "met": chosen in meeting,
        "misses": misses(chosen, criteria, strict) if chosen else [],
        "status": status(chosen, criteria) if chosen else {},
        "reasons": reasons,
        "path": path,
        "rejected": rejected,
    }
