"""Take a flatbuffer apart into objects and pack it again.

Buffers are aligned as the schema demands, and equal quantization parameters are stored once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from edgeq_lib.tflite.reader import ALIGNMENT


class _AlignedBuffer(schema.BufferT):
    """A buffer aligned as the schema demands (force_align: 16); the generated code forgets this."""

    def Pack(self, builder: Any) -> int:  # noqa: N802 (the generated code's name)
        """Write the buffer and return its offset."""
        data = None
        if self.data is not None:
            content = bytes(self.data)
            builder.StartVector(1, len(content), ALIGNMENT)
            builder.head -= len(content)
            builder.Bytes[builder.head : builder.head + len(content)] = content
            data = builder.EndVector()
        schema.BufferStart(builder)
        if data is not None:
            schema.BufferAddData(builder, data)
        return schema.BufferEnd(builder)


class _SharedQuantization(schema.QuantizationParametersT):
    """Scales and zero points that are stored once for all tensors that have the same ones.

    LiteRT wants a zero point of eight bytes beside each channel's scale, of weights and biases
    alike, although all are 0; a flatbuffer may point to one vector from many tensors.
    """

    def Pack(self, builder: Any) -> int:  # noqa: N802 (the generated code's name)
        """Write the parameters, or only their offsets where they are written, and return theirs."""
        if self.details is not None or self.min is not None or self.max is not None:
            return super().Pack(builder)
        scales = self._shared(builder, self.scale, np.float32)
        zeros = self._shared(builder, self.zeroPoint, np.int64)
        schema.QuantizationParametersStart(builder)
        if scales is not None:
            schema.QuantizationParametersAddScale(builder, scales)
        if zeros is not None:
            schema.QuantizationParametersAddZeroPoint(builder, zeros)
        schema.QuantizationParametersAddQuantizedDimension(builder, self.quantizedDimension)
        return schema.QuantizationParametersEnd(builder)

    def _shared(self, builder: Any, values: Any, dtype: type) -> int | None:
        """The offset of a vector, which is written unless an equal one is there; None for none."""
        if values is None:
            return None
        vector: np.ndarray = np.asarray(values, dtype)
        key = vector.tobytes() + vector.dtype.char.encode()
        if key not in self.written:
            self.written[key] = builder.CreateNumpyVector(vector)
        return self.written[key]


def unpack(model: bytes) -> schema.ModelT:
    """Take a flatbuffer apart into objects that can be changed.

    Args:
        model: Content of a `.tflite` file.

    Returns:
        The model as the object API of the schema has it.
    """
    return flatbuffer_utils.read_model_from_bytearray(bytearray(model))


def pack(content: schema.ModelT) -> bytes:
    """Pack objects as a flatbuffer.

    Args:
        content: What `unpack` returned, changed or not.

    Returns:
        Content of a `.tflite` file.
    """
    for buffer in content.buffers:
        buffer.__class__ = _AlignedBuffer
    written: dict[bytes, int] = {}  # offsets in this file of the vectors of scales and zero points
    for graph in content.subgraphs:
        for tensor in graph.tensors:
            if tensor.quantization is not None:
                tensor.quantization.__class__ = _SharedQuantization
                tensor.quantization.written = written
    return bytes(flatbuffer_utils.convert_object_to_bytearray(content))
