"""The content of results.json: everything that is published about a study.

Everything heavy is imported where it is used, so that the command line can print a table at once.
"""

from __future__ import annotations

import importlib.metadata
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeq_lib import targets
from edgeq_lib.analysis import alternatives, decision, flow, pairs
from edgeq_lib.analysis.criteria import passed
from edgeq_lib.analysis.rows import COMPARED, SCORED, as_row
from edgeq_lib.analysis.target_latency import judge_latency
from edgeq_lib.files import EdgeqError, home, read_json
from edgeq_lib.records import best_epoch
from edgeq_lib.study import Study, Variant

if TYPE_CHECKING:
    import numpy as np

OF_BASELINE = (
    "model",
    "weights",
    "alpha",
    "parameters",
    "preprocessing",
    "augmentation",
    "recipe",
    "checkpoint_bytes",
    "own",
    "outputs",
    "notes",
    "preprocessings_tried",
)
OF_PEER = ("source", "licence", "preprocessing", "image_size", "class_offset")
# What is published on validation beside test; classes and top-5 are published on test alone, and
# the rest does not depend on the images.
PER_SPLIT = ("value", *SCORED, *COMPARED)


def collect(
    study: Study,
    command: str,
    criteria: Sequence[Mapping[str, Any]],
    answers: Mapping[str, Any] | None = None,
    question: str = "",
    reference: Sequence[Mapping[str, Any]] = (),
    *,
    labels: np.ndarray,
    objective: str = "simplest",
    strict: bool = False,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """Collect the content of results.json.

    Args:
        study: The study, opened by its analysis.
        command: What made the study, to be run again.
        criteria: What a file must meet: a list of {"name", "bound"}.
        answers: What the decision flow is told of the user's situation.
        question: The study's own question; opens the report.
        reference: Figures that others published, each {"what", "value", "source"}.
        labels: The true classes of the validation images, integers (n,): files are compared with
            each other on them.
        objective: What is wanted of the files that meet every criterion (`flow.OBJECTIVES`).
        strict: Whether a criterion is met by its whole interval only.
        notes: Sentences on what else the study does not know, or was informed by.

    Returns:
        The schema of docs/architecture.md. `variants` hold the figures on test, peers last;
        `validation` and `pairs` what the recommendation was made on (see `decision_rows`).

    Raises:
        EdgeqError: Without a baseline on the shelf, or for a reference that lacks a field.
    """
    _check_reference(reference)
    data, baseline, variants = study.read("data"), study.read("baseline"), study.variants()
    variants.sort(key=lambda variant: variant.facts.get("kind") == "peer")
    costs = [cost for variant in variants if (cost := variant.read("cost"))]
    boards = study.boards()
    target = (answers or {}).get("target", flow.ANY_TARGET)
    on_test, on_validation = _rows(study, variants, baseline)
    for rows in (on_test, on_validation):
        judge_latency(rows, target, costs[0]["machine"] if costs else {}, boards)
    for row in on_test:
        row["passed"] = passed(row, criteria)
    compared = _pairs(variants, labels, pairs.measure_of(criteria))
    on_validation = pairs.attach(on_validation, compared)
    question_asked = (criteria, answers, objective, strict)
    return {
        "study": study.name,
        "question": question,
        "command": command,
        "code": code_version(),
        "data": _data(data),
        "setup": _setup(data, baseline),
        "versions": (costs[0].get("runtime") or {}) if costs else {},
        "machines": _machines(costs, boards),
        "busy": next((cost["busy"] for cost in costs if cost.get("busy")), None),
        "conditions": (costs[0].get("conditions") or {}) if costs else {},
        "baseline": on_test[0]["name"],
        "criteria": [dict(criterion) for criterion in criteria],
        "answers": dict(answers or {}),
        "targets": {
            name: targets.load(name).model_dump(mode="json")
            for name in decision.judged_targets(on_test)
        },
        "objective": objective,
        "strict": strict,
        "variants": on_test,
        "validation": {
            row["name"]: {field: row[field] for field in PER_SPLIT} for row in on_validation
        },
        "pairs": compared,
        "recommendation": decision.recommend(on_validation, *question_asked),
        "objectives": alternatives.objectives(on_validation, criteria, answers, strict),
        "branches": alternatives.branches(on_validation, criteria, answers, strict),
        "what_if": alternatives.what_if(on_validation, *question_asked),
        "notes": list(notes),
        "seeds": _seeds(study),
        "boards": boards,
        "not_tried": _not_tried(study.left_out(), baseline.get("missing_parts") or []),
        "minutes": _minutes(study, [*variants, *study.repeats()]),
        "peers": [
            {"name": variant.name, **{field: variant.facts.get(field) for field in OF_PEER}}
            for variant in variants
            if variant.facts.get("kind") == "peer"
        ],
        "reference": [dict(entry) for entry in reference],
    }


def decision_rows(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rebuild the rows that the recommendation was made on.

    Args:
        results: The content of results.json.

    Returns:
        The variants with their figures on validation and what each pair of them differs by:
        `decision.recommend` gives the published recommendation for them again.
    """
    rows = [{**row, **results["validation"][row["name"]]} for row in results["variants"]]
    return pairs.attach(rows, results.get("pairs") or {})


def code_version() -> dict[str, str | None]:
    """Name the version of edgeq and, in a checkout, its commit (`+changes` where it was edited)."""
    version = importlib.metadata.version("edgeq")
    try:
        told = subprocess.run(
            ["git", "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=+changes"],
            cwd=home(),
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return {"version": version, "commit": None}
    return {"version": version, "commit": told.stdout.strip()}


def _check_reference(reference: Sequence[Mapping[str, Any]]) -> None:
    for entry in reference:
        if set(entry) != {"what", "value", "source"}:
            raise EdgeqError(
                f"The reference {dict(entry)} is invalid: each needs what, value and source, and "
                "nothing else."
            )


def _rows(
    study: Study, variants: Sequence[Variant], baseline: Mapping[str, Any]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rows on test, p-values adjusted over the table, and those on validation."""
    from edgeq_lib.measure.statistics import holm

    base = next((each for each in variants if each.facts["technique"] == "baseline"), None)
    if base is None:
        raise EdgeqError(
            f"Study '{study.name}' has no float32 baseline on its shelf: run the notebook "
            "02_baseline first."
        )
    base_bytes = (base.read("cost") or {}).get("bytes")
    rows: dict[str, list[dict[str, Any]]] = {"test": [], "validation": []}
    comparisons = sum(_has_p_value(variant) for variant in variants)
    for variant in variants:
        quality, cost = variant.read("quality") or {}, variant.read("cost") or {}
        for split, table in rows.items():
            checkpoint = baseline.get("checkpoint_bytes")
            facts = (quality.get(split), cost, base_bytes, checkpoint, comparisons)
            table.append(as_row(variant, *facts))
    adjusted = holm([row["p_value"] for row in rows["test"]])
    for row, p_value in zip(rows["test"], adjusted, strict=True):
        row["p_value"] = p_value
    return rows["test"], rows["validation"]


def _has_p_value(variant: Variant) -> bool:
    return ((variant.read("quality") or {}).get("test") or {}).get("p_value") is not None


def _pairs(
    variants: Sequence[Variant], labels: np.ndarray, measure: pairs.Measure
) -> dict[str, Any]:
    """What our files differ by on the validation images, one pair after the other."""
    from edgeq_lib.measure.statistics import correctness, only_one_right, same_class

    right, base = {}, None
    for variant in variants:  # the baseline comes first
        outputs = variant.arrays().get("validation")
        if outputs is None or variant.facts.get("kind") == "peer":
            continue
        if variant.facts["technique"] == "baseline":
            base = outputs
        elif measure == "top1":
            right[variant.name] = correctness(outputs, labels)[0]
        elif base is not None:
            right[variant.name] = same_class(outputs, base)
    encoded = pairs.encode(list(right), only_one_right(list(right.values())) if right else ())
    return {"measure": measure, "n": len(labels), **encoded}


def _data(data: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **{field: data[field] for field in ("name", "form", "fingerprint", "image_size")},
        **{f"n_{split}": data["splits"][split]["n"] for split in ("train", "validation", "test")},
        "n_classes": len(data["classes"]),
        "left_out": data.get("left_out", []),
        "near_crowd": data.get("duplicates", {}).get("near_crowd", 0),
    }


def _setup(data: Mapping[str, Any], baseline: Mapping[str, Any]) -> dict[str, Any]:
    history = baseline.get("history") or []
    trained = [epoch["epoch"] > 0 for epoch in history]  # each phase has an epoch 0 of its own
    setup = {field: baseline.get(field) for field in OF_BASELINE} | {
        "epochs": sum(trained),
        "best_epoch": sum(trained[: (best_epoch(history) or 0) + 1]),
        "training_seconds": round(sum(epoch.get("seconds") or 0 for epoch in history), 1),
        "n_calibration": (data.get("calibration") or {}).get("n"),
        "seed": data.get("seed"),
    }
    setup["weights"] = baseline.get("trained") or setup["weights"]
    for field in ("model", "weights"):  # names of folders stay on this machine
        setup[field] = Path(str(setup[field])).name
    return setup


def _machines(
    costs: Sequence[Mapping[str, Any]], boards: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The machine that the study ran on, then the others; `isa` is what bears on speed."""
    own = [{"name": "this machine", **(costs[0].get("machine") or {})}] if costs else []
    listed = [*own, *(dict(board["machine"]) for board in boards)]
    return [{**machine, "isa": machine.get("isa", machine.get("flags"))} for machine in listed]


def _not_tried(
    left_out: Mapping[str, str], missing: Sequence[Mapping[str, str]]
) -> list[dict[str, str]]:
    """A record per stage, or part of one, that the network cannot have: stage, part, why."""
    reasons = {(stage, ""): why for stage, why in left_out.items()}
    for part in missing:
        what = "" if part["without"] == "all of it" else part["without"]
        if (part["stage"], "") not in reasons:
            reasons[part["stage"], what] = part["why"]
    return [
        {"stage": stage, "part": part, "why": why} for (stage, part), why in sorted(reasons.items())
    ]


def _seeds(study: Study) -> list[dict[str, Any]]:
    """What was made again with other seeds, with its figures on test; its own run is the first."""
    repeats_of: dict[str, list[Variant]] = {}
    for repeat in study.repeats():
        repeats_of.setdefault(repeat.facts["repeats"], []).append(repeat)
    entries = []
    for name, repeats in repeats_of.items():
        first = study.variant(name)
        runs = [run for variant in (first, *repeats) if (run := _run_on_test(variant))]
        drops = [run["drop"] for run in runs]
        if len(drops) > 1:
            entries.append(
                {
                    "name": name,
                    "technique": first.facts["technique"],
                    "scheme": first.facts["scheme"],
                    "runs": runs,
                    "drop_mean": statistics.mean(drops),
                    "drop_sd": statistics.stdev(drops),
                    "drop_min": min(drops),
                    "drop_max": max(drops),
                }
            )
    return entries


def _run_on_test(variant: Variant) -> dict[str, Any] | None:
    quality = (variant.read("quality") or {}).get("test")
    if not quality:
        return None
    fields = ("drop", "drop_low", "drop_high", "agreement")
    return {
        "seed": variant.facts["seed"],
        "value": quality.get("top1"),
        **{field: quality.get(field) for field in fields},
    }


def _minutes(study: Study, variants: Sequence[Variant]) -> list[dict[str, Any]]:
    """Seconds per stage, and what the training of its variants took, perhaps in an earlier run."""
    untrained = {"peer", *(name for techniques in flow.EFFORT.values() for name in techniques)}
    entries = []
    for path in sorted((study.folder / "stages").glob("*.json")):
        if path.stem == study.stage:
            continue
        study.note_read(path)
        training = sum(
            variant.facts.get("seconds") or 0
            for variant in variants
            if variant.facts["stage"] == path.stem and variant.facts["technique"] not in untrained
        )
        seconds = read_json(path)["seconds"]
        entries.append(
            {"stage": path.stem, "seconds": seconds, "training_seconds": round(training, 1)}
        )
    return entries
