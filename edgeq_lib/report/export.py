"""The files of a report: results.json, results.csv, Markdown, HTML, PDF and pictures."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeq_lib.analysis.alternatives import smallest_allowed
from edgeq_lib.files import read_json, write_bytes, write_json
from edgeq_lib.report import render
from edgeq_lib.report.document import blocks
from edgeq_lib.report.numbers import (
    data_form,
    drop,
    number,
    own_machine,
    shipped_latency,
    with_interval,
)
from edgeq_lib.report.results import decision_rows
from edgeq_lib.report.text import on_test
from edgeq_lib.study import Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def extra_figures(study: Study) -> list[dict[str, Any]]:
    """List the figures that stages kept for the report (`Study.figure`).

    Returns:
        name, caption, stage and png (bytes) of each, ordered by stage and name.
    """
    figures = []
    for path in sorted((study.folder / "extra_figures").glob("*.json")):
        for part in (path, path.with_suffix(".png")):
            study.note_read(part)
        facts = read_json(path)
        stage_is_done = (study.folder / "stages" / f"{facts['stage']}.json").exists()
        if stage_is_done and path.with_suffix(".png").exists():
            png = path.with_suffix(".png").read_bytes()
            figures.append({"name": path.stem, **facts, "png": png})
    return sorted(figures, key=lambda figure: (figure["stage"], figure["name"]))


def spreadsheet(results: Mapping[str, Any]) -> str:
    """Write the variants as CSV, one line each; lists and the like are JSON in their cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(results["variants"][0])
    writer.writerows([_cell(value) for value in row.values()] for row in results["variants"])
    return text.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, dict | list | bool):
        return json.dumps(value, ensure_ascii=False)
    return value


def write_report(
    results: Mapping[str, Any],
    figures: Mapping[str, Figure],
    folder: Path,
    extra: Sequence[Mapping[str, Any]] = (),
) -> list[str]:
    """Write results.json, results.csv, report.md, report.html, report.pdf and each figure as PNG.

    Each file is written whole or not at all; the same results give the same bytes. Other files
    that an earlier report left in the folder go.

    Args:
        results: The content of results.json.
        figures: The analysis' own figures by name.
        folder: Where the report goes.
        extra: Figures of other stages, as `extra_figures` gives them.

    Returns:
        The names of the files.
    """
    from edgeq_lib.analysis.rows import check_results
    from edgeq_lib.plots.style import render_figure

    check_results(results)
    pictures = {name: render_figure(figure) for name, figure in figures.items()}
    pictures |= {figure["name"]: figure["png"] for figure in extra}
    captions = {figure["name"]: figure["caption"] for figure in extra}
    write_json(folder / "results.json", results)
    files = rendered(results, list(figures), captions, pictures)
    files |= {f"{name}.png": content for name, content in pictures.items()}
    for name, content in files.items():
        write_bytes(folder / name, content)
    for path in folder.iterdir():
        if path.is_file() and path.name not in (*files, "results.json"):
            path.unlink()
    return ["results.json", *files]


def rendered(
    results: Mapping[str, Any],
    figures: Sequence[str],
    captions: Mapping[str, str],
    pictures: Mapping[str, bytes],
) -> dict[str, bytes]:
    """Render the text forms of a report: results.csv, report.md, report.html and report.pdf.

    Args:
        results: The content of results.json.
        figures: Names of the analysis' own figures.
        captions: Name → caption of the figures of other stages.
        pictures: Name → PNG of all figures.

    Returns:
        File name → content.
    """
    from edgeq_lib.report.pdf import pdf

    content = blocks(results, figures, captions)
    return {
        "results.csv": spreadsheet(results).encode(),
        "report.md": render.markdown(content).encode(),
        "report.html": render.page(results, content, pictures).encode(),
        "report.pdf": pdf(content, pictures),
    }


STUDY_HEAD = (
    "study",
    "data, test images",
    "float32, %",
    "ships",
    "drop, points",
    "× smaller",
    "× latency",
    "of float32's on",
    "on test",
    "smallest",
    "drop, points",
    "× smaller",
)


def study_row(results: Mapping[str, Any], link: str) -> list[str]:
    """Write a study as a row of the table of studies.

    "× latency", with its 95 % interval where that was measured, is a ratio to float32 on the
    machine in the next column. "On test" is how the shipped file stands to the criteria on the
    test images. "Smallest" is the smallest file that validation allows to lose what it loses, on
    whatever target it runs.

    Args:
        results: The content of results.json.
        link: Where its page is.

    Returns:
        One cell per column of `STUDY_HEAD`, Markdown.
    """
    rows = {row["name"]: row for row in results["variants"]}
    data, shipped = results["data"], rows.get(results["recommendation"]["variant"])
    small = smallest_allowed(
        decision_rows(results), results["criteria"], results.get("strict", False)
    )
    return [
        f"[{results['study']}]({link})",
        f"{data_form(data)}, {data['n_test']:,}",
        with_interval(rows[results["baseline"]], "value", "low", "high"),
        *(_shipped(shipped) if shipped else ("nothing yet", "–", "–", "–")),
        own_machine(results),
        on_test(results, shipped["name"]) if shipped else "–",
        *(_shipped(rows[small["name"]])[:3] if small else ("none", "–", "–")),
    ]


def _shipped(row: Mapping[str, Any]) -> tuple[str, str, str, str]:
    return f"`{row['name']}`", drop(row), number(row["ratio"]), shipped_latency(row)


def studies_table(rows: Sequence[Sequence[str]], more: Sequence[str] = ()) -> str:
    """Write rows of studies as a Markdown table, with the names of further columns in `more`."""
    head = (*STUDY_HEAD, *more)
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(cells)} |" for cells in rows)])


def results_table(folder: Path) -> str:
    """Write the published studies below a folder as a Markdown table, one line each."""
    published = [(path.parent, read_json(path)) for path in sorted(folder.glob("*/results.json"))]
    return studies_table(
        [study_row(results, f"figures/{path.name}/report.md") for path, results in published]
    )
