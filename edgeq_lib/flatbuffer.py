"""What a `.tflite` file holds, read from the file itself: ops, bit widths, MACs, planned memory.

Nothing here runs the model in this process, so that a garbled file cannot bring it down. Only the main subgraph is
reported; a graph with control flow keeps more in its other subgraphs.
"""

from __future__ import annotations

import struct
from collections import Counter
from math import prod
from typing import NamedTuple

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgeq_lib.study import EdgeqError

# The operand that holds the kernel, by op.
KERNELS = {"CONV_2D": 1, "DEPTHWISE_CONV_2D": 1, "FULLY_CONNECTED": 1, "TRANSPOSE_CONV": 1}
BITS = {"FLOAT64": 64, "FLOAT32": 32, "FLOAT16": 16, "BFLOAT16": 16, "FLOAT8_E4M3FN": 8, "FLOAT8_E5M2": 8,
        "INT64": 64, "UINT64": 64, "INT32": 32, "UINT32": 32, "INT16": 16, "UINT16": 16, "INT8": 8, "UINT8": 8,
        "INT4": 4, "UINT4": 4, "INT2": 2, "BOOL": 8, "COMPLEX64": 64, "COMPLEX128": 128,
        "STRING": 0, "RESOURCE": 0, "VARIANT": 0}
_ZERO_POINTS = {"INT8": (-128, 127), "UINT8": (0, 255), "INT16": (-2**15, 2**15 - 1)}
ALIGNMENT = 16  # bytes; what TensorFlow Lite Micro aligns arena tensors and the schema aligns buffers to
_TYPES = {value: name for name, value in vars(schema.TensorType).items() if name.isupper()}
_OPS = {value: name for name, value in vars(schema.BuiltinOperator).items() if name.isupper()}
# What Python's reader raises when an offset points astray; a memory error comes of an absurd length.
_ASTRAY = (struct.error, IndexError, ValueError, TypeError, OverflowError, KeyError, AttributeError, MemoryError)


class Tensor(NamedTuple):
    name: str
    shape: tuple[int, ...]
    dtype: str  # a key of BITS
    constant: bool
    scales: int  # how many quantization scales it carries; 0 = not quantized
    variable: bool

    @property
    def elements(self) -> int:
        return prod(self.shape)

    @property
    def bytes(self) -> int:
        return -(-self.elements * BITS[self.dtype] // 8)

    @property
    def is_float(self) -> bool:
        return "FLOAT" in self.dtype


class Op(NamedTuple):
    name: str
    inputs: tuple[int, ...]  # tensor indices; -1 stands for an operand left out
    outputs: tuple[int, ...]


class Graph(NamedTuple):
    tensors: list[Tensor]
    ops: list[Op]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def _vector(numbers: np.ndarray | int) -> tuple[int, ...]:
    return tuple(numbers.tolist()) if isinstance(numbers, np.ndarray) else ()  # the reader gives 0 for a missing one


def _count(length: int, model: bytes) -> range:
    if length > len(model) // 4:  # each entry takes an offset of four bytes
        raise ValueError("a vector longer than the file")
    return range(length)


def _stored(model: bytes, buffer: schema.Buffer) -> int:
    """Bytes that a buffer holds, inside the flatbuffer or, in files from litert-quantizer, behind it."""
    if buffer.Offset() > 1:
        if buffer.Offset() + buffer.Size() > len(model):
            raise ValueError("weights beyond the end of the file")
        return buffer.Size()
    data = buffer.DataAsNumpy()
    return data.size if isinstance(data, np.ndarray) else 0


def _subgraph(model: bytes, subgraph: schema.SubGraph, codes: list[str], stored: list[int]) -> Graph:
    tensors = []
    for index in _count(subgraph.TensorsLength(), model):
        table = subgraph.Tensors(index)
        quantization = table.Quantization()
        # Blockwise scales lie in a tensor of their own: many, whatever this one says.
        blockwise = quantization is not None and quantization.DetailsType() == \
            schema.QuantizationDetails.BlockwiseQuantization
        scales = quantization.ScaleLength() if quantization is not None else 0
        tensor = Tensor((table.Name() or b"").decode(errors="replace"), _vector(table.ShapeAsNumpy()),
                        _TYPES[table.Type()], stored[table.Buffer()] > 0, 2 if blockwise else scales,
                        table.IsVariable())
        if min(tensor.shape, default=0) < 0:
            raise ValueError(f"tensor '{tensor.name}' has a negative size")
        plain = BITS[tensor.dtype] and table.Sparsity() is None
        if tensor.constant and plain and stored[table.Buffer()] != tensor.bytes:
            raise ValueError(f"tensor '{tensor.name}' needs {tensor.bytes} bytes and has {stored[table.Buffer()]}")
        zeros = quantization.ZeroPointAsNumpy() if scales else 0
        if tensor.dtype in _ZERO_POINTS and isinstance(zeros, np.ndarray) and zeros.size:
            low, high = _ZERO_POINTS[tensor.dtype]
            if zeros.min() < low or zeros.max() > high:  # XNNPACK does not survive this
                raise ValueError(f"tensor '{tensor.name}' has a zero point out of range")
        tensors.append(tensor)
    ops = []
    for index in _count(subgraph.OperatorsLength(), model):
        table = subgraph.Operators(index)
        ops.append(Op(codes[table.OpcodeIndex()], _vector(table.InputsAsNumpy()), _vector(table.OutputsAsNumpy())))
    graph = Graph(tensors, ops, _vector(subgraph.InputsAsNumpy()), _vector(subgraph.OutputsAsNumpy()))
    must = [index for op in ops for index in op.outputs] + list(graph.inputs + graph.outputs)
    may = [index for op in ops for index in op.inputs]
    if not all(0 <= index < len(tensors) for index in must) or not all(-1 <= index < len(tensors) for index in may):
        raise ValueError("an operator names a tensor that is not there")
    return graph


def read(model: bytes) -> Graph:
    """The main subgraph. Raises EdgeqError when the file is no TensorFlow Lite flatbuffer, or a broken one.

    Every subgraph, tensor, operator and buffer is visited, with its offsets, indices and sizes.
    """
    if not model:
        raise EdgeqError("The .tflite file is empty; make the variant again.")
    if model[4:8] != b"TFL3":
        raise EdgeqError("The file is not a TensorFlow Lite flatbuffer (its identifier is not 'TFL3'); "
                         "give a .tflite file, or make the variant again.")
    try:
        root = schema.Model.GetRootAs(model)
        codes = []
        for index in _count(root.OperatorCodesLength(), model):
            code = root.OperatorCodes(index)
            number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
            custom = code.CustomCode()
            codes.append(custom.decode(errors="replace") if number == schema.BuiltinOperator.CUSTOM and custom
                         else _OPS[number])
        stored = [_stored(model, root.Buffers(index)) for index in _count(root.BuffersLength(), model)]
        graphs = [_subgraph(model, root.Subgraphs(index), codes, stored)
                  for index in _count(root.SubgraphsLength(), model)]
        main = graphs[0]
        if not main.inputs or not main.outputs:
            raise ValueError("a model without input or output")
    except _ASTRAY as error:
        raise _garbled(model, error) from None
    return main


def _garbled(model: bytes, error: Exception) -> EdgeqError:
    return EdgeqError(f"The .tflite file is truncated or garbled ({len(model)} bytes: {error}); make it again.")


def check(model: bytes) -> None:
    """Raise EdgeqError for an empty, truncated or garbled flatbuffer, or a file that is none.

    Pure Python: a flipped bit in a weight or an option goes unseen; what LiteRT makes of that, `check_loads` tries.
    """
    report(model)


def plan(sizes: list[int], lives: list[tuple[int, int]]) -> tuple[list[int], int]:
    """Offsets of tensors in one arena, and its size in bytes: greedy by size (Pisarchyk & Lee 2020, arXiv 2001.03288).

    `lives` holds the first and last op, both included, at which a tensor must be held. Largest first, each goes to
    the smallest gap that fits among those alive with it. Sizes are rounded up to `ALIGNMENT`.
    """
    sizes = [-(-size // ALIGNMENT) * ALIGNMENT for size in sizes]
    offsets = [0] * len(sizes)
    placed: list[int] = []
    for index in sorted(range(len(sizes)), key=lambda index: (-sizes[index], lives[index])):
        first, last = lives[index]
        end, best, gap = 0, None, None
        for other in sorted((i for i in placed if lives[i][0] <= last and first <= lives[i][1]),
                            key=lambda i: offsets[i]):
            room = offsets[other] - end
            if room >= sizes[index] and (gap is None or room < gap):
                best, gap = end, room
            end = max(end, offsets[other] + sizes[other])
        offsets[index] = end if best is None else best
        placed.append(index)
    return offsets, max((offset + size for offset, size in zip(offsets, sizes, strict=True)), default=0)


def lifetimes(graph: Graph) -> dict[int, tuple[int, int]]:
    """First and last op at which each tensor of the arena is held: inputs from the start, outputs to the end,
    variables throughout, and weights that an op unpacks at run time like any other tensor."""
    lives: dict[int, tuple[int, int]] = {index: (0, 0) for index in graph.inputs}
    for position, op in enumerate(graph.ops):
        for index in (*op.inputs, *op.outputs):
            if index >= 0 and not graph.tensors[index].constant:
                lives[index] = (lives.get(index, (position, position))[0], position)
    last = max(len(graph.ops) - 1, 0)
    for index in graph.outputs:
        lives[index] = (lives.get(index, (0, 0))[0], last)
    return {index: (0, last) if graph.tensors[index].variable else life for index, life in lives.items()
            if not graph.tensors[index].constant}


def _macs(op: Op, tensors: list[Tensor]) -> int:
    """Multiply–accumulates of an op with a kernel; 0 for any other op."""
    if op.name not in KERNELS:
        return 0
    kernel, out = tensors[op.inputs[KERNELS[op.name]]].shape, tensors[op.outputs[0]].elements
    return {"CONV_2D": lambda: out * prod(kernel[1:]), "DEPTHWISE_CONV_2D": lambda: out * prod(kernel[1:3]),
            "FULLY_CONNECTED": lambda: out * kernel[-1],
            "TRANSPOSE_CONV": lambda: tensors[op.inputs[2]].elements * prod(kernel[:3])}[op.name]()


def report(model: bytes) -> dict:
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
        return _report(read(model))
    except _ASTRAY as error:  # operators without the operands that they need
        raise _garbled(model, error) from None


def _report(graph: Graph) -> dict:
    tensors = graph.tensors
    unpacked = {op.outputs[0]: op.inputs[0] for op in graph.ops
                if op.name == "DEQUANTIZE" and tensors[op.inputs[0]].constant}
    kernels: set[int] = set()
    work: Counter[str] = Counter()
    for op in graph.ops:
        if op.name in KERNELS:
            kernel = op.inputs[KERNELS[op.name]]
            kernels.add(unpacked.get(kernel, kernel))
            data = tensors[op.inputs[2 if op.name == "TRANSPOSE_CONV" else 0]]
            kind = "integer" if not data.is_float else "float32" if tensors[kernel].is_float else "hybrid"
            work[kind] += _macs(op, tensors)
    kernels = {index for index in kernels if tensors[index].constant}
    widths: Counter[int] = Counter()
    for index in kernels:
        widths[BITS[tensors[index].dtype]] += tensors[index].elements
    lives = lifetimes(graph)
    activations = [tensors[index] for index in lives if index not in unpacked]
    float_ops = sorted({op.name for op in graph.ops
                        if any(tensors[index].is_float for index in (*op.inputs, *op.outputs) if index >= 0)})
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
        "weight_bits": sum(bits * count for bits, count in widths.items()) / weights if weights else None,
        "weight_bits_share": {str(bits): widths[bits] / weights for bits in sorted(widths, reverse=True)},
        "activation_bits": sum(tensor.elements * BITS[tensor.dtype] for tensor in activations)
        / max(sum(tensor.elements for tensor in activations), 1),
        "per_channel": any(tensors[index].scales > 1 for index in kernels),
        "arena_bytes": plan([tensors[index].bytes for index in lives], list(lives.values()))[1],
        "macs": sum(work.values()),
        "weights": weights,
    }
