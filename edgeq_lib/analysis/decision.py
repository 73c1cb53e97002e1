"""Which variant to ship: the study's criteria, the decision flow as data, and the recommendation that follows.

Everything here is decided on rows whose accuracies come from the validation split; the caller sees to that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from edgeq_lib.analysis import flow
from edgeq_lib.analysis.criteria import (
    FIELDS,
    Row,
    costs,
    dominated,
    excess,
    misses,
    passed,
    status,
)
from edgeq_lib.files import EdgeqError

TELL = 1.96  # standard errors that validation needs to tell two files apart, at 95 %
EFFORT_WORDS = {"ptq": "Post-training quantization", "repair": "A repair without training"}


def check_question(
    criteria: Iterable[Mapping[str, Any]], answers: Mapping[str, Any] | None = None
) -> None:
    """Raises EdgeqError for a criterion or an answer that the flow does not know."""
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
    """The answers, with the first that the flow knows where one was not given."""
    return {name: next(iter(known)) for name, known in flow.ANSWERS.items()} | dict(answers or {})


def _names(rows: Iterable[Row], limit: int = 4) -> str:
    names = [row["name"] for row in rows]
    return ", ".join(names[:limit]) + (
        f" and {len(names) - limit} more" if len(names) > limit else ""
    )


def _alike(pool: Sequence[Row], errors: float) -> list[Row]:
    """The most accurate of a pool, and those whose drop is at most so many standard errors (their own) above its drop."""
    best = min(pool, key=_accurate)
    return [
        row for row in pool if row is best or costs(row)[0] - errors * _error(row) <= costs(best)[0]
    ]


def _accurate(row: Row) -> tuple[Any, ...]:
    return *costs(row), row["name"]


def _error(row: Row) -> float:
    """The standard error of a drop, in percent points, from its 95 % interval."""
    return 0.0 if row["drop_low"] is None else (row["drop_high"] - row["drop_low"]) / (2 * TELL)


def _choose(pool: list[Row], reasons: list[str]) -> tuple[Row, dict[str, str]]:
    """The smallest of those within one standard error of the most accurate, then the fastest.

    This is the one-standard-error rule of Breiman et al. (Classification and Regression Trees, 1984).
    """
    by = dominated(pool)
    rejected = {
        name: f"{other} is as accurate, as small and as fast, and better in one of these"
        for name, other in by.items()
    }
    front = [row for row in pool if row["name"] not in by]
    best, alike = min(front, key=_accurate), _alike(front, 1)
    chosen = min(alike, key=lambda row: (*costs(row)[1:], row["name"]))
    others = [row for row in alike if row is not chosen]
    if others:
        reasons.append(
            f"On {chosen['n']} validation images {chosen['name']} lies within one standard error of the most "
            f"accurate ({best['name']}), as {'does' if len(others) < 2 else 'do'} {_names(others)}; the fewest "
            "bytes decide."
            if best is not chosen
            else f"{chosen['name']} is the most accurate on validation, and the smallest of those that come within "
            f"one standard error of it ({_names(others)})."
        )
    for row in front:
        if row is not chosen:
            rejected[row["name"]] = (
                f"meets the criteria, but {chosen['name']} is smaller, or as small and faster"
                if row in alike
                else "meets the criteria, but is more than one standard error "
                f"less accurate on validation than {best['name']}"
            )
    return chosen, rejected


def _judge(row: Row, criteria: Sequence[Mapping[str, Any]]) -> list[str]:
    """One sentence a figure of the chosen variant, with how the criterion on it stands."""
    found = status(row, criteria)
    bounds = {criterion["name"]: criterion["bound"] for criterion in criteria}
    marks = {
        name: f" (bound {bounds[name]:g}: {mark})"
        for name, mark in found.items()
        if name != "device"
    }
    said = []
    if row["drop"] is not None:
        verb, mark = "loses" if row["drop"] >= 0 else "gains", marks.get("max_drop", "")
        said.append(
            f"{row['name']} {verb} {abs(row['drop']):.2f} points of accuracy on {row['n']} validation images; "
            f"95 % interval of the drop {row['drop_low']:.2f} to {row['drop_high']:.2f}{mark}."
        )
    if row["agreement"] is not None:
        said.append(
            f"It names the class that float32 names on {row['agreement']:.1f} % of them"
            f"{marks.get('min_agreement', '')}."
        )
    if row["ratio"] is not None:
        said.append(
            f"Its file is {row['ratio']:.2f} times smaller than float32's{marks.get('min_ratio', '')}."
        )
    if row["latency_ratio"] is not None:
        said.append(
            f"It takes {row['latency_ratio']:.2f} of float32's time{marks.get('max_latency_ratio', '')}."
        )
    if "device" in found:
        fit = {"met": "fits", "missed": "does not fit"}.get(
            found["device"], "was not measured against"
        )
        said.append(f"It {fit} the device class {bounds['device']}.")
    return said


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
    meeting: list[Row], usable: list[Row], criteria: Sequence[Mapping[str, Any]], reasons: list[str]
) -> tuple[str, list[Row]]:
    """How many bits a weight the flow allows, as FLOW answers it, and which of those that meet the criteria have them.

    Fewer than 8 only where no file of 8 or more meets every criterion.
    """
    eight = [row for row in meeting if flow.eight_bits(row)]
    fewer = [row for row in meeting if row not in eight]
    if eight:
        small = min(fewer, key=lambda row: (costs(row)[1], *costs(row), row["name"]), default=None)
        spare = small and small["ratio"] and costs(small)[1] < min(costs(row)[1] for row in eight)
        reasons.append(
            "A file with 8 bits a weight or more meets every criterion, so fewer are not called for."
            + (
                f" {small['name']}, with fewer, meets them too and is {small['ratio']:.2f} times smaller than float32: a larger "
                "min_ratio would ask for it."
                if spare
                else ""
            )
        )
        return "8 or more", eight
    others = [row for row in usable if flow.eight_bits(row) and row["technique"] != "baseline"]
    if fewer:
        near = nearest(others, criteria) if others else None
        reasons.append(
            "No file with 8 bits a weight or more meets every criterion"
            + (
                f" ({near['name']} comes nearest and misses {' and '.join(misses(near, criteria))})"
                if near
                else ""
            )
            + f"; with fewer, {_names(fewer)} {'does' if len(fewer) == 1 else 'do'}."
        )
    return "fewer" if fewer else "none", fewer


def _walk(
    pool: list[Row], bits: str, answers: Mapping[str, Any], reasons: list[str]
) -> tuple[list[Row], list[list[Any]]]:
    """The variants at the leaf that the flow ends in, and the way there as pairs of node and answer.

    A step is enough when one of its variants meets every criterion and validation cannot tell, at 95 %, that a costlier one
    is more accurate.
    """
    path: list[list[Any]] = [["kernels", answers["kernels"]], ["images", answers["images"]]]
    free = answers["images"] == "none"
    path += (
        [["free_bits", bits]]
        if free
        else [["retraining", "yes" if answers["retraining"] else "no"], ["bits", bits]]
    )
    if bits == "none":
        return [], [*path, ["nearest", None]]
    if free:
        return pool, [*path, ["data_free", None]]
    alike = _alike(pool, TELL)
    for step in ("ptq", "repair"):
        own, enough = ([row for row in rows if flow.effort(row) == step] for rows in (pool, alike))
        path.append([f"{step}_enough", "yes" if enough else "no"])
        if enough:
            reasons.append(
                f"{EFFORT_WORDS[step]} meets every criterion on validation ({_names(own)}), and validation cannot "
                "tell that anything costlier is more accurate."
            )
            return own, [*path, [step, None]]
        reasons.append(
            f"{EFFORT_WORDS[step]} meets every criterion ({_names(own)}), but validation can tell that a costlier "
            "technique is more accurate."
            if own
            else f"{EFFORT_WORDS[step]} {'has no variant that meets' if step != 'ptq' else 'does not meet'} every criterion "
            "on validation."
        )
    own = [row for row in pool if flow.effort(row) == "training"]
    reasons.append(f"Training meets every criterion on validation ({_names(own)}).")
    return own, [*path, ["training", None]]


def nearest(rows: Sequence[Row], criteria: Sequence[Mapping[str, Any]]) -> Row:
    """The variant that is nearest to its criteria; of those equally near, to a hundredth of a bound, the least costly."""
    return min(rows, key=lambda row: (round(excess(row, criteria), 2), *costs(row), row["name"]))


def best_row(rows: Sequence[Row], criteria: Sequence[Mapping[str, Any]]) -> Row:
    """Of variants at one leaf the one that the flow would take: of those that meet every criterion, else the nearest."""
    meeting = [row for row in rows if all(passed(row, criteria).values())]
    return _choose(meeting, [])[0] if meeting else nearest(rows, criteria)


def recommend(
    rows: Sequence[Row],
    criteria: Sequence[Mapping[str, Any]],
    answers: Mapping[str, Any] | None = None,
) -> dict:
    """Walk the decision flow and say which variant to ship, at how many bits, why, and why not the others.

    `rows` are rows of the results table whose accuracies (value, drop, drop_low, drop_high, n) are those of the
    validation split; `answers` may hold what `flow.ANSWERS` knows: kernels, images and retraining.
    Returns variant (None when nothing runs on the target), weight_bits and activation_bits of it, met (all criteria), misses
    (phrases), status (by criterion), reasons (sentences), path (pairs of node and answer in FLOW) and rejected (name → why).
    Peers are never recommended. The same rows give the same answer. Raises EdgeqError for an unknown criterion or answer.
    """
    check_question(criteria, answers)
    answers = complete_answers(answers)
    classes = {name for row in rows for name in row["fits"] or {}}
    for criterion in criteria:
        if criterion["name"] == "device" and classes and criterion["bound"] not in classes:
            raise EdgeqError(
                f"The criterion device names '{criterion['bound']}', which is no device class; there are "
                f"{', '.join(sorted(classes))}."
            )
    reasons: list[str] = []
    usable, rejected = _sort_out(rows, answers)
    if answers["kernels"] != "any":
        reasons.append(
            f"The target runs {flow.KERNELS[answers['kernels']]}: {len(usable)} of {len(rows)} files are left."
        )
    if answers["images"] == "none":
        reasons.append(
            "There are no images of the task, so only techniques that need none are left."
        )
    meeting = [row for row in usable if all(passed(row, criteria).values())]
    rejected |= {
        row["name"]: "misses " + " and ".join(misses(row, criteria))
        for row in usable
        if row not in meeting
    }
    compressed = [row for row in meeting if row["technique"] != "baseline"]
    rejected |= {
        row["name"]: "meets the criteria, but so does a file with more bits" for row in compressed
    }
    rejected |= {
        row["name"]: "the uncompressed network, what the others are compared with"
        for row in meeting
        if row not in compressed
    }
    bits, pool = _bits(compressed, usable, criteria, reasons)
    rejected |= {
        row["name"]: "meets the criteria, but so does a simpler technique, or a more accurate one"
        for row in pool
    }
    pool, path = _walk(pool, bits, answers, reasons)
    chosen = None
    if pool:
        chosen, why = _choose(pool, reasons)
        rejected |= why
    elif meeting:
        chosen = meeting[0]
        reasons.append(
            f"Nothing that compresses {chosen['name']} meets every criterion, {chosen['name']} itself does."
        )
    elif usable:
        chosen = nearest(usable, criteria)
        reasons.append(
            f"No variant meets every criterion on validation; {chosen['name']} comes nearest and misses "
            f"{' and '.join(misses(chosen, criteria))}."
        )
    if chosen is None:
        return {
            "variant": None,
            "weight_bits": None,
            "activation_bits": None,
            "met": False,
            "misses": [],
            "status": {},
            "path": path,
            "rejected": rejected,
            "reasons": [*reasons, "No variant on the shelf is left to ship."],
        }
    rejected.pop(chosen["name"], None)
    return {
        "variant": chosen["name"],
        "weight_bits": chosen["weight_bits"],
        "activation_bits": chosen["activation_bits"],
        "met": chosen in meeting,
        "misses": misses(chosen, criteria),
        "status": status(chosen, criteria),
        "reasons": reasons + _judge(chosen, criteria),
        "path": path,
        "rejected": rejected,
    }
