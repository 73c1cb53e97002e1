"""Taking a flatbuffer apart into objects and packing it again: aligned as the schema demands, and nothing said twice."""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from edgeq_lib.tflite.reader import ALIGNMENT


class _AlignedBuffer(schema.BufferT):
    """A buffer that packs as the schema demands (force_align: 16), which the generated Python code forgets."""

    def Pack(self, builder: Any) -> int:  # noqa: N802 (the generated code's name)
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


class _SharedSteps(schema.QuantizationParametersT):
    """Scales and zero points that are stored once for all tensors that have the same ones.

    LiteRT wants a zero point of eight bytes beside each channel's scale, of weights and biases alike, although all are 0;
    a flatbuffer may point to one vector from many places.
    """

    def Pack(self, builder: Any) -> int:  # noqa: N802
        if self.details is not None or self.min is not None or self.max is not None:
            return super().Pack(builder)
        places = []
        for values, dtype in ((self.scale, np.float32), (self.zeroPoint, np.int64)):
            key = (
                None
                if values is None
                else np.asarray(values, dtype).tobytes() + np.dtype(dtype).char.encode()
            )
            if key is not None and key not in self.written:
                self.written[key] = builder.CreateNumpyVector(np.asarray(values, dtype))
            places.append(self.written.get(key))
        schema.QuantizationParametersStart(builder)
        for add, place in zip(
            (schema.QuantizationParametersAddScale, schema.QuantizationParametersAddZeroPoint),
            places,
            strict=True,
        ):
            if place is not None:
                add(builder, place)
        schema.QuantizationParametersAddQuantizedDimension(builder, self.quantizedDimension)
        return schema.QuantizationParametersEnd(builder)


def unpack(model: bytes) -> schema.ModelT:
    """The flatbuffer as objects that can be changed."""
    return flatbuffer_utils.read_model_from_bytearray(bytearray(model))


def pack(content: schema.ModelT) -> bytes:
    """The objects as a flatbuffer."""
    for buffer in content.buffers:
        buffer.__class__ = _AlignedBuffer
    written: dict[bytes, int] = {}  # where in this file each vector of scales or zero points lies
    for graph in content.subgraphs:
        for tensor in graph.tensors:
            if tensor.quantization is not None:
                tensor.quantization.__class__ = _SharedSteps
                tensor.quantization.written = written
    return bytes(flatbuffer_utils.convert_object_to_bytearray(content))
