"""What a variant costs to run: latency against float32 side by side, load time, memory, size.

Absolute times belong to the machine that they were taken on; ratios of interleaved runs travel further.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from edgeq_lib.files import EdgeqError
from edgeq_lib.measure import standalone, targets
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
    """Versions of the packages that bear on the figures, those installed."""
    return standalone.versions(PACKAGES)


def _fill(interpreter: Interpreter, image: np.ndarray | None) -> None:
    """Set the inputs: to `image` as the file quantizes it, else to seeded noise over the range of the tensor's type."""
    noise = np.random.default_rng(0)
    for detail in interpreter.get_input_details():
        if image is None:
            integer = np.issubdtype(detail["dtype"], np.integer)
            bounds = np.iinfo(detail["dtype"]) if integer else None
            drawn = (
                noise.integers(bounds.min, bounds.max, detail["shape"], endpoint=True)
                if integer
                else noise.uniform(-1, 1, detail["shape"])
            )
            interpreter.set_tensor(detail["index"], drawn.astype(detail["dtype"]))
        else:
            interpreter.set_tensor(detail["index"], quantize_array(image, detail))


def measure_latency(
    models: dict[str, Path],
    threads: int = 1,
    budget_seconds: float = 20,
    baseline: str = "float32",
    images: dict[str, np.ndarray] | None = None,
) -> dict[str, dict]:
    """Latency of each model and its ratio to `baseline`, all loaded in this process and timed by `board.take_turns`.

    `images` are the inputs by name, float32 (1, height, width, channels), preprocessed; noise for those not named.
    Raises EdgeqError without a baseline, when LiteRT refuses a file, or when an image does not suit it.
    """
    if baseline not in models:
        raise EdgeqError(
            f"There is no '{baseline}' to compare with; run the notebook that makes it first."
        )
    interpreters = {}
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
        interpreters,
        budget_seconds,
        baseline,
        lambda rounds: progress(rounds, f"latency ({threads} threads)"),
    )


def measure_costs(
    variants: dict[str, Path],
    threads: list[int],
    budget_seconds: float = 60,
    baseline: str = "float32",
    images: dict[str, np.ndarray] | None = None,
    accelerator: str = "ethos-u55-128",
) -> dict[str, dict]:
    """The whole `cost` record of each variant: size, latency at each number of threads, memory, report, devices.

    `latency_ratio` is that at the first number of threads; `budget_seconds` is what all latency takes together; `images`
    are the inputs by name, as `interleaved` takes them.
    A variant that LiteRT refuses or crashes on (tried in a process of its own) has null there, and `why` says so.
    Raises EdgeqError when the baseline is missing or does not run, or when a file is no valid flatbuffer.
    """
    if baseline not in variants:
        raise EdgeqError(
            f"There is no '{baseline}' to compare with; run the notebook that makes it first."
        )
    reports: dict[str, dict] = {}
    for name, path in variants.items():  # all of them before anything slow
        try:
            reports[name] = inspect_file(path.read_bytes())
        except EdgeqError as error:
            raise EdgeqError(f"Variant '{name}': {error}") from None
    costs: dict[str, dict] = {}
    facts, runtime = describe_machine(), versions()
    for name, path in progress(variants.items(), "size, memory, devices", len(variants)):
        model, report = path.read_bytes(), reports[name]
        why: dict[str, str] = {}
        cost = {
            **sizes(model),
            **standalone.UNMEASURED,
            "arena_bytes": report["arena_bytes"],
            "fits": targets.fits(len(model), report["arena_bytes"]),
            "report": report,
            "vela": None,
            "why": why,
            "machine": facts,
            "runtime": runtime,
        }
        try:
            cost |= standalone.measure_cold_start(path)
        except standalone.Refused as error:
            if name == baseline:
                raise EdgeqError(
                    f"Variant '{name}' {error}; make it again for built-in ops only."
                ) from None
            why |= {field: f"the file {error}" for field in standalone.UNMEASURED}
        estimate = targets.estimate_vela(path, accelerator)
        if "why" in estimate:
            why["vela"] = estimate["why"]
        else:
            cost["vela"] = estimate
        costs[name] = cost
    running = {name: path for name, path in variants.items() if costs[name]["load_ms"] is not None}
    for count in threads:
        latency = measure_latency(running, count, budget_seconds / len(threads), baseline, images)
        for name, spent in latency.items():
            standalone.record_latency(costs[name], count, spent)
    return costs
