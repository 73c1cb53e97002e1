"""A float flatbuffer from elsewhere, checked, its batch fixed to one, and tidied (`tflite.tidy`).

Every stage expects one float32 input of batch 1, one float32 row of scores, nothing quantized.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from edgeq_lib.files import EdgeqError
from edgeq_lib.tflite.buffers import writable_buffers
from edgeq_lib.tflite.reader import read_graph
from edgeq_lib.tflite.tidy import tidy
from edgeq_lib.tflite.writer import pack, unpack

_QUANTIZED = ("INT8", "UINT8", "INT4", "UINT4", "INT2", "INT16", "FLOAT16", "BFLOAT16")


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
