"""What a variant costs to run: latency against float32, interleaved, load time, memory, size.

Absolute times belong to the machine that they were taken on; ratios of interleaved runs travel
further.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from edgeq_lib.files import EdgeqError
from edgeq_lib.measure import standalone, vela
from edgeq_lib.measure.standalone import describe_machine
from edgeq_lib.progress import progress
from edgeq_lib.tflite.inspect import inspect_file, sizes
from edgeq_lib.tflite.runtime import make_interpreter, quantize_array

PACKAGES = (
    "tensorflow",
    "tf-keras",
    "tensorflow-model-optimization",
    "ai-edge-litert",
    "litert-quantizer",
    "numpy",
    "ethos-u-vela",
)


def versions() -> dict[str, str]:
    """Versions of the packages that bear on the figures, of those that are installed."""
    return standalone.versions(PACKAGES)


def measure_latency(
    models: Mapping[str, Path],
    threads: int = 1,
    budget_seconds: float = 20,
    baseline: str = "float32",
    images: Mapping[str, np.ndarray] | None = None,
    loaded: Mapping[str, Any] | None = None,
) -> dict[str, dict]:
    """Measure the latency of each model and its ratio to the baseline's.

    All models are loaded in this process, and timed by `standalone.time_interleaved`.

    Args:
        models: Files by name.
        threads: Threads that an invocation may use.
        budget_seconds: What the measurement may take, about.
        baseline: Name of the model that the others are compared with.
        images: Inputs by name, float32 (1, H, W, C), preprocessed; noise for those not named.
        loaded: Networks of other engines by name, their inputs set, with a method `invoke`.

    Returns:
        For each name what `standalone.time_interleaved` returns: p50, p90 and p99 (ms), ratio (the
        median over rounds) with its 95 % interval ratio_low to ratio_high, whether the machine was
        busy, and more.

    Raises:
        EdgeqError: There is no baseline, LiteRT refuses a file, or an image does not suit it.
    """
    _check_baseline(models, baseline)
    interpreters: dict[str, Any] = {}
    for name, path in progress(models.items(), f"loading ({threads} threads)", len(models)):
        try:
            interpreters[name] = make_interpreter(path, threads)
        except EdgeqError as error:
            raise EdgeqError(f"Variant '{name}': {error}") from None
        try:
            _fill(interpreters[name], (images or {}).get(name))
        except (ValueError, TypeError) as error:
            raise EdgeqError(f"The input given for '{name}' does not suit it ({error}).") from None
    return standalone.time_interleaved(
        interpreters | dict(loaded or {}),
        budget_seconds,
        baseline,
        lambda rounds: progress(rounds, f"latency ({threads} threads)"),
        threads,
    )


def _check_baseline(models: Mapping[str, Path], baseline: str) -> None:
    if baseline not in models:
        raise EdgeqError(
            f"There is no '{baseline}' to compare with; run the notebook that makes it first."
        )


def _fill(interpreter: Interpreter, image: np.ndarray | None) -> None:
    """Set the inputs: to `image` as the file quantizes it, else to seeded noise."""
    rng = np.random.default_rng(0)
    for detail in interpreter.get_input_details():
        values = _noise(rng, detail) if image is None else quantize_array(image, detail)
        interpreter.set_tensor(detail["index"], values)


def _noise(rng: np.random.Generator, detail: Mapping[str, Any]) -> np.ndarray:
    """Noise over the range of the tensor's type, -1 to 1 for floats."""
    dtype, shape = detail["dtype"], detail["shape"]
    if np.issubdtype(dtype, np.integer):
        bounds = np.iinfo(dtype)
        return rng.integers(bounds.min, bounds.max, shape, endpoint=True).astype(dtype)
    return rng.uniform(-1, 1, shape).astype(dtype)


def measure_costs(
    variants: Mapping[str, Path],
    threads: list[int],
    budget_seconds: float = 60,
    baseline: str = "float32",
    images: Mapping[str, np.ndarray] | None = None,
    accelerator: str | None = None,
) -> dict[str, dict]:
    """Measure the whole `cost` record of each variant.

    Args:
        variants: Files by name.
        threads: Numbers of threads to measure latency at; `latency_ratio` is that at the first.
        budget_seconds: What all latency measurements may take together, about.
        baseline: Name of the variant that the others are compared with.
        images: Inputs by name, as `measure_latency` takes them.
        accelerator: The Ethos-U that `vela.estimate` compiles for; None for none.

    Returns:
        For each name: bytes, gzip_bytes, the fields of `standalone.UNMEASURED` (latency, load time,
        memory), conditions and, where the machine was, busy (`standalone.record_latency`),
        arena_bytes, report (`inspect.inspect_file`), vela, machine,
        runtime (versions), and why. A variant that LiteRT refuses or crashes on, tried in a process
        of its own, has null where it was not measured, and `why` says so, by field.

    Raises:
        EdgeqError: The baseline is missing or does not run, or a file is no valid flatbuffer.
    """
    _check_baseline(variants, baseline)
    reports: dict[str, dict] = {}
    for name, path in variants.items():  # all of them before anything slow
        try:
            reports[name] = inspect_file(path.read_bytes())
        except EdgeqError as error:
            raise EdgeqError(f"Variant '{name}': {error}") from None
    costs: dict[str, dict] = {}
    facts = {"machine": describe_machine(), "runtime": versions()}
    for name, path in progress(variants.items(), "size, memory", len(variants)):
        start: dict[str, float | int | None] = {}
        why: dict[str, str] = {}
        try:
            start = standalone.measure_cold_start(path)
        except standalone.Refused as error:
            if name == baseline:
                raise EdgeqError(
                    f"Variant '{name}' {error}; make it again for built-in ops only."
                ) from None
            why = {field: f"the file {error}" for field in standalone.UNMEASURED}
        costs[name] = _cost_unexecuted(path, reports[name], accelerator, why) | start | facts
    running = {name: path for name, path in variants.items() if costs[name]["load_ms"] is not None}
    for count in threads:
        latency = measure_latency(running, count, budget_seconds / len(threads), baseline, images)
        for name, measured in latency.items():
            standalone.record_latency(costs[name], count, measured)
    return costs


def _cost_unexecuted(
    path: Path, report: dict, accelerator: str | None, why: dict[str, str]
) -> dict[str, Any]:
    """The part of a cost that needs no invocation: size, arena, Vela's estimate."""
    model, estimate = path.read_bytes(), {"why": "No Ethos-U is among the targets."}
    if accelerator is not None:
        estimate = vela.estimate(path, accelerator)
    refused = "why" in estimate
    return {
        **sizes(model),
        **standalone.UNMEASURED,
        "arena_bytes": report["arena_bytes"],
        "report": report,
        "vela": None if refused else estimate,
        "why": why | ({"vela": estimate["why"]} if refused else {}),
    }
