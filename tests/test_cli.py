"""The command line is light, and a mistake is one sentence.

What single commands do is tested beside what they call: `run`, `list` and `show` in
pipeline/test_runner.py, `add-peer` in pipeline/test_edit_study.py, `publish` in
report/test_publish.py, `import-bench` in measure/test_remote.py.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from edgeq_lib import cli
from edgeq_lib.files import EdgeqError

ROOT = Path(cli.__file__).parents[1]
HEAVY = "('tensorflow', 'matplotlib', 'scipy', 'statsmodels', 'reportlab', 'pandas')"


def test_the_command_line_can_print_without_heavy_imports():
    code = (
        "import edgeq_lib.cli, edgeq_lib.report.text, edgeq_lib.report.results, sys; "
        f"sys.exit(any(m in sys.modules for m in {HEAVY}))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_a_users_mistake_is_one_sentence_and_another_error_is_not_hidden(monkeypatch, capsys):
    def fails(error):
        def command(given):
            raise error

        monkeypatch.setattr(cli, "_list", command)

    fails(EdgeqError("The moon is missing; hang it up."))
    assert cli.main(["list"]) == 1
    assert capsys.readouterr().err == "edgeq: The moon is missing; hang it up.\n"
    fails(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        cli.main(["list"])


def test_a_stopped_run_says_that_it_goes_on(monkeypatch, capsys):
    def stopped(given):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_run", stopped)
    assert cli.main(["run", "demo"]) == 130
    assert "the same command goes on from there" in capsys.readouterr().err


def test_parameters_on_the_command_line_are_yaml(monkeypatch):
    calls = []
    monkeypatch.setattr(cli, "interruptible", lambda: None)
    monkeypatch.setattr(
        cli, "run_study", lambda name, **options: calls.append((name, options)) or None
    )
    pairs = ["qat.epochs=2", "bits=[4, 2]", "qkeras=false", "model=a=b"]
    arguments = ["run", "demo", "--only", "03_ptq", "--force"]
    assert cli.main([*arguments, *(part for pair in pairs for part in ("-p", pair))]) == 0
    ((name, options),) = calls
    assert name == "demo" and options["only"] == "03_ptq" and options["force"] is True
    assert options["overrides"] == {
        "qat.epochs": 2,
        "bits": [4, 2],
        "qkeras": False,
        "model": "a=b",
    }


def test_whoever_reads_may_stop_reading():
    command = f"{sys.executable} -m edgeq_lib.cli list | head -0"
    shell = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], cwd=ROOT, capture_output=True, text=True
    )
    assert "Traceback" not in shell.stderr and "BrokenPipe" not in shell.stderr
