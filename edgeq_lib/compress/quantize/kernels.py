"""The kernels of a float flatbuffer: weights of convolutions and dense layers."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from edgeq_lib.tflite.buffers import writable_buffers
from edgeq_lib.tflite.reader import Op, read_graph


class Operands(NamedTuple):
    """Which operands of an op hold what it reads, its kernel and its bias."""

    source: int
    kernel: int
    bias: int


_OPERANDS = {
    "CONV_2D": Operands(0, 1, 2),
    "DEPTHWISE_CONV_2D": Operands(0, 1, 2),
    "FULLY_CONNECTED": Operands(0, 1, 2),
    "TRANSPOSE_CONV": Operands(2, 1, 3),
}
KERNEL_OPS = tuple(_OPERANDS)


class Use(NamedTuple):
    """An op that computes with a kernel; several may, where a layer is called several times."""

    name: str  # of the op's output
    number: int  # of the op in the graph
    source: int  # the tensor that it reads
    index: int  # type: ignore[assignment]  # of a tuple's method; the tensor of its weights
    bias: np.ndarray  # float64 (channels,)


class Kernel(NamedTuple):
    """The weights of one op of a float flatbuffer, or of several that share them."""

    name: str  # of the first op's output
    kind: str  # of the op
    number: int  # of the first op in the graph
    source: int  # the tensor that it reads
    index: int  # type: ignore[assignment]  # of a tuple's method; the tensor of its weights
    weights: np.ndarray  # float64 (weights, channels), a copy; the channels are those of the output
    bias: np.ndarray  # float64 (channels,), the larger where several ops have their own
    uses: tuple[Use, ...]  # all ops that compute with it, in the order of the graph
    width: int  # channels that one output channel reads: of a grouped convolution those of a group


def operands(op: Op) -> tuple[int, int, int]:
    """Find the tensors that an op with a kernel reads.

    Args:
        op: An op of a kind of `KERNEL_OPS`.

    Returns:
        Indices of what it reads, of its kernel and of its bias; -1 where it has no bias.
    """
    places = _OPERANDS[op.name]
    bias = op.inputs[places.bias] if len(op.inputs) > places.bias else -1
    return op.inputs[places.source], op.inputs[places.kernel], bias


def float_kernels(model: bytes) -> list[Kernel]:
    """List the kernels of a float flatbuffer, in the order of the graph.

    Weights that several ops read are one kernel under the name of the first op, with the larger of
    the biases: those of a layer that is called several times, those that the converter makes where
    it computes a layer with and without its bias, and those of equal layers, which it stores once.
    """
    graph, constants = read_graph(model), writable_buffers(bytearray(model))
    kernels: dict[tuple[str, int], Kernel] = {}
    for number, op in enumerate(graph.ops):
        if op.name not in KERNEL_OPS:
            continue
        source, index, bias_index = operands(op)
        if index not in constants or constants[index].dtype != np.float32:
            continue
        weights = by_channel(op.name, constants[index]).astype(np.float64)
        bias = constants.get(bias_index)
        bias = np.zeros(weights.shape[1]) if bias is None else bias.astype(np.float64)
        name = graph.tensors[op.outputs[0]].name
        key = op.name, constants[index].ctypes.data
        first = kernels.get(key) or Kernel(
            name, op.name, number, source, index, weights, bias, (), constants[index].shape[-1]
        )
        kernels[key] = first._replace(
            bias=np.where(np.abs(first.bias) >= np.abs(bias), first.bias, bias),
            uses=(*first.uses, Use(name, number, source, index, bias)),
        )
    return list(kernels.values())


def is_kernel_of(kernel: Kernel, weights: np.ndarray) -> bool:
    """Tell by its values whether a kernel is a Keras layer's: names are not reliable.

    Args:
        kernel: The kernel.
        weights: As Keras holds them; of a transposed convolution (h, w, out, in).
    """
    if kernel.weights.size != weights.size:
        return False
    if kernel.kind == "TRANSPOSE_CONV":
        weights = weights.swapaxes(2, 3) if weights.ndim == 4 else weights
    return nearly_equal(kernel.weights, weights.reshape(kernel.weights.shape))


def nearly_equal(one: np.ndarray, other: np.ndarray) -> bool:
    """Tell whether two arrays are the same but for a converter's rounding."""
    return np.allclose(one, other, rtol=1e-3, atol=1e-4 * np.abs(other).max(initial=1e-30))


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
