"""What a `.tflite` file holds, read from the file itself: ops, bit widths, MACs, planned memory.

Nothing here runs the model in this process, so that a garbled file cannot bring it down. Only the
main subgraph is reported; a graph with control flow keeps more in its other subgraphs.
"""

from __future__ import annotations

import struct
from math import prod
from typing import NamedTuple

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgeq_lib.files import EdgeqError

# Which operand of an op holds its kernel.
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
# Bytes: TensorFlow Lite Micro aligns the tensors of its arena to this, the schema its buffers.
ALIGNMENT = 16
_TYPES = {value: name for name, value in vars(schema.TensorType).items() if name.isupper()}
_OPS = {value: name for name, value in vars(schema.BuiltinOperator).items() if name.isupper()}
# What Python's reader raises when an offset points astray; an absurd length is a memory error.
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
    """A tensor as the flatbuffer declares it."""

    name: str
    shape: tuple[int, ...]
    dtype: str  # a key of BITS
    constant: bool
    scales: int  # how many quantization scales it carries; 0 = not quantized
    variable: bool

    @property
    def elements(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def bytes(self) -> int:
        """Bytes that the elements take, those of 4 and 2 bits packed."""
        return -(-self.elements * BITS[self.dtype] // 8)

    @property
    def is_float(self) -> bool:
        """Whether it holds floating-point numbers, of any width."""
        return "FLOAT" in self.dtype


class Op(NamedTuple):
    """An operator of the graph."""

    name: str  # as the schema spells it, "CONV_2D"; of a custom op its own
    inputs: tuple[int, ...]  # tensor indices; -1 stands for an operand left out
    outputs: tuple[int, ...]


class Graph(NamedTuple):
    """A subgraph; `inputs` and `outputs` are indices into `tensors`."""

    tensors: list[Tensor]
    ops: list[Op]  # in the order of execution
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def read_graph(model: bytes) -> Graph:
    """Read the main subgraph of a file.

    Every subgraph, tensor, operator and buffer is visited, with its offsets, indices and sizes.

    Args:
        model: Content of a `.tflite` file.

    Returns:
        The main subgraph.

    Raises:
        EdgeqError: The file is no TensorFlow Lite flatbuffer, or a broken one.
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
        names = [
            _op_name(root.OperatorCodes(index))
            for index in _count(root.OperatorCodesLength(), model)
        ]
        stored = [
            _stored(model, root.Buffers(index)) for index in _count(root.BuffersLength(), model)
        ]
        graphs = [
            _subgraph(model, root.Subgraphs(index), names, stored)
            for index in _count(root.SubgraphsLength(), model)
        ]
        main = graphs[0]
        if not main.inputs or not main.outputs:
            raise ValueError("a model without input or output")
    except ASTRAY as error:
        raise garbled(model, error) from None
    return main


def garbled(model: bytes, error: Exception) -> EdgeqError:
    """Word the error for a file that is truncated or garbled.

    Args:
        model: Content of the file.
        error: What reading it raised.

    Returns:
        The error, to be raised by the caller.
    """
    return EdgeqError(
        f"The .tflite file is truncated or garbled ({len(model)} bytes: {error}); make it again."
    )


def _vector(numbers: np.ndarray | int) -> tuple[int, ...]:
    """A vector of the flatbuffer; its reader gives 0 for a missing one."""
    return tuple(numbers.tolist()) if isinstance(numbers, np.ndarray) else ()


def _count(length: int, model: bytes) -> range:
    """Indices of a vector of tables, whose length is checked against the file's."""
    if length > len(model) // 4:  # each entry takes an offset of four bytes
        raise ValueError("a vector longer than the file")
    return range(length)


def _op_name(code: schema.OperatorCode) -> str:
    """The schema's name of a built-in op, a custom op's own name."""
    number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
    custom = code.CustomCode()
    if number == schema.BuiltinOperator.CUSTOM and custom:
        return custom.decode(errors="replace")
    return _OPS[number]


def _stored(model: bytes, buffer: schema.Buffer) -> int:
    """Bytes of a buffer, in the flatbuffer or, in files from litert-quantizer, behind it."""
    if buffer.Offset() > 1:
        if buffer.Offset() + buffer.Size() > len(model):
            raise ValueError("weights beyond the end of the file")
        return buffer.Size()
    data = buffer.DataAsNumpy()
    return data.size if isinstance(data, np.ndarray) else 0


def _subgraph(
    model: bytes, subgraph: schema.SubGraph, names: list[str], stored: list[int]
) -> Graph:
    """A subgraph; `names` are the ops' by code, `stored` the bytes of each buffer."""
    tensors = [
        _tensor(subgraph.Tensors(index), stored)
        for index in _count(subgraph.TensorsLength(), model)
    ]
    ops = []
    for index in _count(subgraph.OperatorsLength(), model):
        table = subgraph.Operators(index)
        inputs, outputs = _vector(table.InputsAsNumpy()), _vector(table.OutputsAsNumpy())
        ops.append(Op(names[table.OpcodeIndex()], inputs, outputs))
    inputs, outputs = _vector(subgraph.InputsAsNumpy()), _vector(subgraph.OutputsAsNumpy())
    required = [*(index for op in ops for index in op.outputs), *inputs, *outputs]
    optional = [index for op in ops for index in op.inputs]
    if not all(0 <= index < len(tensors) for index in required) or not all(
        -1 <= index < len(tensors) for index in optional
    ):
        raise ValueError("an operator names a tensor that is not there")
    return Graph(tensors, ops, inputs, outputs)


def _tensor(table: schema.Tensor, stored: list[int]) -> Tensor:
    """A tensor whose size and zero points have been checked."""
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
    return tensor
