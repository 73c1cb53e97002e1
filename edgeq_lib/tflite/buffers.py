"""The constants of a flatbuffer as arrays that can be written, so that a file is mended without making it again."""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema

_TYPES = {
    schema.TensorType.FLOAT32: np.float32,
    schema.TensorType.INT8: np.int8,
    schema.TensorType.INT32: np.int32,
    schema.TensorType.INT64: np.int64,
}
_PACKED = {
    schema.TensorType.INT4: 4,
    schema.TensorType.INT2: 2,
}  # several in a byte, the first in the lowest bits


def writable_buffers(model: bytearray) -> dict[int, np.ndarray]:
    """Tensor index → the values of each constant of the main subgraph (float32, int8, int32 or int64), in its shape.

    The arrays are views: what is written into them is written into `model`. Tensors that share a buffer share it here. Of
    int4 and int2 they are unpacked copies, as int8.
    """
    content = schema.Model.GetRootAs(model)
    graph, found = content.Subgraphs(0), {}
    for index in range(graph.TensorsLength()):
        tensor = graph.Tensors(index)
        data = _data(model, content.Buffers(tensor.Buffer()))
        if data is not None and tensor.Type() in _TYPES and tensor.Sparsity() is None:
            shape = tensor.ShapeAsNumpy() if tensor.ShapeLength() else ()
            found[index] = data.view(_TYPES[tensor.Type()]).reshape(shape)
        elif data is not None and tensor.Type() in _PACKED:
            found[index] = unpacked(data, _PACKED[tensor.Type()], tensor.ShapeAsNumpy())
    return found


def unpacked(data: np.ndarray, bits: int, shape: np.ndarray) -> np.ndarray:
    """Signed integers of `bits` (4 or 2) out of bytes that hold several of them, as int8 in `shape`."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    fields = (
        ((data[:, None] >> shifts) & (2**bits - 1))
        .ravel()[: np.prod(shape, dtype=int)]
        .astype(np.int8)
    )
    return (
        np.where(fields >= 2 ** (bits - 1), fields - 2**bits, fields).astype(np.int8).reshape(shape)
    )


def _data(model: bytearray, buffer: schema.Buffer) -> np.ndarray | None:
    """A buffer's bytes, which lie inside the flatbuffer or, in files from litert-quantizer, behind it."""
    if buffer.Offset() > 1:
        return np.frombuffer(model, np.uint8, buffer.Size(), buffer.Offset())
    return buffer.DataAsNumpy() if buffer.DataLength() else None


def scales_of(model: bytes) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Tensor index → (scales, zero points) of each quantized tensor of the main subgraph."""
    graph = schema.Model.GetRootAs(model).Subgraphs(0)
    tables = {index: graph.Tensors(index).Quantization() for index in range(graph.TensorsLength())}
    return {
        index: (table.ScaleAsNumpy(), table.ZeroPointAsNumpy())
        for index, table in tables.items()
        if table is not None and table.ScaleLength()
    }
