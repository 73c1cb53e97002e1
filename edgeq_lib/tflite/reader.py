"""What a `.tflite` file holds, read from the file itself: ops, bit widths, MACs, planned memory.

Nothing here runs the model in this process, so that a garbled file cannot bring it down. Only the main subgraph is
reported; a graph with control flow keeps more in its other subgraphs.
"""

from __future__ import annotations

import struct
from math import prod
from typing import NamedTuple

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgeq_lib.files import EdgeqError

# The operand that holds the kernel, by op.
KERNELS = {"CONV_2D": 1, "DEPTHWISE_CONV_2D": 1, "FULLY_CONNECTED": 1, "TRANSPOSE_CONV": 1}
BITS = {
    "FLOAT64": 64,
    "FLOAT32": 32,
    "FLOAT16": 16,
    "BFLOAT16": 16,
    "FLOAT8_E4M3FN": 8,
    "FLOAT8_E5M2": 8,
    "INT64": 64,
    "UINT64": 64,
    "INT32": 32,
    "UINT32": 32,
    "INT16": 16,
    "UINT16": 16,
    "INT8": 8,
    "UINT8": 8,
    "INT4": 4,
    "UINT4": 4,
    "INT2": 2,
    "BOOL": 8,
    "COMPLEX64": 64,
    "COMPLEX128": 128,
    "STRING": 0,
    "RESOURCE": 0,
    "VARIANT": 0,
}
_ZERO_POINTS = {"INT8": (-128, 127), "UINT8": (0, 255), "INT16": (-(2**15), 2**15 - 1)}
ALIGNMENT = (
    16  # bytes; what TensorFlow Lite Micro aligns arena tensors and the schema aligns buffers to
)
_TYPES = {value: name for name, value in vars(schema.TensorType).items() if name.isupper()}
_OPS = {value: name for name, value in vars(schema.BuiltinOperator).items() if name.isupper()}
# What Python's reader raises when an offset points astray; a memory error comes of an absurd length.
ASTRAY = (
    struct.error,
    IndexError,
    ValueError,
    TypeError,
    OverflowError,
    KeyError,
    AttributeError,
    MemoryError,
)


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
    return (
        tuple(numbers.tolist()) if isinstance(numbers, np.ndarray) else ()
    )  # the reader gives 0 for a missing one


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


def _subgraph(
    model: bytes, subgraph: schema.SubGraph, codes: list[str], stored: list[int]
) -> Graph:
    tensors = []
    for index in _count(subgraph.TensorsLength(), model):
        table = subgraph.Tensors(index)
        quantization = table.Quantization()
        # Blockwise scales lie in a tensor of their own: many, whatever this one says.
        blockwise = (
            quantization is not None
            and quantization.DetailsType() == schema.QuantizationDetails.BlockwiseQuantization
        )
        scales = quantization.ScaleLength() if quantization is not None else 0
        tensor = Tensor(
            (table.Name() or b"").decode(errors="replace"),
            _vector(table.ShapeAsNumpy()),
            _TYPES[table.Type()],
            stored[table.Buffer()] > 0,
            2 if blockwise else scales,
            table.IsVariable(),
        )
        if min(tensor.shape, default=0) < 0:
            raise ValueError(f"tensor '{tensor.name}' has a negative size")
        plain = BITS[tensor.dtype] and table.Sparsity() is None
        if tensor.constant and plain and stored[table.Buffer()] != tensor.bytes:
            raise ValueError(
                f"tensor '{tensor.name}' needs {tensor.bytes} bytes and has {stored[table.Buffer()]}"
            )
        zeros = quantization.ZeroPointAsNumpy() if scales else 0
        if tensor.dtype in _ZERO_POINTS and isinstance(zeros, np.ndarray) and zeros.size:
            low, high = _ZERO_POINTS[tensor.dtype]
            if zeros.min() < low or zeros.max() > high:  # XNNPACK does not survive this
                raise ValueError(f"tensor '{tensor.name}' has a zero point out of range")
        tensors.append(tensor)
    ops = []
    for index in _count(subgraph.OperatorsLength(), model):
        table = subgraph.Operators(index)
        ops.append(
            Op(
                codes[table.OpcodeIndex()],
                _vector(table.InputsAsNumpy()),
                _vector(table.OutputsAsNumpy()),
            )
        )
    graph = Graph(
        tensors, ops, _vector(subgraph.InputsAsNumpy()), _vector(subgraph.OutputsAsNumpy())
    )
    must = [index for op in ops for index in op.outputs] + list(graph.inputs + graph.outputs)
    may = [index for op in ops for index in op.inputs]
    if not all(0 <= index < len(tensors) for index in must) or not all(
        -1 <= index < len(tensors) for index in may
    ):
        raise ValueError("an operator names a tensor that is not there")
    return graph


def read_graph(model: bytes) -> Graph:
    """The main subgraph. Raises EdgeqError when the file is no TensorFlow Lite flatbuffer, or a broken one.

    Every subgraph, tensor, operator and buffer is visited, with its offsets, indices and sizes.
    """
    if not model:
        raise EdgeqError("The .tflite file is empty; make the variant again.")
    if model[4:8] != b"TFL3":
        raise EdgeqError(
            "The file is not a TensorFlow Lite flatbuffer (its identifier is not 'TFL3'); "
            "give a .tflite file, or make the variant again."
        )
    try:
        root = schema.Model.GetRootAs(model)
        codes = []
        for index in _count(root.OperatorCodesLength(), model):
            code = root.OperatorCodes(index)
            number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
            custom = code.CustomCode()
            codes.append(
                custom.decode(errors="replace")
                if number == schema.BuiltinOperator.CUSTOM and custom
                else _OPS[number]
            )
        stored = [
            _stored(model, root.Buffers(index)) for index in _count(root.BuffersLength(), model)
        ]
        graphs = [
            _subgraph(model, root.Subgraphs(index), codes, stored)
            for index in _count(root.SubgraphsLength(), model)
        ]
        main = graphs[0]
        if not main.inputs or not main.outputs:
            raise ValueError("a model without input or output")
    except ASTRAY as error:
        raise garbled(model, error) from None
    return main


def garbled(model: bytes, error: Exception) -> EdgeqError:
    return EdgeqError(
        f"The .tflite file is truncated or garbled ({len(model)} bytes: {error}); make it again."
    )
