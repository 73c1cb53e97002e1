"""Progress shows how far work is, and never changes the work."""

import json
import sys

import pytest

from edgeq_lib import progress as module
from edgeq_lib.progress import progress


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on by a second whenever it is asked."""
    ticks = iter(range(1000, 2000))
    monkeypatch.setattr(module.time, "time", lambda: next(ticks))


def test_items_come_through_unchanged_and_in_order(capsys, monkeypatch):
    assert list(progress("abc", "letters")) == ["a", "b", "c"]
    monkeypatch.delenv("EDGEQ_PROGRESS")
    assert list(progress(iter([3, 1, 2]), "numbers")) == [3, 1, 2]
    assert capsys.readouterr().out == "", "a bar goes to standard error"


def test_the_runner_reads_what_is_done_of_how_much(tmp_path, clock, capsys):
    states = []
    for _ in progress([10, 20, 30, 40], "squares"):
        states.append(json.loads((tmp_path / "progress.json").read_text()))
    assert [state["done"] for state in states] == [0, 1, 2, 3]
    assert {(state["label"], state["total"]) for state in states} == {("squares", 4)}
    assert states[0]["eta"] is None, "nothing is known of the time before the first is done"
    assert all(state["eta"] > 0 for state in states[1:])
    assert capsys.readouterr().err == "", "under the runner there is no bar"


def test_the_total_of_what_has_no_length_may_be_given_or_unknown(tmp_path, clock):
    for total in (3, None):
        for _ in progress(iter(range(3)), "work", total):
            state = json.loads((tmp_path / "progress.json").read_text())
            assert state["total"] == total and (total or state["eta"] is None)


def test_nothing_runs_ahead_of_who_reads(monkeypatch):
    taken = []
    steps = progress((taken.append(i) or i for i in range(5)), "work", 5)
    assert taken == [] and next(steps) == 0 and taken == [0]


def test_the_status_file_is_not_written_for_every_item(tmp_path, monkeypatch):
    monkeypatch.setattr(module.time, "time", lambda: 1000.0)
    written = []
    monkeypatch.setattr(
        module.Path, "write_text", lambda self, text: written.append(json.loads(text)["done"])
    )
    list(progress(range(10_000), "work"))
    assert written == [0] and sys.getsizeof(written) < 1000
