"""Latency, loading and memory of .tflite files, measured side by side on the machine at hand.

Run it in the folder that `edgeq export-bench` wrote:   python benchmark.py [--name "what this machine is called"]
It needs Python 3.9 or later, numpy and ai-edge-litert, takes a few minutes, and writes cost.MACHINE.json beside itself;
`edgeq import-bench STUDY cost.MACHINE.json` takes that back. edgeq times with these same functions.
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
    """A file that LiteRT cannot run here; the message goes on from the file's name: "brings LiteRT down (SIGSEGV)"."""


def describe_machine() -> dict[str, Any]:
    """What bears on speed: processor, its cores and vector units, memory, system. No names of hosts or paths."""
    cpu, flags, memory = platform.processor() or platform.machine(), [], None
    try:
        fields: dict[str, str] = {}
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            fields.setdefault(key.strip(), value.strip())
        cpu = fields.get("model name") or _board() or cpu
        present = set((fields.get("flags") or fields.get("Features") or "").split())
        flags = [flag for flag in CPU_FLAGS if flag in present]
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        pass  # not Linux: the rest is still worth having
    return {
        "cpu": cpu,
        "cores": cores(),
        "flags": flags,
        "memory_bytes": memory,
        "platform": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def _board() -> str:
    """The board's own name where the system has one ("Raspberry Pi 4 Model B Rev 1.4"); many Arm kernels name no CPU."""
    try:
        return Path("/proc/device-tree/model").read_text().strip("\0 \n")
    except OSError:
        return ""


def cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Versions of those of the packages that are installed."""
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def file_slug(name: str) -> str:
    """A name as files can be called: lower case letters, digits and hyphens, 60 at most."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60].strip("-") or "machine"


def time_interleaved(
    interpreters: dict[str, Any],
    budget_seconds: float,
    baseline: str,
    track: Callable[[range], Iterable[int]] = iter,
) -> dict[str, dict]:
    """Latency of interpreters whose inputs are set, and its ratio to `baseline`, timed in turns in this process.

    Each round gives every model a turn of several invocations, in shuffled order (seeded), so that a slow spell of
    the machine falls on all alike. A turn's first invocation refills the caches and is not counted where the turn has
    three or more. Models so slow that 25 turns of a single invocation break the budget sit some rounds out, and take part
    in at least five. `track` wraps the rounds, to show progress. Returns a model: p50, p90, p99 (ms, over single
    invocations), ratio (median over rounds of the medians of the turn and of the baseline's turn in that round), ratio_low
    and ratio_high (10th and 90th percentile over rounds), rounds, invocations (counted).
    """
    # The first invocation also unpacks weights; the second tells how long one takes.
    once = {name: min(_turn(interpreter, 2)) / 1e3 for name, interpreter in interpreters.items()}
    share = budget_seconds / len(interpreters) / ROUNDS
    times = {
        name: min(max(int(min(share, TURN_SECONDS) / seconds), 1), 500)
        for name, seconds in once.items()
    }
    # The baseline plays every round. Budget that it and the quick ones leave over does not buy more.
    every = {
        name: 1 if name == baseline else min(max(round(seconds / share), 1), ROUNDS // 5)
        for name, seconds in once.items()
    }
    taken: dict[str, list[list[float]]] = {name: [] for name in interpreters}
    ratios: dict[str, list[float]] = {name: [] for name in interpreters}
    shuffle = random.Random(0)
    for turn in track(range(ROUNDS)):
        players = [name for name in interpreters if turn % every[name] == 0]
        shuffle.shuffle(players)
        medians = {}
        for name in players:
            spent = _turn(interpreters[name], times[name])
            taken[name].append(spent[1:] if len(spent) > 2 else spent)
            medians[name] = float(np.median(taken[name][-1]))
        for name, median in medians.items():
            ratios[name].append(median / medians[baseline])
    return {name: _summary(taken[name], ratios[name]) for name in interpreters}


def _turn(interpreter: Any, times: int) -> list[float]:
    """Milliseconds of each of some invocations."""
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        interpreter.invoke()
        taken.append((time.perf_counter() - start) * 1e3)
    return taken


def _summary(turns: list[list[float]], ratios: list[float]) -> dict:
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


def record_latency(cost: dict, count: int, spent: dict) -> None:
    """Enter what `take_turns` found at `count` threads into a variant's cost; the first count gives `latency_ratio`."""
    if cost["latency_ms"] is None:
        cost.update(
            {
                "latency_ms": {},
                "latency_ratio_by_threads": {},
                "latency_ratio": spent["ratio"],
                "latency_ratio_low": spent["ratio_low"],
                "latency_ratio_high": spent["ratio_high"],
            }
        )
    cost["latency_ms"][str(count)] = {key: spent[key] for key in ("p50", "p90", "p99")}
    cost["latency_ratio_by_threads"][str(count)] = {
        key: spent[key] for key in ("ratio", "ratio_low", "ratio_high", "rounds", "invocations")
    }


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


def run_in_subprocess(path: Path, timeout: float = 60) -> dict[str, float]:
    """Load a file and invoke it once on zeros in a process of its own, which may crash.

    Returns load_ms (interpreter made and tensors allocated), first_ms (the first invocation) and peak_memory_bytes
    (the most that the process held resident, less what it held before loading; None where the system does not tell).
    Raises Refused when LiteRT refuses the file, takes longer than `timeout` seconds, or brings the process down.
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
        cause = (child.stderr.strip().splitlines() or ["no message"])[-1].replace(
            str(path), path.name
        )
        raise Refused(f"is refused by LiteRT ({cause[:200]})")
    return json.loads(child.stdout.splitlines()[-1])


def measure_cold_start(path: Path, timeout: float = 60) -> dict[str, float | int | None]:
    """Load time and memory in fresh processes, one thread, the file already in the system's cache.

    load_ms: interpreter made and tensors allocated, median of three processes. peak_memory_bytes: the most that a
    process held resident through load and one invocation, less what it held before; the largest of the three. Raises
    Refused as `run_alone` does.
    """
    runs = [run_in_subprocess(path, timeout) for _ in range(3)]
    peaks = [run["peak_memory_bytes"] for run in runs]
    return {
        "load_ms": float(np.median([run["load_ms"] for run in runs])),
        "peak_memory_bytes": None if None in peaks else int(max(peaks)),
    }


def _alone(path: str) -> None:
    """What the process of its own does: load, invoke once on zeros, print what that took."""
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write(
                "5"
            )  # start the high-water mark afresh: importing may have held more than it kept
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
    print(
        json.dumps(
            {
                "load_ms": (loaded - start) * 1e3,
                "first_ms": (done - ready) * 1e3,
                "peak_memory_bytes": None
                if before is None or after is None
                else max(after - before, 0),
            }
        )
    )


def _held(field: str) -> int | None:
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith(field))
    except (OSError, StopIteration):  # not Linux
        try:
            import resource
        except ImportError:
            return None
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
            1 if sys.platform == "darwin" else 1024
        )


def measure_folder(folder: Path, say: Callable[[str], None] = print) -> dict[str, dict]:
    """The cost of each variant of an exported folder: sha256, bytes, load_ms, peak_memory_bytes, latency at one thread and
    at all; one that LiteRT cannot run here has null there, and `why` says so. Exits when a file is not the one exported.
    """
    listed = json.loads((folder / "bench.json").read_text())
    baseline, costs, images = listed["baseline"], {}, {}
    for entry in listed["variants"]:
        name, content = entry["name"], (folder / entry["model"]).read_bytes()
        if hashlib.sha256(content).hexdigest() != entry["sha256"]:
            sys.exit(f"{entry['model']} is not the file that was exported; copy the folder again.")
        costs[name] = {"sha256": entry["sha256"], "bytes": len(content), **UNMEASURED, "why": {}}
        images[name] = np.load(folder / entry["image"], allow_pickle=False)
    paths = {entry["name"]: folder / entry["model"] for entry in listed["variants"]}
    for name, path in paths.items():
        say(f"loading {name} alone")
        try:
            costs[name].update(measure_cold_start(path, timeout=600))
            if costs[name]["peak_memory_bytes"] is None:
                costs[name]["why"]["peak_memory_bytes"] = "this system does not tell"
        except Refused as error:
            costs[name]["why"] = {field: f"the file {error}" for field in UNMEASURED}
    if costs[baseline]["load_ms"] is None:
        sys.exit(
            f"{baseline}, with which all are compared, does not run here: {costs[baseline]['why']['load_ms']}."
        )
    counts = sorted({1, cores()})
    for count in counts:
        interpreters = {}
        for name, path in paths.items():
            if costs[name]["load_ms"] is not None:
                interpreters[name] = Interpreter(model_path=str(path), num_threads=count)
                interpreters[name].allocate_tensors()
                interpreters[name].set_tensor(
                    interpreters[name].get_input_details()[0]["index"], images[name]
                )
        say(
            f"latency at {count} thread{'s' if count > 1 else ''}, {len(interpreters)} files in turns"
        )
        for name, spent in time_interleaved(
            interpreters, BUDGET_SECONDS / len(counts), baseline
        ).items():
            record_latency(costs[name], count, spent)
    return costs


def main() -> None:
    """Measure the folder that this file lies in, write cost.MACHINE.json there, and print a table."""
    parser = argparse.ArgumentParser(
        description="Measure the files of this folder on this machine."
    )
    parser.add_argument(
        "--name", default="", help="what this machine is called; by default its board or processor"
    )
    parser.add_argument("--alone", metavar="FILE", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.alone:
        return _alone(given.alone)
    folder, facts = Path(__file__).resolve().parent, describe_machine()
    if not (folder / "bench.json").exists():
        sys.exit(
            "There is no bench.json beside benchmark.py; run it in the folder that `edgeq export-bench` wrote."
        )
    name = given.name or _board() or facts["cpu"]
    costs = measure_folder(folder)
    listed = json.loads((folder / "bench.json").read_text())
    result = {
        "format": FORMAT,
        "study": listed["study"],
        "machine": {"name": name, **facts},
        "versions": versions(),
        "variants": costs,
    }
    target = folder / f"cost.{file_slug(name)}.json"
    staging = target.with_name(f".{target.name}")
    staging.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")
    os.replace(staging, target)
    print(f"\n{'variant':<28} {'p50 ms':>9} {'ratio':>7}   at one thread")
    for variant, cost in costs.items():
        print(
            f"{variant:<28} {cost['latency_ms']['1']['p50']:9.3f} {cost['latency_ratio']:7.2f}"
            if cost["latency_ms"]
            else f"{variant:<28} {cost['why']['latency_ms']}"
        )
    print(
        f"\nWritten: {target.name}. Take it back with: edgeq import-bench {listed['study']} {target.name}"
    )


if __name__ == "__main__":
    main()
