"""Which variant to ship: the study's criteria, the decision flow as data, and the recommendation that follows.

Everything here is decided on rows whose accuracies come from the validation split; the caller sees to that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from edgeq_lib.criteria import FIELDS, Row, costs, dominated, excess, misses, passed, status
from edgeq_lib.study import EdgeqError

TECHNIQUES = {"baseline": "float32 baseline", "ptq": "post-training quantization", "ptq_repair": "repaired "
              "post-training quantization", "qat": "quantization-aware training", "data_free": "data-free quantization",
              "low_bit": "low-bit quantization", "mixed_precision": "mixed precision", "peer": "published peer"}
# From the least to the most that a technique asks of its user; what is not named asks for training.
STEPS = {"ptq": ("ptq",), "repair": ("ptq_repair", "data_free", "mixed_precision", "low_bit")}
DATA_FREE_SCHEMES = ("float16", "dynamic_int8", "weight_only_int8", "w4", "w2")

# The flow as data: `at` is where a node is drawn (column, row), `next` what follows which answer.
FLOW: dict[str, dict[str, Any]] = {
    "kernels": {"at": (1, 0), "text": "What can the\ntarget run?",
                "next": {"any": "data", "integer": "data", "int8": "data"}},
    "data": {"at": (1, 1), "text": "Are images of\nthe task at hand?",
             "next": {"yes": "ptq_enough", "no": "data_free"}},
    "ptq_enough": {"at": (1, 2), "text": "Is PTQ\nenough?",
                   "next": {"yes": "ptq", "no": "repair_enough"}},
    "repair_enough": {"at": (1, 3), "text": "Is a repair without\ntraining enough?",
                      "next": {"yes": "repair", "no": "retraining"}},
    "retraining": {"at": (1, 4), "text": "Can the network\nbe trained again?",
                   "next": {"yes": "training_enough", "no": "nearest"}},
    "training_enough": {"at": (1, 5), "text": "Is training\nenough?",
                        "next": {"yes": "training", "no": "nearest"}},
    "data_free": {"at": (2, 1), "text": "Data-free\nquantization"},
    "ptq": {"at": (2, 2), "text": "Post-training\nquantization (PTQ)"},
    "repair": {"at": (2, 3), "text": "Repaired PTQ,\nmixed or low-bit"},
    "training": {"at": (2, 5), "text": "Quantization-aware\ntraining (QAT)"},
    "nearest": {"at": (0, 4.5), "text": "Nothing meets all:\ntake the nearest"},
}
TELL = 1.96  # standard errors that validation needs to tell two files apart, at 95 %
ANSWERS = {"training_data": (True, False), "retraining": (True, False), "kernels": ("any", "integer", "int8")}
KERNELS = {"any": "float and integers", "integer": "integers only", "int8": "8-bit integers only"}


def check(criteria: Iterable[Mapping[str, Any]], answers: Mapping[str, Any] | None = None) -> None:
    """Raises EdgeqError for a criterion or an answer that the flow does not know."""
    names = [criterion["name"] for criterion in criteria]
    for name in names:
        if name not in FIELDS or names.count(name) > 1:
            raise EdgeqError(f"The criterion '{name}' is unknown or given twice; there are {', '.join(FIELDS)}.")
    for key, answer in (answers or {}).items():
        if answer not in ANSWERS.get(key, ()):
            known = "; ".join(f"{name}: {' or '.join(map(str, values))}" for name, values in ANSWERS.items())
            raise EdgeqError(f"The decision flow does not know the answer {key}: {answer!r}; there are {known}.")


def _runs(row: Row, kernels: str) -> bool:
    if kernels == "any":
        return True
    eight = all(float(bits) >= 8 for bits in row["weight_bits_share"] or {}) and round(row["activation_bits"] or 0) <= 8
    return bool(row["integer_only"]) and (kernels == "integer" or eight)


def _step(row: Row) -> str:
    return next((step for step, techniques in STEPS.items() if row["technique"] in techniques), "training")


def _needs_no_data(row: Row) -> bool:
    return row["technique"] == "data_free" or (row["technique"] == "ptq" and row["scheme"] in DATA_FREE_SCHEMES)


def _names(rows: Iterable[Row], limit: int = 4) -> str:
    names = [row["name"] for row in rows]
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def _alike(pool: Sequence[Row], errors: float) -> list[Row]:
    """The most accurate of a pool, and those whose drop is at most so many standard errors (their own) above its drop."""
    best = min(pool, key=_accurate)
    return [row for row in pool if row is best or costs(row)[0] - errors * _error(row) <= costs(best)[0]]


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
    rejected = {name: f"{other} is as accurate, as small and as fast, and better in one of these"
                for name, other in by.items()}
    front = [row for row in pool if row["name"] not in by]
    best, alike = min(front, key=_accurate), _alike(front, 1)
    chosen = min(alike, key=lambda row: (*costs(row)[1:], row["name"]))
    others = [row for row in alike if row is not chosen]
    if others:
        reasons.append(f"On {chosen['n']} validation images {chosen['name']} lies within one standard error of the most "
                       f"accurate ({best['name']}), as {'does' if len(others) < 2 else 'do'} {_names(others)}; the fewest "
                       "bytes decide." if best is not chosen else
                       f"{chosen['name']} is the most accurate on validation, and the smallest of those that come within "
                       f"one standard error of it ({_names(others)}).")
    for row in front:
        if row is not chosen:
            rejected[row["name"]] = (f"meets the criteria, but {chosen['name']} is smaller, or as small and faster"
                                     if row in alike else "meets the criteria, but is more than one standard error "
                                     f"less accurate on validation than {best['name']}")
    return chosen, rejected


def _judge(row: Row, criteria: Sequence[Mapping[str, Any]]) -> list[str]:
    """One sentence a figure of the chosen variant, with how the criterion on it stands."""
    found = status(row, criteria)
    bounds = {criterion["name"]: criterion["bound"] for criterion in criteria}
    marks = {name: f" (bound {bounds[name]:g}: {mark})" for name, mark in found.items() if name != "device"}
    said = []
    if row["drop"] is not None:
        verb, mark = "loses" if row["drop"] >= 0 else "gains", marks.get("max_drop", "")
        said.append(f"{row['name']} {verb} {abs(row['drop']):.2f} points of accuracy on {row['n']} validation images; "
                    f"95 % interval of the drop {row['drop_low']:.2f} to {row['drop_high']:.2f}{mark}.")
    if row["agreement"] is not None:
        said.append(f"It names the class that float32 names on {row['agreement']:.1f} % of them"
                    f"{marks.get('min_agreement', '')}.")
    if row["ratio"] is not None:
        said.append(f"Its file is {row['ratio']:.2f} times smaller than float32's{marks.get('min_ratio', '')}.")
    if row["latency_ratio"] is not None:
        said.append(f"It takes {row['latency_ratio']:.2f} of float32's time{marks.get('max_latency_ratio', '')}.")
    if "device" in found:
        fit = {"met": "fits", "missed": "does not fit"}.get(found["device"], "was not measured against")
        said.append(f"It {fit} the device class {bounds['device']}.")
    return said


def _sort_out(rows: Sequence[Row], answers: Mapping[str, Any]) -> tuple[list[Row], dict[str, str]]:
    """The variants that the answers leave, and why not the others."""
    usable, rejected = [], {}
    for row in rows:
        baseline = row["technique"] == "baseline"
        if row["kind"] == "peer" or row["technique"] == "peer":
            rejected[row["name"]] = "a published peer, there for comparison"
        elif not _runs(row, answers["kernels"]):
            rejected[row["name"]] = f"the target runs {KERNELS[answers['kernels']]}" + (
                ", and its ops were not looked at" if row["integer_only"] is None else "")
        elif not (baseline or answers["training_data"] or _needs_no_data(row)):
            rejected[row["name"]] = "it needs images, and there are none"
        elif not (baseline or answers["retraining"] or _step(row) != "training"):
            rejected[row["name"]] = "it needs training, which is not possible"
        else:
            usable.append(row)
    return usable, rejected


def _walk(meeting: list[Row], answers: Mapping[str, Any], reasons: list[str]) -> tuple[list[Row], list[list[Any]]]:
    """The variants at the leaf that the flow ends in, and the way there as pairs of node and answer.

    A step is enough when one of its variants meets every criterion and validation cannot tell, at 95 %, that a costlier one
    is more accurate.
    """
    path: list[list[Any]] = [["kernels", answers["kernels"]], ["data", "yes" if answers["training_data"] else "no"]]
    if not answers["training_data"]:
        reasons.append("There are no images of the task, so only techniques that need none are left.")
        return meeting, [*path, ["data_free", None]]
    alike = _alike(meeting, TELL) if meeting else []
    for step, what in (("ptq", "Post-training quantization"), ("repair", "A repair without training"),
                       ("training", "Training")):
        if step == "training":
            path.append(["retraining", "yes" if answers["retraining"] else "no"])
            if not answers["retraining"]:
                break
        pool, enough = ([row for row in rows if _step(row) == step] for rows in (meeting, alike))
        path.append([f"{step}_enough", "yes" if enough else "no"])
        if enough:
            reasons.append(f"{what} meets every criterion on validation ({_names(pool)}), and validation cannot "
                           "tell that anything costlier is more accurate." if step != "training" else
                           f"{what} meets every criterion on validation ({_names(pool)}).")
            return pool, [*path, [step, None]]
        reasons.append(f"{what} meets every criterion ({_names(pool)}), but validation can tell that a costlier technique "
                       "is more accurate." if pool else
                       f"{what} {'has no variant that meets' if step != 'ptq' else 'does not meet'} every criterion on "
                       "validation.")
    return [], [*path, ["nearest", None]]


def recommend(rows: Sequence[Row], criteria: Sequence[Mapping[str, Any]],
              answers: Mapping[str, Any] | None = None) -> dict:
    """Walk the decision flow and say which variant to ship, why, and why not the others.

    `rows` are rows of the results table whose accuracies (value, drop, drop_low, drop_high, n) are those of the
    validation split; `answers` may hold training_data, retraining (True or False) and kernels (any, integer, int8).
    Returns variant (None when nothing runs on the target), met (all criteria), misses (phrases), status (by
    criterion), reasons (sentences), path (pairs of node and answer in FLOW) and rejected (name → why). Peers are never
    recommended. The same rows give the same answer. Raises EdgeqError for an unknown criterion or answer.
    """
    check(criteria, answers)
    answers = {name: values[0] for name, values in ANSWERS.items()} | dict(answers or {})
    classes = {name for row in rows for name in row["fits"] or {}}
    for criterion in criteria:
        if criterion["name"] == "device" and classes and criterion["bound"] not in classes:
            raise EdgeqError(f"The criterion device names '{criterion['bound']}', which is no device class; there are "
                             f"{', '.join(sorted(classes))}.")
    reasons: list[str] = []
    usable, rejected = _sort_out(rows, answers)
    if answers["kernels"] != "any":
        reasons.append(f"The target runs {KERNELS[answers['kernels']]}: {len(usable)} of {len(rows)} files are left.")
    meeting = [row for row in usable if all(passed(row, criteria).values())]
    rejected |= {row["name"]: "misses " + " and ".join(misses(row, criteria)) for row in usable if row not in meeting}
    compressed = [row for row in meeting if row["technique"] != "baseline"]
    rejected |= {row["name"]: "meets the criteria, but so does a simpler technique, or a more accurate one"
                 for row in compressed}
    rejected |= {row["name"]: "the uncompressed network, what the others are compared with" for row in meeting
                 if row not in compressed}
    pool, path = _walk(compressed, answers, reasons)
    chosen = None
    if pool:
        chosen, why = _choose(pool, reasons)
        rejected |= why
    elif meeting:
        chosen = meeting[0]
        reasons.append(f"Nothing that compresses {chosen['name']} meets every criterion, {chosen['name']} itself does.")
    elif usable:
        chosen = min(usable, key=lambda row: (excess(row, criteria), *costs(row), row["name"]))
        reasons.append(f"No variant meets every criterion on validation; {chosen['name']} comes nearest and misses "
                       f"{' and '.join(misses(chosen, criteria))}.")
    if chosen is None:
        return {"variant": None, "met": False, "misses": [], "status": {}, "path": path, "rejected": rejected,
                "reasons": [*reasons, "No variant on the shelf can run on this target."]}
    rejected.pop(chosen["name"], None)
    return {"variant": chosen["name"], "met": chosen in meeting, "misses": misses(chosen, criteria),
            "status": status(chosen, criteria), "reasons": reasons + _judge(chosen, criteria), "path": path,
            "rejected": rejected}
