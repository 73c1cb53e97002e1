"""What a `.tflite` file is, read from itself: ops, bit widths, MACs, planned memory, size."""

from __future__ import annotations

import gzip
from collections import Counter
from math import prod
from typing import NamedTuple

from edgeq_lib.tflite.arena import plan_arena, tensor_lifetimes
from edgeq_lib.tflite.reader import ASTRAY, BITS, KERNELS, Graph, Op, Tensor, garbled, read_graph

_ACTIVATIONS = (
    "ABS",
    "ELU",
    "EXP",
    "GELU",
    "LEAKY_RELU",
    "LOG",
    "PRELU",
    "RELU_0_TO_1",
    "RELU_N1_TO_1",
    "SIGN",
)


def check_flatbuffer(model: bytes) -> None:
    """Check that a file is a sound flatbuffer, in pure Python.

    A flipped bit in a weight or an option goes unseen; what LiteRT makes of that,
    `sandbox.check_loads` tries.

    Args:
        model: Content of a `.tflite` file.

    Raises:
        EdgeqError: The file is empty, truncated or garbled, or no flatbuffer.
    """
    inspect_file(model)


def inspect_file(model: bytes) -> dict:
    """Report what a file says about itself.

    Args:
        model: Content of a `.tflite` file.

    Returns:
        The report, with these keys:

        * ops: {op: count}.
        * float_ops: Names of ops that touch a float tensor, QUANTIZE and DEQUANTIZE at the graph
          inputs and outputs included.
        * left_in_float: The ops of an int8 file that compute in float, a record each (`float_ops`).
        * integer_only: No float tensor anywhere, graph inputs and outputs included.
        * compute: Where most MACs are done: "float32" (weights unpacked by an explicit DEQUANTIZE
          included), "hybrid" (integer kernel, float activations: dynamic range) or "integer".
        * input_dtype, output_dtype: Of the first graph input and output, in lower case.
        * weight_bits: Mean per element over the kernels of `KERNELS`, as stored (biases apart,
          which are few and 32 bits wide); None without kernels.
        * weight_bits_share: {width: share of the elements, 0 to 1}, the widest first.
        * activation_bits: Mean per element over all tensors computed at run time, unpacked weights
          apart.
        * per_channel: A kernel has more than one scale.
        * arena_bytes: All tensors computed at run time as `plan_arena` lays them out, which is how
          TensorFlow Lite Micro does; the kernels' scratch space is not in it.
        * macs: Multiply–accumulates of the ops of `KERNELS`.
        * weights: Number of elements of the kernels.

    Raises:
        EdgeqError: The file is broken.
    """
    try:
        return _report(read_graph(model))
    except ASTRAY as error:  # operators without the operands that they need
        raise garbled(model, error) from None


def _macs(op: Op, tensors: list[Tensor]) -> int:
    """Multiply–accumulates of an op with a kernel."""
    kernel, output = tensors[op.inputs[KERNELS[op.name]]].shape, tensors[op.outputs[0]]
    if op.name == "DEPTHWISE_CONV_2D":
        return output.elements * prod(kernel[1:3])
    if op.name == "TRANSPOSE_CONV":
        return tensors[op.inputs[2]].elements * prod(kernel[:3])
    return output.elements * (kernel[-1] if op.name == "FULLY_CONNECTED" else prod(kernel[1:]))


def _arithmetic(data: Tensor, kernel: Tensor) -> str:
    """How an op with a kernel computes: "integer", "float32" or "hybrid"."""
    if not data.is_float:
        return "integer"
    return "float32" if kernel.is_float else "hybrid"


def _work(graph: Graph, unpacked: dict[int, int]) -> tuple[set[int], Counter[str]]:
    """Indices of the constant kernels (before unpacking), and MACs by arithmetic."""
    tensors = graph.tensors
    kernels: set[int] = set()
    work: Counter[str] = Counter()
    for op in graph.ops:
        if op.name in KERNELS:
            kernel = op.inputs[KERNELS[op.name]]
            kernels.add(unpacked.get(kernel, kernel))
            data = tensors[op.inputs[2 if op.name == "TRANSPOSE_CONV" else 0]]
            work[_arithmetic(data, tensors[kernel])] += _macs(op, tensors)
    return {index for index in kernels if tensors[index].constant}, work


def _report(graph: Graph) -> dict:
    """The report of `inspect_file`."""
    tensors = graph.tensors
    unpacked = {
        op.outputs[0]: op.inputs[0]
        for op in graph.ops
        if op.name == "DEQUANTIZE" and tensors[op.inputs[0]].constant
    }
    kernels, work = _work(graph, unpacked)
    widths: Counter[int] = Counter()
    for index in kernels:
        widths[BITS[tensors[index].dtype]] += tensors[index].elements
    weights = sum(widths.values())
    lives = tensor_lifetimes(graph)
    activations = [tensors[index] for index in lives if index not in unpacked]
    float_ops = {op.name for op in graph.ops if _touches_float(op, tensors)}
    boundary = [tensors[index] for index in (*graph.inputs, *graph.outputs)]
    integer_only = not float_ops and not any(tensor.is_float for tensor in boundary)
    compute = "integer" if integer_only else "float32"  # of a file without kernels
    weight_bits = sum(bits * count for bits, count in widths.items())
    activation_bits = sum(tensor.elements * BITS[tensor.dtype] for tensor in activations)
    _, arena_bytes = plan_arena([tensors[index].bytes for index in lives], list(lives.values()))
    return {
        "ops": dict(sorted(Counter(op.name for op in graph.ops).items())),
        "float_ops": sorted(float_ops),
        "left_in_float": [
            {"op": op.op, "tensor": op.tensor, "advice": op.advice} for op in _float_ops(graph)
        ],
        "integer_only": integer_only,
        "compute": work.most_common(1)[0][0] if work else compute,
        "input_dtype": tensors[graph.inputs[0]].dtype.lower(),
        "output_dtype": tensors[graph.outputs[0]].dtype.lower(),
        "weight_bits": weight_bits / weights if weights else None,
        "weight_bits_share": {
            str(bits): widths[bits] / weights for bits in sorted(widths, reverse=True)
        },
        "activation_bits": activation_bits / max(sum(tensor.elements for tensor in activations), 1),
        "per_channel": any(tensors[index].scales > 1 for index in kernels),
        "arena_bytes": arena_bytes,
        "macs": sum(work.values()),
        "weights": weights,
    }


class FloatOp(NamedTuple):
    """An op of an int8 file that computes in float, and what to do about it."""

    op: str
    tensor: str  # its output's name
    advice: str


def float_ops(model: bytes) -> list[FloatOp]:
    """List the ops that compute in float in a file whose activations are integers elsewhere.

    Args:
        model: Content of a `.tflite` file.

    Returns:
        The ops in the order of the graph, each with what to do; QUANTIZE and DEQUANTIZE, which only
        lead there and back, are not among them. Empty for files that compute in float throughout
        (float32, float16, dynamic range, weight-only).
    """
    return _float_ops(read_graph(model))


def _float_ops(graph: Graph) -> list[FloatOp]:
    tensors = graph.tensors
    computing = [op for op in graph.ops if op.name not in ("QUANTIZE", "DEQUANTIZE")]
    is_integer = any(
        tensors[index].scales and tensors[index].dtype in ("INT8", "INT16", "UINT8")
        for op in computing
        for index in op.outputs
    )
    return [
        FloatOp(op.name, tensors[op.outputs[0]].name.split(";")[0], _advice(op.name))
        for op in computing
        if is_integer and _touches_float(op, tensors)
    ]


def _advice(op: str) -> str:
    if op in KERNELS:
        return "it was left in float32 by choice, as a layer that int8 would harm"
    if op in _ACTIVATIONS:
        return "train with relu, relu6 or hard swish in its place, which LiteRT has in int8"
    if op in ("CAST", "SELECT", "SELECT_V2", "WHERE"):
        return "write the condition before it with multiplications, minimum and maximum"
    return (
        "take its layer out of the network and do its work before or after, or write it with "
        "additions, multiplications, means and convolutions, which LiteRT has in int8"
    )


def _touches_float(op: Op, tensors: list[Tensor]) -> bool:
    return any(tensors[index].is_float for index in (*op.inputs, *op.outputs) if index >= 0)


def sizes(model: bytes) -> dict[str, int]:
    """Size of a file, as it is and as a package would ship it.

    Args:
        model: Content of a `.tflite` file.

    Returns:
        bytes, and gzip_bytes (level 9, without a time stamp, so that it is always the same).
    """
    return {"bytes": len(model), "gzip_bytes": len(gzip.compress(model, 9, mtime=0))}
