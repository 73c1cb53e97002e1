"""`make site`: build the site in `build/site` from `docs/`, `figures/` and the stored notebooks.

1. Collect the sources in `build/site-source`: pages of `docs/`, a table of all studies, one page
   per study (its report.md with its PNGs), the notebooks, CONTRIBUTING and CHANGELOG.
2. Sphinx makes pages of them; the API reference is read from the sources, nothing is imported.
3. Each study's interactive page is put beside its report.

Nothing on a page comes from another host: it works from a file as well as from a server.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from architecture import write_picture
from sphinx.cmd.build import main as sphinx

from edgeq_lib.files import read_json
from edgeq_lib.report import document, export, numbers, render

ROOT = Path(__file__).resolve().parents[1]
PICTURE = re.compile(r"!\[(?P<caption>[^\]]*)\]\((?P<name>\w+)\.png\)")
BADGE = re.compile(r"\[!\[Open in Colab\]\([^)]*\)\]\([^)]*\)\s*")  # an image from another host
MORE = ("bits w / a", "technique", "network", "files")  # columns beside README's
STUDIES = """# Results

One row per study, computed from its `results.json`. The drop is in percentage points of top-1
against float32 on the same test images, with its 95 % interval. "On test" is how the shipped file
stands to the criteria on test; "smallest" the smallest file that validation allows, on whatever
target it runs. Latency is a ratio to float32 on
the machine named, with its 95 % interval where that was measured, and travels to machines of the
same instruction sets only.

"""
NOTEBOOKS = """# Notebooks

One technique per notebook, shown as executed with its defaults, which are those of the
`quickstart` study.

"""


def more_cells(results: Mapping[str, Any]) -> list[str]:
    """Write the cells of `MORE` for one study."""
    rows = {row["name"]: row for row in results["variants"]}
    shipped = rows.get(results["recommendation"]["variant"])
    return [
        numbers.bits(shipped) if shipped else "–",
        numbers.technique(shipped["technique"]) if shipped else "–",
        results["setup"]["model"],
        f"{len(rows)}",
    ]


def toctree(names: list[str]) -> str:
    """Write the hidden list that puts pages into the navigation."""
    return "\n```{toctree}\n:hidden:\n\n" + "\n".join(names) + "\n```\n"


def interactive_page(results: Mapping[str, Any], folder: Path) -> str | None:
    """Make a study's interactive page from what git keeps of it.

    Args:
        results: The content of results.json.
        folder: The study's folder in `figures/`, with report.md and the PNGs.

    Returns:
        The page, complete in itself; None for results of an older edgeq that lack fields.
    """
    if "what_if" not in results:
        return None
    shown = PICTURE.finditer((folder / "report.md").read_text())
    captions = {match["name"]: match["caption"] for match in shown}
    pictures = {name: (folder / f"{name}.png").read_bytes() for name in captions}
    own = [name for name in captions if name in document.CAPTIONS or name == "accuracy"]
    extra = {name: caption for name, caption in captions.items() if name not in own}
    return render.page(results, document.blocks(results, own, extra), pictures)


def collect_studies(figures: Path, target: Path) -> dict[str, str]:
    """Write the pages of all studies.

    Args:
        figures: The folder with one folder per study.
        target: The folder `studies` of the sources.

    Returns:
        Path below `studies` → content of the files that Sphinx does not make.
    """
    rows, pages = [], {}
    for path in sorted(figures.glob("*/results.json")):
        folder, results = path.parent, read_json(path)
        page_folder = target / folder.name
        page_folder.mkdir(parents=True)
        for file in folder.glob("*.png"):
            shutil.copy2(file, page_folder)
        for name in ("results.json", "results.csv"):
            pages[f"{folder.name}/{name}"] = (folder / name).read_text()
        links = ["<a href='results.json'>results.json</a>", "<a href='results.csv'>results.csv</a>"]
        if page := interactive_page(results, folder):
            pages[f"{folder.name}/explore.html"] = page
            links.insert(0, "<a href='explore.html'>Explore this study: the interactive page</a>")
        title, body = (folder / "report.md").read_text().split("\n", 1)
        (page_folder / "index.md").write_text(f"{title}\n\n<p>{' · '.join(links)}</p>\n{body}")
        rows.append([*export.study_row(results, f"{folder.name}/index.md"), *more_cells(results)])
    loose = sorted(figures.glob("*.md"))
    for path in loose:
        shutil.copy2(path, target)
    studies = sorted(path.name for path in target.iterdir() if path.is_dir())
    listed = [*(f"{name} <{name}/index>" for name in studies), *(path.stem for path in loose)]
    also = "\n" + "".join(f"- [{path.stem.replace('_', ' ')}]({path.name})\n" for path in loose)
    (target / "index.md").write_text(
        f"{STUDIES}{export.studies_table(rows, MORE)}\n{also}{toctree(listed)}"
    )
    return pages


def collect_notebooks(notebooks: Path, target: Path) -> None:
    """Copy the notebooks as stored, without the badge that another host serves."""
    target.mkdir()
    names = []
    for path in sorted(notebooks.glob("*.ipynb")):
        notebook = read_json(path)
        for cell in notebook["cells"]:
            if cell["cell_type"] == "markdown":
                cell["source"] = BADGE.sub("", "".join(cell["source"]))
        (target / path.name).write_text(json.dumps(notebook))
        names.append(path.stem)
    (target / "index.md").write_text(NOTEBOOKS + toctree(names))


def build(root: Path, output: Path) -> int:
    """Build the site.

    Args:
        root: A checkout of edgeq.
        output: Where the site goes; a folder `…-source` beside it holds what it was made from.

    Returns:
        Sphinx's exit code; its warnings go to stderr.
    """
    write_picture(root)
    source = output.with_name(f"{output.name}-source")
    for folder in (source, output):
        shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(root / "docs", source)
    (source / "studies").mkdir()
    pages = collect_studies(root / "figures", source / "studies")
    collect_notebooks(root / "notebooks", source / "notebooks")
    contributing = (root / "CONTRIBUTING.md").read_text().replace("](docs/", "](")
    (source / "contributing.md").write_text(contributing)
    shutil.copy2(root / "CHANGELOG.md", source / "changes.md")
    os.environ["EDGEQ_SITE_ROOT"] = str(root)
    code = sphinx(["-q", "-j", "2", "-b", "html", str(source), str(output)])
    for name, content in pages.items():
        (output / "studies" / name).write_text(content)
    return code


if __name__ == "__main__":
    sys.exit(build(ROOT, ROOT / "build" / "site"))
