"""The published result of a study: results.json, results.csv, and one text as Markdown, HTML and PDF.

The text is built once, as a list of blocks, from the results alone; three small renderers write it. Everything heavy
is imported where it is used, so that the command line can print a table at once.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeq_lib import decision
from edgeq_lib.pages import Block, markdown, page, pdf
from edgeq_lib.study import EdgeqError, Study, write_bytes, write_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Row = Mapping[str, Any]

FROM_FACTS = ("technique", "scheme", "engine", "parent", "seed", "sha256")
FROM_REPORT = ("weight_bits", "activation_bits", "weight_bits_share", "per_channel", "compute", "integer_only",
               "float_ops", "ops", "input_dtype", "output_dtype")
FROM_QUALITY = ("low", "high", "n", "ties", "top5", "worst_class", "drop", "drop_low", "drop_high", "p_value",
                "detectable_drop", "agreement")
FROM_COST = ("bytes", "gzip_bytes", "ratio", "latency_ratio", "latency_ratio_low", "latency_ratio_high",
             "latency_ratio_by_threads", "latency_ms", "load_ms", "peak_memory_bytes", "arena_bytes", "fits")
COMPARED = ("drop", "drop_low", "drop_high", "p_value", "detectable_drop", "agreement")
CAPTIONS = {"decision": "The decision flow; the path that this study took is filled in.",
            "accuracy": "Accuracy on the test images with 95 % intervals; the band is float32's.",
            "drop": "What each variant loses against float32 on the same test images, with 95 % intervals.",
            "pareto_bytes": "Accuracy against file size; the line is the front, × are dominated variants.",
            "pareto_latency": "Accuracy against latency; the line is the front, × are dominated variants.",
            "size": "File size, and size after gzip.", "latency": "Latency against float32, with its spread."}
SECTIONS = {"decision": "recommendation", "accuracy": "accuracy", "drop": "accuracy"}
METHODS = (
    "Accuracy is top-1 with a 95 % Wilson interval. Where the true class shares the top score with k − 1 others the "
    "image counts 1/k (its expected value in a random order of the tied classes); for the top five likewise.",
    "The drop is float32 minus the variant on the same images, with Bonett and Price's 95 % interval for paired "
    "proportions; p is the two-sided mid-p McNemar test, adjusted by Holm over the table.",
    "The smallest drop that would have been seen is the one that a paired test at 5 % finds four times in five, given "
    "how many images the two files disagreed on.",
    "Every choice, the recommendation included, was made on the validation images; test images only serve to report. A "
    "criterion is decided by the point estimate, and is met without reserve only when the interval keeps to it too.",
    "Latency is a ratio to float32, measured in turns with it on the machine named above; ratios travel to other "
    "machines better than times do. LiteRT has no fast kernels for 16-bit activations and for 4-bit convolutions: the "
    "latency of those schemes is that of its reference kernels, not of the arithmetic.")


def as_row(variant: Any, quality: dict | None, cost: dict | None, base_bytes: int | None) -> dict:
    """A variant's row of the results table, from its records of quality (one split) and cost; what is null says why."""
    facts, cost, quality = variant.facts, cost or {}, quality or {}
    report = cost.get("report") or {}
    row = {"name": variant.name, "kind": facts.get("kind", "variant")}
    row |= {field: facts.get(field) for field in FROM_FACTS} | {field: report.get(field) for field in FROM_REPORT}
    row |= {"metric": "top1", "value": quality.get("top1")} | {field: quality.get(field) for field in FROM_QUALITY}
    row |= {field: cost.get(field) for field in FROM_COST} | {"seconds_to_make": facts.get("seconds")}
    row["ratio"] = base_bytes / row["bytes"] if base_bytes and row["bytes"] else None
    baseline = row["technique"] == "baseline"
    why = {"top5": "five classes or fewer" if quality else "not evaluated", "seed": "it draws no random numbers",
           "parent": "made from the network itself"}
    why |= dict.fromkeys(COMPARED, "what the others are compared with" if baseline else "not evaluated")
    why |= dict.fromkeys(("value", *FROM_QUALITY[:4], "worst_class"), "not evaluated")
    why |= dict.fromkeys((*FROM_COST, *FROM_REPORT), "not benchmarked") | cost.get("why", {})
    return row | {"passed": {}, "why": {field: why.get(field, "not recorded") for field, value in row.items()
                                        if value is None}}


def collect(study: Study, command: str, criteria: Sequence[Mapping[str, Any]],
            answers: Mapping[str, Any] | None = None, versions: Mapping[str, str] | None = None,
            machine: Mapping[str, Any] | None = None) -> dict:
    """Everything that is published about a study, from its shelf, as results.json holds it.

    `criteria` is a list of {"name", "bound"}, `answers` what the decision flow is told; `versions` and `machine` add to
    what the benchmark noted. Beside the schema it holds `answers`, `validation` (what the recommendation was made on)
    and, a variant, `detectable_drop` and `latency_ratio_by_threads`. Raises EdgeqError without a baseline on the shelf.
    """
    from edgeq_lib.stats import holm

    data, variants = study.read("data"), study.variants()
    records = {variant.name: (variant.read("quality") or {}, variant.read("cost") or {}) for variant in variants}
    base = next((variant.name for variant in variants if variant.facts["technique"] == "baseline"), None)
    if base is None:
        raise EdgeqError(f"Study '{study.name}' has no float32 baseline on its shelf: run the notebook 02_baseline first.")
    base_bytes = records[base][1].get("bytes")
    rows, chosen_on = ([as_row(variant, quality.get(split), cost, base_bytes)
                        for variant, (quality, cost) in zip(variants, records.values(), strict=True)]
                       for split in ("test", "validation"))
    for row, p_value in zip(rows, holm([row["p_value"] for row in rows]), strict=True):
        row |= {"p_value": p_value, "passed": decision.passed(row, criteria)}
    costs = [cost for _, cost in records.values() if cost]
    return {
        "study": study.name, "command": command,
        "data": {"name": data["name"], "form": data["form"], "fingerprint": data["fingerprint"],
                 "n_train": data["splits"]["train"]["n"], "n_validation": data["splits"]["validation"]["n"],
                 "n_test": data["splits"]["test"]["n"], "n_classes": len(data["classes"]),
                 "image_size": data["image_size"]},
        "versions": (costs[0].get("runtime") or {} if costs else {}) | dict(versions or {}),
        "machine": (costs[0].get("machine") or {} if costs else {}) | dict(machine or {}),
        "baseline": base, "criteria": [dict(criterion) for criterion in criteria], "answers": dict(answers or {}),
        "variants": rows, "validation": {row["name"]: {field: row[field] for field in (
            "value", "low", "high", "n", "drop", "drop_low", "drop_high")} for row in chosen_on},
        "recommendation": decision.recommend(chosen_on, criteria, answers)}


# --- numbers as text ---
def _number(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")


def _range(row: Row, value: str, low: str, high: str, digits: int = 2) -> str:
    if row[value] is None:
        return "–"
    ends = "" if row[low] is None else f" [{_number(row[low], digits)}, {_number(row[high], digits)}]"
    return _number(row[value], digits) + ends


def _p(value: float | None) -> str:
    return "–" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _kilobytes(row: Row) -> str:
    return "–" if row["bytes"] is None else f"{row['bytes'] / 1000:,.{1 if row['bytes'] < 1e6 else 0}f}"


def _bits(row: Row) -> str:
    both = row["weight_bits"], row["activation_bits"]
    return " / ".join("–" if bits is None else f"{bits:.3g}" for bits in both)


def _fits(row: Row) -> str:
    fits = row["fits"]
    if not fits:
        return "–"
    return "all" if all(fits.values()) else ", ".join(name for name, fit in fits.items() if fit) or "none"


def _verdict(row: Row, criteria: Sequence[Mapping[str, Any]], names_of: Mapping[str, str] | None = None) -> str:
    marks = {(names_of or {}).get(name, name): mark for name, mark in decision.status(row, criteria).items()}
    for mark in ("missed", "not measured", "met within noise"):
        names = [name for name, own in marks.items() if own == mark]
        if names:
            return f"{mark}: {', '.join(names)}"
    return "met" if marks else "–"


def _find(results: Mapping[str, Any], name: str) -> Row:
    return next(row for row in results["variants"] if row["name"] == name)


def sentence(results: Mapping[str, Any]) -> str:
    """The recommendation in one sentence, with what the variant is on the test images."""
    choice = results["recommendation"]
    if choice["variant"] is None:
        return "Ship nothing yet: no variant on the shelf can run on this target."
    row = _find(results, choice["variant"])
    if row["technique"] == "baseline":
        return f"Keep {row['name']}: no compressed variant meets the criteria" + (
            "." if choice["met"] else f", and it misses {' and '.join(choice['misses'])}.")
    gains = [text.format(_number(row[field])) for field, text in (
        ("ratio", "{} × smaller than float32"), ("latency_ratio", "{} × its latency")) if row[field] is not None]
    lost = "not evaluated" if row["drop"] is None else (
        f"{_number(abs(row['drop']))} points {'less' if row['drop'] >= 0 else 'more'} accurate on {row['n']:,} test "
        f"images (drop, 95 %: {_number(row['drop_low'])} to {_number(row['drop_high'])})")
    kind = decision.TECHNIQUES.get(row["technique"], row["technique"].replace("_", " "))
    noise = [name for name, mark in choice["status"].items() if mark == "met within noise"]
    end = "" if not choice["met"] or not choice["status"] else "; on validation it meets every criterion" + (
        f" ({' and '.join(noise)} within noise)" if noise else " without reserve")
    start = f"Ship {row['name']} ({kind}): " if choice["met"] else (
        f"No variant meets every criterion; {row['name']} ({kind}) comes nearest and misses "
        f"{' and '.join(choice['misses'])} on validation: ")
    return start + ", ".join([*gains, lost]) + end + "."


def claims(results: Mapping[str, Any]) -> list[str]:
    """A sentence a variant: whether its accuracy can be told from float32's, and what would have been seen."""
    said = []
    for row in results["variants"]:
        if row["drop"] is None:
            continue
        drop = f"drop {_range(row, 'drop', 'drop_low', 'drop_high')} points"
        if row["p_value"] is not None and row["p_value"] < 0.05:
            word = "less" if row["drop"] > 0 else "more"
            said.append(f"`{row['name']}` is {word} accurate than float32 ({drop}, p {_p(row['p_value'])}).")
        elif row["drop_low"] > 0 or row["drop_high"] < 0:
            said.append(f"`{row['name']}` differs from float32 when looked at alone ({drop}), but not beyond chance "
                        f"once all variants of the table are counted (p {_p(row['p_value'])}).")
        else:
            said.append(f"`{row['name']}` cannot be told from float32 on {row['n']:,} images ({drop}); a drop above "
                        f"{_number(row['detectable_drop'])} points would have been seen.")
    return said


def limits(results: Mapping[str, Any]) -> list[str]:
    """What the test images cannot say: which files look alike, ties, and where test disagrees with the choice."""
    rows, said, n = results["variants"], [], results["data"]["n_test"]
    same = [row["name"] for row in rows if row["agreement"] == 100]
    alike = [row["name"] for row in rows if row["drop"] is not None and (row["p_value"] or 0) >= 0.05
             and row["drop_low"] <= 0 <= row["drop_high"]]
    if alike:
        said.append(f"The {n:,} test images cannot tell float32 from {', '.join(f'`{name}`' for name in alike)}: the "
                    "order of these by accuracy is no evidence.")
    if same:
        said.append(f"On every test image {', '.join(f'`{name}`' for name in same)} and float32 name the same class.")
    tied = {row["name"]: row["ties"] for row in rows if row["ties"]}
    said.append("Images whose top score is shared by several classes: " + (", ".join(
        f"{count} of {n:,} for `{name}`" for name, count in tied.items()) if tied else "none") + ".")
    choice = results["recommendation"]
    if choice["variant"]:
        row = _find(results, choice["variant"])
        mark = _verdict(row, results["criteria"])
        said.append(f"On the test images, which had no part in the choice, `{row['name']}` stands as: criteria {mark}."
                    if results["criteria"] else "The study sets no acceptance criteria.")
    return said


# --- the text, once ---
def _listed(named: Mapping[str, Any]) -> str:
    """A record in one line: names with their values, bytes as gigabytes, lists joined."""
    said = []
    for name, value in named.items():
        if name.endswith("_bytes") and value:
            name, value = name.removesuffix("_bytes"), f"{value / 1e9:.1f} GB"
        said.append(f"{name} {' '.join(map(str, value)) if isinstance(value, list) else value}")
    return ", ".join(said) or "not recorded"


def _facts(results: Mapping[str, Any]) -> list[tuple[str, str]]:
    data = results["data"]
    criteria = ", ".join(f"{criterion['name']} {criterion['bound']}" for criterion in results["criteria"])
    return [("Data", f"{data['name']} ({data['form']}), {data['n_classes']} classes, "
             f"{' × '.join(map(str, data['image_size']))} pixels"),
            ("Images", f"{data['n_train']:,} train, {data['n_validation']:,} validation, {data['n_test']:,} test"),
            ("Fingerprint", data["fingerprint"][:16]), ("Criteria", criteria or "none"),
            ("Machine", _listed(results["machine"])), ("Versions", _listed(results["versions"])),
            ("To reproduce", f"`{results['command']}`")]


def _tables(results: Mapping[str, Any]) -> tuple[Block, Block]:
    rows, chosen = results["variants"], results["recommendation"]["variant"]
    accuracy = [[f"`{row['name']}`", row["technique"], _bits(row), _range(row, "value", "low", "high"),
                 _range(row, "drop", "drop_low", "drop_high"), _p(row["p_value"]), _number(row["agreement"], 1),
                 "–" if not row["worst_class"] else f"{row['worst_class']['name']}: {row['worst_class']['top1']:.1f}",
                 _number(row["top5"])] for row in rows]
    cost = [[f"`{row['name']}`", _kilobytes(row), _number(row["ratio"]),
             _range(row, "latency_ratio", "latency_ratio_low", "latency_ratio_high"),
             "–" if row["integer_only"] is None else "yes" if row["integer_only"] else "no", _fits(row),
             _verdict(row, results["criteria"])] for row in rows]
    mark = next((place for place, row in enumerate(rows) if row["name"] == chosen), None)
    return (("table", "Accuracy on the test images.", ["Variant", "Technique", "Bits w / a", "Top-1, %", "Drop, points",
             "p (Holm)", "Agrees, %", "Worst class", "Top-5, %"], accuracy, mark),
            ("table", "Cost, and the acceptance criteria.", ["Variant", "KB", "Smaller ×", "Latency ×", "Integer only",
             "Fits", "Criteria"], cost, mark))


def blocks(results: Mapping[str, Any], figures: Sequence[str]) -> list[Block]:
    """The report as a list of blocks (kind, content…), the same for all formats; text may hold `code`."""
    def shown(section: str) -> Iterator[Block]:
        for name in figures:
            if SECTIONS.get(name, "cost") == section:
                yield "figure", name, CAPTIONS.get(name, name.replace("_", " ").capitalize() + ".")

    accuracy, cost = _tables(results)
    choice, compressed = results["recommendation"], len(results["variants"]) - 1
    nulls: dict[tuple[str, str], list[str]] = {}
    for row in results["variants"]:
        for field, reason in row["why"].items():
            nulls.setdefault((row["name"], reason), []).append(field)
    return [
        ("title", f"{results['study']}: which model to ship"), ("lead", sentence(results)),
        ("heading", "Question and setup"),
        ("text", f"{compressed} compressed files of one network stand against its float32 file, on the same images and "
         "the same machine. Which of them should be shipped?"), ("facts", _facts(results)),
        ("heading", "Recommendation"), ("list", choice["reasons"]), *shown("recommendation"),
        ("heading", "Accuracy"), accuracy, *shown("accuracy"), ("list", claims(results)),
        ("heading", "What the test images cannot say"), ("list", limits(results)),
        ("heading", "Size, speed and fit"), cost, *shown("cost"),
        ("heading", "Why not the others"),
        ("list", [f"`{name}`: {why}." for name, why in choice["rejected"].items()] or ["There is no other."]),
        ("heading", "How it was measured"), ("list", list(METHODS)),
        ("heading", "What was not measured"),
        ("list", [f"`{name}`, {reason}: {', '.join(fields)}." for (name, reason), fields in nulls.items()]
         or ["Every figure was measured for every variant."])]


def spreadsheet(results: Mapping[str, Any]) -> str:
    """The variants as CSV, a line a variant, in the order of the schema; lists and the like are JSON in their cell."""
    def cell(value: Any) -> Any:
        return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list | bool) else value

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(results["variants"][0])
    writer.writerows([cell(value) for value in row.values()] for row in results["variants"])
    return text.getvalue()


def publish(results: Mapping[str, Any], figures: Mapping[str, Figure], folder: Path) -> list[str]:
    """Write results.json, results.csv, report.md, report.html, report.pdf and each figure as PNG and SVG.

    Returns the names of the files. Each is written whole or not at all; the same results give the same bytes.
    """
    from edgeq_lib.plots import picture

    pictures = {name: picture(figure, "png") for name, figure in figures.items()}
    content = blocks(results, list(figures))
    write_json(folder / "results.json", results)
    files = {"results.csv": spreadsheet(results).encode(), "report.md": markdown(content).encode(),
             "report.html": page(content, pictures).encode(), "report.pdf": pdf(content, pictures)}
    files |= {f"{name}.png": content for name, content in pictures.items()}
    files |= {f"{name}.svg": picture(figure, "svg") for name, figure in figures.items()}
    for name, content in files.items():
        write_bytes(folder / name, content)
    return ["results.json", *files]


def table(results: Mapping[str, Any]) -> str:
    """The variants as a table for the terminal, at most 120 columns wide; → marks the recommended one."""
    head = ("  variant", "bits w/a", "top-1 %", "drop, points", "KB", "ratio", "latency", "int", "criteria")
    short = {"max_drop": "drop", "min_ratio": "size", "max_latency_ratio": "speed"}
    lines = [[("→ " if row["name"] == results["recommendation"]["variant"] else "  ") + row["name"],
              _bits(row).replace(" ", ""), _number(row["value"]), _range(row, "drop", "drop_low", "drop_high", 1),
              _kilobytes(row), _number(row["ratio"], 1), _number(row["latency_ratio"]),
              "–" if row["integer_only"] is None else "yes" if row["integer_only"] else "no",
              _verdict(row, results["criteria"], short).replace("met within noise", "within noise")]
             for row in results["variants"]]
    most = (27, 9, 7, 19, 8, 5, 7, 3)
    wide = [min(max(len(row[place]) for row in [head, *lines]), limit) for place, limit in enumerate(most)]
    wide.append(min(120 - sum(wide) - 2 * len(wide), max(len(row[-1]) for row in [head, *lines])))

    def line(row: Sequence[str]) -> str:
        cut = [cell if len(cell) <= width else cell[:width - 1] + "…" for cell, width in zip(row, wide, strict=True)]
        return "  ".join(cell.ljust(width) if place in (0, len(most)) else cell.rjust(width)
                         for place, (cell, width) in enumerate(zip(cut, wide, strict=True))).rstrip()

    return "\n".join([line(head), "  ".join("─" * width for width in wide), *map(line, lines)])
