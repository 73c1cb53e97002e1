"""Bias correction: give each channel of an int8 file the mean that it has in float.

Rounded weights and activations shift the mean of a channel over images, and that shift is most of
what costs accuracy in small depthwise networks (Nagel et al., arXiv 1906.04721, section 4.2).

1. Take the mean input of each layer over calibration images, in float.
2. In the order of the graph, take the mean input of the int8 layer, all earlier ones corrected
   (which NNCF calls accurate).
3. The op is linear before its activation, so its mean output is that of its mean input. Take the
   difference off the int32 bias, in place.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from typing import NamedTuple

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from edgeq_lib.compress.quantize.kernels import KERNEL_OPS
from edgeq_lib.compress.quantize.sensitivity import most_faithful
from edgeq_lib.progress import progress
from edgeq_lib.tflite.buffers import scales_of, writable_buffers
from edgeq_lib.tflite.conv_geometry import Window, mean_patch, window
from edgeq_lib.tflite.pool import SUM_CHUNK, InterpreterPool, chunks, open_executor
from edgeq_lib.tflite.reader import Op, read_graph
from edgeq_lib.tflite.segments import Frontier


def correct_biases(
    float_model: bytes, model: bytes, images: np.ndarray, executor: Executor | None = None
) -> bytes:
    """Correct the biases of an int8 file.

    Args:
        float_model: The float flatbuffer.
        model: The int8 file made from it.
        images: Preprocessed float32 (n, H, W, C), unlabelled.
        executor: Runs the images; threads of its own by default.

    Returns:
        The int8 file with corrected biases: same size, same speed.
    """
    corrected = bytearray(model)
    constants, scales = writable_buffers(corrected), scales_of(model)
    exact = writable_buffers(bytearray(float_model))
    pairs, graph = _paired_ops(float_model, model, constants), read_graph(model)
    frontier = Frontier(model, images)
    with open_executor(executor) as pool:
        inputs = [reference.op.inputs[0] for reference, _ in pairs]
        means = _mean_tensors(float_model, inputs, images, pool)
        for reference, (number, op) in progress(pairs, "bias correction"):
            source, float_kernel, float_bias = reference.op.inputs[:3]
            geometry = window(float_model, reference.number, exact[float_kernel].shape)
            wanted = (
                mean_output(reference.op.name, exact[float_kernel], geometry, means[source])
                + exact[float_bias]
            )
            mean_input = _mean_input(
                frontier, corrected, number, op.inputs[0], scales[op.inputs[0]], pool
            )
            kernel = _dequantized_kernel(op.name, constants[op.inputs[1]], scales[op.inputs[1]][0])
            bias, scale = constants[op.inputs[2]], scales[op.inputs[2]][0]
            shift = (
                wanted
                - mean_output(op.name, kernel, geometry, mean_input)
                - bias * scale.astype(np.float64)
            )
            bias[:] = np.clip(np.rint(bias + shift / scale), -(2**31), 2**31 - 1)
            if any(
                np.shares_memory(constants[index], bias)
                for earlier in graph.ops[:number]
                for index in earlier.inputs
                if index in constants
            ):
                frontier.restart()  # it changed what earlier ops compute, too
    return bytes(corrected)


class _NumberedOp(NamedTuple):
    number: int  # in the graph
    op: Op


def _paired_ops(
    float_model: bytes, model: bytes, constants: Mapping[int, np.ndarray]
) -> list[tuple[_NumberedOp, _NumberedOp]]:
    """The float op, and the op of the same output with an int32 bias, in the order of the graph."""
    float_graph, graph = read_graph(float_model), read_graph(model)
    references = {
        float_graph.tensors[op.outputs[0]].name: _NumberedOp(number, op)
        for number, op in enumerate(float_graph.ops)
    }
    return [
        (references[name], _NumberedOp(number, op))
        for number, op in enumerate(graph.ops)
        if op.name in KERNEL_OPS
        and len(op.inputs) > 2
        and op.inputs[2] in constants
        and constants[op.inputs[2]].dtype == np.int32
        and (name := graph.tensors[op.outputs[0]].name) in references
    ]


def _mean_tensors(
    float_model: bytes, indices: Sequence[int], images: np.ndarray, executor: Executor
) -> dict[int, np.ndarray]:
    """Tensor index → its mean over images, float64, batch axis dropped."""
    indices = list(dict.fromkeys(indices))
    pool = InterpreterPool([float_model], keep_tensors=True)
    shapes = [read_graph(float_model).tensors[index].shape[1:] for index in indices]

    def work(interpreters: list[Interpreter], part: slice) -> list[np.ndarray]:
        (interpreter,) = interpreters
        totals = [np.zeros(shape) for shape in shapes]
        (detail,) = interpreter.get_input_details()
        for image in images[part]:
            interpreter.set_tensor(detail["index"], image[None])
            interpreter.invoke()
            for index, total in zip(indices, totals, strict=True):
                total += interpreter.get_tensor(index)[
                    0
                ]  # in place: new arrays cost more than sums
        return totals

    totals = [np.zeros(shape) for shape in shapes]
    for parts in pool.map(work, chunks(len(images), SUM_CHUNK), executor):
        for total, part in zip(totals, parts, strict=True):
            total += part
    return {index: total / len(images) for index, total in zip(indices, totals, strict=True)}


def _mean_input(
    frontier: Frontier,
    model: bytearray,
    number: int,
    tensor: int,
    quantization: tuple[np.ndarray, np.ndarray],
    executor: Executor,
) -> np.ndarray:
    """The mean over images of a tensor that an op reads, float64, batch axis dropped."""
    scale, zero = (np.float32(values[0]) for values in quantization)
    with frontier.segment(model, number, tensor) as read:

        def work(part: slice) -> np.ndarray:
            values = read(part)
            total, dequantized = np.zeros(values.shape[1:]), np.empty(values.shape[1:], np.float32)
            for image in values:  # as `runtime.dequantize_array`, without new arrays
                np.copyto(dequantized, image)
                dequantized -= zero
                dequantized *= scale
                total += dequantized
            return total

        parts = executor.map(work, chunks(frontier.images, SUM_CHUNK))
        return functools.reduce(np.add, parts) / frontier.images


def _dequantized_kernel(op: str, kernel: np.ndarray, scales: np.ndarray) -> np.ndarray:
    channels_first = op != "DEPTHWISE_CONV_2D" and scales.size > 1
    shape = (-1, *(1,) * (kernel.ndim - 1)) if channels_first else (-1,)
    return kernel.astype(np.float64) * scales.reshape(shape)


def mean_output(op: str, kernel: np.ndarray, geometry: Window, mean: np.ndarray) -> np.ndarray:
    """Compute an op's mean output over positions, before its bias.

    Args:
        op: The kind of op.
        kernel: As stored in the flatbuffer, float.
        geometry: How it moves over the image (`conv_geometry.window`); None for dense layers.
        mean: The mean input (H, W, C).

    Returns:
        (channels,).
    """
    if geometry is None:
        return kernel @ mean.reshape(-1, kernel.shape[1]).mean(axis=0)
    patch = mean_patch(mean, **geometry)
    if op == "DEPTHWISE_CONV_2D":
        return (kernel[0] * np.repeat(patch, kernel.shape[-1] // patch.shape[-1], axis=-1)).sum(
            axis=(0, 1)
        )
    return (
        np.einsum("ohwc,hwc->o", kernel, patch)
        if patch.shape[-1] == kernel.shape[-1]
        else _grouped(kernel, patch)
    )


def _grouped(kernel: np.ndarray, patch: np.ndarray) -> np.ndarray:
    groups = patch.shape[-1] // kernel.shape[-1]
    parts = zip(np.split(kernel, groups), np.split(patch, groups, axis=-1), strict=True)
    return np.concatenate([np.einsum("ohwc,hwc->o", *part) for part in parts])


Figures = dict[str, float]


def correct_if_better(
    model: bytes, file: bytes, images: np.ndarray, compare: Callable[[bytes], Figures]
) -> tuple[bytes, Figures]:
    """Correct the biases of a file where that brings it nearer to float32.

    Args:
        model: The float flatbuffer.
        file: The file made from it.
        images: Preprocessed float32 (n, H, W, C).
        compare: File → agreement (%) and snr (dB).

    Returns:
        The better file and its figures; their field `corrected` says which it is.
    """
    files = {"plain": file, "corrected": correct_biases(model, file, images)}
    figures = {name: compare(content) for name, content in files.items()}
    best = most_faithful(figures)
    return files[best], {**figures[best], "corrected": best == "corrected"}
