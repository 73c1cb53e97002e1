"""Latency, load time and memory of .tflite files, interleaved, on the machine at hand.

Run it in the folder that `edgeq export-bench` wrote:

    python benchmark.py [--name "what this machine is called"]

It needs Python 3.9 or later, numpy and ai-edge-litert, takes a few minutes, and writes
cost.MACHINE.json beside itself; `edgeq import-bench STUDY cost.MACHINE.json` takes that back. edgeq
measures with these same functions. This file is copied alone, so it imports nothing of edgeq.

How latency is compared (`time_interleaved`):

1. Two invocations of each model warm it up and tell how many fit into a turn.
2. In each of 25 rounds every model gets a turn, in shuffled order, so that a slow spell of the
   machine falls on all alike.
3. A round gives each model one ratio: its median over the turn by the baseline's in that round.
4. The median ratio over rounds is reported, with the 10th and 90th percentile as its spread.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import os
import platform
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

FORMAT = "edgeq cost 1"
ROUNDS = 25  # at least; a percentile of fewer ratios says nothing
TURN_SECONDS = 0.1  # at most: longer turns let the clock drift between the variants of a round
BUDGET_SECONDS = 60.0  # what all latency measurements of `main` take together
# Instruction sets that LiteRT's kernels use, as /proc/cpuinfo calls them.
CPU_FLAGS = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx_vnni",
    "amx_int8",
    "asimd",
    "asimddp",
    "i8mm",
    "sve",
)
PACKAGES = ("ai-edge-litert", "numpy")


class Refused(Exception):
    """A file that LiteRT cannot run here.

    The message goes on from the file's name: "brings LiteRT down (SIGSEGV)".
    """


def describe_machine() -> dict[str, Any]:
    """Describe what bears on speed, without names of hosts or paths.

    Returns:
        cpu (its name, or the board's), cores (that this process may use), flags and isa (both the
        instruction sets of `CPU_FLAGS` that it has: `isa` is the field's name, `flags` the older
        one), memory_bytes (None where the system does not tell), platform and python.
    """
    cpu, memory = platform.processor() or platform.machine(), None
    isa: list[str] = []
    try:
        fields: dict[str, str] = {}
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            fields.setdefault(key.strip(), value.strip())
        cpu = fields.get("model name") or _board() or cpu
        present = set((fields.get("flags") or fields.get("Features") or "").split())
        isa = [flag for flag in CPU_FLAGS if flag in present]
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        pass  # not Linux: the rest is still worth having
    return {
        "cpu": cpu,
        "cores": cores(),
        "flags": isa,
        "isa": isa,
        "memory_bytes": memory,
        "platform": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def _board() -> str:
    """The board's own name where the system has one; many Arm kernels name no CPU.

    "Raspberry Pi 4 Model B Rev 1.4", for example.
    """
    try:
        return Path("/proc/device-tree/model").read_text().strip("\0 \n")
    except OSError:
        return ""


def cores() -> int:
    """Count the processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Look up the versions of packages.

    Args:
        packages: Names, as pip knows them.

    Returns:
        Version by name, of those that are installed.
    """
    installed = {}
    for package in packages:
        try:
            installed[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed


def file_slug(name: str) -> str:
    """Turn a name into one that a file can have.

    Args:
        name: Any text.

    Returns:
        At most 60 lower case letters, digits and hyphens; "machine" if nothing is left.
    """
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60].strip("-") or "machine"


def time_interleaved(
    interpreters: dict[str, Any],
    budget_seconds: float,
    baseline: str,
    track: Callable[[range], Iterable[int]] = iter,
) -> dict[str, dict]:
    """Measure the latency of models, interleaved in this process, and its ratio to the baseline's.

    Each round gives every model a turn of several invocations, in shuffled order (seeded), so that
    a slow spell of the machine falls on all alike. A turn's first invocation refills the caches and
    is not counted where the turn has three or more. Models so slow that 25 turns of a single
    invocation break the budget sit some rounds out, and take part in at least five.

    Args:
        interpreters: Interpreters by name, their tensors allocated and their inputs set.
        budget_seconds: What the measurement may take, about.
        baseline: Name of the model that the others are compared with.
        track: Wraps the rounds, to show progress.

    Returns:
        For each name: p50, p90 and p99 (ms, over single invocations), ratio (median over rounds of
        the median of the turn by that of the baseline's turn in the same round), ratio_low and
        ratio_high (10th and 90th percentile of the ratio over rounds: a spread from round to round,
        not a confidence interval), rounds and invocations (those counted).
    """
    # The first invocation also unpacks weights; the second tells how long one takes.
    once = {name: min(_turn(interpreter, 2)) / 1e3 for name, interpreter in interpreters.items()}
    share = budget_seconds / len(interpreters) / ROUNDS
    times = {
        name: min(max(int(min(share, TURN_SECONDS) / seconds), 1), 500)
        for name, seconds in once.items()
    }
    # The baseline plays every round. What it and the quick ones leave over buys no more.
    every = {
        name: 1 if name == baseline else min(max(round(seconds / share), 1), ROUNDS // 5)
        for name, seconds in once.items()
    }
    turns: dict[str, list[list[float]]] = {name: [] for name in interpreters}
    ratios: dict[str, list[float]] = {name: [] for name in interpreters}
    rng = random.Random(0)
    for number in track(range(ROUNDS)):
        players = [name for name in interpreters if number % every[name] == 0]
        rng.shuffle(players)
        medians = {}
        for name in players:
            milliseconds = _turn(interpreters[name], times[name])
            turns[name].append(milliseconds[1:] if len(milliseconds) > 2 else milliseconds)
            medians[name] = float(np.median(turns[name][-1]))
        for name, median in medians.items():
            ratios[name].append(median / medians[baseline])
    return {name: _summary(turns[name], ratios[name]) for name in interpreters}


def _turn(interpreter: Any, times: int) -> list[float]:
    """Milliseconds of each of so many invocations."""
    milliseconds = []
    for _ in range(times):
        start = time.perf_counter()
        interpreter.invoke()
        milliseconds.append((time.perf_counter() - start) * 1e3)
    return milliseconds


def _summary(turns: list[list[float]], ratios: list[float]) -> dict[str, Any]:
    """Percentiles of the latency over invocations, and of the ratio over rounds."""
    single = np.concatenate(turns)
    p50, p90, p99 = np.percentile(single, (50, 90, 99)).tolist()
    low, middle, high = np.percentile(ratios, (10, 50, 90)).tolist()
    return {
        "p50": p50,
        "p90": p90,
        "p99": p99,
        "ratio": middle,
        "ratio_low": low,
        "ratio_high": high,
        "rounds": len(ratios),
        "invocations": single.size,
    }


def record_latency(cost: dict[str, Any], count: int, measured: dict[str, Any]) -> None:
    """Enter the latency at a number of threads into a variant's cost, in place.

    The first number entered gives `latency_ratio`, `latency_ratio_low` and `latency_ratio_high`,
    the latter two the 10th and 90th percentile over rounds.

    Args:
        cost: The variant's cost, which holds the fields of `UNMEASURED`.
        count: Number of threads.
        measured: What `time_interleaved` returned for the variant.
    """
    if cost["latency_ms"] is None:
        cost.update(
            {
                "latency_ms": {},
                "latency_ratio_by_threads": {},
                "latency_ratio": measured["ratio"],
                "latency_ratio_low": measured["ratio_low"],
                "latency_ratio_high": measured["ratio_high"],
            }
        )
    cost["latency_ms"][str(count)] = {key: measured[key] for key in ("p50", "p90", "p99")}
    cost["latency_ratio_by_threads"][str(count)] = {
        key: measured[key] for key in ("ratio", "ratio_low", "ratio_high", "rounds", "invocations")
    }


# The fields of a cost that need the file to run, as they are when it does not.
UNMEASURED = dict.fromkeys(
    (
        "latency_ms",
        "latency_ratio",
        "latency_ratio_low",
        "latency_ratio_high",
        "latency_ratio_by_threads",
        "load_ms",
        "peak_memory_bytes",
    )
)


def run_in_subprocess(path: Path, timeout: float = 60) -> dict[str, Any]:
    """Load a file and invoke it once on zeros in a process of its own, which may crash.

    Args:
        path: A `.tflite` file.
        timeout: Seconds that the process may take.

    Returns:
        load_ms (interpreter made and tensors allocated), first_ms (the first invocation) and
        peak_memory_bytes (the most that the process held resident, less what it held before
        loading; None where the system does not tell).

    Raises:
        Refused: LiteRT refuses the file, takes longer than `timeout`, or brings the process down.
    """
    # -P: a module of the same name beside this file must not stand in for another.
    safe = ["-P"] if sys.version_info >= (3, 11) else []
    try:
        child = subprocess.run(
            [sys.executable, *safe, __file__, "--alone", str(path)],
            capture_output=True,
            text=True,
            timeout=timeout,
            errors="replace",
        )
    except subprocess.TimeoutExpired:
        raise Refused(f"did not answer within {timeout:g} s") from None
    if child.returncode < 0:
        raise Refused(f"brings LiteRT down ({signal.Signals(-child.returncode).name})")
    if child.returncode:
        last_line = (child.stderr.strip().splitlines() or ["no message"])[-1]
        cause = last_line.replace(str(path), path.name)
        raise Refused(f"is refused by LiteRT ({cause[:200]})")
    return json.loads(child.stdout.splitlines()[-1])


def measure_cold_start(path: Path, timeout: float = 60) -> dict[str, float | int | None]:
    """Measure load time and memory in three fresh processes.

    One thread, the file already in the system's cache.

    Args:
        path: A `.tflite` file.
        timeout: Seconds that each process may take.

    Returns:
        load_ms (interpreter made and tensors allocated, median of the three) and peak_memory_bytes
        (the most that a process held resident through load and one invocation, less what it held
        before; the largest of the three; None where the system does not tell).

    Raises:
        Refused: As `run_in_subprocess` does.
    """
    runs = [run_in_subprocess(path, timeout) for _ in range(3)]
    peaks = [run["peak_memory_bytes"] for run in runs]
    return {
        "load_ms": float(np.median([run["load_ms"] for run in runs])),
        "peak_memory_bytes": None if None in peaks else int(max(peaks)),
    }


def _alone(path: str) -> None:
    """What the child process does: load, invoke once on zeros, print what that took."""
    try:
        with open("/proc/self/clear_refs", "w") as file:
            # Start the high-water mark afresh: importing may have held more than it kept.
            file.write("5")
    except OSError:
        pass
    before, start = _held("VmRSS"), time.perf_counter()
    interpreter = Interpreter(model_path=path, num_threads=1)
    interpreter.allocate_tensors()
    loaded = time.perf_counter()
    for detail in interpreter.get_input_details():
        interpreter.set_tensor(detail["index"], np.zeros(detail["shape"], detail["dtype"]))
    ready = time.perf_counter()
    interpreter.invoke()
    done, after = time.perf_counter(), _held("VmHWM")
    peak = None if before is None or after is None else max(after - before, 0)
    measured = {
        "load_ms": (loaded - start) * 1e3,
        "first_ms": (done - ready) * 1e3,
        "peak_memory_bytes": peak,
    }
    print(json.dumps(measured))


def _held(field: str) -> int | None:
    """Bytes that this process holds resident: now (VmRSS), or at most so far (VmHWM)."""
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith(field))
    except (OSError, StopIteration):  # not Linux
        try:
            import resource
        except ImportError:
            return None
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def measure_folder(folder: Path, report: Callable[[str], None] = print) -> dict[str, dict]:
    """Measure the cost of each variant of an exported folder.

    Args:
        folder: What `edgeq export-bench` wrote.
        report: Called with a line of progress.

    Returns:
        For each name: sha256, bytes, load_ms, peak_memory_bytes, latency at one thread and at as
        many as there are processors. A variant that LiteRT cannot run here has null there, and
        `why` says so.

    Raises:
        SystemExit: A file is not the one exported, or the baseline does not run here.
    """
    listed = json.loads((folder / "bench.json").read_text())
    baseline, entries = listed["baseline"], {entry["name"]: entry for entry in listed["variants"]}
    paths = {name: folder / entry["model"] for name, entry in entries.items()}
    costs = {name: _unmeasured_cost(folder, entry) for name, entry in entries.items()}
    images = {
        name: np.load(folder / entry["image"], allow_pickle=False)
        for name, entry in entries.items()
    }
    for name, path in paths.items():
        report(f"loading {name} in a process of its own")
        try:
            costs[name].update(measure_cold_start(path, timeout=600))
            if costs[name]["peak_memory_bytes"] is None:
                costs[name]["why"]["peak_memory_bytes"] = "this system does not tell"
        except Refused as error:
            costs[name]["why"] = {field: f"the file {error}" for field in UNMEASURED}
    if costs[baseline]["load_ms"] is None:
        why = costs[baseline]["why"]["load_ms"]
        sys.exit(f"{baseline}, with which all are compared, does not run here: {why}.")
    counts = sorted({1, cores()})
    for count in counts:
        interpreters = {
            name: _loaded(path, count, images[name])
            for name, path in paths.items()
            if costs[name]["load_ms"] is not None
        }
        plural = "s" if count > 1 else ""
        report(f"latency at {count} thread{plural}, {len(interpreters)} files interleaved")
        latency = time_interleaved(interpreters, BUDGET_SECONDS / len(counts), baseline)
        for name, measured in latency.items():
            record_latency(costs[name], count, measured)
    return costs


def _unmeasured_cost(folder: Path, entry: dict[str, str]) -> dict[str, Any]:
    """The cost of a variant before anything is measured; exits unless its file is the exported."""
    content = (folder / entry["model"]).read_bytes()
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        sys.exit(f"{entry['model']} is not the file that was exported; copy the folder again.")
    return {"sha256": entry["sha256"], "bytes": len(content), **UNMEASURED, "why": {}}


def _loaded(path: Path, threads: int, image: np.ndarray) -> Interpreter:
    """An interpreter whose input is set."""
    interpreter = Interpreter(model_path=str(path), num_threads=threads)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    return interpreter


def main() -> None:
    """Measure the folder that this file lies in, write cost.MACHINE.json there, print a table."""
    parser = argparse.ArgumentParser(
        description="Measure the files of this folder on this machine."
    )
    parser.add_argument(
        "--name", default="", help="what this machine is called; by default its board or processor"
    )
    parser.add_argument("--alone", metavar="FILE", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.alone:
        return _alone(arguments.alone)
    folder, facts = Path(__file__).resolve().parent, describe_machine()
    if not (folder / "bench.json").exists():
        sys.exit(
            "There is no bench.json beside benchmark.py; run it in the folder that "
            "`edgeq export-bench` wrote."
        )
    name = arguments.name or _board() or facts["cpu"]
    costs = measure_folder(folder)
    study = json.loads((folder / "bench.json").read_text())["study"]
    result = {
        "format": FORMAT,
        "study": study,
        "machine": {"name": name, **facts},
        "versions": versions(),
        "variants": costs,
    }
    target = folder / f"cost.{file_slug(name)}.json"
    staging = target.with_name(f".{target.name}")
    staging.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")
    os.replace(staging, target)
    _print_table(costs)
    print(f"\nWritten: {target.name}. Take it back with: edgeq import-bench {study} {target.name}")


def _print_table(costs: dict[str, dict]) -> None:
    """Median latency of each variant at one thread, and its ratio; or why there is none."""
    print(f"\n{'variant':<28} {'p50 ms':>9} {'ratio':>7}   at one thread")
    for name, cost in costs.items():
        if cost["latency_ms"]:
            p50, ratio = cost["latency_ms"]["1"]["p50"], cost["latency_ratio"]
            print(f"{name:<28} {p50:9.3f} {ratio:7.2f}")
        else:
            print(f"{name:<28} {cost['why']['latency_ms']}")


if __name__ == "__main__":
    main()
