"""Predictions of a flatbuffer, in parallel and stored, their quality, and parity with Keras."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from edgeq_lib.measure import sandbox
from edgeq_lib.measure.statistics import quality_record
from edgeq_lib.progress import progress
from edgeq_lib.study import Study, Variant
from edgeq_lib.tflite.output_kind import class_scores
from edgeq_lib.tflite.pool import InterpreterPool, chunks, open_executor
from edgeq_lib.tflite.runtime import dequantize_array, make_interpreter, run_images

Preprocess = Callable[[np.ndarray], np.ndarray]  # uint8 images → float32 images, (n, H, W, C)
CHUNK = 64  # images that are preprocessed at a time, so that few are in memory as floats


def predict_file(
    model: bytes,
    images: np.ndarray,
    preprocess: Preprocess,
    label: str = "predictions",
    executor: Executor | None = None,
    workers: int | None = None,
    xnnpack: bool = True,
) -> np.ndarray:
    """Run a flatbuffer on images, shared out among threads (see `tflite.pool`).

    Args:
        model: Content of a `.tflite` file.
        images: uint8 (n, H, W, C); what NumPy makes an array of when it is sliced will do.
        preprocess: Makes of uint8 images what the network was trained on, float32.
        label: What the progress bar says.
        executor: Runs the images; threads of our own by default.
        workers: Number of interpreters, each with one thread; one per processor by default.
        xnnpack: Compute with XNNPACK, else with LiteRT's own kernels.

    Returns:
        Outputs (n, classes), in the file's own output type; order and values are those of a plain
        loop. A single output becomes two columns, see `tflite.output_kind`.

    Raises:
        EdgeqError: LiteRT refuses the file.
    """
    pool = InterpreterPool([model], workers, xnnpack=xnnpack)

    def work(interpreters: list[Interpreter], part: slice) -> np.ndarray:
        return run_images(interpreters[0], preprocess(np.asarray(images[part])))

    parts = chunks(len(images), CHUNK)
    with open_executor(executor, pool.workers) as threads:
        outputs = pool.map(work, parts, threads)
        answers = np.concatenate(list(progress(outputs, label, len(parts))))
    with pool.lend() as (interpreter,):
        return class_scores(model, answers, interpreter.get_output_details()[0])


def score(study: Study, variant: Variant, data: Any, preprocess: Preprocess) -> dict:
    """Predict validation and test with a variant, unless stored, and write its quality record.

    Test is inferred here because the model is loaded here; notebooks that choose anything look at
    "validation" only.

    Args:
        study: The study, whose variant `float32` the drops and the agreement are paired with, on
            the same images.
        variant: What to score. Its predictions are stored beside it.
        data: The study's data (`data.dataset.Data`): validation, test and classes are used.
        preprocess: Makes of uint8 images what the network was trained on, float32.

    Returns:
        {"validation": record, "test": record}, as `statistics.quality_record` makes them.

    Raises:
        EdgeqError: The file is damaged, or LiteRT refuses it or crashes on it.
    """
    splits = {"validation": data.validation, "test": data.test}
    outputs = variant.arrays()
    if any(len(outputs.get(name, ())) != len(labels) for name, (_, labels) in splits.items()):
        model = variant.model()
        sandbox.check_loads(variant.path)  # a garbled file may bring its process down: not this one
        outputs = {
            name: predict_file(model, images, preprocess, f"{variant.name}: {name}")
            for name, (images, _) in splits.items()
        }
        variant.write_arrays(**outputs)
    base = outputs if variant.name == "float32" else study.variant("float32").arrays()
    quality = {
        name: quality_record(
            outputs[name], labels, data.classes, None if base is outputs else base[name]
        )
        for name, (_, labels) in splits.items()
    }
    variant.write("quality", quality)
    return quality


def check_parity(
    keras_model: Any, model: bytes, images: np.ndarray, preprocess: Preprocess
) -> dict[str, float]:
    """Check whether a Keras model and its flatbuffer are the same function.

    A disagreement on top-1 between classes whose outputs lie within one scale of the file's output
    is rounding, not an error of conversion, and is counted apart.

    How often the file disagrees with itself is counted too, where it has integers: LiteRT's two
    sets of kernels, XNNPACK and its own, round the same sums in other ways, and a deep network
    amplifies a code that fell to the other side. The file says nothing more precise than that, and
    no simulation can agree with both.

    Args:
        keras_model: The Keras model.
        model: The flatbuffer made of it.
        images: uint8 (n, H, W, C).
        preprocess: Makes of uint8 images what the network was trained on, float32.

    Returns:
        images (their number), "top-1 agreement %", disagreements, "within one step" (of these, the
        ones that are rounding), "largest difference" and "output step" (the output's scale; both in
        units of the output). For a file with integers the first three comparisons again, between
        the two sets of kernels ("between kernels: …").
    """
    from edgeq_lib.models.training import predict_keras

    detail = make_interpreter(model).get_output_details()[0]
    scale = float(detail["quantization"][0])
    ours = dequantize_array(predict_file(model, images, preprocess, "parity"), detail)
    theirs = predict_keras(keras_model, images, preprocess)
    parity = {
        "images": len(images),
        **_disagreement(ours, theirs, scale),
        "largest difference": float(np.abs(ours - theirs).max()),
        "output step": scale,
    }
    if scale:
        codes = predict_file(model, images, preprocess, "other kernels", xnnpack=False)
        between = _disagreement(ours, dequantize_array(codes, detail), scale)
        parity |= {f"between kernels: {name}": value for name, value in between.items()}
    return parity


def _disagreement(ours: np.ndarray, theirs: np.ndarray, scale: float) -> dict[str, float]:
    """How often two outputs (n, classes) name different classes, and how often by rounding only."""
    differ = np.flatnonzero(ours.argmax(-1) != theirs.argmax(-1))
    gap = np.abs(ours[differ, ours[differ].argmax(-1)] - ours[differ, theirs[differ].argmax(-1)])
    return {
        "top-1 agreement %": 100 * (1 - len(differ) / len(ours)),
        "disagreements": len(differ),
        "within one step": int((gap <= scale * 1.001).sum()) if scale else 0,
    }
