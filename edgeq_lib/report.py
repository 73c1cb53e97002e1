"""The published result of a study: results.json, results.csv, and one text as Markdown, HTML and PDF.

Everything heavy is imported where it is used, so that the command line can print a table at once.
"""

from __future__ import annotations

import csv
import io
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeq_lib import decision, flow, pages, paper, what_if
from edgeq_lib.criteria import passed
from edgeq_lib.epochs import best_epoch
from edgeq_lib.study import EdgeqError, Study, Variant, read_json, write_bytes, write_json
from edgeq_lib.wording import claims, data_form, limits, number, sentence, table, with_interval  # noqa: F401 (a door)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FROM_FACTS = ("technique", "scheme", "engine", "parent", "seed", "trained", "stage", "sha256")
FROM_REPORT = ("weight_bits", "activation_bits", "weight_bits_share", "per_channel", "compute", "integer_only",
               "float_ops", "ops", "input_dtype", "output_dtype")
FROM_QUALITY = ("low", "high", "n", "ties", "top5", "worst_class", "drop", "drop_low", "drop_high", "p_value",
                "detectable_drop", "agreement")
FROM_COST = ("bytes", "gzip_bytes", "ratio", "latency_ratio", "latency_ratio_low", "latency_ratio_high",
             "latency_ratio_by_threads", "latency_ms", "load_ms", "peak_memory_bytes", "arena_bytes", "fits")
COMPARED = ("drop", "drop_low", "drop_high", "p_value", "detectable_drop", "agreement")
OF_BASELINE = ("model", "weights", "alpha", "parameters", "preprocessing", "augmentation", "recipe", "checkpoint_bytes")
OF_PEER = ("source", "licence", "preprocessing", "image_size", "class_offset")


def as_row(variant: Variant, quality: dict | None, cost: dict | None, base_bytes: int | None,
           checkpoint_bytes: int | None = None) -> dict:
    """A variant's row of the results table, from its records of quality (one split) and cost; what is null says why.

    `ratio` compares with the float32 file of `base_bytes`, `checkpoint_ratio` with a checkpoint with optimizer state.
    """
    facts, cost, quality = variant.facts, cost or {}, quality or {}
    report = cost.get("report") or {}
    row = {"name": variant.name, "kind": facts.get("kind", "variant")}
    row |= {field: facts.get(field) for field in FROM_FACTS} | {field: report.get(field) for field in FROM_REPORT}
    row |= {"metric": "top1", "value": quality.get("top1")} | {field: quality.get(field) for field in FROM_QUALITY}
    row |= {field: cost.get(field) for field in FROM_COST} | {"seconds_to_make": facts.get("seconds")}
    row["ratio"] = base_bytes / row["bytes"] if base_bytes and row["bytes"] else None
    peer, baseline = row["kind"] == "peer", row["technique"] == "baseline"
    row["checkpoint_ratio"] = checkpoint_bytes / row["bytes"] if checkpoint_bytes and row["bytes"] and not peer else None
    why = {"top5": "five classes or fewer" if quality else "not evaluated", "seed": "it draws no random numbers",
           "parent": "made by others" if peer else "made from the network itself",
           "trained": "made by others" if peer else "nothing was trained for it",
           "checkpoint_ratio": "not of our checkpoint" if peer else "no checkpoint was measured" if row["bytes"] else
           "not benchmarked"}
    why |= dict.fromkeys(COMPARED, "what the others are compared with" if baseline else "not evaluated")
    why |= dict.fromkeys(("value", *FROM_QUALITY[:4], "worst_class"), "not evaluated")
    why |= dict.fromkeys((*FROM_COST, *FROM_REPORT), "not benchmarked") | cost.get("why", {})
    return row | {"passed": {}, "why": {field: why.get(field, "not recorded") for field, value in row.items()
                                        if value is None}}


def collect(study: Study, command: str, criteria: Sequence[Mapping[str, Any]],
            answers: Mapping[str, Any] | None = None, question: str = "",
            reference: Sequence[Mapping[str, Any]] = ()) -> dict:
    """Everything that is published about a study, from its shelf, as results.json holds it.

    `criteria` is a list of {"name", "bound"}, `answers` what the decision flow is told, `question` the study's own, and
    `reference` figures that others published, {"what", "value", "source"}. Beside the schema it holds these,
    `validation` (what the recommendation was made on), `branches` and `what_if` (the other ends of the flow), `setup`,
    `seeds`, `boards`, `peers` and `minutes`, and, a variant, `trained` (what training learned from: labels, or outputs of
    float32), `stage`, `detectable_drop`, `checkpoint_ratio` and `latency_ratio_by_threads`. Peers come last. Raises
    EdgeqError without a baseline on the shelf, or for a reference that lacks a field.
    """
    from edgeq_lib.stats import holm

    for entry in reference:
        if set(entry) != {"what", "value", "source"}:
            raise EdgeqError(f"The reference {dict(entry)} will not do: each needs what, value and source, and nothing else.")
    data, baseline, variants = study.read("data"), study.read("baseline"), study.variants()
    variants.sort(key=lambda variant: variant.facts.get("kind") == "peer")
    records = {variant.name: (variant.read("quality") or {}, variant.read("cost") or {}) for variant in variants}
    base = next((variant.name for variant in variants if variant.facts["technique"] == "baseline"), None)
    if base is None:
        raise EdgeqError(f"Study '{study.name}' has no float32 baseline on its shelf: run the notebook 02_baseline first.")
    base_bytes, checkpoint = records[base][1].get("bytes"), baseline.get("checkpoint_bytes")
    rows, chosen_on = ([as_row(variant, quality.get(split), cost, base_bytes, checkpoint)
                        for variant, (quality, cost) in zip(variants, records.values(), strict=True)]
                       for split in ("test", "validation"))
    for row, p_value in zip(rows, holm([row["p_value"] for row in rows]), strict=True):
        row |= {"p_value": p_value, "passed": passed(row, criteria)}
    costs = [cost for _, cost in records.values() if cost]
    return {
        "study": study.name, "question": question, "command": command,
        "data": {"name": data["name"], "form": data["form"], "fingerprint": data["fingerprint"],
                 "n_train": data["splits"]["train"]["n"], "n_validation": data["splits"]["validation"]["n"],
                 "n_test": data["splits"]["test"]["n"], "n_classes": len(data["classes"]),
                 "image_size": data["image_size"]},
        "setup": _setup(data, baseline),
        "versions": costs[0].get("runtime") or {} if costs else {},
        "machine": costs[0].get("machine") or {} if costs else {},
        "baseline": base, "criteria": [dict(criterion) for criterion in criteria], "answers": dict(answers or {}),
        "variants": rows, "validation": {row["name"]: {field: row[field] for field in (
            "value", "low", "high", "n", "drop", "drop_low", "drop_high")} for row in chosen_on},
        "recommendation": decision.recommend(chosen_on, criteria, answers),
        "branches": what_if.branches(chosen_on, criteria, answers), "what_if": what_if.what_if(chosen_on, criteria, answers),
        "seeds": _seeds(study), "boards": _boards(study), "minutes": _minutes(study, [*variants, *study.repeats()]),
        "peers": [{"name": variant.name, **{field: variant.facts.get(field) for field in OF_PEER}}
                  for variant in variants if variant.facts.get("kind") == "peer"],
        "reference": [dict(entry) for entry in reference]}


def _setup(data: Mapping[str, Any], baseline: Mapping[str, Any]) -> dict:
    history = baseline.get("history") or []
    best = best_epoch(history)
    setup = {field: baseline.get(field) for field in OF_BASELINE} | {
        "epochs": sum(epoch["epoch"] > 0 for epoch in history),  # of all phases, each of which counts from 1
        "best_epoch": sum(epoch["epoch"] > 0 for epoch in history[:best + 1]) if history else 0,
        "training_seconds": round(sum(epoch.get("seconds") or 0 for epoch in history), 1),
        "n_calibration": (data.get("calibration") or {}).get("n"), "seed": data.get("seed")}
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
        runs = [{"seed": variant.facts["seed"]} | {
            field: quality.get(key) for field, key in (("value", "top1"), ("drop", "drop"), ("drop_low", "drop_low"),
                                                       ("drop_high", "drop_high"), ("agreement", "agreement"))}
                for variant in (first, *repeats) if (quality := (variant.read("quality") or {}).get("test"))]
        drops = [run["drop"] for run in runs]
        if len(drops) > 1:
            found.append({"name": name, "technique": first.facts["technique"], "scheme": first.facts["scheme"], "runs": runs,
                          "drop_mean": statistics.mean(drops), "drop_sd": statistics.stdev(drops),
                          "drop_min": min(drops), "drop_max": max(drops)})
    return found


def _boards(study: Study) -> list[dict]:
    """What other machines measured, as `edgeq import-bench` took it in."""
    from edgeq_lib import boards
    return boards.read(study)


def _minutes(study: Study, variants: Sequence[Variant]) -> list[dict]:
    """Seconds a stage; `training_seconds` is what the training of its variants took, which may have been in an earlier run."""
    found, untrained = [], {each for techniques in flow.STEPS.values() for each in techniques} | {"peer"}
    for path in sorted((study.folder / "stages").glob("*.json")):
        if path.stem == study.stage:
            continue
        study.note_read(path)
        trained = [variant.facts.get("seconds") or 0 for variant in variants
                   if variant.facts["stage"] == path.stem and variant.facts["technique"] not in untrained]
        found.append({"stage": path.stem, "seconds": read_json(path)["seconds"], "training_seconds": round(sum(trained), 1)})
    return found


def extra_figures(study: Study) -> list[dict]:
    """The figures that stages kept for the report (`Study.figure`): name, caption, stage and png, by stage and name."""
    found = []
    for path in sorted((study.folder / "extra_figures").glob("*.json")):
        for part in (path, path.with_suffix(".png")):
            study.note_read(part)
        facts = read_json(path)
        if (study.folder / "stages" / f"{facts['stage']}.json").exists() and path.with_suffix(".png").exists():
            found.append({"name": path.stem, **facts, "png": path.with_suffix(".png").read_bytes()})
    return sorted(found, key=lambda figure: (figure["stage"], figure["name"]))


def spreadsheet(results: Mapping[str, Any]) -> str:
    """The variants as CSV, a line a variant, in the order of the schema; lists and the like are JSON in their cell."""
    def cell(value: Any) -> Any:
        return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list | bool) else value

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(results["variants"][0])
    writer.writerows([cell(value) for value in row.values()] for row in results["variants"])
    return text.getvalue()


def publish(results: Mapping[str, Any], figures: Mapping[str, Figure], folder: Path,
            extra: Sequence[Mapping[str, Any]] = ()) -> list[str]:
    """Write results.json, results.csv, report.md, report.html, report.pdf and each figure as PNG and SVG.

    `extra` are figures of other stages, as `extra_figures` gives them. Returns the names of the files; other files that an
    earlier report left in the folder go. Each is written whole or not at all; the same results give the same bytes.
    """
    from edgeq_lib.plots import picture

    pictures = {name: picture(figure, "png") for name, figure in figures.items()}
    pictures |= {figure["name"]: figure["png"] for figure in extra}
    content = paper.blocks(results, list(figures), {figure["name"]: figure["caption"] for figure in extra})
    write_json(folder / "results.json", results)
    files = {"results.csv": spreadsheet(results).encode(), "report.md": pages.markdown(content).encode(),
             "report.html": pages.page(content, pictures).encode(), "report.pdf": pages.pdf(content, pictures)}
    files |= {f"{name}.png": content for name, content in pictures.items()}
    files |= {f"{name}.svg": picture(figure, "svg") for name, figure in figures.items()}
    for name, content in files.items():
        write_bytes(folder / name, content)
    for stale in folder.iterdir():
        if stale.is_file() and stale.name not in (*files, "results.json"):
            stale.unlink()
    return ["results.json", *files]


def results_table(folder: Path) -> str:
    """The published studies as a Markdown table, a line a study, from `folder`/*/results.json."""
    lines = ["| study | data, test images | float32 top-1, % | shipped | drop, points | × smaller | × latency |",
             "|---|---|---|---|---|---|---|"]
    for path in sorted(folder.glob("*/results.json")):
        results = read_json(path)
        rows = {row["name"]: row for row in results["variants"]}
        base, data = rows[results["baseline"]], results["data"]
        row = rows.get(results["recommendation"]["variant"])
        what = ["nothing yet", "–", "–", "–"] if row is None else [
            f"`{row['name']}`", with_interval(row, "drop", "drop_low", "drop_high"), number(row["ratio"]),
            with_interval(row, "latency_ratio", "latency_ratio_low", "latency_ratio_high")]
        lines.append("| " + " | ".join([
            f"[{results['study']}](figures/{path.parent.name}/report.md)",
            f"{data_form(data)}, {data['n_test']:,}", with_interval(base, "value", "low", "high"), *what]) + " |")
    return "\n".join(lines)
