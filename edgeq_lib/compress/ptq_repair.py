"""Why an int8 file loses against its float32 parent, layer by layer, and what wins it back without training.

Diagnosis: the error of each tensor from paired interpreters, and sweeps in which one layer alone is int8, or all but one.
Cures: activation ranges (`ranges`), weight ranges, bias correction (`bias_correction`), and float32 for single layers.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from edgeq_lib import flatbuffer, splits, stats
from edgeq_lib.compress import ptq, ranges
from edgeq_lib.compress.bias_correction import pool_of, sum_over_images
from edgeq_lib.compress.constants import open_constants
from edgeq_lib.litert import dequantized, make_interpreter, run_images
from edgeq_lib.progress import progress

_MAKING = threading.Lock()  # making a file silences the process's output, which only one thread can do at a time


class Layer(NamedTuple):
    """An op with weights and the ops without that follow it, which it is quantized together with."""

    name: str  # of the output of the op with weights
    kind: str  # of that op
    outputs: tuple[str, ...]  # the names of the outputs of all its ops


def short(name: str) -> str:
    """A tensor's name as a person says it: the Keras layer's, of the converter's long path."""
    found = re.search(r"([^/;]+)/(?:Conv2D|depthwise|Tensordot|MatMul)", name)
    parts = name.split(";")[0].split("/")
    return found[1] if found else parts[-2] if len(parts) > 1 else "output" if "Call" in name else name


def layers(model: bytes) -> list[Layer]:
    """The layers of a float flatbuffer, in the order of the graph; ops before the first weights belong to the first."""
    graph, found = flatbuffer.read(model), []
    waiting: list[str] = []
    for op in graph.ops:
        names = [graph.tensors[index].name for index in op.outputs]
        if op.name in ptq.KERNEL_OPS:
            found.append(Layer(names[0], op.name, (*waiting, *names)))
            waiting = []
        elif found:
            found[-1] = found[-1]._replace(outputs=(*found[-1].outputs, *names))
        else:
            waiting += names
    return found


def _computed(graph: flatbuffer.Graph) -> dict[str, int]:
    """Name → index of what is computed. The quantizer may keep a name twice, before and after a QUANTIZE: the first is
    what the op itself wrote."""
    found = {graph.tensors[index].name: index for index in graph.inputs}
    for op in graph.ops:
        for index in op.outputs:
            if op.name not in ("QUANTIZE", "DEQUANTIZE"):
                found.setdefault(graph.tensors[index].name, index)
    return found


def signal_to_noise(float_model: bytes, model: bytes, images: np.ndarray,
                    executor: Executor | None = None) -> dict[str, float]:
    """Tensor → signal-to-noise ratio in dB of `model` (int8) against its float parent, errors of earlier layers included.

    `images`: preprocessed float32 (n, H, W, C). Tensors are paired by name, in the order of the graph.
    """
    theirs, ours = (_computed(flatbuffer.read(each)) for each in (float_model, model))
    names = [name for name in theirs if name in ours]
    details = {detail["index"]: detail for detail in make_interpreter(model, keep_tensors=True).get_tensor_details()}

    def read(interpreter: Any, index: int) -> np.ndarray:
        return dequantized(interpreter.get_tensor(index), details[index])

    def measure(reference: Any, other: Any) -> np.ndarray:
        sums = np.empty((len(names), 2))
        for row, name in zip(sums, names, strict=True):
            exact = reference.get_tensor(theirs[name]).astype(np.float32)
            row[:] = np.square(exact).sum(), np.square(exact - read(other, ours[name])).sum()
        return sums

    with pool_of(executor) as pool:
        sums = sum_over_images([float_model, model], images, measure, pool, keep_tensors=True)
    return {name: decibels(*row) for name, row in zip(names, sums, strict=True)}


def decibels(signal: float, noise: float) -> float:
    """Ratio of two energies in dB, at most 100: what is exact has no noise."""
    return float(10 * np.log10(max(signal, 1e-30) / max(noise, 1e-10 * signal, 1e-30)))


def compare(outputs: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """Agreement on top-1 in percent, and signal-to-noise in dB, of float outputs (n, classes) against float32's.

    The ratio is each image's, its median over images: it tells files apart that agree on all of a few images. What is
    added to all classes alike changes no decision and is left out.
    """
    exact, error = (each - each.mean(axis=1, keepdims=True) for each in (reference, reference - outputs))
    signal, noise = np.square(exact).sum(axis=1), np.square(error).sum(axis=1)
    return {"agreement": stats.agreement(reference, outputs),
            "snr": float(np.median([decibels(*pair) for pair in zip(signal, noise, strict=True)]))}


@dataclass(frozen=True)
class Recipe:
    """How an int8 file is made. The defaults are litert-quantizer's own."""

    activations: str = "moving_average"  # a row of ranges.SUMMARIES
    weights: str = "min_max"  # a row of ptq.WEIGHT_RANGES
    cure_dead: bool = False  # see ptq.with_fitting_biases
    per_tensor: tuple[str, ...] = ()  # kinds of ops whose weights have one scale
    left_float: tuple[str, ...] = ()  # outputs of ops that stay float32
    io: str = "int8"  # a row of ptq.SCHEMES: int8, or int8_float_io


@dataclass(frozen=True)
class Case:
    """A float flatbuffer with what its int8 files are made from and compared on."""

    model: bytes
    observed: ranges.Observed  # of the calibration images
    images: np.ndarray  # uint8 (n, H, W, C), from validation
    labels: np.ndarray
    reference: np.ndarray  # float32's outputs (n, classes) on them
    preprocess: Any  # a zoo.Preprocessing

    def make(self, recipe: Recipe, observed: ranges.Observed | None = None) -> bytes:
        """The int8 file of a recipe, by default from this case's calibration."""
        found = ranges.summarize(observed or self.observed, recipe.activations, self.preprocess.range)
        return ptq.quantize(self.model, ptq.scheme(recipe.io), found, weight_ranges=recipe.weights,
                            left_float=recipe.left_float, per_tensor=recipe.per_tensor, cure_dead=recipe.cure_dead)

    def compare(self, model: bytes) -> dict[str, float]:
        """Agreement, signal-to-noise, top-1 (percent) and size of a file on this case's images, in this thread."""
        return self._compare(model, make_interpreter(model))

    def _compare(self, model: bytes, interpreter: Any) -> dict[str, float]:
        outputs = np.concatenate([run_images(interpreter, self.preprocess(np.asarray(self.images[start:start + 32])))
                                  for start in range(0, len(self.images), 32)])
        outputs = dequantized(outputs, interpreter.get_output_details()[0])
        return {**compare(outputs, self.reference), "top1": 100 * float(stats.correctness(outputs, self.labels)[0].mean()),
                "kB": len(model) / 1000}


def sweep(case: Case, recipes: dict[str, Recipe], label: str, executor: Executor | None = None,
          observed: dict[str, ranges.Observed] | None = None) -> dict[str, dict[str, float]]:
    """Make the file of each recipe and compare it with float32, a file a task of `executor` (threads by default).

    `observed` may give a recipe a calibration of its own. Returns `Case.compare`'s figures by the recipes' names.
    """
    def work(name: str) -> dict[str, float]:
        with _MAKING:
            model = case.make(recipes[name], (observed or {}).get(name))
            interpreter = make_interpreter(model)
        return case._compare(model, interpreter)

    with pool_of(executor) as pool:
        return dict(zip(recipes, progress(pool.map(work, recipes), label, len(recipes)), strict=True))


def by_layer(case: Case, recipe: Recipe, executor: Executor | None = None) -> list[dict]:
    """What each layer costs: with it alone in int8 (`only`), and with it alone in float32 (`without`).

    A row a layer, in the order of the graph: layer, name (its outputs), kind, and `Case.compare`'s agreement and snr of
    both files. In the files that are int8 in one layer only, input and output are float32.
    """
    parts = layers(case.model)
    everything = {name for part in parts for name in part.outputs}
    recipes = {}
    for part in parts:
        others = tuple(sorted(everything - set(part.outputs)))
        recipes[f"only {part.name}"] = replace(recipe, left_float=others, io="int8_float_io")
        recipes[f"without {part.name}"] = replace(recipe, left_float=part.outputs)
    found = sweep(case, recipes, "layer by layer", executor)
    return [{"layer": short(part.name), "name": list(part.outputs), "kind": part.kind,
             **{f"{way}_{figure}": found[f"{way} {part.name}"][figure] for way in ("only", "without")
                for figure in ("agreement", "snr")}} for part in parts]


def best(found: dict[str, dict[str, float]]) -> str:
    """The rule of every choice here: the largest agreement with float32, of equals the largest signal-to-noise ratio, of
    equals the first. Agreement is more sensitive than accuracy, where images lost and won cancel out."""
    return max(found, key=lambda name: (found[name]["agreement"], found[name]["snr"]))


def dead_channels(model: bytes, found: ptq.Ranges) -> int:
    """How many channels of a float flatbuffer have a bias that would not fit into int32 (see `ptq.with_fitting_biases`)."""
    before, after = (open_constants(bytearray(each)) for each in (model, ptq.with_fitting_biases(model, found)))
    return sum(int((before[index] != after[index]).sum()) for index in before)


def two_sets(labels: np.ndarray, largest: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two disjoint calibration sets from train, shuffled, of at most `largest` images each: int64 indices. Together they
    are balanced over the classes."""
    drawn = splits.draw_calibration(labels, min(2 * largest, len(labels)), seed)
    drawn = np.random.default_rng([seed, 2]).permutation(drawn)
    return drawn[:len(drawn) // 2], drawn[len(drawn) // 2:2 * (len(drawn) // 2)]


def rung(name: str, technique: str, model: bytes, outputs: np.ndarray, labels: np.ndarray, classes: Sequence[str],
         base: np.ndarray) -> dict:
    """A row of the ladder: `stats.quality` of a file's stored outputs on validation, with the rung's name, technique and
    signal-to-noise ratio; `base` is float32's outputs (n, classes)."""
    detail = make_interpreter(model).get_output_details()[0]
    return {"rung": name, "technique": technique, **stats.quality(outputs, labels, classes, base),
            "snr": compare(dequantized(outputs, detail), base)["snr"]}
