"""House rules for notebooks, the agreement of each with its paired .py, and of the files that name
versions.
"""

import ast
import json
import re
import statistics
import tomllib
from pathlib import Path

import environment
import jupytext
import nbformat
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from edgeq_lib.pipeline import config

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
URL = PROJECT["urls"]["Repository"]


def code(cell):
    return [
        line
        for line in cell["source"].splitlines()
        if line.strip() and not line.strip().startswith("#")
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_style(path):
    notebook = nbformat.read(path, 4)
    nbformat.validate(notebook)
    cells = notebook.cells
    sources = [cell for cell in cells if cell.cell_type == "code"]
    opening, *rest = [cell for cell in sources if "parameters" not in cell.metadata.get("tags", [])]
    assert opening is sources[0] and "google.colab" in opening.source
    assert max(len(code(cell)) for cell in [opening, *rest]) <= 20, "parameters may be more"
    assert statistics.median(len(code(cell)) for cell in rest) <= 8
    long = [line for cell in sources for line in code(cell) if len(line) > 100]
    assert all(re.match(r"\w+: .*  # .*# noqa: E501", line) for line in long), "parameters only"
    prose = [cell for cell in cells if cell.cell_type == "markdown"]
    assert 20 <= len(cells) <= 45 and 0.6 <= len(prose) / len(sources) <= 1.5
    assert not any(
        line.startswith(("def ", "class ")) for cell in sources for line in code(cell)
    ), "logic lives in edgeq_lib"
    importing = [
        cell
        for cell in sources
        if any(re.match("(from|import) edgeq_lib", line) for line in code(cell))
    ]
    assert len(importing) == 1
    assert cells[0].source.startswith(f"# {path.stem[:2]} · ") and cells[0].source.splitlines()[
        0
    ].endswith("?")
    last = ast.unparse(ast.parse(sources[-1].source).body[-1])
    assert last.startswith("stage.finish("), "the last cell closes the stage"
    assert notebook.metadata.kernelspec.name == "python3"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_parameters_are_declared_with_a_comment_each(path):
    notebook = config.read_notebook(path)
    assert notebook.fields["study"][1] == "quickstart"
    assert all(notebook.help.values()), [name for name, text in notebook.help.items() if not text]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_outputs_are_clean(path):
    notebook = nbformat.read(path, 4)
    for number, cell in enumerate(cell for cell in notebook.cells if cell.cell_type == "code"):
        assert cell.execution_count == number + 1, "run from top to bottom, all of it"
        for output in cell.outputs:
            assert output.output_type != "error" and output.get("name") != "stderr"
    text = path.read_text()
    assert not re.search(r"(?<![\w.:/])/(?:home|root|work|tmp|Users)/", text), "an absolute path"
    assert len(text) < 1_500_000


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_and_paired_text_agree(path):
    paired = jupytext.reads(path.with_suffix(".py").read_text(), fmt="py:percent")
    notebook = nbformat.read(path, 4)
    assert [(cell.cell_type, cell.source) for cell in paired.cells] == [
        (cell.cell_type, cell.source) for cell in notebook.cells
    ], "run `make notebooks`"
    assert [cell.metadata.get("tags", []) for cell in paired.cells] == [
        cell.metadata.get("tags", []) for cell in notebook.cells
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_badge_and_install_cell_name_the_one_address(path):
    text = path.with_suffix(".py").read_text()
    badge = f"https://colab.research.google.com/github/{URL.removeprefix('https://github.com/')}/blob/main/notebooks/{path.name}"
    assert text.count(badge) == 1 and f"git clone -q {URL} " in text
    for address in re.findall(r"https://github\.com/[\w-]+/[\w-]+", text):
        assert address == URL


def test_every_study_in_the_repository_is_valid(monkeypatch):
    monkeypatch.setenv("EDGEQ_ASSETS", str(ROOT))
    for path in (ROOT / "studies").glob("*.yaml"):
        if "$EDGEQ_ASSETS" not in path.read_text():
            assert config.load(path.stem).name == path.stem


def test_the_quickstart_of_study_and_notebooks_is_the_same():
    """Opened by hand, a notebook runs with its defaults: they must be quickstart's."""
    stages = config.load("quickstart").stages
    assert len(stages) >= 5
    for stage, given in stages.items():
        declared = config.read_notebook(ROOT / "notebooks" / f"{stage}.ipynb").fields
        defaults = {name: default for name, (_, default) in declared.items()}
        told = {"notes": []} if "notes" in given else {}  # of the study's making, not of a run
        assert given | told == defaults


def test_the_lock_holds_what_the_project_pins():
    lock = environment.locked((ROOT / "requirements.lock").read_text())
    wanted = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]
    for requirement in map(Requirement, wanted):
        version = lock[canonicalize_name(requirement.name)].removeprefix("==")
        assert requirement.specifier.contains(version), requirement


def test_published_results_are_whole():
    for path in (ROOT / "figures").glob("*/results.json"):
        results = json.loads(path.read_text())
        assert results["command"].startswith("edgeq run") and results["versions"]
        assert results.get("machines") or results["machine"]
        assert results["recommendation"]["variant"] in {row["name"] for row in results["variants"]}
        stored = {file.suffix for file in path.parent.rglob("*") if file.is_file()}
        assert {".json", ".csv", ".md", ".png"} <= stored
        assert not stored & {".html", ".pdf", ".svg", ".ipynb"}, "built by `make site`, not stored"
        assert all(
            ast.literal_eval(repr(row["why"])) or all(value is not None for value in row.values())
            for row in results["variants"]
        ), "what is null says why"
