"""Float ops of an int8 file that LiteRT computes in int8, computed in int8.

`litert-quantizer` has no rule for some ops (PRELU, LEAKY_RELU, REDUCE_MAX, MINIMUM, ...) and leaves
them in float32 between a DEQUANTIZE and a QUANTIZE, although LiteRT has int8 kernels for them:

1. An op whose inputs are int8 tensors unpacked, or constants, reads these int8 tensors instead.
2. Its output gets the scale of its calibrated range, or of its input where the kernel demands that.
3. What is unpacked for nobody goes.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgeq_lib.tflite.reader import read_graph
from edgeq_lib.tflite.writer import pack, unpack

Ranges = Mapping[str, Mapping[str, np.ndarray]]  # tensor → {"min", "max"}
_NAMES = {value: name for name, value in vars(schema.BuiltinOperator).items() if name.isupper()}
# Kind of op → the version of it that knows int8.
_OWN_SCALE = {"LEAKY_RELU": 1, "RELU6": 2, "ELU": 1, "EXP": 2, "LOG": 2, "PRELU": 1}
_SCALE_OF_INPUT = {"REDUCE_MAX": 2, "MINIMUM": 2, "DEPTH_TO_SPACE": 1}
_TO_BOOL = {"GREATER": 2, "GREATER_EQUAL": 2, "LESS": 2, "LESS_EQUAL": 2}
_AS_PRODUCT = ("SQUARE", "NEG")
_VERSIONS = {**_OWN_SCALE, **_SCALE_OF_INPUT, **_TO_BOOL, "L2_NORMALIZATION": 2, "MUL": 2}
CONVERTED = (*(_VERSIONS.keys() - {"MUL"}), *_AS_PRODUCT)


def with_integer_ops(model: bytes, ranges: Ranges, left_float: Collection[str] = ()) -> bytes:
    """Compute in int8 what `litert-quantizer` has left in float without need.

    Args:
        model: A file with int8 activations.
        ranges: Activation ranges: tensor → {"min", "max"}.
        left_float: Outputs of ops that stay float32.

    Returns:
        The file; `model` itself where there is nothing to do.
    """
    graph = read_graph(model)
    if not any(
        op.name in CONVERTED and any(graph.tensors[i].is_float for i in op.inputs if i >= 0)
        for op in graph.ops
    ):
        return model
    return _Rewriting(unpack(model), ranges, left_float).done()


@dataclass
class _Rewriting:
    """The pass over the ops of a file, in their order."""

    content: schema.ModelT
    ranges: Ranges
    left_float: Collection[str]

    def done(self) -> bytes:
        """Rewrite all ops and pack the file."""
        self.graph = self.content.subgraphs[0]
        self.int8_of: dict[int, int] = {}  # float tensor → the int8 tensor of the same values
        self.opcodes: dict[tuple[str, int], int] = {}
        self.ops: list[schema.OperatorT] = []
        self.renamed: dict[int, int] = {}  # tensor → an equal one
        self.merged: set[int] = set()  # ids of the QUANTIZE ops that an op's own scale replaces
        for op in self.graph.operators:
            self._take(op)
        self._drop_unread()
        return pack(self.content)

    def _take(self, op: schema.OperatorT) -> None:
        kind = self._kind(op)
        if id(op) in self.merged:
            return
        op.inputs = [self.renamed.get(index, index) for index in op.inputs]
        if kind == "DEQUANTIZE" and self._is_int8_activation(op.inputs[0]):
            self.int8_of[op.outputs[0]] = op.inputs[0]
        elif kind == "QUANTIZE" and op.inputs[0] in self.int8_of:
            op.inputs = [self.int8_of[op.inputs[0]]]  # from one scale to another
            if self._does_nothing(op):
                self.renamed[op.outputs[0]] = op.inputs[0]
                return
        elif kind in CONVERTED and self._convert(op, kind):
            return
        self.ops.append(op)

    def _does_nothing(self, op: schema.OperatorT) -> bool:
        """Whether a QUANTIZE op has the same scale on both sides."""
        source, output = op.inputs[0], op.outputs[0]
        return (
            self._is_int8_activation(output)
            and output not in self.graph.outputs
            and self._parameters(source) == self._parameters(output)
        )

    def _kind(self, op: schema.OperatorT) -> str:
        code = self.content.operatorCodes[op.opcodeIndex]
        return _NAMES[max(code.builtinCode, code.deprecatedBuiltinCode)]

    def _is_int8_activation(self, index: int) -> bool:
        tensor = self.graph.tensors[index]
        return tensor.type == schema.TensorType.INT8 and self._values(index) is None

    def _values(self, index: int) -> np.ndarray | None:
        """A float constant's values; None for what is computed."""
        tensor = self.graph.tensors[index]
        data = self.content.buffers[tensor.buffer].data
        if data is None or not len(data):
            return None
        if tensor.type != schema.TensorType.FLOAT32:
            return np.empty(0)
        flat = np.frombuffer(bytes(bytearray(data)), np.float32)
        return flat.reshape(tensor.shape if tensor.shape is not None else ())

    def _convert(self, op: schema.OperatorT, kind: str) -> bool:
        """Let an op compute in int8; False where it cannot."""
        source, output = op.inputs[0], op.outputs[0]
        name = _text(self.graph.tensors[output].name)
        if source not in self.int8_of or name in self.left_float:
            return False
        source = self.int8_of[source]
        others = self._others(op, kind, source)
        twin = output if kind in _TO_BOOL else self._twin(kind, output, source, name)
        if others is None or twin is None:
            return False
        op.inputs = [source, *others]
        if kind in _AS_PRODUCT:
            kind, op.builtinOptions = "MUL", schema.MulOptionsT()
            op.builtinOptionsType = schema.BuiltinOptions.MulOptions
        op.opcodeIndex, op.outputs = self._opcode(kind, _VERSIONS[kind]), [twin]
        self.ops.append(op)
        if twin != output:
            self.int8_of[output] = twin
            self.graph.tensors[twin].name = name.encode()  # tensors are paired by their names
            self.graph.tensors[output].name = f"{name}_float".encode()
            self.ops.append(self._dequantize(twin, output))
        return True

    def _others(self, op: schema.OperatorT, kind: str, source: int) -> list[int] | None:
        """The further operands of an op in int8; None where one has no such form."""
        if kind == "SQUARE":
            return [source]
        if kind == "NEG":
            return [self._constant(np.array([-1.0]), 1 / 127, 0)]
        if kind == "REDUCE_MAX" or len(op.inputs) == 1:
            return list(op.inputs[1:])
        values = self._values(op.inputs[1])
        if values is None or not values.size:
            twin = self.int8_of.get(op.inputs[1])
            same = twin is not None and self._parameters(twin) == self._parameters(source)
            return [twin] if twin is not None and (same or kind in _TO_BOOL) else None
        scale, zero = max(float(np.abs(values).max()), 1e-9) / 127, 0
        if kind == "MINIMUM":
            scale, zero = self._parameters(source)
        return [self._constant(values, scale, zero)]

    def _twin(self, kind: str, output: int, source: int, name: str) -> int | None:
        """The int8 tensor that takes the place of a float output."""
        if kind in _SCALE_OF_INPUT:
            return self._tensor(output, *self._parameters(source))
        if kind == "L2_NORMALIZATION":  # its kernel knows no other
            return self._tensor(output, 1 / 128, 0)
        for op in self.graph.operators:
            if self._kind(op) == "QUANTIZE" and op.inputs[0] == output:
                if self._is_int8_activation(op.outputs[0]):
                    self.merged.add(id(op))
                    return op.outputs[0]
        if name not in self.ranges:
            return None
        low = min(float(np.min(self.ranges[name]["min"])), 0.0)
        high = max(float(np.max(self.ranges[name]["max"])), 0.0)
        scale = max(high - low, 1e-9) / 255
        return self._tensor(output, scale, int(np.clip(np.rint(-128 - low / scale), -128, 127)))

    def _parameters(self, index: int) -> tuple[float, int]:
        quantization = self.graph.tensors[index].quantization
        return float(quantization.scale[0]), int(quantization.zeroPoint[0])

    def _tensor(self, like: int, scale: float, zero: int, shape: list[int] | None = None) -> int:
        """Add an int8 tensor of the shape of another, or of a shape of its own; its index."""
        tensor = copy.deepcopy(self.graph.tensors[like])
        tensor.name = f"constant_int8_{len(self.graph.tensors)}".encode()
        tensor.type, tensor.buffer = schema.TensorType.INT8, 0
        if shape is not None:
            tensor.shape, tensor.shapeSignature = shape, None
        tensor.quantization = schema.QuantizationParametersT()
        tensor.quantization.scale, tensor.quantization.zeroPoint = [scale], [zero]
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def _constant(self, values: np.ndarray, scale: float, zero: int) -> int:
        buffer = schema.BufferT()
        codes = np.clip(np.rint(values / scale) + zero, -128, 127).astype(np.int8)
        buffer.data = np.frombuffer(codes.tobytes(), np.uint8)
        index = self._tensor(self.graph.inputs[0], scale, zero, list(values.shape))
        self.graph.tensors[index].buffer = len(self.content.buffers)
        self.content.buffers.append(buffer)
        return index

    def _opcode(self, kind: str, version: int) -> int:
        if (kind, version) not in self.opcodes:
            code = schema.OperatorCodeT()
            code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, kind)
            code.version = version
            self.content.operatorCodes.append(code)
            self.opcodes[kind, version] = len(self.content.operatorCodes) - 1
        return self.opcodes[kind, version]

    def _dequantize(self, source: int, target: int) -> schema.OperatorT:
        op = schema.OperatorT()
        op.opcodeIndex, op.inputs, op.outputs = self._opcode("DEQUANTIZE", 2), [source], [target]
        op.builtinOptionsType = schema.BuiltinOptions.DequantizeOptions
        op.builtinOptions = schema.DequantizeOptionsT()
        return op

    def _drop_unread(self) -> None:
        read = {index for op in self.ops for index in op.inputs} | set(self.graph.outputs)
        self.graph.operators = [
            op for op in self.ops if self._kind(op) != "DEQUANTIZE" or op.outputs[0] in read
        ]


def _text(name: bytes | str | None) -> str:
    return name.decode(errors="replace") if isinstance(name, bytes) else name or ""
