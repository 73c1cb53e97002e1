"""The file that is copied to other machines: what it needs, and what it says about them."""

import ast
import itertools
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from tiny_files import tiny_files

from edgeq_lib.analysis.rows import MEDIAN_95
from edgeq_lib.measure import remote, standalone
from edgeq_lib.measure.latency import versions


def test_the_standalone_file_needs_no_more_than_it_says():
    text = remote.STANDALONE.read_text()
    tree = ast.parse(text, feature_version=(3, 9))  # without match statements
    named = {
        node.module.split(".")[0]
        if isinstance(node, ast.ImportFrom)
        else node.names[0].name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert named - set(sys.stdlib_module_names) == {"numpy", "ai_edge_litert"}
    assert "strict=" not in text  # of zip, since Python 3.10


def test_cold_measures_a_process_of_its_own(tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(tiny_files()["float32"])
    cost = standalone.measure_cold_start(path)
    assert cost["load_ms"] > 0 and cost["peak_memory_bytes"] > len(tiny_files()["float32"])


def test_the_machine_is_described_without_names():
    text = json.dumps([standalone.describe_machine(), versions()])
    assert os.uname().nodename not in text and os.getcwd() not in text
    assert standalone.describe_machine()["cores"] >= 1 and "ai-edge-litert" in versions()


def test_instruction_sets_are_read_from_the_system(monkeypatch):
    """On Arm the kernel calls them Features and names no processor; the board's name stands in."""
    cpuinfo = "processor : 0\nFeatures : fp asimd asimddp crc32\n"
    monkeypatch.setattr(Path, "read_text", lambda path: cpuinfo)
    monkeypatch.setattr(standalone, "_board", lambda: "Raspberry Pi 5")
    machine = standalone.describe_machine()
    assert machine["isa"] == machine["flags"] == ["asimd", "asimddp"]
    assert machine["cpu"] == "Raspberry Pi 5"


def test_slugs():
    slug = standalone.file_slug
    assert slug("Raspberry Pi 4 Model B Rev 1.4") == "raspberry-pi-4-model-b-rev-1-4"
    assert slug("../../etc") == "etc" and slug("—") == "machine" and len(slug("x" * 200)) == 60


@pytest.mark.parametrize("count", [6, 7, 12, 25, 60])
def test_the_interval_is_the_narrowest_of_order_statistics_with_95_percent(count):
    """As the binomial distribution has it: the next narrower pair would hold too little."""
    low, high = standalone.median_interval([float(value) for value in range(count, 0, -1)])
    rank = int(low)
    assert (low, high) == (rank, count + 1 - rank)
    outside = [2 * stats.binom.cdf(rank - 1 + more, count, 0.5) for more in (0, 1)]
    assert outside[0] <= 0.05 < outside[1]


def test_the_interval_holds_the_median_of_a_skewed_distribution():
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(1000):
        low, high = standalone.median_interval(rng.lognormal(size=25).tolist())
        held += low <= 1 <= high
    assert 940 <= held <= 975  # 95.7 % by construction


def test_few_rounds_have_no_interval():
    assert standalone.median_interval([1.0] * 5) is None and standalone.median_interval([]) is None
    summary = standalone._summary([[1.0, 2.0, 3.0]], [0.5, 0.6, 0.7, 0.8, 0.9], 1)
    assert summary["ratio"] == 0.7 and summary["interval"] is None
    assert summary["ratio_low"] is None is summary["ratio_high"]
    cost = dict(standalone.UNMEASURED, why={})
    standalone.record_latency(cost, 1, summary | {"busy": None, "condition": QUIET})
    assert cost["latency_ratio"] == 0.7 and cost["latency_interval"] is None
    assert cost["why"]["latency_ratio_low"] == standalone.TOO_FEW == cost["why"]["latency_interval"]


def test_a_summary_has_the_interval_and_says_which():
    summary = standalone._summary([[1.0, 2.0, 3.0]], [float(ratio) for ratio in range(1, 12)], 4)
    assert (summary["ratio_low"], summary["ratio"], summary["ratio_high"]) == (2, 6, 10)
    assert summary["interval"] == "95 % of the median" == MEDIAN_95
    assert (summary["p50"], summary["rounds"], summary["invocations"]) == (2, 11, 12)


# --- a machine whose clock and load are made up ---
QUIET = {"load_start": 0.5, "load_end": 0.5, "others": 0.0, "processors": 4, "spread": 0.01}


class Machine:
    """A clock that only what runs on it moves; other processes take a share of the processors."""

    def __init__(self, monkeypatch, processors=4):
        self.now = self.used = self.own = 0.0
        self.others = 0.0
        self.slept = []
        monkeypatch.setattr(standalone.os, "cpu_count", lambda: processors)
        monkeypatch.setattr(standalone.time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(standalone.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(standalone.time, "time", lambda: 1e9 + self.now)
        monkeypatch.setattr(standalone.time, "sleep", self.sleep)
        monkeypatch.setattr(standalone, "_usage", self.usage)

    def pass_by(self, seconds, own=0.0):
        self.now += seconds
        self.used += own + self.others * seconds
        self.own += own

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.pass_by(seconds)

    def usage(self):
        return {"clock": self.now, "used": self.used, "own": self.own, "load": 0.25}


class Model:
    """A model that takes so many seconds of a machine's time."""

    def __init__(self, machine, seconds):
        self.machine, self.seconds, self.calls = machine, seconds, 0

    def invoke(self):
        self.calls += 1
        seconds = self.seconds(self.calls) if callable(self.seconds) else self.seconds
        self.machine.pass_by(seconds, seconds)


@pytest.fixture
def machine(monkeypatch):
    return Machine(monkeypatch)


def test_calls_of_microseconds_are_timed_in_batches(machine):
    models = {"float32": Model(machine, 40e-6), "int8": Model(machine, 10e-6)}
    models["slow"] = Model(machine, 0.02)
    measured = standalone.time_interleaved(models, 9.0, "float32")
    batches = [measured[name]["batch"] for name in models]
    assert batches == pytest.approx([25, 100, 1], abs=1) and batches[2] == 1
    assert measured["float32"]["p50"] == pytest.approx(0.04)  # per invocation
    assert measured["int8"]["ratio"] == pytest.approx(0.25)
    for name in ("float32", "int8"):
        assert measured[name]["invocations"] % measured[name]["batch"] == 0
        assert measured[name]["invocations"] > 25 * measured[name]["batch"]
    cost = dict(standalone.UNMEASURED, why={})
    standalone.record_latency(cost, 1, measured["int8"])
    assert cost["latency_ratio_by_threads"]["1"]["batch"] == batches[1]


def test_the_first_call_does_not_set_the_batch(machine):
    """It also unpacks weights, and a cold cache makes the second one long as well."""
    model = Model(machine, lambda call: 1e-3 if call < 3 else 0.5e-3 if call == 3 else 5e-6)
    assert standalone._seconds_of_one(model) == pytest.approx(1e-3)
    model = Model(machine, lambda call: 1e-3 if call == 1 else 50e-6 if call == 2 else 5e-6)
    assert standalone._batch(standalone._seconds_of_one(model)) == pytest.approx(200, abs=1)


def test_a_quiet_machine_is_measured_once(machine):
    models = {"float32": Model(machine, 0.002), "int8": Model(machine, 0.001)}
    measured = standalone.time_interleaved(models, 6.0, "float32")
    assert measured["int8"]["busy"] is None and machine.slept == []
    assert measured["int8"]["condition"]["spread"] == pytest.approx(0, abs=1e-9)
    assert machine.now < 6.0
    cost = dict(standalone.UNMEASURED, why={})
    standalone.record_latency(cost, 1, measured["int8"])
    assert "busy" not in cost
    assert cost["conditions"]["1"]["load_start"] == 0.25 == cost["conditions"]["1"]["load_end"]


def test_a_busy_machine_is_waited_for_and_measured_again(machine):
    """Others leave while it waits; then the second attempt is quiet, and counts."""
    machine.others = 1.5

    def leave(seconds):
        machine.slept.append(seconds)
        machine.pass_by(seconds)
        machine.others = 0.0 if len(machine.slept) == 2 else machine.others

    standalone.time.sleep = leave
    models = {"float32": Model(machine, 0.002), "int8": Model(machine, 0.001)}
    measured = standalone.time_interleaved(models, 6.0, "float32")
    assert len(machine.slept) == 3 and measured["int8"]["busy"] is None
    assert measured["int8"]["condition"]["others"] == pytest.approx(0, abs=1e-9)
    assert machine.now < 6.1 + sum(machine.slept)  # the budget and the pause


def test_a_machine_that_stays_busy_is_said_so(machine):
    machine.others = 1.5
    models = {"float32": Model(machine, 0.002), "int8": Model(machine, 0.001)}
    measured = standalone.time_interleaved(models, 6.0, "float32")
    assert sum(machine.slept) == standalone.WAIT_SECONDS and machine.now < 11.5
    cost = dict(standalone.UNMEASURED, why={})
    standalone.record_latency(cost, 1, measured["int8"])
    assert cost["busy"] == "At 1 thread other processes kept 1.5 of 4 processors busy."
    standalone.record_latency(cost, 4, measured["int8"])
    assert cost["busy"].endswith(" At 4 threads other processes kept 1.5 of 4 processors busy.")


def test_a_machine_so_busy_that_the_budget_is_gone_is_not_measured_again(machine):
    machine.others = 1.5
    slow = Model(machine, lambda call: 0.002 if call < 3 else 0.02)  # nine tenths go to others
    measured = standalone.time_interleaved({"float32": slow}, 6.0, "float32")
    assert machine.now > 6.0 and machine.slept == [] and measured["float32"]["busy"]


def test_a_time_that_varies_from_round_to_round_is_busy(machine):
    slow = itertools.cycle([0.002] * 40 + [0.004] * 40)
    models = {"float32": Model(machine, lambda call: next(slow)), "int8": Model(machine, 0.001)}
    measured = standalone.time_interleaved(models, 6.0, "float32")
    assert "own time varied by" in measured["int8"]["busy"]
    assert "processors" not in measured["int8"]["busy"]
    measured = standalone.time_interleaved(models, 6.0, "float32", threads=2)
    assert measured["int8"]["busy"] is None and measured["int8"]["condition"]["spread"] > 0.2


def test_others_are_told_from_this_process():
    before = {"clock": 0.0, "used": 100.0, "own": 10.0, "load": 1.0}
    after = {"clock": 10.0, "used": 125.0, "own": 20.0, "load": 0.5}
    assert standalone._others(before, after) == 1.5
    unknown = {"used": None}
    stand_in = 0.5 * os.cpu_count() - 1.0
    assert standalone._others(before | unknown, after | unknown) == max(stand_in, 0)
    assert standalone._others(before | unknown, after | unknown | {"load": None}) is None


def test_usage_is_read_from_the_system(monkeypatch):
    monkeypatch.setattr(Path, "read_text", lambda path: "cpu  100 20 30 4000 50 6 7 8 0 0\ncpu0 1")
    ticks = os.sysconf("SC_CLK_TCK")
    assert standalone._usage()["used"] == pytest.approx(171 / ticks)
    monkeypatch.setattr(Path, "read_text", lambda path: "")
    assert standalone._usage()["used"] is None


# --- energy ---
def test_files_run_alone_with_idle_stretches_between(machine):
    models = {"float32": Model(machine, 0.01), "int8": Model(machine, 50e-6)}
    stretches = standalone.run_stretches(models, report=lambda line: None)
    names = [stretch["name"] for stretch in stretches]
    assert not any(names[::2]) and len(names) == 2 * 2 * standalone.STRETCHES + 1
    for start in range(1, len(names), 4):
        assert {names[start], names[start + 2]} == set(models)
    assert len({tuple(names[start : start + 4]) for start in range(1, len(names) - 1, 4)}) == 2
    for stretch in stretches:
        lasts = stretch["end"] - stretch["start"]
        expected = standalone.STRETCH_SECONDS if stretch["name"] else standalone.IDLE_SECONDS
        assert lasts == pytest.approx(expected, abs=0.02)
        if stretch["name"]:
            per_call = {"float32": 0.01, "int8": 50e-6}[stretch["name"]]
            assert stretch["invocations"] * per_call == pytest.approx(lasts, rel=1e-3)
