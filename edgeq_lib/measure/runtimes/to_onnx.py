"""A float flatbuffer as an ONNX graph, operation by operation.

1. The graph's input and output stay what they are: the photo as (1, height, width, channels).
2. ONNX convolutions want channels before height and width. A tensor is kept in the order in which
   it was computed, and transposed where an operation asks for the other one: once behind the input
   and, if at all, before the classifier.
3. A fused activation becomes a node of its own; padding SAME becomes the numbers that it stands
   for. No weight is changed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgeq_lib.files import CannotTake
from edgeq_lib.tflite.buffers import writable_buffers
from edgeq_lib.tflite.reader import Graph, Op, read_graph

OPSET, IR_VERSION = 17, 8  # of 2022: older runtimes read it too
INPUT, OUTPUT = "image", "scores"
_FIRST, _LAST = (0, 3, 1, 2), (0, 2, 3, 1)  # to channels first, and back
_OPTIONS = {value: name for name, value in vars(schema.BuiltinOptions).items() if value}
_ACTIVATIONS = {
    value: name for name, value in vars(schema.ActivationFunctionType).items() if name.isupper()
}


class _Writer:
    """The ONNX graph as it grows.

    Attributes:
        model: The flatbuffer.
        graph: What it declares.
        constants: Tensor index → values.
        nodes: Of the ONNX graph, so far.
        initializers: Its constants.
    """

    def __init__(self, model: bytes) -> None:
        self.graph: Graph = read_graph(model)
        self.constants = writable_buffers(bytearray(model))
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self._table = schema.Model.GetRootAs(model).Subgraphs(0)
        # Tensor index → name of what holds it, in the flatbuffer's order of axes or channels first.
        self._plain: dict[int, str] = {self.graph.inputs[0]: INPUT}
        self._first: dict[int, str] = {}

    def options(self, number: int) -> Any:
        """The options of an op; None where it has none."""
        op = self._table.Operators(number)
        kind = getattr(schema, _OPTIONS.get(op.BuiltinOptionsType(), ""), None)
        if kind is None:
            return None
        options = kind()
        options.Init(op.BuiltinOptions().Bytes, op.BuiltinOptions().Pos)
        return options

    def constant(self, values: np.ndarray | np.floating) -> str:
        """Add a constant, and name it."""
        from onnx import numpy_helper

        name = f"constant_{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.array(values, order="C"), name))
        return name

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output, and name that."""
        from onnx import helper

        name = f"{kind}_{len(self.nodes)}"
        node = helper.make_node(kind, list(inputs), [f"{name}_output"], name=name, **attributes)
        self.nodes.append(node)
        return f"{name}_output"

    def rank(self, index: int) -> int:
        """Number of a tensor's axes."""
        return len(self.graph.tensors[index].shape)

    def is_first(self, *indices: int) -> bool:
        """Whether an operation on these tensors is best done channels first, and can be."""
        computed = [index for index in indices if index not in self.constants]
        return any(index in self._first for index in computed) and all(
            self.rank(index) == 4 for index in computed
        )

    def plain(self, index: int) -> str:
        """Name a tensor in the flatbuffer's order of axes."""
        if index not in self._plain:
            if index in self.constants:
                self._plain[index] = self.constant(self.constants[index])
            else:
                self._plain[index] = self.add("Transpose", self._first[index], perm=_LAST)
        return self._plain[index]

    def first(self, index: int) -> str:
        """Name a tensor with channels first; a constant of fewer axes as it is to be broadcast."""
        if index not in self._first:
            if index in self.constants:
                values = self.constants[index]
                values = values.reshape((1,) * (4 - values.ndim) + values.shape)
                self._first[index] = self.constant(values.transpose(_FIRST))
            else:
                self._first[index] = self.add("Transpose", self._plain[index], perm=_FIRST)
        return self._first[index]

    def keep(self, op: Op, name: str, first: bool, options: Any = None) -> None:
        """Take a node's output for the op's, behind the activation that the op holds."""
        fused = getattr(options, "FusedActivationFunction", lambda: 0)()
        name = self.activation(_ACTIVATIONS[fused], name)
        (self._first if first else self._plain)[op.outputs[0]] = name

    def activation(self, kind: str, name: str) -> str:
        """Add an activation as the schema calls it."""
        if kind == "NONE":
            return name
        if kind in ("RELU", "TANH"):
            return self.add({"RELU": "Relu", "TANH": "Tanh"}[kind], name)
        bounds = {"RELU6": (0, 6), "RELU_N1_TO_1": (-1, 1)}.get(kind)
        if bounds is None:
            raise CannotTake(f"The export to ONNX does not know the fused activation {kind}.")
        low, high = (self.constant(np.float32(bound)) for bound in bounds)
        return self.add("Clip", name, low, high)


def _padding(same: bool, sizes: Sequence[int], reach: Sequence[int], stride: Sequence[int]) -> Any:
    """Zeros around an image as ONNX lists them: top, left, bottom, right."""
    total = [
        max((-(-size // step) - 1) * step + width - size, 0) if same else 0
        for size, width, step in zip(sizes, reach, stride, strict=True)
    ]
    return [number // 2 for number in total] + [number - number // 2 for number in total]


def _convolution(writer: _Writer, number: int, op: Op) -> None:
    options, kernel = writer.options(number), writer.constants.get(op.inputs[1])
    if kernel is None:
        raise CannotTake(f"The export to ONNX does not know {op.name} with a computed kernel.")
    shape = writer.graph.tensors[op.inputs[0]].shape
    depthwise = op.name == "DEPTHWISE_CONV_2D"
    kernel = kernel.transpose((3, 0, 1, 2) if depthwise else (0, 3, 1, 2))
    stride = (options.StrideH(), options.StrideW())
    dilation = (options.DilationHFactor(), options.DilationWFactor())
    reach = [(cells - 1) * gap + 1 for cells, gap in zip(kernel.shape[2:], dilation, strict=True)]
    bias = [writer.constant(writer.constants[index]) for index in op.inputs[2:] if index >= 0]
    result = writer.add(
        "Conv",
        writer.first(op.inputs[0]),
        writer.constant(kernel),
        *bias,
        kernel_shape=kernel.shape[2:],
        strides=stride,
        dilations=dilation,
        group=shape[3] // kernel.shape[1],
        pads=_padding(options.Padding() == schema.Padding.SAME, shape[1:3], reach, stride),
    )
    writer.keep(op, result, True, options)


def _transposed_convolution(writer: _Writer, number: int, op: Op) -> None:
    options, kernel = writer.options(number), writer.constants[op.inputs[1]]
    before = writer.graph.tensors[op.inputs[2]].shape[1:3]
    after = writer.graph.tensors[op.outputs[0]].shape[1:3]
    stride = (options.StrideH(), options.StrideW())
    # What the windows cover beyond the output is cut off, what they leave uncovered is added.
    excess = [
        (size - 1) * step + cells - wanted
        for size, step, cells, wanted in zip(before, stride, kernel.shape[1:3], after, strict=True)
    ]
    cut = [max(number, 0) for number in excess]
    bias = [writer.constant(writer.constants[index]) for index in op.inputs[3:] if index >= 0]
    result = writer.add(
        "ConvTranspose",
        writer.first(op.inputs[2]),
        writer.constant(kernel.transpose(3, 0, 1, 2)),
        *bias,
        kernel_shape=kernel.shape[1:3],
        strides=stride,
        pads=[number // 2 for number in cut] + [number - number // 2 for number in cut],
        output_padding=[max(-number, 0) for number in excess],
    )
    writer.keep(op, result, True, options)


def _pool(writer: _Writer, number: int, op: Op) -> None:
    options, shape = writer.options(number), writer.graph.tensors[op.inputs[0]].shape
    size = (options.FilterHeight(), options.FilterWidth())
    stride = (options.StrideH(), options.StrideW())
    same = options.Padding() == schema.Padding.SAME
    result = writer.add(
        "MaxPool" if op.name == "MAX_POOL_2D" else "AveragePool",
        writer.first(op.inputs[0]),
        kernel_shape=size,
        strides=stride,
        pads=_padding(same, shape[1:3], size, stride),
    )
    writer.keep(op, result, True, options)


def _dense(writer: _Writer, number: int, op: Op) -> None:
    options, kernel = writer.options(number), writer.constants.get(op.inputs[1])
    if kernel is None:
        raise CannotTake("The export to ONNX does not know FULLY_CONNECTED with computed weights.")
    bias = [writer.constant(writer.constants[index]) for index in op.inputs[2:] if index >= 0]
    values = writer.plain(op.inputs[0])
    if writer.rank(op.outputs[0]) == 2:
        if writer.rank(op.inputs[0]) != 2:
            values = writer.add("Reshape", values, writer.constant(np.array([-1, kernel.shape[1]])))
        result = writer.add("Gemm", values, writer.constant(kernel), *bias, transB=1)
    else:
        result = writer.add("MatMul", values, writer.constant(kernel.T))
        result = writer.add("Add", result, *bias) if bias else result
    writer.keep(op, result, False, options)


def _elementwise(writer: _Writer, number: int, op: Op) -> None:
    first = writer.is_first(*op.inputs)
    operands = [writer.first(index) if first else writer.plain(index) for index in op.inputs]
    writer.keep(op, writer.add(_ELEMENTWISE[op.name], *operands), first, writer.options(number))


def _clip(writer: _Writer, number: int, op: Op) -> None:
    first = writer.is_first(*op.inputs)
    values = writer.first(op.inputs[0]) if first else writer.plain(op.inputs[0])
    writer.keep(op, writer.activation(op.name, values), first)


def _leaky_relu(writer: _Writer, number: int, op: Op) -> None:
    first = writer.is_first(*op.inputs)
    values = writer.first(op.inputs[0]) if first else writer.plain(op.inputs[0])
    alpha = writer.options(number).Alpha()
    writer.keep(op, writer.add("LeakyRelu", values, alpha=alpha), first)


def _reduced(writer: _Writer, number: int, op: Op) -> None:
    rank, shape = writer.rank(op.inputs[0]), writer.graph.tensors[op.outputs[0]].shape
    axes = sorted(int(axis) % rank for axis in writer.constants[op.inputs[1]].ravel())
    kept = bool(writer.options(number).KeepDims())
    over_image, over_axes = _REDUCED[op.name]
    if rank == 4 and axes == [1, 2] and over_image:  # has kernels of its own, also for integers
        result = writer.add(over_image, writer.first(op.inputs[0]))
        if not kept:
            result = writer.add("Reshape", result, writer.constant(np.array(shape)))
        writer.keep(op, result, kept)
        return
    values = writer.plain(op.inputs[0])
    writer.keep(op, writer.add(over_axes, values, axes=axes, keepdims=int(kept)), False)


def _resized(writer: _Writer, number: int, op: Op) -> None:
    options, shape = writer.options(number), writer.graph.tensors[op.outputs[0]].shape
    sizes = writer.constant(np.array([shape[axis] for axis in _FIRST], np.int64))
    middles, nearest = options.HalfPixelCenters(), op.name == "RESIZE_NEAREST_NEIGHBOR"
    if options.AlignCorners():
        raise CannotTake(f"The export to ONNX does not know {op.name} with aligned corners.")
    result = writer.add(
        "Resize",
        writer.first(op.inputs[0]),
        "",
        "",
        sizes,
        mode="nearest" if nearest else "linear",
        coordinate_transformation_mode="half_pixel" if middles else "asymmetric",
        nearest_mode="round_prefer_ceil" if middles else "floor",
    )
    writer.keep(op, result, True)


def _reshape(writer: _Writer, number: int, op: Op) -> None:
    shape = writer.constant(np.array(writer.graph.tensors[op.outputs[0]].shape, np.int64))
    writer.keep(op, writer.add("Reshape", writer.plain(op.inputs[0]), shape), False)


def _softmax(writer: _Writer, number: int, op: Op) -> None:
    values, beta = writer.plain(op.inputs[0]), writer.options(number).Beta()
    if beta != 1:
        values = writer.add("Mul", values, writer.constant(np.float32(beta)))
    writer.keep(op, writer.add("Softmax", values, axis=-1), False)


def _pad(writer: _Writer, number: int, op: Op) -> None:
    edges = writer.constants[op.inputs[1]].astype(np.int64)
    first = len(edges) == 4
    values = writer.first(op.inputs[0]) if first else writer.plain(op.inputs[0])
    edges = edges[list(_FIRST)] if first else edges
    filling = [writer.constant(writer.constants[index].reshape(())) for index in op.inputs[2:]]
    result = writer.add("Pad", values, writer.constant(edges.T.ravel()), *filling)
    writer.keep(op, result, first)


def _concatenate(writer: _Writer, number: int, op: Op) -> None:
    options, first = writer.options(number), writer.is_first(*op.inputs)
    axis = options.Axis() % writer.rank(op.outputs[0])
    operands = [writer.first(index) if first else writer.plain(index) for index in op.inputs]
    axis = _FIRST.index(axis) if first else axis
    writer.keep(op, writer.add("Concat", *operands, axis=axis), first, options)


def _transpose(writer: _Writer, number: int, op: Op) -> None:
    order = [int(axis) for axis in writer.constants[op.inputs[1]]]
    writer.keep(op, writer.add("Transpose", writer.plain(op.inputs[0]), perm=order), False)


def _matrix_product(writer: _Writer, number: int, op: Op) -> None:
    options, factors = writer.options(number), []
    for index, turned in zip(op.inputs, (options.AdjX(), options.AdjY()), strict=True):
        order = [*range(writer.rank(index) - 2), writer.rank(index) - 1, writer.rank(index) - 2]
        name = writer.plain(index)
        factors.append(writer.add("Transpose", name, perm=order) if turned else name)
    writer.keep(op, writer.add("MatMul", *factors), False)


_ELEMENTWISE = {
    "ADD": "Add",
    "SUB": "Sub",
    "MUL": "Mul",
    "DIV": "Div",
    "MAXIMUM": "Max",
    "MINIMUM": "Min",
    "PRELU": "PRelu",
    "LOGISTIC": "Sigmoid",
    "TANH": "Tanh",
    "HARD_SWISH": "HardSwish",
}
# Operator over height and width, if ONNX has one, and over any axes.
_REDUCED = {
    "MEAN": ("GlobalAveragePool", "ReduceMean"),
    "REDUCE_MAX": ("GlobalMaxPool", "ReduceMax"),
}
_WRITERS: dict[str, Callable[[_Writer, int, Op], None]] = {
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _convolution,
    "TRANSPOSE_CONV": _transposed_convolution,
    "FULLY_CONNECTED": _dense,
    "BATCH_MATMUL": _matrix_product,
    "MAX_POOL_2D": _pool,
    "AVERAGE_POOL_2D": _pool,
    "RESIZE_NEAREST_NEIGHBOR": _resized,
    "RESIZE_BILINEAR": _resized,
    "RELU": _clip,
    "RELU6": _clip,
    "RELU_N1_TO_1": _clip,
    "LEAKY_RELU": _leaky_relu,
    "SOFTMAX": _softmax,
    "RESHAPE": _reshape,
    "SQUEEZE": _reshape,
    "EXPAND_DIMS": _reshape,
    "PAD": _pad,
    "PADV2": _pad,
    "CONCATENATION": _concatenate,
    "TRANSPOSE": _transpose,
    **dict.fromkeys(_ELEMENTWISE, _elementwise),
    **dict.fromkeys(_REDUCED, _reduced),
}


def why_not(model: bytes) -> str | None:
    """Say why a flatbuffer has no ONNX graph.

    Args:
        model: A flatbuffer.

    Returns:
        The reason, one sentence; None when all of its operations are known.
    """
    graph = read_graph(model)
    unknown = sorted({op.name for op in graph.ops} - set(_WRITERS))
    if unknown:
        return f"The export to ONNX does not know {', '.join(unknown)}."
    whole = [tensor for tensor in graph.tensors if not tensor.is_float and not tensor.constant]
    if whole or len(graph.inputs) != 1 or len(graph.outputs) != 1:
        return "The export to ONNX takes float networks with one input and one output."
    return None


def to_onnx(model: bytes) -> bytes:
    """Write a float flatbuffer as an ONNX file.

    Args:
        model: The flatbuffer, with float32 weights, one input and one output.

    Returns:
        The ONNX file; input `image` and output `scores` have the flatbuffer's shapes.

    Raises:
        CannotTake: It holds an operation that this export does not know.
    """
    from onnx import TensorProto, checker, helper

    if (reason := why_not(model)) is not None:
        raise CannotTake(reason)
    writer = _Writer(model)
    for number, op in enumerate(writer.graph.ops):
        _WRITERS[op.name](writer, number, op)
    result = writer.plain(writer.graph.outputs[0])
    writer.nodes.append(helper.make_node("Identity", [result], [OUTPUT], name=OUTPUT))
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, writer.graph.tensors[index].shape)
        for name, index in ((INPUT, writer.graph.inputs[0]), (OUTPUT, writer.graph.outputs[0]))
    ]
    graph = helper.make_graph(writer.nodes, "edgeq", ends[:1], ends[1:], writer.initializers)
    opset = helper.make_operatorsetid("", OPSET)
    whole = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)
    checker.check_model(whole, full_check=True)
    return whole.SerializeToString()
