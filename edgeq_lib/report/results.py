"""The published result of a study: results.json, results.csv, and one text as Markdown, HTML and PDF.

Everything heavy is imported where it is used, so that the command line can print a table at once.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeq_lib.analysis import alternatives, decision, flow
from edgeq_lib.analysis.criteria import passed
from edgeq_lib.analysis.rows import as_row
from edgeq_lib.files import EdgeqError, read_json
from edgeq_lib.records import best_epoch
from edgeq_lib.study import Study, Variant

if TYPE_CHECKING:
    pass


OF_BASELINE = (
    "model",
    "weights",
    "alpha",
    "parameters",
    "preprocessing",
    "augmentation",
    "recipe",
    "checkpoint_bytes",
)
OF_PEER = ("source", "licence", "preprocessing", "image_size", "class_offset")


def collect(
    study: Study,
    command: str,
    criteria: Sequence[Mapping[str, Any]],
    answers: Mapping[str, Any] | None = None,
    question: str = "",
    reference: Sequence[Mapping[str, Any]] = (),
) -> dict:
    """Everything that is published about a study, from its shelf, as results.json holds it.

    `criteria` is a list of {"name", "bound"}, `answers` what the decision flow is told, `question` the study's own, and
    `reference` figures that others published, {"what", "value", "source"}. Beside the schema it holds these,
    `validation` (what the recommendation was made on), `branches` and `what_if` (the other ends of the flow), `setup`,
    `seeds`, `boards`, `peers` and `minutes`, and, a variant, `trained` (what training learned from: labels, or outputs of
    float32), `stage`, `detectable_drop`, `checkpoint_ratio` and `latency_ratio_by_threads`. Peers come last. Raises
    EdgeqError without a baseline on the shelf, or for a reference that lacks a field.
    """
    from edgeq_lib.measure.statistics import holm

    for entry in reference:
        if set(entry) != {"what", "value", "source"}:
            raise EdgeqError(
                f"The reference {dict(entry)} will not do: each needs what, value and source, and nothing else."
            )
    data, baseline, variants = study.read("data"), study.read("baseline"), study.variants()
    variants.sort(key=lambda variant: variant.facts.get("kind") == "peer")
    records = {
        variant.name: (variant.read("quality") or {}, variant.read("cost") or {})
        for variant in variants
    }
    base = next(
        (variant.name for variant in variants if variant.facts["technique"] == "baseline"), None
    )
    if base is None:
        raise EdgeqError(
            f"Study '{study.name}' has no float32 baseline on its shelf: run the notebook 02_baseline first."
        )
    base_bytes, checkpoint = records[base][1].get("bytes"), baseline.get("checkpoint_bytes")
    rows, chosen_on = (
        [
            as_row(variant, quality.get(split), cost, base_bytes, checkpoint)
            for variant, (quality, cost) in zip(variants, records.values(), strict=True)
        ]
        for split in ("test", "validation")
    )
    for row, p_value in zip(rows, holm([row["p_value"] for row in rows]), strict=True):
        row |= {"p_value": p_value, "passed": passed(row, criteria)}
    costs = [cost for _, cost in records.values() if cost]
    return {
        "study": study.name,
        "question": question,
        "command": command,
        "data": {
            "name": data["name"],
            "form": data["form"],
            "fingerprint": data["fingerprint"],
            "n_train": data["splits"]["train"]["n"],
            "n_validation": data["splits"]["validation"]["n"],
            "n_test": data["splits"]["test"]["n"],
            "n_classes": len(data["classes"]),
            "image_size": data["image_size"],
        },
        "setup": _setup(data, baseline),
        "versions": costs[0].get("runtime") or {} if costs else {},
        "machine": costs[0].get("machine") or {} if costs else {},
        "baseline": base,
        "criteria": [dict(criterion) for criterion in criteria],
        "answers": dict(answers or {}),
        "variants": rows,
        "validation": {
            row["name"]: {
                field: row[field]
                for field in ("value", "low", "high", "n", "drop", "drop_low", "drop_high")
            }
            for row in chosen_on
        },
        "recommendation": decision.recommend(chosen_on, criteria, answers),
        "branches": alternatives.branches(chosen_on, criteria, answers),
        "what_if": alternatives.what_if(chosen_on, criteria, answers),
        "seeds": _seeds(study),
        "boards": _boards(study),
        "minutes": _minutes(study, [*variants, *study.repeats()]),
        "peers": [
            {"name": variant.name, **{field: variant.facts.get(field) for field in OF_PEER}}
            for variant in variants
            if variant.facts.get("kind") == "peer"
        ],
        "reference": [dict(entry) for entry in reference],
    }


def _setup(data: Mapping[str, Any], baseline: Mapping[str, Any]) -> dict:
    history = baseline.get("history") or []
    best = best_epoch(history)
    setup = (
        {field: baseline.get(field) for field in OF_BASELINE}
        | {
            "epochs": sum(
                epoch["epoch"] > 0 for epoch in history
            ),  # of all phases, each of which counts from 1
            "best_epoch": sum(epoch["epoch"] > 0 for epoch in history[: best + 1])
            if history
            else 0,
            "training_seconds": round(sum(epoch.get("seconds") or 0 for epoch in history), 1),
            "n_calibration": (data.get("calibration") or {}).get("n"),
            "seed": data.get("seed"),
        }
    )
    setup["weights"] = baseline.get("trained") or setup["weights"]
    for field in ("model", "weights"):  # where a file lay on this machine is nobody's business
        setup[field] = Path(str(setup[field])).name
    return setup


def _seeds(study: Study) -> list[dict]:
    """What was made again with other seeds: a list of variants, each with its runs on test, its own the first."""
    again: dict[str, list[Variant]] = {}
    for repeat in study.repeats():
        again.setdefault(repeat.facts["repeats"], []).append(repeat)
    found = []
    for name, repeats in again.items():
        first = study.variant(name)
        runs = [
            {"seed": variant.facts["seed"]}
            | {
                field: quality.get(key)
                for field, key in (
                    ("value", "top1"),
                    ("drop", "drop"),
                    ("drop_low", "drop_low"),
                    ("drop_high", "drop_high"),
                    ("agreement", "agreement"),
                )
            }
            for variant in (first, *repeats)
            if (quality := (variant.read("quality") or {}).get("test"))
        ]
        drops = [run["drop"] for run in runs]
        if len(drops) > 1:
            found.append(
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
    return found


def _boards(study: Study) -> list[dict]:
    """What other machines measured, as `edgeq import-bench` took it in."""
    from edgeq_lib.measure import remote

    return remote.read_boards(study)


def _minutes(study: Study, variants: Sequence[Variant]) -> list[dict]:
    """Seconds a stage; `training_seconds` is what the training of its variants took, which may have been in an earlier run."""
    found, untrained = (
        [],
        {each for techniques in flow.EFFORT.values() for each in techniques} | {"peer"},
    )
    for path in sorted((study.folder / "stages").glob("*.json")):
        if path.stem == study.stage:
            continue
        study.note_read(path)
        trained = [
            variant.facts.get("seconds") or 0
            for variant in variants
            if variant.facts["stage"] == path.stem and variant.facts["technique"] not in untrained
        ]
        found.append(
            {
                "stage": path.stem,
                "seconds": read_json(path)["seconds"],
                "training_seconds": round(sum(trained), 1),
            }
        )
    return found
