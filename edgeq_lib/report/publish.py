"""What is published of a study: its report in `figures/STUDY`, its notebooks as HTML, its line in the README."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

from edgeq_lib.files import EdgeqError, home, read_json, replace_folder, runs, write_bytes
from edgeq_lib.report.export import results_table
from edgeq_lib.study import SYNTHETIC

LARGEST = 5_000_000  # bytes of one file in figures/
LARGEST_PAGE = 1_500_000  # of one notebook as HTML
MARKS = "<!-- results -->", "<!-- /results -->"
STYLE = """body { max-width: 60rem; margin: 0 auto; padding: 1rem; font: 15px/1.5 system-ui, sans-serif }
pre { background: #f5f6f7; padding: .5rem; overflow-x: auto; font-size: 13px } img { max-width: 100% }
table { border-collapse: collapse; font-size: 13px } th, td { padding: .15rem .5rem; text-align: right }
.jp-InputPrompt, .jp-OutputPrompt, .prompt, .anchor-link { display: none }"""


def publish_study(name: str) -> list[str]:
    """Copy a study's report to `figures/NAME` with its notebooks as HTML, whole or not at all; returns what to tell.

    Files over 5 MB are left out and named in deploy/README.md with the command that makes them, notebooks over 1.5 MB are
    left out. Rewrites the README's table of results where its markers stand. Raises EdgeqError without a report.
    """
    source, target = runs() / name / "report", home() / "figures" / name
    if not (source / "results.json").exists():
        raise EdgeqError(f"Study '{name}' has no report yet; `edgeq run {name}` makes it.")
    if read_json(source / "results.json")["data"]["form"].startswith(SYNTHETIC):
        raise EdgeqError(
            f"Study '{name}' was made on {SYNTHETIC} data, which prove the way and nothing else; run it on the "
            "real data to publish it."
        )
    staging = target.with_name(f".{name}")
    shutil.rmtree(staging, ignore_errors=True)
    shutil.copytree(source, staging)
    command, told = read_json(source / "results.json")["command"], []
    for path in sorted(staging.rglob("*")):
        if path.is_file() and path.stat().st_size > LARGEST:
            told.append(
                f"{path.relative_to(staging)} ({path.stat().st_size / 1e6:.1f} MB) is not published, being over "
                f"{LARGEST / 1e6:g} MB: `{command}` makes it in runs/{name}/report."
            )
            path.unlink()
    if told and (staging / "deploy").exists():
        readme = staging / "deploy" / "README.md"
        write_bytes(readme, (readme.read_text() + "".join(f"\n{line}\n" for line in told)).encode())
    for path in sorted((runs() / name / "notebooks").glob("[0-9][0-9]_*.ipynb")):
        if path.stem.endswith(".failed"):
            continue
        content = notebook_page(path).encode()
        if len(content) < LARGEST_PAGE:
            write_bytes(staging / "notebooks" / f"{path.stem}.html", content)
        else:
            told.append(
                f"notebooks/{path.name} is not published, its page being over {LARGEST_PAGE / 1e6:g} MB."
            )
    replace_folder(staging, target)
    return [*told, *update_readme(home() / "README.md", home() / "figures")]


def notebook_page(path: Path) -> str:
    """An executed notebook as one HTML file, without photos of the data (their licences are not ours) and with the names of
    this machine's folders taken out."""
    import nbformat
    from nbconvert import HTMLExporter

    notebook = nbformat.read(path, 4)
    for cell in notebook.cells:
        if cell.cell_type == "code" and "sample_grid(" in cell.source:
            cell.outputs = [
                nbformat.v4.new_output(
                    "stream", text="(pictures of the data set are not published)\n"
                )
            ]
    body, _ = HTMLExporter(template_name="basic").from_notebook_node(notebook)
    for folder, shown in (
        (runs(), "runs"),
        (home(), "."),
        (os.environ.get("EDGEQ_ASSETS"), "$EDGEQ_ASSETS"),
    ):
        body = body.replace(str(folder), shown) if folder else body
    for folder in _folders(
        notebook.metadata.get("papermill", {}).get("parameters", {})
    ):  # whoever ran it, and wherever
        body = body.replace(folder, "…")
    body = re.sub(r"<script.*?</script>", "", body, flags=re.S)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{path.stem}</title><style>{STYLE}</style>'
        f"</head><body>\n{body}\n</body></html>\n"
    )


def _folders(value: Any) -> list[str]:
    """The folders of all absolute paths in a notebook's parameters, longest first."""
    if isinstance(value, dict | list):
        found = {
            folder
            for part in (value.values() if isinstance(value, dict) else value)
            for folder in _folders(part)
        }
        return sorted(found, key=len, reverse=True)
    return [str(Path(value).parent)] if isinstance(value, str) and Path(value).is_absolute() else []


def update_readme(readme: Path, figures: Path) -> list[str]:
    """Rewrite the table between the markers of a README from the published results; returns what to tell."""
    text = readme.read_text() if readme.exists() else ""
    if not all(mark in text for mark in MARKS):
        return []
    before, rest = text.split(MARKS[0], 1)
    after = rest.split(MARKS[1], 1)[1]
    new = f"{before}{MARKS[0]}\n{results_table(figures)}\n{MARKS[1]}{after}"
    if new == text:
        return []
    write_bytes(readme, new.encode())
    return ["The README's table of results was rewritten."]
