"""The constants of a flatbuffer as writable arrays, so that a file is changed in place."""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema

_TYPES = {
    schema.TensorType.FLOAT32: np.float32,
    schema.TensorType.INT8: np.int8,
    schema.TensorType.INT32: np.int32,
    schema.TensorType.INT64: np.int64,
}
# Bits per element of the types that hold several elements in a byte, the first in the lowest bits.
_PACKED = {schema.TensorType.INT4: 4, schema.TensorType.INT2: 2}


def writable_buffers(model: bytearray) -> dict[int, np.ndarray]:
    """View the constants of the main subgraph, in their shapes.

    What is written into the arrays is written into `model`: they are views. Tensors that share a
    buffer share it here. Those of int4 and int2 are unpacked copies, as int8.

    Args:
        model: A flatbuffer, which must be a bytearray for its constants to be writable.

    Returns:
        Tensor index → values (float32, int8, int32 or int64; int8 for int4 and int2). Sparse
        tensors and those of other types are left out.
    """
    content = schema.Model.GetRootAs(model)
    graph = content.Subgraphs(0)
    constants: dict[int, np.ndarray] = {}
    for index in range(graph.TensorsLength()):
        tensor = graph.Tensors(index)
        data = _data(model, content.Buffers(tensor.Buffer()))
        if data is not None and tensor.Type() in _TYPES and tensor.Sparsity() is None:
            shape = tensor.ShapeAsNumpy() if tensor.ShapeLength() else ()
            constants[index] = data.view(_TYPES[tensor.Type()]).reshape(shape)
        elif data is not None and tensor.Type() in _PACKED:
            constants[index] = unpacked(data, _PACKED[tensor.Type()], tensor.ShapeAsNumpy())
    return constants


def unpacked(data: np.ndarray, bits: int, shape: np.ndarray) -> np.ndarray:
    """Unpack signed integers of fewer than eight bits.

    Args:
        data: Bytes, uint8 (n,), each of which holds several integers, the first in the lowest bits.
        bits: Width of an integer, 4 or 2.
        shape: Shape of the result.

    Returns:
        The integers, int8 of `shape`.
    """
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    fields = ((data[:, None] >> shifts) & (2**bits - 1)).ravel()
    fields = fields[: np.prod(shape, dtype=int)].astype(np.int8)
    signed = np.where(fields >= 2 ** (bits - 1), fields - 2**bits, fields)
    return signed.astype(np.int8).reshape(shape)


def _data(model: bytearray, buffer: schema.Buffer) -> np.ndarray | None:
    """A buffer's bytes: inside the flatbuffer or, in files from litert-quantizer, behind it."""
    if buffer.Offset() > 1:
        return np.frombuffer(model, np.uint8, buffer.Size(), buffer.Offset())
    return buffer.DataAsNumpy() if buffer.DataLength() else None


def scales_of(model: bytes) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Read the scales and zero points of the quantized tensors of the main subgraph.

    Args:
        model: A flatbuffer.

    Returns:
        Tensor index → (scales float32, zero points int64), one of each per channel, or one in all.
    """
    graph = schema.Model.GetRootAs(model).Subgraphs(0)
    tables = {index: graph.Tensors(index).Quantization() for index in range(graph.TensorsLength())}
    return {
        index: (table.ScaleAsNumpy(), table.ZeroPointAsNumpy())
        for index, table in tables.items()
        if table is not None and table.ScaleLength()
    }
