"""What a `.tflite` file is, read from the file itself: operations, bit widths, MACs, planned memory, size."""

from __future__ import annotations

import gzip
from collections import Counter
from math import prod

from edgeq_lib.tflite.arena import plan_arena, tensor_lifetimes
from edgeq_lib.tflite.reader import ASTRAY, BITS, KERNELS, Graph, Op, Tensor, garbled, read_graph


def check_flatbuffer(model: bytes) -> None:
    """Raise EdgeqError for an empty, truncated or garbled flatbuffer, or a file that is none.

    Pure Python: a flipped bit in a weight or an option goes unseen; what LiteRT makes of that, `check_loads` tries.
    """
    inspect_file(model)


def _macs(op: Op, tensors: list[Tensor]) -> int:
    """Multiply–accumulates of an op with a kernel; 0 for any other op."""
    if op.name not in KERNELS:
        return 0
    kernel, out = tensors[op.inputs[KERNELS[op.name]]].shape, tensors[op.outputs[0]].elements
    return {
        "CONV_2D": lambda: out * prod(kernel[1:]),
        "DEPTHWISE_CONV_2D": lambda: out * prod(kernel[1:3]),
        "FULLY_CONNECTED": lambda: out * kernel[-1],
        "TRANSPOSE_CONV": lambda: tensors[op.inputs[2]].elements * prod(kernel[:3]),
    }[op.name]()


def inspect_file(model: bytes) -> dict:
    """What the file says about itself; raises EdgeqError when it is broken.

    ops: {op: count}. float_ops: ops that touch a float tensor, QUANTIZE and DEQUANTIZE at the doors included.
    integer_only: no float tensor anywhere, inputs and outputs included. compute: where most MACs are done: "float32"
    (weights unpacked by an explicit DEQUANTIZE included), "hybrid" (integer kernel, float activations: dynamic
    range) or "integer". weight_bits: mean per element over the kernels of `KERNELS`, as stored (biases apart, which
    are few and 32 bits wide); weight_bits_share: their shares by width; weights: how many elements. activation_bits:
    mean per element over all tensors computed at run time, unpacked weights apart. per_channel: a kernel has more
    than one scale. macs: multiply–accumulates of those ops. arena_bytes: all tensors computed at run time by
    `plan`, as TensorFlow Lite Micro lays them out; kernels' scratch space is not in it.
    """
    try:
        return _report(read_graph(model))
    except ASTRAY as error:  # operators without the operands that they need
        raise garbled(model, error) from None


def _report(graph: Graph) -> dict:
    tensors = graph.tensors
    unpacked = {
        op.outputs[0]: op.inputs[0]
        for op in graph.ops
        if op.name == "DEQUANTIZE" and tensors[op.inputs[0]].constant
    }
    kernels: set[int] = set()
    work: Counter[str] = Counter()
    for op in graph.ops:
        if op.name in KERNELS:
            kernel = op.inputs[KERNELS[op.name]]
            kernels.add(unpacked.get(kernel, kernel))
            data = tensors[op.inputs[2 if op.name == "TRANSPOSE_CONV" else 0]]
            kind = (
                "integer"
                if not data.is_float
                else "float32"
                if tensors[kernel].is_float
                else "hybrid"
            )
            work[kind] += _macs(op, tensors)
    kernels = {index for index in kernels if tensors[index].constant}
    widths: Counter[int] = Counter()
    for index in kernels:
        widths[BITS[tensors[index].dtype]] += tensors[index].elements
    lives = tensor_lifetimes(graph)
    activations = [tensors[index] for index in lives if index not in unpacked]
    float_ops = sorted(
        {
            op.name
            for op in graph.ops
            if any(tensors[index].is_float for index in (*op.inputs, *op.outputs) if index >= 0)
        }
    )
    doors = [tensors[index] for index in (*graph.inputs, *graph.outputs)]
    integer_only = not float_ops and not any(tensor.is_float for tensor in doors)
    weights = sum(widths.values())
    return {
        "ops": dict(sorted(Counter(op.name for op in graph.ops).items())),
        "float_ops": float_ops,
        "integer_only": integer_only,
        "compute": work.most_common(1)[0][0] if work else "integer" if integer_only else "float32",
        "input_dtype": tensors[graph.inputs[0]].dtype.lower(),
        "output_dtype": tensors[graph.outputs[0]].dtype.lower(),
        "weight_bits": sum(bits * count for bits, count in widths.items()) / weights
        if weights
        else None,
        "weight_bits_share": {
            str(bits): widths[bits] / weights for bits in sorted(widths, reverse=True)
        },
        "activation_bits": sum(tensor.elements * BITS[tensor.dtype] for tensor in activations)
        / max(sum(tensor.elements for tensor in activations), 1),
        "per_channel": any(tensors[index].scales > 1 for index in kernels),
        "arena_bytes": plan_arena([tensors[index].bytes for index in lives], list(lives.values()))[
            1
        ],
        "macs": sum(work.values()),
        "weights": weights,
    }


def sizes(model: bytes) -> dict[str, int]:
    """bytes of the file, and gzip_bytes as a package would ship it (level 9, no time stamp, so always the same)."""
    return {"bytes": len(model), "gzip_bytes": len(gzip.compress(model, 9, mtime=0))}
