"""Sensitivity: how much of float32's output a file keeps, tensor by tensor and layer by layer."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from edgeq_lib.compress.quantize import calibration, quantized_weights, quantizer
from edgeq_lib.compress.quantize.kernels import KERNEL_OPS
from edgeq_lib.measure.accuracy import Preprocess, predict_file
from edgeq_lib.measure.statistics import agreement, correctness
from edgeq_lib.progress import progress
from edgeq_lib.tflite.output_kind import class_scores
from edgeq_lib.tflite.pool import InterpreterPool, chunks, open_executor, sum_over_images
from edgeq_lib.tflite.reader import Graph, read_graph
from edgeq_lib.tflite.runtime import dequantize_array, make_interpreter, run_images

# Making a file silences the process's output, which only one thread can do at a time.
_MAKING = threading.Lock()


class Layer(NamedTuple):
    """An op with weights and the ops without that follow it, quantized together."""

    name: str  # of the output of the op with weights
    kind: str  # of that op
    outputs: tuple[str, ...]  # the names of the outputs of all its ops


def display_name(name: str) -> str:
    """Shorten a tensor's name to the Keras layer's, out of the converter's long path."""
    kernel = re.search(r"([^/;]+)/(?:Conv2D|depthwise|Tensordot|MatMul)", name)
    if kernel:
        return kernel[1]
    parts = name.split(";")[0].split("/")
    return parts[-2] if len(parts) > 1 else "output" if "Call" in name else name


def layers_of(model: bytes) -> list[Layer]:
    """List the layers of a float flatbuffer in order; what comes first belongs to the first."""
    graph = read_graph(model)
    layers: list[Layer] = []
    before_first: list[str] = []
    for op in graph.ops:
        names = [graph.tensors[index].name for index in op.outputs]
        if op.name in KERNEL_OPS:
            layers.append(Layer(names[0], op.name, (*before_first, *names)))
            before_first = []
        elif layers:
            layers[-1] = layers[-1]._replace(outputs=(*layers[-1].outputs, *names))
        else:
            before_first += names
    return layers


def _computed(graph: Graph) -> dict[str, int]:
    """Name → index of what is computed.

    The quantizer may keep a name twice, before and after a QUANTIZE: the first is the op's own.
    """
    indices = {graph.tensors[index].name: index for index in graph.inputs}
    for op in graph.ops:
        for index in op.outputs:
            if op.name not in ("QUANTIZE", "DEQUANTIZE"):
                indices.setdefault(graph.tensors[index].name, index)
    return indices


def signal_to_noise(
    float_model: bytes, model: bytes, images: np.ndarray, executor: Executor | None = None
) -> dict[str, float]:
    """Measure each tensor of an int8 file against its float parent, errors accumulating.

    Args:
        float_model: The float flatbuffer.
        model: The int8 file made from it.
        images: Preprocessed float32 (n, H, W, C).
        executor: Runs the images; threads of its own by default.

    Returns:
        Tensor → signal-to-noise ratio in dB; tensors are paired by name, in the order of the graph.
    """
    float_indices, indices = _computed(read_graph(float_model)), _computed(read_graph(model))
    names = [name for name in float_indices if name in indices]
    details = {
        detail["index"]: detail
        for detail in make_interpreter(model, keep_tensors=True).get_tensor_details()
    }

    def read(interpreter: Any, index: int) -> np.ndarray:
        return dequantize_array(interpreter.get_tensor(index), details[index])

    def measure(reference: Any, other: Any) -> np.ndarray:
        sums = np.empty((len(names), 2))
        for row, name in zip(sums, names, strict=True):
            exact = reference.get_tensor(float_indices[name]).astype(np.float32)
            row[:] = np.square(exact).sum(), np.square(exact - read(other, indices[name])).sum()
        return sums

    with open_executor(executor) as threads:
        sums = sum_over_images([float_model, model], images, measure, threads, keep_tensors=True)
    return {name: decibels(*row) for name, row in zip(names, sums, strict=True)}


def decibels(signal: float, noise: float) -> float:
    """Return the ratio of two energies in dB, at most 100: what is exact has no noise."""
    return float(10 * np.log10(max(signal, 1e-30) / max(noise, 1e-10 * signal, 1e-30)))


def fidelity(outputs: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """Compare float outputs with float32's.

    The signal-to-noise ratio is that of each image, its median over images: it tells files apart
    that agree on all of a few images. What is added to all classes alike changes no decision and is
    left out.

    Args:
        outputs: (n, classes).
        reference: float32's outputs, (n, classes).

    Returns:
        agreement on top-1 in percent, and snr in dB.
    """
    exact, error = (
        values - values.mean(axis=1, keepdims=True) for values in (reference, reference - outputs)
    )
    signal, noise = np.square(exact).sum(axis=1), np.square(error).sum(axis=1)
    return {
        "agreement": agreement(reference, outputs),
        "snr": float(np.median([decibels(*pair) for pair in zip(signal, noise, strict=True)])),
    }


@dataclass(frozen=True)
class Int8Recipe:
    """How an int8 file is made. The defaults are litert-quantizer's own."""

    activations: str = "moving_average"  # a row of calibration.SUMMARIES
    weights: str = "min_max"  # a row of quantizer.WEIGHT_RANGES
    fix_dead: bool = False  # see bias_overflow.prevent_bias_overflow
    per_tensor: tuple[str, ...] = ()  # kinds of ops whose weights have one scale
    left_float: tuple[str, ...] = ()  # outputs of ops that stay float32
    io: str = "int8"  # a row of quantizer.SCHEMES: int8, or int8_float_io


@dataclass(frozen=True)
class EvaluationContext:
    """A float flatbuffer with what its int8 files are made from and compared on.

    For sweeps over many files, one per thread; `Probe` compares one file at a time, its images in
    parallel, and knows no labels.
    """

    model: bytes
    observed: calibration.ActivationStatistics  # of the calibration images
    images: np.ndarray  # uint8 (n, H, W, C), from validation
    labels: np.ndarray
    reference: np.ndarray  # float32's outputs (n, classes) on them
    preprocess: Any  # a Preprocessing

    def make(
        self, recipe: Int8Recipe, observed: calibration.ActivationStatistics | None = None
    ) -> bytes:
        """Make the int8 file of a recipe, by default from this context's calibration."""
        ranges = calibration.summarize(
            observed or self.observed, recipe.activations, self.preprocess.range
        )
        return quantizer.quantize(
            self.model,
            quantizer.scheme(recipe.io),
            ranges,
            weight_ranges=recipe.weights,
            left_float=recipe.left_float,
            per_tensor=recipe.per_tensor,
            fix_dead=recipe.fix_dead,
        )

    def compare(self, model: bytes) -> dict[str, float]:
        """Compare a file with float32 on this context's images, in this thread.

        Returns:
            agreement and top1 in percent, snr in dB, kB.
        """
        return self.compare_with(model, InterpreterPool([model], workers=1))

    def compare_with(self, model: bytes, pool: InterpreterPool) -> dict[str, float]:
        """Compare a file, loaded in `pool`, with float32 (see `compare`)."""
        with pool.lend() as (interpreter,):
            outputs = np.concatenate(
                [
                    run_images(interpreter, self.preprocess(np.asarray(self.images[part])))
                    for part in chunks(len(self.images), 32)
                ]
            )
            detail = interpreter.get_output_details()[0]
            outputs = dequantize_array(class_scores(model, outputs, detail), detail)
        return {
            **fidelity(outputs, self.reference),
            "top1": 100 * float(correctness(outputs, self.labels)[0].mean()),
            "kB": len(model) / 1000,
        }


def sweep(
    case: EvaluationContext,
    recipes: dict[str, Int8Recipe],
    label: str,
    executor: Executor | None = None,
    observed: dict[str, calibration.ActivationStatistics] | None = None,
) -> dict[str, dict[str, float]]:
    """Make the file of each recipe and compare it with float32, one file per task.

    Args:
        case: What files are made from and compared on.
        recipes: Name → recipe.
        label: Of the progress bar.
        executor: Runs the tasks; threads of its own by default.
        observed: Name → a calibration of its own, where a recipe has one.

    Returns:
        Name → the figures of `EvaluationContext.compare`.
    """

    def work(name: str) -> dict[str, float]:
        with _MAKING:
            model = case.make(recipes[name], (observed or {}).get(name))
            pool = InterpreterPool([model], workers=1)
        return case.compare_with(model, pool)

    with open_executor(executor) as pool:
        return dict(
            zip(recipes, progress(pool.map(work, recipes), label, len(recipes)), strict=True)
        )


def layer_sensitivity(
    case: EvaluationContext, recipe: Int8Recipe, executor: Executor | None = None
) -> list[dict]:
    """Measure each layer alone in int8 (`only`), and alone in float32 (`without`).

    In the files that are int8 in one layer only, input and output are float32.

    Args:
        case: What files are made from and compared on.
        recipe: How the int8 parts are made.
        executor: Runs the tasks; threads of its own by default.

    Returns:
        A row per layer, in the order of the graph: layer, name (its outputs), kind, and agreement
        (%) and snr (dB) of both files.
    """
    parts = layers_of(case.model)
    everything = {name for part in parts for name in part.outputs}
    recipes = {}
    for part in parts:
        others = tuple(sorted(everything - set(part.outputs)))
        recipes[f"only {part.name}"] = replace(recipe, left_float=others, io="int8_float_io")
        recipes[f"without {part.name}"] = replace(recipe, left_float=part.outputs)
    figures = sweep(case, recipes, "layer by layer", executor)
    return [
        {
            "layer": display_name(part.name),
            "name": list(part.outputs),
            "kind": part.kind,
            **{
                f"{way}_{figure}": figures[f"{way} {part.name}"][figure]
                for way in ("only", "without")
                for figure in ("agreement", "snr")
            },
        }
        for part in parts
    ]


def most_faithful(figures: Mapping[str, Mapping[str, float]]) -> str:
    """Choose by the rule of every choice: agreement with float32, then signal-to-noise, then order.

    Agreement is more sensitive than accuracy, where images lost and won cancel out.
    """
    return max(figures, key=lambda name: (figures[name]["agreement"], figures[name]["snr"]))


class Probe(NamedTuple):
    """Images that files are compared with float32 on."""

    images: np.ndarray  # uint8 (n, H, W, C)
    preprocess: Preprocess
    reference: np.ndarray  # float32's outputs (n, classes) on them

    def compare(self, model: bytes) -> dict[str, float]:
        """Compare a file with float32.

        Returns:
            agreement in percent, snr in dB, and noise: the error's energy as a share of the
            output's.
        """
        outputs = predict_file(model, self.images, self.preprocess)
        detail = make_interpreter(model).get_output_details()[0]
        figures = fidelity(dequantize_array(outputs, detail), self.reference)
        return {**figures, "noise": 10 ** (-figures["snr"] / 10)}


def noise_by_width(
    model: bytes,
    alone: Mapping[str, Mapping[int, quantized_weights.QuantizedWeights]],
    probe: Probe,
) -> dict[str, dict[int, float]]:
    """Measure the noise that each kernel alone adds at each width, the others at 8 bits.

    Args:
        model: The float flatbuffer.
        alone: Output of each kernel's op → width → its quantized weights (see
            `layerwise_rounding.round_each`).
        probe: Images to compare on.

    Returns:
        Output of each kernel's op → width → noise added, never below 0.
    """
    eight_bits = {name: by_width[8] for name, by_width in alone.items()}
    base = quantized_weights.with_quantized_weights(model, eight_bits)
    floor = probe.compare(base)["noise"]
    added = {name: {8: 0.0} for name in alone}
    tried = [(name, bits) for name, by_width in alone.items() for bits in by_width if bits < 8]
    for name, bits in progress(tried, "sensitivity"):
        noise = probe.compare(
            quantized_weights.with_quantized_weights(base, {name: alone[name][bits]})
        )["noise"]
        added[name][bits] = max(noise - floor, 0.0)
    return added
