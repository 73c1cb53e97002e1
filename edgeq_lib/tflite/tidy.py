"""Rewrites of float flatbuffers from other frameworks that keep the function.

1. What a batch of unknown size left behind (SHAPE, STRIDED_SLICE, PACK …) is constant at a batch of
   one, and is computed once, here.
2. PyTorch pads a maximum with the lowest number, and an int8 range that reaches there is none.
   Zeros do the same where nothing is negative; elsewhere the border's own pixels, mirrored, which
   never exceed a maximum that they are part of.
3. PyTorch flattens channels first: the order goes into the weights of the dense layer that follows.
4. Names of hundreds of characters become short.
"""

from __future__ import annotations

import copy
from collections import Counter

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgeq_lib.tflite.reader import Graph, read_graph
from edgeq_lib.tflite.runtime import make_interpreter
from edgeq_lib.tflite.writer import pack, unpack

_LONG = 48  # characters of a tensor's name
_LOWEST = -1e30  # what pads a maximum is at most this
_NON_NEGATIVE = ("RELU", "RELU6", "RELU_0_TO_1", "LOGISTIC", "SOFTMAX")


def tidy(model: bytes) -> bytes:
    """Fold constants, pad maxima without the lowest number, flatten in order, shorten names.

    Args:
        model: A float flatbuffer of batch 1.

    Returns:
        The flatbuffer; it computes the same.
    """
    return _short_names(_flattened_in_order(_maxima_padded(_constants_folded(model))))


def _constants_folded(model: bytes) -> bytes:
    """Compute integer tensors that depend on shapes alone, and drop the ops that do so."""
    graph = read_graph(model)
    known = {index for index, tensor in enumerate(graph.tensors) if tensor.constant}
    folded = []
    for number, op in enumerate(graph.ops):
        integers = all(graph.tensors[index].dtype in ("INT32", "INT64") for index in op.outputs)
        from_known = all(index in known for index in op.inputs if index >= 0)
        if integers and (op.name == "SHAPE" or from_known):
            known |= set(op.outputs)
            folded.append(number)
    if not folded:
        return model
    interpreter = make_interpreter(model, keep_tensors=True, xnnpack=False)
    interpreter.invoke()
    content = unpack(model)
    main = content.subgraphs[0]
    for number in folded:
        for index in graph.ops[number].outputs:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(interpreter.get_tensor(index).tobytes(), np.uint8)
            content.buffers.append(buffer)
            main.tensors[index].buffer = len(content.buffers) - 1
    main.operators = [
        operator for number, operator in enumerate(main.operators) if number not in folded
    ]
    return pack(content)


def _maxima_padded(model: bytes) -> bytes:
    graph, content = read_graph(model), unpack(model)
    main = content.subgraphs[0]
    changed = False
    for number, op in enumerate(graph.ops):
        value = _constant(content, op.inputs[2]) if op.name == "PADV2" else None
        readers = _readers(graph, op.outputs[0])
        if (
            value is None
            or float(value.reshape(-1)[0]) > _LOWEST
            or op.outputs[0] in graph.outputs
            or {graph.ops[reader].name for reader in readers} != {"MAX_POOL_2D"}
        ):
            continue
        operator = main.operators[number]
        if _never_negative(graph, content, number):
            zero = _other_values(content, op.inputs[2], np.zeros_like(value))
            operator.inputs = [*operator.inputs[:2], zero]
        elif _within_windows(content, op.inputs[1], [main.operators[at] for at in readers]):
            operator.inputs = list(operator.inputs[:2])
            operator.opcodeIndex = _mirror_pad(content)
            operator.builtinOptionsType = schema.BuiltinOptions.MirrorPadOptions
            operator.builtinOptions = schema.MirrorPadOptionsT()
            operator.builtinOptions.mode = schema.MirrorPadMode.SYMMETRIC
        else:
            continue
        changed = True
    return pack(content) if changed else model


def _within_windows(content: schema.ModelT, paddings: int, pools: list[schema.OperatorT]) -> bool:
    """Whether each mirrored pixel lies in a window with the pixel that it repeats."""
    pads = _constant(content, paddings)
    if pads is None or pads.shape != (4, 2) or pads[[0, 3]].any():
        return False
    sizes = [(pool.builtinOptions.filterHeight, pool.builtinOptions.filterWidth) for pool in pools]
    return all(2 * pads[1 + axis].max() <= size[axis] for size in sizes for axis in (0, 1))


def _mirror_pad(content: schema.ModelT) -> int:
    """The index of MIRROR_PAD's operator code, which is added unless it is there."""
    for index, code in enumerate(content.operatorCodes):
        if code.builtinCode == schema.BuiltinOperator.MIRROR_PAD:
            return index
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.MIRROR_PAD
    code.version = 1
    content.operatorCodes.append(code)
    return len(content.operatorCodes) - 1


def _never_negative(graph: Graph, content: schema.ModelT, number: int) -> bool:
    """Whether what op `number` reads is the result of a relu or the like."""
    source = graph.ops[number].inputs[0]
    for position, op in enumerate(graph.ops):
        if source in op.outputs:
            options = content.subgraphs[0].operators[position].builtinOptions
            fused = getattr(options, "fusedActivationFunction", 0)
            relus = schema.ActivationFunctionType
            return op.name in _NON_NEGATIVE or fused in (relus.RELU, relus.RELU6)
    return False


def _flattened_in_order(model: bytes) -> bytes:
    """Drop a transpose to channels first before a flattening: the dense layer's weights take it."""
    graph, content = read_graph(model), unpack(model)
    main = content.subgraphs[0]
    dropped = []
    for number, op in enumerate(graph.ops):
        order = _constant(content, op.inputs[1]) if op.name == "TRANSPOSE" else None
        if order is None or order.tolist() != [0, 3, 1, 2]:
            continue
        flatten = _only_reader(graph, op.outputs[0], "RESHAPE")
        dense = (
            None
            if flatten is None
            else (_only_reader(graph, graph.ops[flatten].outputs[0], "FULLY_CONNECTED"))
        )
        if flatten is None or dense is None:
            continue
        _, *shape = graph.tensors[op.outputs[0]].shape  # channels, height, width
        weights = _constant(content, graph.ops[dense].inputs[1])
        flat = graph.tensors[graph.ops[flatten].outputs[0]].shape
        if weights is None or flat != (1, int(np.prod(shape))) or weights.shape[1] != flat[1]:
            continue
        moved = weights.reshape(-1, *shape).transpose(0, 2, 3, 1).reshape(weights.shape)
        inputs = list(main.operators[dense].inputs)
        inputs[1] = _other_values(content, inputs[1], np.ascontiguousarray(moved))
        main.operators[dense].inputs = inputs
        main.operators[flatten].inputs = [op.inputs[0], *main.operators[flatten].inputs[1:]]
        dropped.append(number)
    main.operators = [
        operator for number, operator in enumerate(main.operators) if number not in dropped
    ]
    return pack(content) if dropped else model


def _readers(graph: Graph, index: int) -> list[int]:
    return [number for number, op in enumerate(graph.ops) if index in op.inputs]


def _only_reader(graph: Graph, index: int, kind: str) -> int | None:
    """The one op that reads a tensor as its first operand, if it is of that kind."""
    readers = _readers(graph, index)
    if len(readers) != 1 or index in graph.outputs:
        return None
    op = graph.ops[readers[0]]
    return readers[0] if op.name == kind and op.inputs[0] == index else None


_DTYPES = {schema.TensorType.FLOAT32: np.float32, schema.TensorType.INT32: np.int32}


def _constant(content: schema.ModelT, index: int) -> np.ndarray | None:
    """The values of a float32 or int32 constant; None for another tensor."""
    tensor = content.subgraphs[0].tensors[index]
    data = content.buffers[tensor.buffer].data
    if data is None or tensor.type not in _DTYPES:
        return None
    shape = () if tensor.shape is None else tuple(tensor.shape)
    return np.frombuffer(bytes(data), _DTYPES[tensor.type]).reshape(shape)


def _other_values(content: schema.ModelT, index: int, values: np.ndarray) -> int:
    """A constant like the one at `index` with other values: itself, unless other ops read it."""
    graph, buffer = content.subgraphs[0], schema.BufferT()
    buffer.data = np.frombuffer(values.tobytes(), np.uint8)
    tensor = graph.tensors[index]
    readers = sum(list(operator.inputs).count(index) for operator in graph.operators)
    sharers = sum(other.buffer == tensor.buffer for other in graph.tensors)
    if readers == sharers == 1:
        content.buffers[tensor.buffer] = buffer
        return index
    tensor = copy.deepcopy(tensor)
    content.buffers.append(buffer)
    tensor.buffer = len(content.buffers) - 1
    tensor.name = f"{_text(tensor.name)}_{len(graph.tensors)}"
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1


def _short_names(model: bytes) -> bytes:
    """Name computed tensors with long names by their op and its number, constants after readers."""
    graph = read_graph(model)
    if all(len(tensor.name) <= _LONG for tensor in graph.tensors):
        return model
    content = unpack(model)
    tensors, count = content.subgraphs[0].tensors, Counter[str]()
    taken = {tensor.name for tensor in graph.tensors}
    for op in graph.ops:
        stem = f"{op.name.lower()}_{count[op.name]}"
        count[op.name] += 1
        pairs = [(index, stem) for index in op.outputs]
        pairs += [(index, f"{stem}/operand_{at}") for at, index in enumerate(op.inputs)]
        for index, name in pairs:
            if index >= 0 and len(graph.tensors[index].name) > _LONG and name not in taken:
                if len(_text(tensors[index].name)) > _LONG:
                    tensors[index].name = name
                    taken.add(name)
    return pack(content)


def _text(name: bytes | str | None) -> str:
    return name.decode(errors="replace") if isinstance(name, bytes) else name or ""
