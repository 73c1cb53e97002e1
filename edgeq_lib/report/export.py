"""The files of a report: results.json, results.csv, Markdown, HTML, PDF and pictures."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeq_lib.files import read_json, write_bytes, write_json
from edgeq_lib.report import render
from edgeq_lib.report.document import blocks
from edgeq_lib.report.text import data_form, number, with_interval
from edgeq_lib.study import Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def extra_figures(study: Study) -> list[dict]:
    """The figures that stages kept for the report (`Study.figure`): name, caption, stage and png, by stage and name."""
    found = []
    for path in sorted((study.folder / "extra_figures").glob("*.json")):
        for part in (path, path.with_suffix(".png")):
            study.note_read(part)
        facts = read_json(path)
        if (study.folder / "stages" / f"{facts['stage']}.json").exists() and path.with_suffix(
            ".png"
        ).exists():
            found.append({"name": path.stem, **facts, "png": path.with_suffix(".png").read_bytes()})
    return sorted(found, key=lambda figure: (figure["stage"], figure["name"]))


def spreadsheet(results: Mapping[str, Any]) -> str:
    """The variants as CSV, a line a variant, in the order of the schema; lists and the like are JSON in their cell."""

    def cell(value: Any) -> Any:
        return (
            json.dumps(value, ensure_ascii=False)
            if isinstance(value, dict | list | bool)
            else value
        )

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(results["variants"][0])
    writer.writerows([cell(value) for value in row.values()] for row in results["variants"])
    return text.getvalue()


def write_report(
    results: Mapping[str, Any],
    figures: Mapping[str, Figure],
    folder: Path,
    extra: Sequence[Mapping[str, Any]] = (),
) -> list[str]:
    """Write results.json, results.csv, report.md, report.html, report.pdf and each figure as PNG.

    `extra` are figures of other stages, as `extra_figures` gives them. Returns the names of the files; other files that an
    earlier report left in the folder go. Each is written whole or not at all; the same results give the same bytes.
    """
    from edgeq_lib.analysis.rows import check_results
    from edgeq_lib.plots.style import render_figure

    check_results(results)

    pictures = {name: render_figure(figure) for name, figure in figures.items()}
    pictures |= {figure["name"]: figure["png"] for figure in extra}
    content = blocks(
        results, list(figures), {figure["name"]: figure["caption"] for figure in extra}
    )
    write_json(folder / "results.json", results)
    files = {
        "results.csv": spreadsheet(results).encode(),
        "report.md": render.markdown(content).encode(),
        "report.html": render.html_page(content, pictures).encode(),
        "report.pdf": render.pdf(content, pictures),
    }
    files |= {f"{name}.png": content for name, content in pictures.items()}
    for name, content in files.items():
        write_bytes(folder / name, content)
    for stale in folder.iterdir():
        if stale.is_file() and stale.name not in (*files, "results.json"):
            stale.unlink()
    return ["results.json", *files]


def results_table(folder: Path) -> str:
    """The published studies as a Markdown table, a line a study, from `folder`/*/results.json."""
    lines = [
        "| study | data, test images | float32 top-1, % | shipped | drop, points | × smaller | × latency |",
        "|---|---|---|---|---|---|---|",
    ]
    for path in sorted(folder.glob("*/results.json")):
        results = read_json(path)
        rows = {row["name"]: row for row in results["variants"]}
        base, data = rows[results["baseline"]], results["data"]
        row = rows.get(results["recommendation"]["variant"])
        what = (
            ["nothing yet", "–", "–", "–"]
            if row is None
            else [
                f"`{row['name']}`",
                with_interval(row, "drop", "drop_low", "drop_high"),
                number(row["ratio"]),
                with_interval(row, "latency_ratio", "latency_ratio_low", "latency_ratio_high"),
            ]
        )
        lines.append(
            "| "
            + " | ".join(
                [
                    f"[{results['study']}](figures/{path.parent.name}/report.md)",
                    f"{data_form(data)}, {data['n_test']:,}",
                    with_interval(base, "value", "low", "high"),
                    *what,
                ]
            )
            + " |"
        )
    return "\n".join(lines)
