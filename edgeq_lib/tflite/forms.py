"""The form in which a target takes dense layers: as such, or as 1 × 1 convolutions.

LiteRT is fast on 4-bit weights in FULLY_CONNECTED; TensorFlow Lite Micro takes 4 bits with scales
per channel in CONV_2D only, and accelerators of before 2022 take no FULLY_CONNECTED with scales per
channel at all. A dense layer **is** a 1 × 1 convolution, so one is written as the other: the same
codes, the same scales, the same function.
"""

from __future__ import annotations

import copy

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgeq_lib.targets import Target
from edgeq_lib.tflite.reader import BITS, read_graph
from edgeq_lib.tflite.rewrite import add_opcode
from edgeq_lib.tflite.writer import pack, unpack


def for_target(model: bytes, target: Target | None) -> bytes:
    """Write a file in the form that a target runs, where there is one.

    Args:
        model: A `.tflite` file.
        target: The target; None for the file as it is.

    Returns:
        The file, its function unchanged. What the target cannot take in any form stays.
    """
    if target is None:
        return model
    graph = read_graph(model)
    dense = []
    for number, op in enumerate(graph.ops):
        if op.name != "FULLY_CONNECTED":
            continue
        kernel = graph.tensors[op.inputs[1]]
        bits = BITS[kernel.dtype]
        refused = target.granularity("FULLY_CONNECTED", bits) != "channel"
        if (
            kernel.scales > 1
            and len(graph.tensors[op.inputs[0]].shape) in (2, 4)
            and refused
            and target.granularity("CONV_2D", bits) == "channel"
        ):
            dense.append(number)
    return as_convolutions(model, dense) if dense else model


def as_convolutions(model: bytes, numbers: list[int]) -> bytes:
    """Write dense layers as 1 × 1 convolutions; the inverse of `rewrite.as_dense`.

    A layer whose input is (1, channels) gets a RESHAPE before it and one behind.

    Args:
        model: A flatbuffer.
        numbers: Which operations, all FULLY_CONNECTED, of inputs with two or four dimensions. A
            kernel that another operation reads too is copied.

    Returns:
        The rewritten flatbuffer.
    """
    content = unpack(model)
    graph = content.subgraphs[0]
    conv = add_opcode(content, schema.BuiltinOperator.CONV_2D, 1)
    reshape = add_opcode(content, schema.BuiltinOperator.RESHAPE, 1)
    operators = []
    for number, op in enumerate(graph.operators):
        if number not in numbers:
            operators.append(op)
            continue
        op.inputs = list(op.inputs)
        _make_convolution(graph, op, conv)
        if len(graph.tensors[op.inputs[0]].shape) == 4:
            operators.append(op)
            continue
        source, result = op.inputs[0], op.outputs[0]
        op.inputs[0], op.outputs = _with_pixels(graph, source), [_with_pixels(graph, result)]
        operators += [
            _reshape(content, reshape, source, op.inputs[0]),
            op,
            _reshape(content, reshape, op.outputs[0], result),
        ]
    graph.operators = operators
    return pack(content)


def _make_convolution(graph: schema.SubGraphT, op: schema.OperatorT, opcode: int) -> None:
    options = schema.Conv2DOptionsT()
    options.padding = schema.Padding.VALID
    options.strideH = options.strideW = options.dilationHFactor = options.dilationWFactor = 1
    options.fusedActivationFunction = op.builtinOptions.fusedActivationFunction
    op.opcodeIndex, op.builtinOptions = opcode, options
    op.builtinOptionsType = schema.BuiltinOptions.Conv2DOptions
    kernel = copy.deepcopy(graph.tensors[op.inputs[1]])  # of its own, also where it was shared
    out_channels, in_channels = kernel.shape
    kernel.shape = kernel.shapeSignature = [out_channels, 1, 1, in_channels]
    graph.tensors.append(kernel)
    op.inputs[1] = len(graph.tensors) - 1


def _with_pixels(graph: schema.SubGraphT, index: int) -> int:
    """Add a tensor (1, 1, 1, channels) that stands for the values of one (1, channels)."""
    tensor = copy.deepcopy(graph.tensors[index])
    name = (tensor.name or b"").decode(errors="replace")
    tensor.name, tensor.buffer = f"{name}_pixel", 0
    tensor.shape = tensor.shapeSignature = [1, 1, 1, int(tensor.shape[-1])]
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1


def _reshape(content: schema.ModelT, opcode: int, source: int, target: int) -> schema.OperatorT:
    graph = content.subgraphs[0]
    shape = [int(side) for side in graph.tensors[target].shape]
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(np.array(shape, np.int32).tobytes(), np.uint8)
    content.buffers.append(buffer)
    wanted = schema.TensorT()
    wanted.name, wanted.type = "shape", schema.TensorType.INT32
    wanted.shape, wanted.buffer = [len(shape)], len(content.buffers) - 1
    graph.tensors.append(wanted)
    op, options = schema.OperatorT(), schema.ReshapeOptionsT()
    options.newShape = shape
    op.opcodeIndex, op.inputs, op.outputs = opcode, [source, len(graph.tensors) - 1], [target]
    op.builtinOptions, op.builtinOptionsType = options, schema.BuiltinOptions.ReshapeOptions
    return op
