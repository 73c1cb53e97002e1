"""Bias correction: give each channel of an int8 file the mean that it has in float.

Rounded weights and activations shift the mean of a channel over images, and that shift is most of what costs accuracy in
small depthwise networks (Nagel et al., arXiv 1906.04721, section 4.2). Statistics come from calibration images, and each
layer's are taken with all earlier layers corrected, which NNCF calls accurate. The int32 biases are written in place.
"""

from __future__ import annotations

import os
import queue
import struct
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgeq_lib import flatbuffer
from edgeq_lib.compress.constants import open_constants, scales
from edgeq_lib.compress.ptq import KERNEL_OPS
from edgeq_lib.compress.windows import Window, mean_patch, window
from edgeq_lib.litert import dequantized, make_interpreter, quantized
from edgeq_lib.progress import progress

_CHUNK = 8


def pool_of(executor: Executor | None) -> AbstractContextManager[Executor]:
    """The caller's executor, left open, or threads of our own."""
    return nullcontext(executor) if executor else ThreadPoolExecutor(os.cpu_count())


def sum_over_images(models: Sequence[bytes], images: np.ndarray, measure: Callable[..., Any], pool: Executor,
                    keep_tensors: bool) -> Any:
    """The sum of `measure(*interpreters)` after each image; the order of summation is that of a loop."""
    idle: queue.SimpleQueue = queue.SimpleQueue()
    for _ in range(os.cpu_count() or 1):
        idle.put([make_interpreter(model, keep_tensors=keep_tensors) for model in models])

    def work(start: int) -> Any:
        interpreters, total = idle.get(), 0
        try:
            for image in images[start:start + _CHUNK]:
                for interpreter in interpreters:
                    detail = interpreter.get_input_details()[0]
                    interpreter.set_tensor(detail["index"], quantized(image[None], detail))
                    interpreter.invoke()
                total = total + measure(*interpreters)
            return total
        finally:
            idle.put(interpreters)

    return sum(pool.map(work, range(0, len(images), _CHUNK)))


def correct_biases(float_model: bytes, model: bytes, images: np.ndarray, executor: Executor | None = None) -> bytes:
    """`model` (int8, made from `float_model`) with the biases that give each channel the mean it has in float.

    Rounded weights and activations shift the mean of a channel over images; the shift is measured where the op adds its
    bias, before any activation, with all earlier layers corrected, and taken off the int32 bias in place. What adds the
    bias is linear, so the mean of its output is that of the mean image. `images`: preprocessed float32 (n, H, W, C).
    """
    mended = bytearray(model)
    graphs, constants = [flatbuffer.read(each) for each in (float_model, model)], open_constants(mended)
    exact, steps = open_constants(bytearray(float_model)), scales(model)
    theirs = {graphs[0].tensors[op.outputs[0]].name: (number, op) for number, op in enumerate(graphs[0].ops)}
    jobs = [(*theirs[graphs[1].tensors[op.outputs[0]].name], number, op) for number, op in enumerate(graphs[1].ops)
            if op.name in KERNEL_OPS and len(op.inputs) > 2 and op.inputs[2] in constants
            and constants[op.inputs[2]].dtype == np.int32 and graphs[1].tensors[op.outputs[0]].name in theirs]
    with pool_of(executor) as pool:
        means = _mean_tensors(float_model, [reference.inputs[0] for _, reference, *_ in jobs], images, pool)
        for place, reference, ops, op in progress(jobs, "bias correction"):
            seen = window(float_model, place, exact[reference.inputs[1]].shape)
            mean = _mean_output_of(cut(mended, ops, op.inputs[0]), images, pool)
            wanted = mean_output(reference.name, exact[reference.inputs[1]], seen, means[reference.inputs[0]]) \
                + exact[reference.inputs[2]]
            kernel = _dequantized_kernel(op.name, constants[op.inputs[1]], steps[op.inputs[1]][0])
            bias, step = constants[op.inputs[2]], steps[op.inputs[2]][0]
            shift = wanted - mean_output(op.name, kernel, seen, mean) - bias * step.astype(np.float64)
            bias[:] = np.clip(np.rint(bias + shift / step), -2 ** 31, 2 ** 31 - 1)
    return bytes(mended)


def _mean_tensors(float_model: bytes, indices: Sequence[int], images: np.ndarray, pool: Executor) -> dict[int, np.ndarray]:
    """Tensor index → its mean over images, float64, batch axis dropped."""
    indices = list(dict.fromkeys(indices))

    def measure(interpreter: Any) -> np.ndarray:
        values = np.empty(len(indices), object)
        values[:] = [interpreter.get_tensor(index)[0].astype(np.float64) for index in indices]
        return values

    total = sum_over_images([float_model], images, measure, pool, keep_tensors=True)
    return dict(zip(indices, total / len(images), strict=True))


def _mean_output_of(model: bytes, images: np.ndarray, pool: Executor) -> np.ndarray:
    """The mean over images of a file's output, float64, batch axis dropped."""
    def measure(interpreter: Any) -> np.ndarray:
        (detail,) = interpreter.get_output_details()
        return dequantized(interpreter.get_tensor(detail["index"])[0], detail).astype(np.float64)

    return sum_over_images([model], images, measure, pool, keep_tensors=False) / len(images)


def cut(model: bytearray, ops: int, output: int) -> bytes:
    """The file reduced to its first ops, with this tensor as output: the slots of a subgraph's outputs and operators are
    8 and 10 in the schema of TensorFlow Lite, and a vector's length stands before it."""
    content = bytearray(model)
    table = schema.Model.GetRootAs(content).Subgraphs(0)._tab
    outputs, operators = (table.Vector(table.Offset(slot)) for slot in (8, 10))
    struct.pack_into("<i", content, outputs, output)
    struct.pack_into("<I", content, operators - 4, ops)
    return bytes(content)


def _dequantized_kernel(op: str, kernel: np.ndarray, step: np.ndarray) -> np.ndarray:
    shape = (-1, *(1,) * (kernel.ndim - 1)) if op != "DEPTHWISE_CONV_2D" and step.size > 1 else (-1,)
    return kernel.astype(np.float64) * step.reshape(shape)


def mean_output(op: str, kernel: np.ndarray, place: Window, mean: np.ndarray) -> np.ndarray:
    """Mean over positions, (channels,), of what an op computes from an image (H, W, C) before it adds its bias."""
    if place is None:
        return kernel @ mean.reshape(-1, kernel.shape[1]).mean(axis=0)
    patch = mean_patch(mean, **place)
    if op == "DEPTHWISE_CONV_2D":
        return (kernel[0] * np.repeat(patch, kernel.shape[-1] // patch.shape[-1], axis=-1)).sum(axis=(0, 1))
    return np.einsum("ohwc,hwc->o", kernel, patch) if patch.shape[-1] == kernel.shape[-1] else _grouped(kernel, patch)


def _grouped(kernel: np.ndarray, patch: np.ndarray) -> np.ndarray:
    groups = patch.shape[-1] // kernel.shape[-1]
    parts = zip(np.split(kernel, groups), np.split(patch, groups, axis=-1), strict=True)
    return np.concatenate([np.einsum("ohwc,hwc->o", *part) for part in parts])
