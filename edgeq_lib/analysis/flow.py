"""The decision flow as data: what is asked, in which order, and which files each answer leaves.

Ends of the flow are leaves; `by_objective` is where the smallest, the fastest or the most accurate
file is asked for instead of the simplest technique.
"""

from __future__ import annotations

from typing import Any

from edgeq_lib import targets
from edgeq_lib.analysis import techniques
from edgeq_lib.analysis.rows import Row

ANY_TARGET = targets.ANY  # a study that names none
TECHNIQUES = {technique.name: technique.words for technique in techniques.TABLE}
# From the least to the most that a technique asks of its user; what is not named, or was trained,
# asks for training.
EFFORT = {
    level: tuple(technique.name for technique in techniques.TABLE if technique.effort == level)
    for level in ("ptq", "recovery")
}
DATA_FREE_SCHEMES = ("float16", "dynamic_int8", "weight_only_int8", "w4", "w2")
# What each answer is called in a sentence; the first of a question holds where none was given.
ANSWERS: dict[str, dict[Any, str]] = {
    "images": {
        "labelled": "labelled training images",
        "unlabelled": "images without labels",
        "none": "no image at all",
    },
    "retraining": {True: "training possible", False: "training not possible"},
}
# What may be wanted of the files that meet every criterion; the first holds where nothing is said.
OBJECTIVES = {
    "simplest": "the simplest technique",
    "smallest": "the smallest file",
    "fastest": "the fastest file",
    "accurate": "the most accurate file",
}
BITS = {"8 or more": "≥ 8 bits", "fewer": "< 8 bits"}  # of the weights, where room is scarce
# `at` is where a node is drawn (column, row), `next` what follows which answer. The first three and
# `objective` are asked of the user, the others of the files.
FLOW: dict[str, dict[str, Any]] = {
    "target": {
        "at": (0, 0),
        "text": "Which target\nmust run it?",
        "next": {"any": "images", "named": "images"},
    },
    "images": {
        "at": (0, 1),
        "text": "Which images of\nthe task are there?",
        "next": {"labelled": "retraining", "unlabelled": "retraining", "none": "free_meets"},
    },
    "free_meets": {
        "at": (1, 1),
        "text": "Does a file meet\nevery criterion?",
        "next": {"yes": "data_free", "no": "nearest"},
    },
    "retraining": {
        "at": (0, 2),
        "text": "Can the network\nbe trained again?",
        "next": {"yes": "meets", "no": "meets"},
    },
    "meets": {
        "at": (0, 3),
        "text": "Does a file meet\nevery criterion?",
        "next": {"yes": "objective", "no": "nearest"},
    },
    "objective": {
        "at": (0, 4),
        "text": "What is\nwanted of it?",
        "next": {
            "simplest": "ptq_enough",
            **dict.fromkeys(list(OBJECTIVES)[1:], "by_objective"),
        },
    },
    "ptq_enough": {
        "at": (0, 5),
        "text": "Is PTQ\nenough?",
        "next": {"yes": "ptq", "no": "recovery_enough"},
    },
    "recovery_enough": {
        "at": (0, 6),
        "text": "Does recovery without\ntraining suffice?",
        "next": {"yes": "recovery", "no": "training"},
    },
    "data_free": {"at": (2, 1), "text": "Data-free\nquantization"},
    "nearest": {"at": (1, 3), "text": "Nothing meets all:\ntake the nearest"},
    "by_objective": {"at": (1, 4), "text": "The best of\nany technique"},
    "ptq": {"at": (1, 5), "text": "Post-training\nquantization (PTQ)"},
    "recovery": {"at": (1, 6), "text": "Recovered, mixed,\nlow-bit, data-free"},
    "training": {"at": (0, 7), "text": "Training with\nquantization (QAT)"},
}


def why_not_on(row: Row, target: str) -> str | None:
    """Say why a target does not run a file; None where it does, or where nobody knows.

    Args:
        row: A row of the results table, with its verdicts in `targets`.
        target: A name of a target, or `ANY_TARGET`.
    """
    if target == ANY_TARGET:
        return None
    verdict = (row.get("targets") or {}).get(target)
    if verdict is None:
        return "it was not tried"
    return (verdict["why"] or "no reason is on record") if verdict["runs"] is False else None


def runs(row: Row, target: str) -> bool:
    """Tell whether a target runs a file, or may: see `why_not_on`."""
    return why_not_on(row, target) is None


def _fewest_bits(row: Row) -> float:
    return min((float(bits) for bits in row["weight_bits_share"] or {}), default=float("inf"))


def eight_bits(row: Row) -> bool:
    """Tell whether no weight of a file has fewer than 8 bits."""
    return _fewest_bits(row) >= 8


def effort(row: Row) -> str:
    """Return what a file asked of its maker: ptq, recovery or training."""
    named = next(
        (level for level, names in EFFORT.items() if row["technique"] in names), "training"
    )
    return "training" if row["trained"] else named


def needs_images(row: Row) -> bool:
    """Tell whether a file could not have been made without images of the task."""
    return row["technique"] != "data_free" and not (
        row["technique"] == "ptq" and row["scheme"] in DATA_FREE_SCHEMES
    )


def needs_labels(row: Row) -> bool:
    """Tell whether a file was trained on labels, as is taken for granted if nothing is said."""
    return effort(row) == "training" and row["trained"] != "outputs"
