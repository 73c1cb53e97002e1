"""uint8 input and output for an int8 flatbuffer: pixels go in as a camera gives them."""

from __future__ import annotations

import copy

from ai_edge_litert import schema_py_generated as schema

from edgeq_lib import packing
from edgeq_lib.flatbuffer import read
from edgeq_lib.study import EdgeqError


def with_io(model: bytes, io: str) -> bytes:
    """An int8 flatbuffer with input and output of type `io`: `int8` (as it is) or `uint8`."""
    return with_uint8_io(model) if io == "uint8" else model


def with_uint8_io(model: bytes) -> bytes:
    """The same model with uint8 input and output: QUANTIZE ops at its doors, the scale kept, the zero point + 128.

    So does TensorFlow's converter with `inference_input_type = tf.uint8`; results are the int8 results + 128. Inner
    tensors keep their names. Raises EdgeqError when an input or output is not int8.
    """
    graph = read(model)
    for index in (*graph.inputs, *graph.outputs):
        if graph.tensors[index].dtype != "INT8":
            raise EdgeqError(f"'{graph.tensors[index].name}' is {graph.tensors[index].dtype.lower()}, not int8: give a "
                             "model with int8 input and output.")
    content = packing.unpack(model)
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
        op.builtinOptionsType, op.builtinOptions = schema.BuiltinOptions.QuantizeOptions, schema.QuantizeOptionsT()
        return op

    fronts = {index: door(index) for index in main.inputs}
    backs = {index: door(index) for index in main.outputs}
    main.operators = [*(convert(new, old) for old, new in fronts.items()), *main.operators,
                      *(convert(old, new) for old, new in backs.items())]
    main.inputs = [fronts[index] for index in main.inputs]
    main.outputs = [backs[index] for index in main.outputs]
    for signature in content.signatureDefs or []:
        if signature.subgraphIndex == 0:
            for maps, doors in ((signature.inputs, fronts), (signature.outputs, backs)):
                for entry in maps:
                    entry.tensorIndex = doors[entry.tensorIndex]
    return packing.pack(content)
