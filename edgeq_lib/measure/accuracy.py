"""Predictions of a flatbuffer, in parallel, kept so that nothing is inferred twice; and what they are worth."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

import numpy as np

from edgeq_lib.measure import sandbox
from edgeq_lib.measure.statistics import quality_record
from edgeq_lib.progress import progress
from edgeq_lib.study import Study, Variant
from edgeq_lib.tflite.runtime import dequantize_array, make_interpreter, run_images

Preprocess = Callable[[np.ndarray], np.ndarray]
CHUNK = 64


def predict_file(
    model: bytes,
    images: np.ndarray,
    preprocess: Preprocess,
    label: str = "predictions",
    executor: Executor | None = None,
    workers: int | None = None,
    xnnpack: bool = True,
) -> np.ndarray:
    """Outputs (n, classes), in the file's own output type, of a flatbuffer on uint8 images (n, H, W, C).

    One interpreter with one thread a worker: the runtime gives up Python's lock while it computes, so threads scale,
    and a file of batch one gains nothing from a larger batch. Order and values are those of a plain loop.
    """
    workers = workers or os.cpu_count() or 1
    idle = [make_interpreter(model, xnnpack=xnnpack) for _ in range(workers)]

    def work(start: int) -> np.ndarray:
        interpreter = idle.pop()
        try:
            return run_images(interpreter, preprocess(np.asarray(images[start : start + CHUNK])))
        finally:
            idle.append(interpreter)

    starts = range(0, len(images), CHUNK)
    pool = executor or ThreadPoolExecutor(workers)
    try:
        return np.concatenate(list(progress(pool.map(work, starts), label, len(starts))))
    finally:
        if executor is None:
            pool.shutdown(cancel_futures=True)


def score(study: Study, variant: Variant, data: Any, preprocess: Preprocess) -> dict:
    """Predict validation and test with a variant (unless stored), write and return its quality record.

    Test is inferred here because the model is loaded here; notebooks that choose anything look at "validation" only.
    Drops and agreement are paired with the variant `float32` on the same images.
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
    """Whether a Keras model and its flatbuffer are the same function on uint8 images (n, H, W, C).

    A disagreement on top-1 between classes whose outputs lie within one step of the file's output scale is rounding, not
    an error of conversion, and is counted apart. Differences are in units of the output.

    How often the file disagrees with itself is counted too, where it has integers: LiteRT's two sets of kernels, XNNPACK
    and its own, round the same sums in other ways, and a deep network amplifies a code that fell to the other side. The
    file says nothing more precise than that, and no simulation can agree with both.
    """
    from edgeq_lib.models.training import predict_keras

    detail = make_interpreter(model).get_output_details()[0]
    step = float(detail["quantization"][0])
    ours = dequantize_array(predict_file(model, images, preprocess, "parity"), detail)
    theirs = predict_keras(keras_model, images, preprocess)
    found = {
        "images": len(images),
        **_apart(ours, theirs, step),
        "largest difference": float(np.abs(ours - theirs).max()),
        "output step": step,
    }
    if step:
        other = dequantize_array(
            predict_file(model, images, preprocess, "other kernels", xnnpack=False), detail
        )
        found |= {
            f"between kernels: {name}": value for name, value in _apart(ours, other, step).items()
        }
    return found


def _apart(ours: np.ndarray, theirs: np.ndarray, step: float) -> dict[str, float]:
    differ = np.flatnonzero(ours.argmax(-1) != theirs.argmax(-1))
    gap = np.abs(ours[differ, ours[differ].argmax(-1)] - ours[differ, theirs[differ].argmax(-1)])
    return {
        "top-1 agreement %": 100 * (1 - len(differ) / len(ours)),
        "disagreements": len(differ),
        "within one step": int((gap <= step * 1.001).sum()) if step else 0,
    }
