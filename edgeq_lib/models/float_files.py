"""A float flatbuffer from elsewhere, checked and brought into the form that all stages expect.

1. One float32 input of batch 1, one float32 row of scores, nothing quantized.
2. What a batch of unknown size left behind (SHAPE, STRIDED_SLICE, PACK …) is constant at a batch of
   one, and is computed once, here.
3. Padding with the lowest number before a maximum, PyTorch's way, becomes padding with zeros where
   nothing is negative: an int8 range that reaches to the lowest number is none.
4. Names of hundreds of characters become short.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from edgeq_lib.files import EdgeqError
from edgeq_lib.tflite.buffers import writable_buffers
from edgeq_lib.tflite.reader import Graph, read_graph
from edgeq_lib.tflite.runtime import make_interpreter
from edgeq_lib.tflite.writer import pack, unpack

_QUANTIZED = ("INT8", "UINT8", "INT4", "UINT4", "INT2", "INT16", "FLOAT16", "BFLOAT16")
_LONG = 48  # characters of a tensor's name
_LOWEST = -1e30  # what pads a maximum is at most this
_NON_NEGATIVE = ("RELU", "RELU6", "RELU_0_TO_1", "LOGISTIC", "SOFTMAX")


def read_float_file(path: Path) -> bytes:
    """Read a float `.tflite` file, and fix its batch to one.

    Args:
        path: The file.

    Returns:
        The flatbuffer, tidied (`tidy`).

    Raises:
        EdgeqError: When it is garbled, quantized, has several inputs or outputs, or a batch that is
            not one and cannot be made one.
    """
    model = path.read_bytes()
    graph = read_graph(model)
    _check_survives(path)
    kinds = sorted({tensor.dtype for tensor in graph.tensors if tensor.dtype in _QUANTIZED})
    if kinds or any(tensor.scales for tensor in graph.tensors):
        what = ", ".join(kind.lower() for kind in kinds) or "scales"
        raise EdgeqError(
            f"{path.name} is quantized already (it holds {what}); give the float32 file that it "
            "was made from."
        )
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise EdgeqError(
            f"{path.name} has {len(graph.inputs)} inputs and {len(graph.outputs)} outputs; the "
            "network must map one image to one row of class scores."
        )
    ends = [graph.tensors[index] for index in (*graph.inputs, *graph.outputs)]
    if any(end.dtype != "FLOAT32" for end in ends):
        raise EdgeqError(
            f"{path.name} takes {ends[0].dtype.lower()} and gives {ends[1].dtype.lower()}; convert "
            "the network again with float32 input and output."
        )
    for index, values in writable_buffers(bytearray(model)).items():
        if not np.isfinite(values).all():
            raise EdgeqError(
                f"{path.name} holds NaN or infinite values in {graph.tensors[index].name!r}; "
                "convert sound weights."
            )
    return tidy(with_batch_one(model, path.name))


def _check_survives(path: Path) -> None:
    """Raise when the file brings LiteRT down, tried in a process of its own."""
    program = (
        "import sys\nfrom ai_edge_litert.interpreter import Interpreter\n"
        "model = Interpreter(model_path=sys.argv[1])\nmodel.allocate_tensors()\nmodel.invoke()"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True)
    if done.returncode < 0:
        raise EdgeqError(
            f"LiteRT crashes on {path.name} (signal {-done.returncode}), so it is damaged; "
            "convert the network again."
        )


def with_batch_one(model: bytes, name: str) -> bytes:
    """Fix the batch of a flatbuffer to one.

    Args:
        model: A flatbuffer with one input.
        name: Of the file, for messages.

    Returns:
        The flatbuffer, its shapes those of a batch of one.

    Raises:
        EdgeqError: When LiteRT cannot compute it at a batch of one.
    """
    graph = read_graph(model)
    shape = graph.tensors[graph.inputs[0]].shape
    if not shape:
        raise EdgeqError(f"{name} takes a single number, not an image.")
    plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    try:
        interpreter = Interpreter(
            model_content=model,
            experimental_op_resolver_type=plain,
            experimental_preserve_all_tensors=True,
        )
        interpreter.resize_tensor_input(graph.inputs[0], (1, *shape[1:]))
        interpreter.allocate_tensors()
        interpreter.set_tensor(graph.inputs[0], np.zeros((1, *shape[1:]), np.float32))
        interpreter.invoke()
        shapes = {
            detail["index"]: [int(size) for size in detail["shape"]]
            for detail in interpreter.get_tensor_details()
        }
    except (ValueError, RuntimeError) as error:
        raise EdgeqError(
            f"LiteRT cannot compute {name} on one image ({str(error).splitlines()[0][:160]}); "
            "convert the network again with a batch of one, for built-in ops only."
        ) from None
    content = unpack(model)
    for index, tensor in enumerate(content.subgraphs[0].tensors):
        if not graph.tensors[index].constant:
            tensor.shape, tensor.shapeSignature = shapes.get(index, tensor.shape), None
    fixed = pack(content)
    outputs = read_graph(fixed)
    last = outputs.tensors[outputs.outputs[0]].shape
    if len(last) != 2 or last[0] != 1:
        raise EdgeqError(
            f"{name} gives outputs of shape {last} for one image; it must be one row of class "
            "scores."
        )
    return fixed


def tidy(model: bytes) -> bytes:
    """Fold constants, pad with zeros, shorten names: see this module's head.

    Args:
        model: A float flatbuffer of batch 1.

    Returns:
        The flatbuffer; it computes the same.
    """
    return _short_names(_zeros_around_maxima(_constants_folded(model)))


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


def _zeros_around_maxima(model: bytes) -> bytes:
    graph, content = read_graph(model), unpack(model)
    main = content.subgraphs[0]
    changed = False
    for number, op in enumerate(graph.ops):
        if op.name != "PADV2" or len(op.inputs) < 3:
            continue
        value = main.tensors[op.inputs[2]]
        data = content.buffers[value.buffer].data
        if data is None or value.type != schema.TensorType.FLOAT32:
            continue
        lowest = float(np.frombuffer(bytes(data), np.float32)[0]) <= _LOWEST
        readers = [other.name for other in graph.ops if op.outputs[0] in other.inputs]
        if lowest and set(readers) == {"MAX_POOL_2D"} and _never_negative(graph, content, number):
            buffer = schema.BufferT()
            buffer.data = np.zeros(4, np.uint8)
            content.buffers.append(buffer)
            value.buffer = len(content.buffers) - 1
            changed = True
    return pack(content) if changed else model


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
