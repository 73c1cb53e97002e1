"""1 × 1 convolutions as dense layers over pixels, for LiteRT's fast kernels with 4-bit weights, of which convolutions have
none."""

from __future__ import annotations

from ai_edge_litert import schema_py_generated as schema

from edgeq_lib import packing

_KEEPS_SHAPE = 5  # the version of FULLY_CONNECTED since which it takes more than two dimensions and keeps them


def as_dense(model: bytes) -> bytes:
    """The flatbuffer with each 1 × 1 convolution of stride 1 as FULLY_CONNECTED: the same function, weights and tensor names.

    In the flatbuffer, not in Keras, because the converter moves biases of dense layers through the graph, and computes some
    layers twice for that.
    """
    content = packing.unpack(model)
    graph, codes = content.subgraphs[0], content.operatorCodes
    found = [op for op in graph.operators if codes[op.opcodeIndex].builtinCode == schema.BuiltinOperator.CONV_2D
             and _is_pointwise(op.builtinOptions, graph.tensors[op.inputs[0]].shape, graph.tensors[op.inputs[1]].shape)]
    if not found:
        return model
    dense = schema.OperatorCodeT()
    dense.builtinCode = dense.deprecatedBuiltinCode = schema.BuiltinOperator.FULLY_CONNECTED
    dense.version = _KEEPS_SHAPE
    codes.append(dense)
    for op in found:
        options = schema.FullyConnectedOptionsT()
        options.fusedActivationFunction, options.keepNumDims = op.builtinOptions.fusedActivationFunction, True
        op.opcodeIndex, op.builtinOptions = len(codes) - 1, options
        op.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
    for index in {op.inputs[1] for op in found}:
        kernel = graph.tensors[index]
        kernel.shape = kernel.shapeSignature = [kernel.shape[0], kernel.shape[-1]]
    return packing.pack(content)


def _is_pointwise(options: schema.Conv2DOptionsT, image: list[int], kernel: list[int]) -> bool:
    return (list(kernel[1:3]) == [1, 1] and kernel[3] == image[3] and options.strideH == options.strideW == 1)
