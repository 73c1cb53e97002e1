"""The published result of a study: results.json, results.csv, and one text as Markdown, HTML and PDF.

The text is built once, as a list of blocks, from the results alone; three small renderers write it. Everything heavy
is imported where it is used, so that the command line can print a table at once.
"""

from __future__ import annotations

import base64
import csv
import html
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeq_lib import decision
from edgeq_lib.study import EdgeqError, Study, write_bytes, write_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Row = Mapping[str, Any]
Block = tuple[Any, ...]

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
    "machines better than times do.")


def _row(variant: Any, quality: dict | None, cost: dict | None, base_bytes: int | None) -> dict:
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
    """Everything that is published about a study, from its shelf: DESIGN's results.json.

    `criteria` is a list of {"name", "bound"}, `answers` what the decision flow is told; `versions` and `machine` add to
    what the benchmark noted. Beside the schema it holds `answers`, `validation` (what the recommendation was made on)
    and, a variant, `detectable_drop` and `latency_ratio_by_threads`. Raises EdgeqError without a baseline on the shelf.
    """
    from edgeq_lib.stats import holm

    data, variants = study.read("data"), study.variants()
    records = {variant.name: (variant.read("quality") or {}, variant.read("cost") or {}) for variant in variants}
    base = next((variant.name for variant in variants if variant.facts["technique"] == "baseline"), None)
    if base is None:
        raise EdgeqError(f"Study '{study.name}' has no float32 baseline on its shelf: run the notebook 03_ptq first.")
    base_bytes = records[base][1].get("bytes")
    rows, chosen_on = ([_row(variant, quality.get(split), cost, base_bytes)
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


# --- three renderers ---
def markdown(content: Sequence[Block]) -> str:
    """The blocks as GitHub Markdown; figures are PNG files beside it."""
    def cells(row: Sequence[str]) -> str:
        return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |"

    parts = []
    for kind, *rest in content:
        if kind == "table":
            caption, head, rows, mark = rest
            lines = [[f"**{cell}**" if place == mark else cell for cell in row] for place, row in enumerate(rows)]
            parts.append("\n".join([f"*{caption}*", "", cells(head), cells(["---"] * len(head)), *map(cells, lines)]))
        elif kind == "facts":
            parts.append("\n".join([cells(["", ""]), cells(["---"] * 2), *map(cells, rest[0])]))
        elif kind == "list":
            parts.append("\n".join(f"- {item}" for item in rest[0]))
        elif kind == "figure":
            parts.append(f"![{rest[1]}]({rest[0]}.png)\n\n*{rest[1]}*")
        else:
            parts.append({"title": "# {}", "heading": "## {}", "lead": "**{}**", "text": "{}"}[kind].format(rest[0]))
    return "\n\n".join(parts) + "\n"


def _marked(text: str, code: str = "<code>{}</code>") -> str:
    return re.sub(r"`([^`]+)`", lambda found: code.format(found[1]), html.escape(str(text)))


CSS = """:root { color-scheme: light dark; --ink: #1c1f23; --soft: #5d646b; --line: #dfe3e7; --page: #fff;
  --tint: #e8f2f9; --mark: #0072b2 }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8ea; --soft: #a4abb3; --line: #363b41; --page: #15181b;
  --tint: #16303f; --mark: #6fbbe8 } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 70rem; padding: 1.5rem 1rem 4rem; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif }
h1 { font-size: 1.7rem; line-height: 1.2; margin: .5rem 0 1rem }
h2 { font-size: 1.2rem; margin: 2.4rem 0 .6rem; padding-top: .8rem; border-top: 1px solid var(--line) }
.lead { font-size: 1.1rem; padding: .8rem 1rem; background: var(--tint); border-left: 4px solid var(--mark);
  border-radius: 4px; overflow-wrap: anywhere }
.wide { overflow-x: auto; margin: 1rem 0 }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums }
caption { text-align: left; color: var(--soft); padding-bottom: .4rem }
th, td { padding: .32rem .6rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line) }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: var(--page) }
tr.chosen td { background: var(--tint); font-weight: 600 }
.facts th { position: static; color: var(--soft); font-weight: 600; vertical-align: top }
.facts td { text-align: left; white-space: normal; overflow-wrap: anywhere }
p, ul { max-width: 50rem }
li { margin: .25rem 0; overflow-wrap: anywhere }
figure { margin: 1.5rem 0 }
figure img { display: block; width: 100%; max-width: 46rem; height: auto; background: #fff; padding: .6rem;
  border: 1px solid var(--line); border-radius: 6px }
figcaption { color: var(--soft); font-size: .85rem; margin-top: .4rem }
code { font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: .92em }"""


def page(content: Sequence[Block], pictures: Mapping[str, bytes]) -> str:
    """The blocks as one HTML file that needs nothing else: styles and pictures (PNG) inside."""
    parts, title = [], ""
    for kind, *rest in content:
        if kind == "table":
            caption, head, rows, mark = rest
            body = "".join(("<tr class='chosen'>" if place == mark else "<tr>") + "".join(
                f"<td>{_marked(cell)}</td>" for cell in row) + "</tr>" for place, row in enumerate(rows))
            parts.append(f'<div class="wide"><table><caption>{_marked(caption)}</caption><thead><tr>' + "".join(
                f"<th>{_marked(cell)}</th>" for cell in head) + f"</tr></thead><tbody>{body}</tbody></table></div>")
        elif kind == "facts":
            lines = (f"<tr><th>{_marked(name)}</th><td>{_marked(value)}</td></tr>" for name, value in rest[0])
            parts.append('<div class="wide"><table class="facts">' + "".join(lines) + "</table></div>")
        elif kind == "list":
            parts.append("<ul>" + "".join(f"<li>{_marked(item)}</li>" for item in rest[0]) + "</ul>")
        elif kind == "figure":
            picture = base64.b64encode(pictures[rest[0]]).decode()
            parts.append(f'<figure><img alt="{_marked(rest[1], "{}")}" src="data:image/png;base64,{picture}">'
                         f"<figcaption>{_marked(rest[1])}</figcaption></figure>")
        else:
            title = rest[0] if kind == "title" else title
            parts.append({"title": "<h1>{}</h1>", "heading": "<h2>{}</h2>", "lead": '<p class="lead">{}</p>',
                          "text": "<p>{}</p>"}[kind].format(_marked(rest[0])))
    return ('<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
            f'content="width=device-width,initial-scale=1"><title>{html.escape(title)}</title>\n<style>{CSS}</style>'
            "</head>\n<body>\n" + "\n".join(parts) + "\n</body></html>\n")


def pdf(content: Sequence[Block], pictures: Mapping[str, bytes]) -> bytes:
    """The blocks as an A4 PDF (reportlab, BSD), the same bytes for the same content."""
    import matplotlib
    from reportlab.lib import colors, pagesizes, styles, units
    from reportlab.lib.utils import ImageReader
    from reportlab.pdfbase import pdfmetrics, ttfonts
    from reportlab.platypus import Image, KeepTogether, Paragraph, SimpleDocTemplate, Spacer, Table

    for font in ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSansMono"):  # matplotlib ships them: no font of our own
        pdfmetrics.registerFont(ttfonts.TTFont(font, f"{matplotlib.get_data_path()}/fonts/ttf/{font}.ttf"))

    def style(size: float, bold: bool = False, **more: Any) -> styles.ParagraphStyle:
        return styles.ParagraphStyle("", fontName=f"DejaVuSans{'-Bold' if bold else ''}", fontSize=size,
                                     leading=size * 1.38, **more)

    looks = {"title": style(17, True, spaceAfter=10), "heading": style(11.5, True, spaceBefore=14, spaceAfter=5),
             "text": style(9, spaceAfter=5), "item": style(9, spaceAfter=3, leftIndent=11), "cell": style(6.5),
             "head": style(6.5, True), "note": style(7.6, textColor=colors.HexColor("#5d646b"), spaceAfter=4),
             "lead": style(10, backColor=colors.HexColor("#e8f2f9"), borderPadding=7, spaceBefore=6, spaceAfter=14)}
    line, tint = colors.HexColor("#dfe3e7"), colors.HexColor("#e8f2f9")
    full = pagesizes.A4[0] - 36 * units.mm

    def paragraph(text: str, look: str, bullet: str | None = None) -> Paragraph:
        return Paragraph(_marked(text, '<font face="DejaVuSansMono">{}</font>'), looks[look], bullet)

    def grid(rows: Sequence[Sequence[str]], first: str, mark: int | None, widths: Sequence[float]) -> Table:
        cells = [[paragraph(cell, first if place == 0 else "cell") for cell in row] for place, row in enumerate(rows)]
        shades = [("BACKGROUND", (0, mark), (-1, mark), tint)] if mark is not None else []
        return Table(cells, widths, repeatRows=1 if first == "head" else 0, style=[
            ("LINEBELOW", (0, 0), (-1, -1), 0.4, line), ("VALIGN", (0, 0), (-1, -1), "TOP"), *shades,
            *((f"{side}PADDING", (0, 0), (-1, -1), 2.5) for side in ("LEFT", "RIGHT", "TOP", "BOTTOM"))])

    def natural(rows: Sequence[Sequence[str]]) -> list[float]:
        """Widths a column: what its longest cell takes, the widest cut down together until the page holds all."""
        def width(cell: str, font: str) -> float:
            return pdfmetrics.stringWidth(cell.strip("`"), f"DejaVuSans{font}", 6.5) + 6

        wanted = [max([width(head, "-Bold"), *(width(cell, "Mono" if "`" in cell else "") for cell in cells)])
                  for head, *cells in zip(*rows, strict=True)]
        cap = max(wanted)
        while sum(min(width, cap) for width in wanted) > full:
            cap *= 0.97
        return [min(width, cap) for width in wanted]

    story: list[Any] = []
    for kind, *rest in content:
        if kind == "table":
            rows = [rest[1], *rest[2]]
            story += [paragraph(rest[0], "note"), grid(rows, "head", None if rest[3] is None else rest[3] + 1,
                                                       natural(rows)), Spacer(1, 8)]
        elif kind == "facts":
            story.append(grid(rest[0], "cell", None, (26 * units.mm, full - 26 * units.mm)))
        elif kind == "list":
            story += [paragraph(item, "item", "•") for item in rest[0]]
        elif kind == "figure":
            across, down = ImageReader(io.BytesIO(pictures[rest[0]])).getSize()
            tall = 190 if down > across else 94  # mm; what is wider than tall must fit under a text
            width = min(full * 0.86, tall * units.mm * across / down)
            story.append(KeepTogether([Image(io.BytesIO(pictures[rest[0]]), width, width * down / across),
                                       paragraph(rest[1], "note"), Spacer(1, 6)]))
        else:
            story.append(paragraph(rest[0], kind))
    for place in range(len(story) - 2, -1, -1):  # a heading stays with what it heads
        if isinstance(story[place], Paragraph) and story[place].style is looks["heading"]:
            story[place].keepWithNext = True
    file = io.BytesIO()
    SimpleDocTemplate(file, pagesize=pagesizes.A4, leftMargin=18 * units.mm, rightMargin=18 * units.mm, invariant=1,
                      topMargin=16 * units.mm, bottomMargin=16 * units.mm, title=content[0][1],
                      author="edgeq").build(story)
    return file.getvalue()


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
