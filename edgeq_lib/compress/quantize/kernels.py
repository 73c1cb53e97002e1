"""The kernels of a float flatbuffer: weights of convolutions and dense layers."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from edgeq_lib.tflite.buffers import writable_buffers
from edgeq_lib.tflite.reader import read_graph


class Kernel(NamedTuple):
    """The weights of one op of a float flatbuffer."""

    name: str  # of the op's output
    kind: str  # of the op
    number: int  # of the op in the graph
    source: int  # the tensor that it reads
    index: int  # type: ignore[assignment]  # of a tuple's method; the tensor of its weights
    weights: np.ndarray  # float64 (weights, channels), a copy; the channels are those of the output
    bias: np.ndarray  # float64 (channels,)


def float_kernels(model: bytes) -> list[Kernel]:
    """List the kernels of a float flatbuffer, in the order of the graph.

    Weights that several ops read, such as the converter makes where it computes a layer with and
    without its bias, are one kernel under the name of the first op, with the larger of the biases.
    """
    graph, constants = read_graph(model), writable_buffers(bytearray(model))
    kernels: dict[int, Kernel] = {}
    for number, op in enumerate(graph.ops):
        if op.name in KERNEL_OPS and op.inputs[1] in constants:
            weights = by_channel(op.name, constants[op.inputs[1]]).astype(np.float64)
            bias = constants.get(op.inputs[2]) if len(op.inputs) > 2 else None
            bias = np.zeros(weights.shape[1]) if bias is None else bias.astype(np.float64)
            first = kernels.setdefault(
                op.inputs[1],
                Kernel(
                    graph.tensors[op.outputs[0]].name,
                    op.name,
                    number,
                    op.inputs[0],
                    op.inputs[1],
                    weights,
                    bias,
                ),
            )
            larger = np.where(np.abs(first.bias) >= np.abs(bias), first.bias, bias)
            kernels[op.inputs[1]] = first._replace(bias=larger)
    return list(kernels.values())


def is_kernel_of(kernel: Kernel, weights: np.ndarray) -> bool:
    """Tell by its values whether a kernel is a Keras layer's: names are not reliable."""
    return kernel.weights.size == weights.size and nearly_equal(
        kernel.weights, weights.reshape(kernel.weights.shape)
    )


def nearly_equal(one: np.ndarray, other: np.ndarray) -> bool:
    """Tell whether two arrays are the same but for a converter's rounding."""
    return np.allclose(one, other, rtol=1e-3, atol=1e-4 * np.abs(other).max(initial=1e-30))


KERNEL_OPS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


def by_channel(op: str, kernel: np.ndarray) -> np.ndarray:
    """View a flatbuffer's kernel as (weights, channels).

    Args:
        op: The kind of op: a depthwise kernel has its channels last, others first.
        kernel: The kernel as it is stored.
    """
    return (
        kernel.reshape(-1, kernel.shape[-1])
        if op == "DEPTHWISE_CONV_2D"
        else kernel.reshape(len(kernel), -1).T
    )
