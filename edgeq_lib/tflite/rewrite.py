"""Graph rewrites that keep the function: uint8 inputs and outputs, and 1 × 1 convolutions as dense layers."""

from __future__ import annotations

import copy
import struct

from ai_edge_litert import schema_py_generated as schema

from edgeq_lib.files import EdgeqError
from edgeq_lib.tflite.reader import read_graph
from edgeq_lib.tflite.writer import pack, unpack


def with_io_type(model: bytes, io: str) -> bytes:
    """An int8 flatbuffer with input and output of type `io`: `int8` (as it is) or `uint8`."""
    return with_uint8_io(model) if io == "uint8" else model


def with_uint8_io(model: bytes) -> bytes:
    """The same model with uint8 input and output: QUANTIZE ops at its doors, the scale kept, the zero point + 128.

    So does TensorFlow's converter with `inference_input_type = tf.uint8`; results are the int8 results + 128. Inner
    tensors keep their names. Raises EdgeqError when an input or output is not int8.
    """
    graph = read_graph(model)
    for index in (*graph.inputs, *graph.outputs):
        if graph.tensors[index].dtype != "INT8":
            raise EdgeqError(
                f"'{graph.tensors[index].name}' is {graph.tensors[index].dtype.lower()}, not int8: give a "
                "model with int8 input and output."
            )
    content = unpack(model)
    main = content.subgraphs[0]
    quantize = schema.BuiltinOperator.QUANTIZE
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = quantize
    code.version = 1
    content.operatorCodes.append(code)

    def door(index: int) -> int:
        tensor = copy.deepcopy(main.tensors[index])
        tensor.name = (tensor.name or b"").decode(errors="replace") + "_uint8"
        tensor.type, tensor.buffer, tensor.isVariable = schema.TensorType.UINT8, 0, False
        tensor.quantization.zeroPoint = [int(zero) + 128 for zero in tensor.quantization.zeroPoint]
        main.tensors.append(tensor)
        return len(main.tensors) - 1

    def convert(source: int, target: int) -> schema.OperatorT:
        op = schema.OperatorT()
        op.opcodeIndex, op.inputs, op.outputs = len(content.operatorCodes) - 1, [source], [target]
        op.builtinOptionsType, op.builtinOptions = (
            schema.BuiltinOptions.QuantizeOptions,
            schema.QuantizeOptionsT(),
        )
        return op

    fronts = {index: door(index) for index in main.inputs}
    backs = {index: door(index) for index in main.outputs}
    main.operators = [
        *(convert(new, old) for old, new in fronts.items()),
        *main.operators,
        *(convert(old, new) for old, new in backs.items()),
    ]
    main.inputs = [fronts[index] for index in main.inputs]
    main.outputs = [backs[index] for index in main.outputs]
    for signature in content.signatureDefs or []:
        if signature.subgraphIndex == 0:
            for maps, doors in ((signature.inputs, fronts), (signature.outputs, backs)):
                for entry in maps:
                    entry.tensorIndex = doors[entry.tensorIndex]
    return pack(content)


_KEEPS_SHAPE = (
    5  # the version of FULLY_CONNECTED since which it takes more than two dimensions and keeps them
)


def as_dense(model: bytes) -> bytes:
    """The flatbuffer with each 1 × 1 convolution of stride 1 as FULLY_CONNECTED: the same function, weights and tensor names.

    In the flatbuffer, not in Keras, because the converter moves biases of dense layers through the graph, and computes some
    layers twice for that.
    """
    content = unpack(model)
    graph, codes = content.subgraphs[0], content.operatorCodes
    found = [
        op
        for op in graph.operators
        if codes[op.opcodeIndex].builtinCode == schema.BuiltinOperator.CONV_2D
        and _is_pointwise(
            op.builtinOptions, graph.tensors[op.inputs[0]].shape, graph.tensors[op.inputs[1]].shape
        )
    ]
    if not found:
        return model
    dense = schema.OperatorCodeT()
    dense.builtinCode = dense.deprecatedBuiltinCode = schema.BuiltinOperator.FULLY_CONNECTED
    dense.version = _KEEPS_SHAPE
    codes.append(dense)
    for op in found:
        options = schema.FullyConnectedOptionsT()
        options.fusedActivationFunction, options.keepNumDims = (
            op.builtinOptions.fusedActivationFunction,
            True,
        )
        op.opcodeIndex, op.builtinOptions = len(codes) - 1, options
        op.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
    for index in {op.inputs[1] for op in found}:
        kernel = graph.tensors[index]
        kernel.shape = kernel.shapeSignature = [kernel.shape[0], kernel.shape[-1]]
    return pack(content)


def _is_pointwise(options: schema.Conv2DOptionsT, image: list[int], kernel: list[int]) -> bool:
    return (
        list(kernel[1:3]) == [1, 1]
        and kernel[3] == image[3]
        and options.strideH == options.strideW == 1
    )


def first_ops(model: bytearray, ops: int, output: int) -> bytes:
    """The file reduced to its first ops, with this tensor as output: the slots of a subgraph's outputs and operators are
    8 and 10 in the schema of TensorFlow Lite, and a vector's length stands before it."""
    content = bytearray(model)
    table = schema.Model.GetRootAs(content).Subgraphs(0)._tab
    outputs, operators = (table.Vector(table.Offset(slot)) for slot in (8, 10))
    struct.pack_into("<i", content, outputs, output)
    struct.pack_into("<I", content, operators - 4, ops)
    return bytes(content)
