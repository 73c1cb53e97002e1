"""What the numbers at the end of a network are: logits, probabilities, or one sigmoid.

A network with a single output tells two classes apart. Its scores become two columns wherever
classes are compared, so that accuracy, agreement and fidelity need no second rule.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from edgeq_lib.tflite.reader import read_graph

Kind = Literal["logits", "probabilities", "sigmoid"]
# Ops that hand on their first operand's numbers, in another shape or type at most.
_PASS_ON = {"RESHAPE", "SQUEEZE", "EXPAND_DIMS", "CAST", "QUANTIZE", "DEQUANTIZE", "TRANSPOSE"}


def file_output_kind(model: bytes) -> Kind:
    """Tell from the end of a flatbuffer's graph what its output holds.

    Args:
        model: Content of a `.tflite` file with one output.

    Returns:
        "probabilities" behind a SOFTMAX, "sigmoid" behind a LOGISTIC, both also where reshapes and
        casts follow; "logits" else.

    Raises:
        EdgeqError: The file is no sound flatbuffer.
    """
    graph = read_graph(model)
    makers = {tensor: op for op in graph.ops for tensor in op.outputs}
    tensor = graph.outputs[0]
    while (op := makers.get(tensor)) is not None and op.name in _PASS_ON:
        tensor = op.inputs[0]
    if op is None:
        return "logits"
    return {"SOFTMAX": "probabilities", "LOGISTIC": "sigmoid"}.get(op.name, "logits")  # type: ignore[return-value]


def two_columns(outputs: np.ndarray, kind: Kind, detail: Any = None) -> np.ndarray:
    """Turn the single output of a two-class network into a score per class.

    Args:
        outputs: (n, 1), larger for the second class. With more columns they are returned as they
            are.
        kind: What the output holds: both classes are equally likely at 0.5 of a sigmoid, and at 0
            of a logit.
        detail: An interpreter's description of the output, whose integers stand for such values;
            None for floats.

    Returns:
        (n, 2): the value at which both are equally likely, and the output. Integers stay what they
        are where that value is one of their codes (as with LiteRT's own sigmoid, whose scale is
        1/256), and become float32 codes else; both are dequantized like the output itself.
    """
    if outputs.ndim != 2 or outputs.shape[1] != 1:
        return outputs
    even = 0.5 if kind == "sigmoid" else 0.0
    if detail is not None and np.issubdtype(detail["dtype"], np.integer):
        scale, zero_point = detail["quantization"]
        even, bounds = even / scale + zero_point, np.iinfo(detail["dtype"])
        if even != round(even) or not bounds.min <= even <= bounds.max:
            outputs = outputs.astype(np.float32)
    return np.concatenate([np.full_like(outputs, even), outputs], axis=1)


def class_scores(model: bytes, outputs: np.ndarray, detail: Any) -> np.ndarray:
    """Turn a file's outputs into a score per class.

    Args:
        model: Content of the `.tflite` file.
        outputs: What it answered, (n, outputs), in the output's own type.
        detail: An interpreter's description of the output.

    Returns:
        The outputs; of a file with one output two columns, see `two_columns`.
    """
    if outputs.ndim != 2 or outputs.shape[1] != 1:
        return outputs
    return two_columns(outputs, file_output_kind(model), detail)
