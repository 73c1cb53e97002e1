"""Engines beside each other: the same float network, calibration and images, and one clock.

1. Each engine makes its own float network of the study's float flatbuffer (`make_float`), and its
   own best int8 (`make_int8`): of the ways that it has, the one that names float32's class most
   often on validation images, without their labels.
2. `row` compares a network's outputs with float32's in LiteRT, image by image.
3. `measure_turns` times all of them in one run, in turns with LiteRT's own files.

An engine that is not installed or cannot take the network is left out with its reason.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from edgeq_lib.files import CannotTake
from edgeq_lib.measure import standalone
from edgeq_lib.measure.accuracy import Preprocess
from edgeq_lib.measure.latency import measure_latency
from edgeq_lib.measure.runtimes import onnxruntime, openvino
from edgeq_lib.measure.runtimes.engine import INSTALL, Files, predict
from edgeq_lib.measure.statistics import agreement, quality_record
from edgeq_lib.study import Variant

ENGINES = {engine.NAME: engine for engine in (openvino, onnxruntime)}
PACKAGES = ("ai-edge-litert", "openvino", "nncf", "onnx", "onnxruntime", "numpy")


@dataclass(frozen=True)
class Made:
    """A network as one engine made it.

    Attributes:
        engine: Its name, a key of `ENGINES`.
        precision: float32 or int8.
        files: What the engine loads.
        ranges: How int8's activation ranges were set; "" in float.
        seconds: How long it took to make.
    """

    engine: str
    precision: str
    files: Files
    ranges: str
    seconds: float

    @property
    def name(self) -> str:
        """What tables call it."""
        return f"{self.engine} {self.precision}"

    @property
    def size(self) -> int:
        """Bytes of its files together."""
        return sum(map(len, self.files.values()))

    def predict(self, model: bytes, images: np.ndarray, preprocess: Preprocess) -> np.ndarray:
        """Run it on images, see `engine.predict`."""
        load = ENGINES[self.engine].load
        return predict(load, self.files, model, images, preprocess, self.name)


def installed() -> tuple[dict[str, ModuleType], dict[str, str]]:
    """List the engines that are installed.

    Returns:
        Engines by name, and the reason for each that is not, one sentence.
    """
    reasons = {name: engine.reason_missing() for name, engine in ENGINES.items()}
    missing = {name: reason for name, reason in reasons.items() if reason}
    return {name: engine for name, engine in ENGINES.items() if name not in missing}, missing


def why_none(why_not: Mapping[str, str]) -> str:
    """Say in one text why no engine takes part, and how those that are missing are installed.

    Args:
        why_not: The reason of each engine.
    """
    missing = any(engine.reason_missing() for engine in ENGINES.values())
    return " ".join([*why_not.values(), *([f"They come with {INSTALL}."] if missing else [])])


def make_float(
    engines: Mapping[str, ModuleType], model: bytes
) -> tuple[list[Made], dict[str, str]]:
    """Make each engine's float network.

    Args:
        engines: By name.
        model: The float flatbuffer.

    Returns:
        The networks, and the reason for each engine that cannot take it.
    """
    made, reasons = [], {}
    for name, engine in engines.items():
        started = time.monotonic()
        try:
            files = engine.float_files(model)
        except CannotTake as error:
            reasons[name] = str(error)
            continue
        made.append(Made(name, "float32", files, "", round(time.monotonic() - started, 1)))
    return made, reasons


def make_int8(
    network: Made,
    calibration: np.ndarray,
    model: bytes,
    images: np.ndarray,
    preprocess: Preprocess,
    base: np.ndarray,
) -> tuple[Made, dict[str, float]]:
    """Quantize an engine's float network in each of the ways that it has, and keep the best.

    Args:
        network: The float network.
        calibration: Preprocessed float32 (n, H, W, C).
        model: The float flatbuffer.
        images: Validation images, uint8; no label is used.
        preprocess: Makes of uint8 images what the network was trained on.
        base: Float32's outputs on `images`.

    Returns:
        The network that names float32's class most often, the first of equals, and how often each
        did, in percent, by ways to set ranges.
    """
    engine, tried, agrees = ENGINES[network.engine], {}, {}
    for ranges in engine.RANGES:
        started = time.monotonic()
        files = engine.quantize(network.files, calibration, ranges)
        seconds = round(time.monotonic() - started, 1)
        tried[ranges] = Made(network.engine, "int8", files, ranges, seconds)
        agrees[ranges] = agreement(base, tried[ranges].predict(model, images, preprocess))
    return tried[max(agrees, key=lambda ranges: agrees[ranges])], agrees


def row(
    network: Made,
    outputs: Mapping[str, np.ndarray],
    data: Any,
    base: Mapping[str, np.ndarray],
) -> dict[str, Any]:
    """Compare a network with float32 in LiteRT on the same images.

    Args:
        network: The network.
        outputs: Split → its scores (n, classes).
        data: The study's data: labels and classes are used.
        base: Split → float32's scores.

    Returns:
        engine, precision, ranges, bytes, seconds, validation and test
        (`statistics.quality_record`), and largest_difference of the outputs from LiteRT's on
        validation, None where the network is not float.
    """
    labels = {"validation": data.validation.labels, "test": data.test.labels}
    difference = np.abs(outputs["validation"] - base["validation"]).max()
    return {
        "name": network.name,
        "engine": network.engine,
        "precision": network.precision,
        "ranges": network.ranges,
        "bytes": network.size,
        "seconds": network.seconds,
        "largest_difference": float(difference) if network.precision == "float32" else None,
        **{
            split: quality_record(scores, labels[split], data.classes, base[split])
            for split, scores in outputs.items()
        },
    }


def litert_row(variant: Variant) -> dict[str, Any]:
    """Make the row of one of the study's own files, from its records.

    Args:
        variant: A scored variant of the shelf.

    Returns:
        As `row` does.
    """
    quality = variant.read("quality") or {}
    return {
        "name": f"LiteRT {variant.name}",
        "engine": "LiteRT",
        "precision": variant.name,
        "ranges": "",
        "bytes": variant.path.stat().st_size,
        "seconds": variant.facts["seconds"],
        "largest_difference": None,
        "validation": quality["validation"],
        "test": quality["test"],
    }


def measure_turns(
    made: Sequence[Made], variants: Sequence[Variant], image: np.ndarray, budget_seconds: float
) -> dict[str, dict[str, Any]]:
    """Time the networks and the study's own files in one run, in turns, at one thread.

    Args:
        made: The engines' networks.
        variants: LiteRT's files, `float32` among them, which all are compared with.
        image: What all compute with, preprocessed float32 (1, H, W, C).
        budget_seconds: What the measurement may take, about.

    Returns:
        For each row's name what `standalone.time_interleaved` returns.
    """
    loaded = {}
    for network in made:
        loaded[network.name] = ENGINES[network.engine].load(network.files)
        loaded[network.name].set_image(image)
    names = {f"LiteRT {variant.name}": variant.path for variant in variants}
    return measure_latency(
        names,
        budget_seconds=budget_seconds,
        baseline="LiteRT float32",
        images=dict.fromkeys(names, image),
        loaded=loaded,
    )


def check_qdq(
    files: Files, model: bytes, images: np.ndarray, preprocess: Preprocess, base: np.ndarray
) -> dict[str, float]:
    """Execute an ONNX file with QDQ twice: as it is written, and as ONNX Runtime optimizes it.

    Both round the same values, in another order: a code that falls to the other side is amplified
    by the layers behind it, so a few images may differ.

    Args:
        files: model.onnx.
        model: The float flatbuffer.
        images: Validation images, uint8.
        preprocess: Makes of uint8 images what the network was trained on.
        base: Float32's outputs on `images`, (n, classes).

    Returns:
        images (their number); how often both name the same class ("same class %") and the largest
        difference of their outputs; how often the optimized one agrees with float32, in percent.
    """
    loads = (onnxruntime.load, functools.partial(onnxruntime.load, optimize=False))
    kernels, written = (predict(load, files, model, images, preprocess, "QDQ") for load in loads)
    return {
        "images": len(images),
        "same class %": agreement(written, kernels),
        "largest difference": float(np.abs(kernels - written).max()),
        "agrees with float32 %": agreement(base, kernels),
    }


def where() -> dict[str, Any]:
    """Describe the machine and the versions that the figures belong to."""
    return {"machine": standalone.describe_machine(), "versions": standalone.versions(PACKAGES)}
