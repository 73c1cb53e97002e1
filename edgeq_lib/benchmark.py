"""What a variant costs to run: latency against float32 side by side, load time, memory, size.

Absolute times belong to the machine that they were taken on; ratios of interleaved runs travel further.
"""

from __future__ import annotations

import gzip
import importlib.metadata
import os
import platform
import random
import time
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from edgeq_lib import devices, flatbuffer, isolated
from edgeq_lib.litert import make_interpreter, quantized
from edgeq_lib.progress import progress
from edgeq_lib.study import EdgeqError

ROUNDS = 25  # at least; a percentile of fewer ratios says nothing
TURN_SECONDS = 0.1  # at most: longer turns let the clock drift between the variants of a round
CPU_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimd", "asimddp", "i8mm", "sve")
PACKAGES = ("tensorflow", "tf-keras", "tensorflow-model-optimization", "ai-edge-litert", "litert-quantizer", "numpy",
            "ethos-u-vela")


def sizes(model: bytes) -> dict[str, int]:
    """bytes of the file, and gzip_bytes as a package would ship it (level 9, no time stamp, so always the same)."""
    return {"bytes": len(model), "gzip_bytes": len(gzip.compress(model, 9, mtime=0))}


def machine() -> dict:
    """What bears on speed: processor, its cores and vector units, memory, system. No names of hosts or paths."""
    cpu, flags, memory = platform.processor() or platform.machine(), [], None
    try:
        fields: dict[str, str] = {}
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            fields.setdefault(key.strip(), value.strip())
        cpu = fields.get("model name", cpu)
        present = set((fields.get("flags") or fields.get("Features") or "").split())
        flags = [flag for flag in CPU_FLAGS if flag in present]
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        pass  # not Linux: the rest is still worth having
    return {"cpu": cpu, "cores": cores(), "flags": flags, "memory_bytes": memory,
            "platform": f"{platform.system()} {platform.machine()}", "python": platform.python_version()}


def cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def versions() -> dict[str, str]:
    """Versions of the packages that bear on the figures, those installed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def cold(path: Path, timeout: float = 60) -> dict[str, float | int]:
    """Load time and memory in fresh processes, one thread, the file already in the system's cache.

    load_ms: interpreter made and tensors allocated, median of three processes. peak_memory_bytes: the most that a
    process held resident through load and one invocation, less what it held before; the largest of the three.
    Raises EdgeqError naming the variant when the process refuses or crashes.
    """
    runs = [isolated.run_alone(path, timeout) for _ in range(3)]
    return {"load_ms": float(np.median([run["load_ms"] for run in runs])),
            "peak_memory_bytes": int(max(run["peak_memory_bytes"] for run in runs))}


def _fill(interpreter: Interpreter, image: np.ndarray | None) -> None:
    """Set the inputs: to `image` as the file quantizes it, else to seeded noise over the range of the tensor's type."""
    noise = np.random.default_rng(0)
    for detail in interpreter.get_input_details():
        if image is None:
            integer = np.issubdtype(detail["dtype"], np.integer)
            bounds = np.iinfo(detail["dtype"]) if integer else None
            drawn = noise.integers(bounds.min, bounds.max, detail["shape"], endpoint=True) if integer else \
                noise.uniform(-1, 1, detail["shape"])
            interpreter.set_tensor(detail["index"], drawn.astype(detail["dtype"]))
        else:
            interpreter.set_tensor(detail["index"], quantized(image, detail))


def _turn(interpreter: Interpreter, times: int) -> list[float]:
    """Milliseconds of each of some invocations."""
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        interpreter.invoke()
        taken.append((time.perf_counter() - start) * 1e3)
    return taken


def interleaved(models: dict[str, Path], threads: int = 1, budget_seconds: float = 20, baseline: str = "float32",
                image: np.ndarray | None = None) -> dict[str, dict]:
    """Latency of each model and its ratio to `baseline`, all loaded in this process and timed in turns.

    Each round gives every model a turn of several invocations, in shuffled order (seeded), so that a slow spell of
    the machine falls on all alike. A turn's first invocation refills the caches and is not counted where the turn has
    three or more. `image` is the input, float32 (1, height, width, channels), preprocessed; noise where there is none.
    Returns a model: p50, p90, p99 (ms, over single invocations), ratio (median over rounds of the medians of the
    turn and of the baseline's turn in that round), ratio_low and ratio_high (10th and 90th percentile over rounds),
    rounds, invocations (counted). Models so slow that 25 turns of a single invocation break the budget sit some
    rounds out, and take part in at least five. Raises EdgeqError without a baseline, or when LiteRT refuses a file.
    """
    if baseline not in models:
        raise EdgeqError(f"There is no '{baseline}' to compare with; run the notebook that makes it first.")
    interpreters, once = {}, {}
    for name, path in progress(models.items(), f"loading ({threads} threads)", len(models)):
        try:
            interpreters[name] = make_interpreter(path, threads)
        except EdgeqError as error:
            raise EdgeqError(f"Variant '{name}': {error}") from None
        try:
            _fill(interpreters[name], image)
        except (ValueError, TypeError) as error:
            raise EdgeqError(f"The input given for '{name}' does not suit it ({error}).") from None
        # The first invocation also unpacks weights; the second tells how long one takes.
        once[name] = min(_turn(interpreters[name], 2)) / 1e3
    share = budget_seconds / len(models) / ROUNDS
    times = {name: min(max(int(min(share, TURN_SECONDS) / seconds), 1), 500) for name, seconds in once.items()}
    # The baseline plays every round. Budget that it and the quick ones leave over does not buy more.
    every = {name: 1 if name == baseline else min(max(round(seconds / share), 1), ROUNDS // 5)
             for name, seconds in once.items()}
    taken: dict[str, list[list[float]]] = {name: [] for name in models}
    ratios: dict[str, list[float]] = {name: [] for name in models}
    shuffle = random.Random(0)
    for turn in progress(range(ROUNDS), f"latency ({threads} threads)"):
        players = [name for name in models if turn % every[name] == 0]
        shuffle.shuffle(players)
        medians = {}
        for name in players:
            spent = _turn(interpreters[name], times[name])
            taken[name].append(spent[1:] if len(spent) > 2 else spent)
            medians[name] = float(np.median(taken[name][-1]))
        for name, median in medians.items():
            ratios[name].append(median / medians[baseline])
    return {name: _summary(taken[name], ratios[name]) for name in models}


def _summary(turns: list[list[float]], ratios: list[float]) -> dict:
    single = np.concatenate(turns)
    p50, p90, p99 = np.percentile(single, (50, 90, 99)).tolist()
    low, middle, high = np.percentile(ratios, (10, 50, 90)).tolist()
    return {"p50": p50, "p90": p90, "p99": p99, "ratio": middle, "ratio_low": low, "ratio_high": high,
            "rounds": len(ratios), "invocations": single.size}


def measure(variants: dict[str, Path], threads: list[int], budget_seconds: float = 60, baseline: str = "float32",
            image: np.ndarray | None = None, accelerator: str = "ethos-u55-128") -> dict[str, dict]:
    """The whole `cost` record of each variant: size, latency at each number of threads, memory, report, devices.

    `latency_ratio` is that at the first number of threads; `budget_seconds` is what all latency takes together.
    A variant that LiteRT refuses or crashes on (tried in a process of its own) has null there, and `why` says so.
    Raises EdgeqError when the baseline is missing or does not run, or when a file is no valid flatbuffer.
    """
    if baseline not in variants:
        raise EdgeqError(f"There is no '{baseline}' to compare with; run the notebook that makes it first.")
    reports: dict[str, dict] = {}
    for name, path in variants.items():  # all of them before anything slow
        try:
            reports[name] = flatbuffer.report(path.read_bytes())
        except EdgeqError as error:
            raise EdgeqError(f"Variant '{name}': {error}") from None
    costs: dict[str, dict] = {}
    facts, runtime = machine(), versions()
    for name, path in progress(variants.items(), "size, memory, devices", len(variants)):
        model, report = path.read_bytes(), reports[name]
        why: dict[str, str] = {}
        cost = {**sizes(model), "latency_ms": None, "latency_ratio": None, "latency_ratio_low": None,
                "latency_ratio_high": None, "latency_ratio_by_threads": None, "load_ms": None,
                "peak_memory_bytes": None, "arena_bytes": report["arena_bytes"],
                "fits": devices.fits(len(model), report["arena_bytes"]), "report": report,
                "vela": None, "why": why, "machine": facts, "runtime": runtime}
        try:
            cost |= cold(path)
        except EdgeqError as error:
            if name == baseline:
                raise
            why |= {field: str(error) for field, value in cost.items() if value is None and field != "vela"}
        estimate = devices.vela(path, accelerator)
        if "why" in estimate:
            why["vela"] = estimate["why"]
        else:
            cost["vela"] = estimate
        costs[name] = cost
    running = {name: path for name, path in variants.items() if costs[name]["load_ms"] is not None}
    for count in threads:
        latency = interleaved(running, count, budget_seconds / len(threads), baseline, image)
        for name, spent in latency.items():
            cost = costs[name]
            if cost["latency_ms"] is None:
                cost |= {"latency_ms": {}, "latency_ratio_by_threads": {}, "latency_ratio": spent["ratio"],
                         "latency_ratio_low": spent["ratio_low"], "latency_ratio_high": spent["ratio_high"]}
            cost["latency_ms"][str(count)] = {key: spent[key] for key in ("p50", "p90", "p99")}
            cost["latency_ratio_by_threads"][str(count)] = {
                key: spent[key] for key in ("ratio", "ratio_low", "ratio_high", "rounds", "invocations")}
    return costs
