"""Graph rewrites that keep the function.

uint8 graph inputs and outputs, and 1 × 1 convolutions as dense layers.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable

from ai_edge_litert import schema_py_generated as schema

from edgeq_lib.files import EdgeqError
from edgeq_lib.tflite.reader import read_graph
from edgeq_lib.tflite.writer import pack, unpack

# Since this version FULLY_CONNECTED takes more than two dimensions and keeps them.
_KEEPS_DIMENSIONS = 5


def with_io_type(model: bytes, io: str) -> bytes:
    """Give an int8 flatbuffer graph inputs and outputs of type `io`.

    Args:
        model: An int8 flatbuffer.
        io: `int8` (the file as it is) or `uint8`.

    Returns:
        The flatbuffer with these inputs and outputs.

    Raises:
        EdgeqError: `io` is `uint8` and an input or output is not int8.
    """
    return with_uint8_io(model) if io == "uint8" else model


def with_uint8_io(model: bytes) -> bytes:
    """Give an int8 flatbuffer uint8 graph inputs and outputs.

    A QUANTIZE op at each graph input and output keeps the scale and moves the zero point by 128,
    as TensorFlow's converter does with `inference_input_type = tf.uint8`. Results are the int8
    results + 128. Inner tensors keep their names.

    Args:
        model: An int8 flatbuffer.

    Returns:
        The same model with uint8 input and output.

    Raises:
        EdgeqError: An input or output is not int8.
    """
    graph = read_graph(model)
    for index in (*graph.inputs, *graph.outputs):
        tensor = graph.tensors[index]
        if tensor.dtype != "INT8":
            raise EdgeqError(
                f"'{tensor.name}' is {tensor.dtype.lower()}, not int8: give a model with int8 "
                "input and output."
            )
    content = unpack(model)
    main = content.subgraphs[0]
    opcode = add_opcode(content, schema.BuiltinOperator.QUANTIZE, 1)
    new_inputs = {index: _add_uint8_twin(main, index) for index in main.inputs}
    new_outputs = {index: _add_uint8_twin(main, index) for index in main.outputs}
    main.operators = [
        *(_quantize_op(opcode, new, old) for old, new in new_inputs.items()),
        *main.operators,
        *(_quantize_op(opcode, old, new) for old, new in new_outputs.items()),
    ]
    main.inputs = [new_inputs[index] for index in main.inputs]
    main.outputs = [new_outputs[index] for index in main.outputs]
    for signature in content.signatureDefs or []:
        if signature.subgraphIndex == 0:
            _redirect(signature.inputs, new_inputs)
            _redirect(signature.outputs, new_outputs)
    return pack(content)


def add_opcode(content: schema.ModelT, operator: int, version: int) -> int:
    """Add an operator code to the model and return its index."""
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = operator
    code.version = version
    content.operatorCodes.append(code)
    return len(content.operatorCodes) - 1


def _add_uint8_twin(graph: schema.SubGraphT, index: int) -> int:
    """Add a uint8 tensor that stands for the same values as int8 tensor `index`; its index."""
    tensor = copy.deepcopy(graph.tensors[index])
    tensor.name = (tensor.name or b"").decode(errors="replace") + "_uint8"
    tensor.type, tensor.buffer, tensor.isVariable = schema.TensorType.UINT8, 0, False
    tensor.quantization.zeroPoint = [int(zero) + 128 for zero in tensor.quantization.zeroPoint]
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1


def _quantize_op(opcode: int, source: int, target: int) -> schema.OperatorT:
    """A QUANTIZE op from tensor `source` to tensor `target`."""
    op = schema.OperatorT()
    op.opcodeIndex, op.inputs, op.outputs = opcode, [source], [target]
    op.builtinOptionsType = schema.BuiltinOptions.QuantizeOptions
    op.builtinOptions = schema.QuantizeOptionsT()
    return op


def _redirect(entries: Iterable[schema.TensorMapT], new: dict[int, int]) -> None:
    """Make a signature's entries name the new tensors."""
    for entry in entries:
        entry.tensorIndex = new[entry.tensorIndex]


def as_dense(model: bytes) -> bytes:
    """Turn each 1 × 1 convolution of stride 1 into FULLY_CONNECTED.

    The function, the weights and the tensors' names stay. It is done in the flatbuffer, not in
    Keras, because the converter moves biases of dense layers through the graph, and computes some
    layers twice for that.

    Args:
        model: A flatbuffer.

    Returns:
        The rewritten flatbuffer; `model` itself where there is nothing to rewrite.
    """
    content = unpack(model)
    graph, codes = content.subgraphs[0], content.operatorCodes
    pointwise = [
        op
        for op in graph.operators
        if codes[op.opcodeIndex].builtinCode == schema.BuiltinOperator.CONV_2D
        and _is_pointwise(op.builtinOptions, *(graph.tensors[i].shape for i in op.inputs[:2]))
    ]
    # A kernel that another op reads too must keep its shape.
    chosen = {id(op) for op in pointwise}
    kept = {i for op in graph.operators if id(op) not in chosen for i in op.inputs}
    pointwise = [op for op in pointwise if op.inputs[1] not in kept]
    if not pointwise:
        return model
    opcode = add_opcode(content, schema.BuiltinOperator.FULLY_CONNECTED, _KEEPS_DIMENSIONS)
    for op in pointwise:
        options = schema.FullyConnectedOptionsT()
        options.fusedActivationFunction = op.builtinOptions.fusedActivationFunction
        options.keepNumDims = True
        op.opcodeIndex, op.builtinOptions = opcode, options
        op.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
    for index in {op.inputs[1] for op in pointwise}:
        kernel = graph.tensors[index]
        kernel.shape = kernel.shapeSignature = [kernel.shape[0], kernel.shape[-1]]
    return pack(content)


def _is_pointwise(options: schema.Conv2DOptionsT, image: list[int], kernel: list[int]) -> bool:
    """Whether a convolution is 1 × 1, of stride 1 and not grouped."""
    return (
        list(kernel[1:3]) == [1, 1]
        and kernel[3] == image[3]
        and options.strideH == options.strideW == 1
    )
