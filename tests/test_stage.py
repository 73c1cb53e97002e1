"""What a notebook opens: by hand, earlier stages run first; data come when they are asked for."""

import subprocess
import sys

import numpy as np
import pytest

from edgeq_lib import stage
from edgeq_lib.data import dataset
from edgeq_lib.models.preprocessing import TORCH
from edgeq_lib.study import Study


@pytest.fixture
def started(monkeypatch):
    """The calls of `run_study`, which runs nothing."""
    calls = []
    monkeypatch.setattr(
        stage, "run_study", lambda name, before, say: calls.append((name, before)) or say("hello")
    )
    return calls


def test_by_hand_the_earlier_notebooks_run_first_and_report_on_standard_error(started, capsys):
    study = stage.open_study("sample", "03_ptq", needs="02_baseline")
    assert started == [("sample", "03_ptq")] and study.name == "sample"
    output = capsys.readouterr()
    assert (output.out, output.err) == ("", "hello\n")


def test_what_has_run_is_not_run_again(started):
    Study("sample", "02_baseline").finish({})
    stage.open_study("sample", "03_ptq", needs="02_baseline")
    assert started == []


def test_the_first_notebook_needs_none(started):
    stage.open_study("sample", "01_data")
    assert started == []


def test_under_the_runner_nothing_else_is_started(started, monkeypatch):
    monkeypatch.setenv("EDGEQ_STAGE_KEY", "key")
    stage.open_study("sample", "03_ptq", needs="02_baseline")
    assert started == []


def test_baseline_preprocessing_and_float_file_are_those_of_the_shelf():
    first = Study("sample", "02_baseline")
    first.write("baseline", {"model": "resnet8", "preprocessing": TORCH.record()})
    first.save_variant(
        "float32", b"x", technique="baseline", scheme="float32", engine="converter", seconds=0
    )
    first.finish({})
    study = stage.open_study("sample", "03_ptq", needs="02_baseline")
    assert study.baseline["model"] == "resnet8" and study.preprocess.record() == TORCH.record()
    assert study.float32.name == "float32" and study.float32.model() == b"x"


def test_data_are_loaded_once_and_only_when_asked_for(monkeypatch):
    loads = []
    monkeypatch.setattr(dataset, "load", lambda study: loads.append(study) or np.zeros(3))
    study = stage.open_study("sample", "01_data")
    assert loads == []
    assert study.data is study.data and loads == [study]


def test_opening_a_study_does_not_load_tensorflow():
    code = "import edgeq_lib.stage, sys; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
