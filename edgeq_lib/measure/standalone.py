"""Latency, load time and memory of .tflite files, interleaved, on the machine at hand.

Run it in the folder that `edgeq export-bench` wrote:

    python benchmark.py [--name "what this machine is called"] [--energy]

It needs Python 3.9 or later, numpy and ai-edge-litert, takes a few minutes, and writes
cost.MACHINE.json beside itself; `edgeq import-bench STUDY cost.MACHINE.json` takes that back. edgeq
measures with these same functions. This file is copied alone, so it imports nothing of edgeq.

How latency is compared (`time_interleaved`):

1. A few invocations of each model warm it up and tell how many fit into a turn. Where one takes
   less than a millisecond, so many are timed together that they take one.
2. In each of 25 rounds every model gets a turn, in shuffled order, so that a slow spell of the
   machine falls on all alike.
3. A round gives each model one ratio: its median over the turn by the baseline's in that round.
4. The median ratio over rounds is reported, with its 95 % interval (`median_interval`).
5. If other processes kept the machine busy, or the baseline's own time varied too much, the
   rounds are played once more after a pause, if there is time; if it is no better then, the
   result says so.

With --energy each file then runs alone for some seconds, again and again between idle ones, and the
clock is noted, so that the record of a power meter can be laid beside it (`run_stretches`).
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import math
import os
import platform
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

FORMAT = "edgeq cost 1"
INTERVAL = "95 % of the median"  # what `ratio_low` and `ratio_high` are; records before had no word
TOO_FEW = "fewer than six rounds have no 95 % interval of their median"
ROUNDS = 25
TIMED_SECONDS = 1e-3  # at least: what is timed at once, a call or a batch of calls
TURN_SECONDS = 0.1  # at most: longer turns let the clock drift between the variants of a round
BUDGET_SECONDS = 60.0  # what all latency measurements of `main` take together
# What of its budget the first attempt may take, and the second, if the machine was busy.
ATTEMPTS = (2 / 3, 1 / 3)
WAIT_SECONDS = 5.0  # at most, for the machine to become quiet before the second attempt
BUSY_SHARE = 0.1  # of the processors, that other processes may keep busy
# Of the baseline's mean time over rounds. On quiet machines (the five published studies) nine in
# ten of float32's single calls end within 15 % above the median, and means over turns vary less;
# with other processes on 1.5 of 2 processors six measurements in six exceeded 0.2.
BUSY_SPREAD = 0.2
STRETCHES, STRETCH_SECONDS, IDLE_SECONDS = 6, 4.0, 2.0  # of each file, with --energy
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


def median_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Compute the 95 % interval of the median from order statistics, whatever the distribution.

    The median lies between the k-th smallest and the k-th largest of n values unless fewer than k
    of them fall on one side of it, and that number is binomial (n, 1/2). k is the largest that
    leaves both sides together at most 5 %: the 8th and the 18th of 25 values (95.7 %). See Conover,
    *Practical Nonparametric Statistics* (1999), section 3.2. It takes the values as independent.

    Args:
        values: The values, such as the ratio of each round.

    Returns:
        The lower and the upper end; None for fewer than six values, of which even the smallest and
        the largest hold the median with less than 95 %.
    """
    ordered, rank = sorted(values), 0
    below = 0.5 ** len(ordered)  # the probability that `rank` values or fewer lie below the median
    while ordered and 2 * below <= 0.05:
        rank += 1
        below += math.comb(len(ordered), rank) * 0.5 ** len(ordered)
    return (ordered[rank - 1], ordered[-rank]) if rank else None


def time_interleaved(
    interpreters: dict[str, Any],
    budget_seconds: float,
    baseline: str,
    track: Callable[[range], Iterable[int]] = iter,
    threads: int = 1,
) -> dict[str, dict]:
    """Measure the latency of models, interleaved in this process, and its ratio to the baseline's.

    Each round gives every model a turn of several invocations, in shuffled order (seeded), so that
    a slow spell of the machine falls on all alike. What is timed is one invocation, or as many as
    take `TIMED_SECONDS`: the clock and the call of Python would count for too much in less. A
    turn's first time is not counted where the turn has three or more: it refills the caches. Models
    so slow that 25 turns of a single invocation break the budget sit some rounds out, and take part
    in at least seven.

    If the machine was busy (`_busy`), there is a pause of at most `WAIT_SECONDS` and a second
    attempt with what is left of the budget, if anything is; the quieter one counts.

    Args:
        interpreters: Interpreters by name, their tensors allocated and their inputs set.
        budget_seconds: What the measurement may take, about.
        baseline: Name of the model that the others are compared with.
        track: Wraps the rounds, to show progress.
        threads: How many each interpreter uses.

    Returns:
        For each name: p50, p90 and p99 (ms per invocation; over batches where `batch` is above 1),
        ratio (median over rounds of the median of the turn by that of the baseline's turn in the
        same round), ratio_low and ratio_high (its 95 % interval, None for fewer than six rounds),
        interval (`INTERVAL`, or None), rounds, invocations (those counted), batch (invocations
        timed together), condition (what `_condition` tells of the machine) and busy (None, or why
        the machine was not quiet).
    """
    until = time.monotonic() + budget_seconds
    once = {name: _seconds_of_one(interpreter) for name, interpreter in interpreters.items()}
    attempts: list[dict[str, dict]] = []
    for share in ATTEMPTS:
        if attempts:
            if time.monotonic() > until:  # so busy that the first attempt took it all
                break
            _await_quiet()
        attempts.append(
            _attempt(interpreters, once, share * budget_seconds, baseline, track, threads)
        )
        if not attempts[-1][baseline]["busy"]:
            break
    return min(
        attempts,
        key=lambda one: (bool(one[baseline]["busy"]), one[baseline]["condition"]["spread"]),
    )


def _seconds_of_one(interpreter: Any) -> float:
    """About how long an invocation takes, with the caches filled."""
    # The first invocation also unpacks weights; the second tells how long one takes.
    seconds = min(_turn(interpreter, 2, 1)) / 1e3
    if seconds < TIMED_SECONDS:
        seconds = min(_turn(interpreter, 2, _batch(seconds))) / 1e3
    return seconds


def _batch(seconds: float) -> int:
    """How many invocations are timed together."""
    return max(math.ceil(TIMED_SECONDS / max(seconds, 1e-7)), 1)


def _attempt(
    interpreters: dict[str, Any],
    once: dict[str, float],
    budget_seconds: float,
    baseline: str,
    track: Callable[[range], Iterable[int]],
    threads: int,
) -> dict[str, dict]:
    """Play all rounds once; returns what `time_interleaved` does."""
    share = budget_seconds / len(interpreters) / ROUNDS
    batches = {name: _batch(seconds) for name, seconds in once.items()}
    times = {
        name: max(int(min(share, TURN_SECONDS) / (seconds * batches[name])), 1)
        for name, seconds in once.items()
    }
    # The baseline plays every round. What it and the quick ones leave over buys no more.
    every = {
        name: 1 if name == baseline else min(max(round(seconds / share), 1), ROUNDS // 6)
        for name, seconds in once.items()
    }
    turns: dict[str, list[list[float]]] = {name: [] for name in interpreters}
    ratios: dict[str, list[float]] = {name: [] for name in interpreters}
    rng, before = random.Random(0), _usage()
    for number in track(range(ROUNDS)):
        players = [name for name in interpreters if number % every[name] == 0]
        rng.shuffle(players)
        medians = {}
        for name in players:
            milliseconds = _turn(interpreters[name], times[name], batches[name])
            turns[name].append(milliseconds[1:] if len(milliseconds) > 2 else milliseconds)
            medians[name] = float(np.median(turns[name][-1]))
        for name, median in medians.items():
            ratios[name].append(median / medians[baseline])
    condition = _condition(before, _usage(), turns[baseline])
    machine = {"condition": condition, "busy": _busy(condition, threads)}
    return {
        name: {**_summary(turns[name], ratios[name], batches[name]), **machine}
        for name in interpreters
    }


def _turn(interpreter: Any, times: int, batch: int) -> list[float]:
    """Milliseconds per invocation, timed so many times over batches of so many."""
    milliseconds = []
    for _ in range(times):
        start = time.perf_counter()
        for _ in range(batch):
            interpreter.invoke()
        milliseconds.append((time.perf_counter() - start) * 1e3 / batch)
    return milliseconds


def _summary(turns: list[list[float]], ratios: list[float], batch: int) -> dict[str, Any]:
    """Percentiles of the latency over what was timed; the median ratio with its interval."""
    timed = np.concatenate(turns)
    p50, p90, p99 = np.percentile(timed, (50, 90, 99)).tolist()
    interval = median_interval(ratios)
    return {
        "p50": p50,
        "p90": p90,
        "p99": p99,
        "ratio": float(np.median(ratios)),
        "ratio_low": interval[0] if interval else None,
        "ratio_high": interval[1] if interval else None,
        "interval": INTERVAL if interval else None,
        "rounds": len(ratios),
        "invocations": timed.size * batch,
        "batch": batch,
    }


def _usage() -> dict[str, float | None]:
    """What the processors have done so far, and how many processes want them.

    Returns:
        clock (s), used (CPU seconds of all processes since the system started, other guests of the
        same host included; None where the system does not tell), own (of this process and its
        children) and load (the load average of the last minute per processor, or None).
    """
    try:
        load: float | None = os.getloadavg()[0] / (os.cpu_count() or 1)
    except (AttributeError, OSError):  # Windows
        load = None
    used: float | None = None
    try:
        # user, nice, system, idle, iowait, irq, softirq, steal; see proc(5)
        ticks = [int(tick) for tick in Path("/proc/stat").read_text().split()[1:9]]
        used = (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        pass  # not Linux
    return {"clock": time.monotonic(), "used": used, "own": sum(os.times()[:4]), "load": load}


def _others(before: dict[str, Any], after: dict[str, Any]) -> float | None:
    """How many processors other processes kept busy in between, on average; None if unknown.

    The load average lags by a minute and counts this process too, so it stands in only where the
    system tells nothing better.
    """
    seconds = max(after["clock"] - before["clock"], 1e-9)
    own = (after["own"] - before["own"]) / seconds
    if after["used"] is not None and before["used"] is not None:
        return max((after["used"] - before["used"]) / seconds - own, 0.0)
    if after["load"] is None:
        return None
    return max(after["load"] * (os.cpu_count() or 1) - own, 0.0)


def _condition(
    before: dict[str, Any], after: dict[str, Any], turns: list[list[float]]
) -> dict[str, Any]:
    """What the machine was like during a measurement.

    Args:
        before: What `_usage` returned at its start.
        after: The same at its end.
        turns: The baseline's times, a list per round.

    Returns:
        load_start and load_end (load average of the last minute per processor, this process
        included), others (processors that other processes kept busy), processors, spread (10th to
        90th percentile of the baseline's mean time over rounds, by the median).
    """
    low, middle, high = np.percentile([np.mean(turn) for turn in turns], (10, 50, 90)).tolist()
    return {
        "load_start": before["load"],
        "load_end": after["load"],
        "others": _others(before, after),
        "processors": os.cpu_count() or 1,
        "spread": (high - low) / middle,
    }


def _busy(condition: dict[str, Any], threads: int) -> str | None:
    """Why the machine was too busy to measure latency on; None if it was quiet.

    Times at several threads vary on a quiet machine too: threads wait for each other.
    """
    reasons, others = [], condition["others"]
    if others is not None and others > BUSY_SHARE * condition["processors"]:
        reasons.append(
            f"other processes kept {others:.1f} of {condition['processors']} processors busy"
        )
    if threads == 1 and condition["spread"] > BUSY_SPREAD:
        reasons.append(
            f"the baseline's own time varied by {100 * condition['spread']:.1f} % from round to "
            f"round (quiet: up to {100 * BUSY_SPREAD:g} %)"
        )
    return " and ".join(reasons) or None


def _await_quiet() -> None:
    """Wait until other processes let go of the machine, `WAIT_SECONDS` at most."""
    until = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < until:
        before = _usage()
        time.sleep(1.0)
        others = _others(before, _usage())
        if others is None or others <= BUSY_SHARE * (os.cpu_count() or 1):
            return


def record_latency(cost: dict[str, Any], count: int, measured: dict[str, Any]) -> None:
    """Enter the latency at a number of threads into a variant's cost, in place.

    The first number entered gives `latency_ratio`, its interval `latency_ratio_low` to
    `latency_ratio_high`, and `latency_interval`, which says what kind of interval that is.
    `conditions` tells by number of threads what the machine was like; `busy` is there only where it
    was not quiet, and says so in a sentence per number of threads.

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
                "latency_interval": measured["interval"],
                "conditions": {},
            }
        )
        if measured["interval"] is None:
            ends = ("latency_ratio_low", "latency_ratio_high", "latency_interval")
            cost.setdefault("why", {}).update(dict.fromkeys(ends, TOO_FEW))
    if measured["busy"]:
        sentence = f"At {count} thread{'s' if count > 1 else ''} {measured['busy']}."
        cost["busy"] = " ".join([*filter(None, [cost.get("busy")]), sentence])
    cost["conditions"][str(count)] = measured["condition"]
    cost["latency_ms"][str(count)] = {key: measured[key] for key in ("p50", "p90", "p99")}
    cost["latency_ratio_by_threads"][str(count)] = {
        key: measured[key]
        for key in (
            "ratio",
            "ratio_low",
            "ratio_high",
            "interval",
            "rounds",
            "invocations",
            "batch",
        )
    }


# The fields of a cost that need the file to run, as they are when it does not.
UNMEASURED = dict.fromkeys(
    (
        "latency_ms",
        "latency_ratio",
        "latency_ratio_low",
        "latency_ratio_high",
        "latency_interval",
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
        budget = BUDGET_SECONDS / len(counts)
        latency = time_interleaved(interpreters, budget, baseline, _telling(report), count)
        for name, measured in latency.items():
            record_latency(costs[name], count, measured)
    return costs


def _telling(report: Callable[[str], None]) -> Callable[[range], Iterable[int]]:
    """Wrap rounds so that every fifth is reported."""

    def rounds(numbers: range) -> Iterable[int]:
        for number in numbers:
            if number % 5 == 0:
                report(f"  round {number + 1} of {len(numbers)}")
            yield number

    return rounds


def run_stretches(
    interpreters: dict[str, Any], report: Callable[[str], None] = print
) -> list[dict[str, Any]]:
    """Run each model alone for some seconds, several times in shuffled order, idle in between.

    A power meter that runs meanwhile then tells what an inference takes: the mean power of a
    stretch above that of the idle ones around it, times the time per inference.

    Args:
        interpreters: Interpreters by name, their tensors allocated and their inputs set.
        report: Called with a line of progress.

    Returns:
        The stretches in the order of time: name (None: idle), start and end (seconds since 1970, of
        this machine's clock) and invocations.
    """
    batches = {name: _batch(_seconds_of_one(model)) for name, model in interpreters.items()}
    stretches, rng = [_stretch(None, IDLE_SECONDS)], random.Random(0)
    for number in range(STRETCHES):
        report(f"  power: pass {number + 1} of {STRETCHES}")
        for name in rng.sample(sorted(interpreters), len(interpreters)):
            model, batch = interpreters[name], batches[name]
            stretches.append(_stretch(name, STRETCH_SECONDS, model, batch))
            stretches.append(_stretch(None, IDLE_SECONDS))
    return stretches


def _stretch(
    name: str | None, seconds: float, interpreter: Any = None, batch: int = 1
) -> dict[str, Any]:
    """Run a model, or idle, for so many seconds, and note when that was."""
    start, invocations = time.time(), 0
    if interpreter is None:
        time.sleep(seconds)
    else:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for _ in range(batch):
                interpreter.invoke()
            invocations += batch
    return {"name": name, "start": start, "end": time.time(), "invocations": invocations}


def stretches_of_folder(
    folder: Path, costs: dict[str, dict], report: Callable[[str], None] = print
) -> list[dict[str, Any]]:
    """Run the files of an exported folder that can run here, as `run_stretches` does, one thread.

    Args:
        folder: What `edgeq export-bench` wrote.
        costs: What `measure_folder` returned for it.
        report: Called with a line of progress.

    Returns:
        The stretches.
    """
    interpreters = {
        entry["name"]: _loaded(
            folder / entry["model"], 1, np.load(folder / entry["image"], allow_pickle=False)
        )
        for entry in json.loads((folder / "bench.json").read_text())["variants"]
        if costs[entry["name"]]["load_ms"] is not None
    }
    minutes = len(interpreters) * STRETCHES * (STRETCH_SECONDS + IDLE_SECONDS) / 60
    report(f"each file alone, for a power meter: about {minutes:.0f} minutes")
    return run_stretches(interpreters, report)


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
    parser.add_argument(
        "--energy",
        action="store_true",
        help="run each file alone too, and note when: for the record of a power meter",
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
    stretches = stretches_of_folder(folder, costs) if arguments.energy else None
    study = json.loads((folder / "bench.json").read_text())["study"]
    result = {
        "format": FORMAT,
        "study": study,
        "machine": {"name": name, **facts},
        "versions": versions(),
        "variants": costs,
        "stretches": stretches,
    }
    target = folder / f"cost.{file_slug(name)}.json"
    staging = target.with_name(f".{target.name}")
    staging.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")
    os.replace(staging, target)
    _print_table(costs)
    print(f"\nWritten: {target.name}. Take it back with: edgeq import-bench {study} {target.name}")


def _print_table(costs: dict[str, dict]) -> None:
    """Latency of each variant at one thread, its ratio with the interval, or why there is none.

    Last, whether the machine was busy.
    """
    print(f"\n{'variant':<28} {'p50 ms':>9} {'ratio':>7}   95 % interval, at one thread")
    for name, cost in costs.items():
        if cost["latency_ms"]:
            p50, ratio = cost["latency_ms"]["1"]["p50"], cost["latency_ratio"]
            low, high = cost["latency_ratio_low"], cost["latency_ratio_high"]
            interval = f"{low:.2f} to {high:.2f}" if low is not None else "too few rounds"
            print(f"{name:<28} {p50:9.3f} {ratio:7.2f}   {interval}")
        else:
            print(f"{name:<28} {cost['why']['latency_ms']}")
    busy = next((cost["busy"] for cost in costs.values() if cost.get("busy")), None)
    if busy:
        print(f"\nThe machine was busy, so measure again when it is quiet. {busy}")


if __name__ == "__main__":
    main()
