"""A benchmark over ssh, against an sshd on loopback; and what is said where it cannot be."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from loopback_sshd import PYTHON, board, stub
from small_study import int8_of, make_study

from edgeq_lib import cli
from edgeq_lib.files import EdgeqError
from edgeq_lib.measure import board as boards
from edgeq_lib.measure import remote
from edgeq_lib.study import Study

QUICK = "\nBUDGET_SECONDS, WAIT_SECONDS = 0.3, 0.0\n"


@pytest.fixture
def shelf(tmp_path, pictures, small_net):
    return make_study(tmp_path, pictures, small_net[1], int8_of(small_net[1], pictures))


@pytest.fixture
def there(tmp_path, monkeypatch):
    """The host to name, and the home there."""
    with board(tmp_path / "board", monkeypatch) as reached:
        yield reached


@pytest.fixture
def quick(tmp_path, monkeypatch):
    """A benchmark that is as it is, but short."""
    text = remote.STANDALONE.read_text().replace("\ndef main(", f"{QUICK}\n\ndef main(")
    (tmp_path / "quick.py").write_text(text)
    monkeypatch.setattr(remote, "STANDALONE", tmp_path / "quick.py")


@pytest.fixture
def light(there, tmp_path, monkeypatch):
    """The host and the home there; nothing but the benchmark is exported, and `py` has it all."""

    def export(name, folder):
        folder.mkdir()
        shutil.copyfile(remote.STANDALONE, folder / "benchmark.py")
        return 1

    monkeypatch.setenv("EDGEQ_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(remote, "export_folder", export)
    stub(there[1], "py", f"echo {PYTHON}; echo 3 11")
    return there


def left(home):
    return [path.name for path in home.glob("edgeq-bench*")]


def test_there_and_back(shelf, there, quick, capsys):
    host, home = there
    assert cli.main(["bench", "sample", host, "--python", PYTHON]) == 0
    printed = capsys.readouterr().out
    assert "loading int8" in printed and "round 1 of 25" in printed and "on the shelf" in printed
    assert "Written" not in printed
    (measured,) = Study("sample").boards()
    assert measured["variants"]["int8"]["latency_ratio"] > 0
    assert measured["variants"]["int8"]["latency_interval"] == "95 % of the median"
    assert left(home) == []


def test_a_path_from_the_home_there(there):
    host, home = there
    (home / "venv").mkdir()
    stub(home, "python", f'exec {PYTHON} "$@"')
    (home / "bin" / "python").rename(home / "venv" / "python")
    assert boards.Board(host, home / "s").check_python("venv/python") == PYTHON


@pytest.mark.parametrize(
    ("name", "script", "says"),
    [
        ("py", "exit 127", "runs no 'py' (it gave no reason)"),
        ("py", "echo /usr/bin/py; echo 3 8", "has Python 3.8, and the benchmark needs 3.9"),
        ("py", "echo /usr/bin/py; echo 2 7; echo numpy", "has Python 2.7"),
        (
            "py",
            "echo /usr/bin/py; echo 3 11; echo ai_edge_litert",
            "lacks ai-edge-litert; run there `/usr/bin/py -m pip install numpy ai-edge-litert`",
        ),
        ("py", "echo /usr/bin/py; echo 3 11; echo numpy; echo ai_edge_litert", "numpy and ai-edge"),
        ("mktemp", "echo 'Read-only file system' >&2; exit 1", "(Read-only file system)"),
        ("tar", "cat >/dev/null; echo 'x: No space left on device' >&2; exit 2", "is full"),
        ("tar", "echo 'x: No space left on device' >&2; echo 'tar: end' >&2; exit 2", "is full"),
        ("tar", "exit 127", "could not take the files"),
    ],
)
def test_what_a_board_lacks_gets_one_sentence(light, capsys, name, script, says):
    host, home = light
    stub(home, name, script)
    assert cli.main(["bench", "sample", host, "--python", "py"]) == 1
    printed = capsys.readouterr().err
    assert says in printed and len(printed.splitlines()) == 1
    assert left(home) == [] and Study("sample").boards() == []


def test_a_python_that_is_not_there(light):
    host, home = light
    with pytest.raises(EdgeqError, match="runs no 'nopython'.*not found.*--python"):
        boards.bench("sample", host, "nopython")


def test_a_benchmark_that_fails_says_its_last_words(light, tmp_path, monkeypatch):
    host, home = light
    broken = tmp_path / "broken.py"
    broken.write_text("import sys\nsys.exit('float32 does not run here: no kernel.')\n")
    monkeypatch.setattr(remote, "STANDALONE", broken)
    with pytest.raises(EdgeqError, match=r"could not finish .* \(float32 does not run here"):
        boards.bench("sample", host, "py", lambda line: None)
    assert left(home) == []
    broken.write_text("raise OSError(28, 'No space left on device')\n")
    with pytest.raises(EdgeqError, match="disk of .* is full"):
        boards.bench("sample", host, "py", lambda line: None)


def test_a_board_that_cannot_be_reached(light, monkeypatch, tmp_path):
    with pytest.raises(EdgeqError, match="ssh cannot reach nobody@127.0.0.1"):
        boards.bench("sample", "nobody@127.0.0.1", PYTHON)
    with pytest.raises(EdgeqError, match="'-oProxyCommand=x' is no host"):
        boards.bench("sample", "-oProxyCommand=x", PYTHON)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EdgeqError, match="no ssh on this machine"):
        boards.bench("sample", "pi@board", PYTHON)


def test_a_connection_that_breaks(light, tmp_path, monkeypatch):
    host, home = light
    cut = tmp_path / "cut.py"
    cut.write_text(
        "import os, pathlib, signal\nlooked = os.getppid()\n"
        "while pathlib.Path(f'/proc/{looked}/comm').read_text().strip() != 'sshd':\n"
        "    status = pathlib.Path(f'/proc/{looked}/stat').read_text()\n"
        "    looked = int(status.rpartition(')')[2].split()[1])\n"
        "os.kill(looked, signal.SIGKILL)\n"
    )
    monkeypatch.setattr(remote, "STANDALONE", cut)
    with pytest.raises(EdgeqError, match="ssh cannot reach .*, or lost it"):
        boards.bench("sample", host, "py", lambda line: None)
    assert left(home) == [], "a new connection removed it"


def test_an_interruption_stops_the_board_too(light, tmp_path):
    """The process here is interrupted; the one there ends, its folder goes, nothing is taken in."""
    host, home = light
    endless = tmp_path / "endless.py"
    endless.write_text(
        "import os, pathlib, time\n"
        f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid()))\n"
        "print('runs', flush=True)\ntime.sleep(600)\n"
    )
    script = (
        "import pathlib, sys\nfrom edgeq_lib import cli\nfrom edgeq_lib.measure import remote\n"
        f"content = pathlib.Path({str(endless)!r}).read_text()\n"
        "def export(name, folder):\n"
        "    folder.mkdir()\n    (folder / 'benchmark.py').write_text(content)\n"
        "remote.export_folder = export\n"
        f"sys.exit(cli.main(['bench', 'sample', {host!r}, '--python', 'py']))\n"
    )
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-c", script], stdout=pipe, stderr=pipe, text=True)
    while process.stdout.readline().strip() != "runs":
        assert process.poll() is None, process.stderr.read()
    process.send_signal(signal.SIGTERM)  # SIGINT is ignored where a shell runs this behind
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "nothing of" in errors and "Traceback" not in errors
    assert left(home) == [] and Study("sample").boards() == []
    _await_end(int((tmp_path / "pid").read_text()))


def _await_end(pid):
    for _ in range(200):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail("the benchmark still runs there")


def test_what_comes_back_is_checked(light, tmp_path, monkeypatch):
    host, _ = light
    fake = tmp_path / "fake.py"
    fake.write_text(f"open('cost.pi.json', 'w').write({json.dumps('[]')!r})\n")
    monkeypatch.setattr(remote, "STANDALONE", fake)
    with pytest.raises(EdgeqError, match="damaged"):
        boards.bench("sample", host, "py", lambda line: None)
    fake.write_text("pass\n")
    with pytest.raises(EdgeqError, match="could not send its result"):
        boards.bench("sample", host, "py", lambda line: None)
