"""The runner and the study files, on three small notebooks of their own."""

import json
import os
import signal
import subprocess
import sys
import time

import filelock
import nbformat
import pytest

from edgeq_lib import cli
from edgeq_lib.files import EdgeqError, read_json, write_json
from edgeq_lib.pipeline import config
from edgeq_lib.pipeline.runner import run_study, source_digest
from edgeq_lib.study import Study

OPEN = "from edgeq_lib.stage import open_study\nshelf = open_study(study, '{stage}')\n"
FIRST = """study: str = "demo"
seed: NonNegativeInt = 0  # decides everything
size: PositiveInt = 4  # pixels
model: NameOrPath = "net"
kind: Literal["a", "b"] = "a"
"""
CODE = {
    "01_first": (FIRST, "shelf.write('data', {'size': size})\nshelf.finish({})"),
    "02_second": (
        'study: str = "demo"\nseed: NonNegativeInt = 0\nrate: PositiveFloat = 0.1\n',
        "size = shelf.read('data')['size']\nshelf.save_variant('float32', bytes([size]), "
        "technique='baseline',"
        " scheme='float32', engine='x', seconds=0)\nshelf.finish({})",
    ),
    "90_last": (
        'study: str = "demo"\nbound: float | None = None\n',
        "shelf.variants()\nshelf.write('result', {'bound': bound})\nshelf.finish({})",
    ),
}


def add_notebook(folder, stage, declared, code):
    cells = [
        nbformat.v4.new_code_cell(
            "from typing import Literal\nfrom pydantic import *\n"
            "from edgeq_lib.pipeline.config import NameOrPath"
        ),
        nbformat.v4.new_code_cell(declared, metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell(OPEN.format(stage=stage) + code),
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(
        nbformat.v4.new_notebook(cells=cells, metadata=kernel),
        folder / "notebooks" / f"{stage}.ipynb",
    )


@pytest.fixture
def place(tmp_path, monkeypatch):
    for folder in ("notebooks", "studies"):
        (tmp_path / folder).mkdir()
    for stage, (declared, code) in CODE.items():
        add_notebook(tmp_path, stage, declared, code)
    (tmp_path / "studies" / "demo.yaml").write_text("common: {seed: 1}\nfirst: {size: 3}\n")
    monkeypatch.setenv("EDGEQ_HOME", str(tmp_path))
    return tmp_path


def went(name="demo", **options):
    said = []
    run_study(name, say=said.append, **options)
    return [line.split()[0] for line in said if line.startswith("  ")]


def study_file(place, text, name="mine"):
    (place / "studies" / f"{name}.yaml").write_text(text)
    return name


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("frist: {size: 3}", "no section 'frist'; did you mean 'first'"),
        ("first: {sice: 3}", "no parameter first.sice; did you mean 'size'"),
        ("first: {size: many}", "first.size = 'many' will not do: input should be a valid integer"),
        ("first: {size: 0}", r"first.size = 0 will not do: .*greater than 0 \(pixels\)"),
        ("first: {kind: c}", "first.kind = 'c' will not do: input should be 'a' or 'b'"),
        ("first: {model: nets/none.h5}", "first.model .*does not exist"),
        ("first: {model: $NO_SUCH_THING/x}", "environment variable is not set"),
        (
            "common: {sed: 1}",
            "no notebook knows common.sed; did you mean 'seed'|no notebook knows common.sed",
        ),
        ("first: [1, 2]", "must hold sections"),
        ("first: {size: 3", "not valid YAML"),
    ],
)
def test_a_mistake_in_a_study_is_one_sentence(place, text, says):
    with pytest.raises(EdgeqError, match=says) as caught:
        config.load(study_file(place, text))
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


@pytest.mark.parametrize(
    ("repeats", "says"),
    [([3, 2, 3], "third.repeats names 3 twice"), ([1], "the study's own seed")],
)
def test_of_two_equal_entries_one_would_overwrite_the_other(place, repeats, says):
    declared = 'study: str = "demo"\nseed: NonNegativeInt = 0\nrepeats: list[int] = []\n'
    add_notebook(place, "30_third", declared, "shelf.finish({})")
    with pytest.raises(EdgeqError, match=says):
        config.load(study_file(place, f"common: {{seed: 1}}\nthird: {{repeats: {repeats}}}"))
    config.load(study_file(place, "common: {seed: 1}\nthird: {repeats: [2, 3]}"))


def test_a_stage_gets_common_and_own_parameters_flat(place):
    stages = config.load("demo").stages
    assert stages["01_first"] == {
        "study": "demo",
        "seed": 1,
        "size": 3,
        "model": "net",
        "kind": "a",
    }
    assert stages["90_last"] == {"study": "demo", "bound": None}, (
        "it declares no seed, so it gets none"
    )


def test_a_technique_can_be_left_out(place):
    went()
    study_file(place, "second: false", "demo")
    assert "02_second" not in config.load("demo").stages
    with pytest.raises(EdgeqError, match="did you mean 'second'"):
        config.load(study_file(place, "secnd: false"))
    assert went()[-1] == "90_last"
    assert Study("demo", "90_last").variants() == [], "its variants are off the shelf"


def test_paths_are_relative_to_the_study_file(place, tmp_path):
    own = tmp_path / "elsewhere"
    own.mkdir()
    (own / "net.h5").touch()
    (own / "mine.yaml").write_text("first: {model: ./net.h5}")
    assert config.load(str(own / "mine.yaml")).stages["01_first"]["model"] == str(
        (own / "net.h5").resolve()
    )


def test_overrides(place):
    assert config.load("demo", {"size": 9}).stages["01_first"]["size"] == 9
    assert config.load("demo", {"last.bound": 2.0}).stages["90_last"]["bound"] == 2.0
    with pytest.raises(EdgeqError, match="unknown"):
        config.load("demo", {"nothing": 1})
    with pytest.raises(EdgeqError, match="say first.seed or second.seed"):
        config.load("demo", {"seed": 1})


def test_what_is_current_is_not_run_again(place):
    assert went() == ["01_first", "02_second", "90_last"]
    assert went() == []
    assert went(overrides={"last.bound": 5.0}) == ["90_last"], (
        "changed criteria run the analysis and nothing else"
    )
    assert went(overrides={"second.rate": 0.5, "last.bound": 5.0}) == ["02_second"], (
        "its output did not change"
    )
    assert went() == ["02_second", "90_last"]
    assert went(overrides={"size": 7}) == ["01_first", "02_second", "90_last"], (
        "what it reads changed"
    )


def test_only_from_force(place):
    went()
    assert went(only="second", force=True) == ["02_second"]
    assert went(start="02", force=True) == ["02_second", "90_last"]
    with pytest.raises(EdgeqError, match="no stage 'third'"):
        went(only="third")


def test_a_lost_or_edited_artefact_is_made_again(place):
    went()
    (Study("demo").folder / "variants" / "float32" / "model.tflite").unlink()
    assert went() == ["02_second"]
    write_json(Study("demo").folder / "records" / "data.json", {"size": 5})
    assert went() == ["01_first"], "what it wrote was edited; made again it is what the others read"


def test_changed_library_source_runs_again_what_imports_it(place, monkeypatch):
    notebook = place / "notebooks" / "02_second.ipynb"
    before = source_digest(notebook)
    assert source_digest(notebook) == before
    add_notebook(
        place,
        "02_second",
        CODE["02_second"][0],
        "from edgeq_lib.measure import statistics\nshelf.finish({})",
    )
    with_stats = source_digest(notebook)
    assert with_stats != before
    add_notebook(
        place,
        "02_second",
        CODE["02_second"][0],
        "from edgeq_lib.measure import statistics\nfrom edgeq_lib.plots import style\n"
        "from edgeq_lib.progress import progress\nshelf.finish({})",
    )
    assert source_digest(notebook) == with_stats, "plots that are only shown change no record"
    add_notebook(
        place,
        "02_second",
        CODE["02_second"][0],
        "from edgeq_lib.measure import statistics\nfrom edgeq_lib.plots import style\n"
        "shelf.figure('a', figure, 'b')\nshelf.finish({})",
    )
    assert source_digest(notebook) != with_stats, "a figure that is kept depends on its plot"


def test_a_notebook_that_leaves_early_is_not_done(place):
    went()
    add_notebook(place, "02_second", CODE["02_second"][0], "raise SystemExit(0)")
    with pytest.raises(EdgeqError, match="02_second"):
        went()
    assert not (Study("demo").folder / "stages" / "02_second.json").exists()
    add_notebook(place, "02_second", CODE["02_second"][0], "pass")
    with pytest.raises(EdgeqError, match="without its records"):
        went()


def test_a_failure_keeps_finished_stages_and_shows_the_notebook(place):
    add_notebook(place, "02_second", CODE["02_second"][0], "1 / 0")
    with pytest.raises(EdgeqError, match=r"ZeroDivisionError.*02_second.failed.ipynb"):
        went()
    assert (Study("demo").folder / "notebooks" / "01_first.ipynb").exists()
    add_notebook(place, "02_second", *CODE["02_second"])
    assert went() == ["02_second", "90_last"]


def test_a_users_mistake_in_a_notebook_comes_out_as_one_sentence(place, capsys):
    add_notebook(
        place,
        "02_second",
        CODE["02_second"][0],
        "from edgeq_lib.files import EdgeqError\nraise EdgeqError('The folder is empty; fill it.')",
    )
    assert cli.main(["run", "demo"]) == 1
    assert capsys.readouterr().err.strip() == "edgeq: 02_second: The folder is empty; fill it."


def test_a_process_that_the_system_killed_is_one_sentence(place):
    code = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"
    add_notebook(place, "02_second", CODE["02_second"][0], code)
    with pytest.raises(EdgeqError, match="02_second: its process was killed.*out of memory"):
        went()


def test_the_second_run_says_who_holds_the_lock(place):
    folder = Study("demo").folder
    folder.mkdir(parents=True)
    write_json(
        folder / ".lock.json", {"pid": 4711, "since": "yesterday", "command": "edgeq run demo"}
    )
    with (
        filelock.FileLock(folder / ".lock"),
        pytest.raises(EdgeqError, match=r"process 4711 since yesterday"),
    ):
        went()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_killed_at_any_point_the_same_command_goes_on(place, how):
    add_notebook(
        place,
        "02_second",
        CODE["02_second"][0],
        "import pathlib, time\npathlib.Path('started').touch()\ntime.sleep(60)",
    )
    child = subprocess.Popen(
        [sys.executable, "-m", "edgeq_lib.cli", "run", "demo"],
        cwd=place,
        env=dict(os.environ),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # else a background job's
    until = time.time() + 60
    while not (place / "started").exists() and time.time() < until:
        time.sleep(0.05)
    child.send_signal(how)
    _, said = child.communicate(timeout=120)
    if how == signal.SIGINT:
        assert child.returncode == 130 and "finished stages" in said
    first = read_json(Study("demo").folder / "stages" / "01_first.json")
    add_notebook(place, "02_second", *CODE["02_second"])
    assert went() == ["02_second", "90_last"]
    assert read_json(Study("demo").folder / "stages" / "01_first.json") == first


def test_list_and_show(place, capsys):
    assert cli.main(["list"]) == 0
    assert "demo" in capsys.readouterr().out
    assert cli.main(["show", "demo"]) == 1
    assert "edgeq run demo" in capsys.readouterr().err
    assert cli.main(["run", "nothing"]) == 1
    assert "no study nothing.yaml; take one of demo" in capsys.readouterr().err
    assert cli.main(["run", "demo", "-p", "size"]) == 1
    assert "write -p name=value" in capsys.readouterr().err


def test_executed_notebooks_hold_the_parameters(place):
    went(overrides={"size": 6})
    cells = json.loads((Study("demo").folder / "notebooks" / "01_first.ipynb").read_text())["cells"]
    injected = [
        "".join(cell["source"])
        for cell in cells
        if "injected-parameters" in cell["metadata"].get("tags", [])
    ]
    assert len(injected) == 1 and "size = 6" in injected[0] and "seed = 1" in injected[0]


def test_a_technique_that_cannot_take_the_network_is_left_out_and_the_study_goes_on(place):
    """Its reason is known to the analysis, what it made before is gone, and it is current."""
    declared = 'study: str = "demo"\nmakes: bool = False\n'
    body = (
        "from edgeq_lib.files import CannotTake\n"
        "if not makes:\n    raise CannotTake('The network holds PReLU, unknown to it.')\n"
        "shelf.save_variant('extra', b'x', technique='ptq', scheme='int8', engine='x', seconds=0)\n"
        "shelf.finish({})"
    )
    add_notebook(place, "30_third", declared, body)
    last = "shelf.write('result', {'left': shelf.left_out()})\nshelf.finish({})"
    add_notebook(place, "90_last", 'study: str = "demo"\n', last)
    study_file(place, "common: {seed: 1}\nthird: {makes: true}", "demo")
    assert went() == ["01_first", "02_second", "30_third", "90_last"]
    assert "extra" in [variant.name for variant in Study("demo").variants()]
    study_file(place, "common: {seed: 1}\nthird: {makes: false}", "demo")
    assert went() == ["30_third", "90_last"]
    reasons = Study("demo").read("result")["left"]
    assert reasons == {"30_third": "The network holds PReLU, unknown to it."}
    assert "extra" not in [variant.name for variant in Study("demo").variants()]
    assert went() == []


def test_a_technique_that_fails_is_named_at_the_end_and_the_report_is_made_without_it(place):
    add_notebook(place, "30_third", 'study: str = "demo"\n', "raise ValueError('odd shape')")
    last = "shelf.write('result', {'left': shelf.left_out()})\nshelf.finish({})"
    add_notebook(place, "90_last", 'study: str = "demo"\n', last)
    with pytest.raises(EdgeqError, match="30_third failed with ValueError: odd shape"):
        run_study("demo", say=lambda line: None)
    assert "odd shape" in Study("demo").read("result")["left"]["30_third"]
    add_notebook(place, "30_third", 'study: str = "demo"\n', "shelf.finish({})")
    assert went() == ["30_third", "90_last"] and not Study("demo").left_out()
