"""What the numbers at the end of a Keras network are (see `tflite.output_kind` for files)."""

from __future__ import annotations

from typing import Any

from edgeq_lib.models.tf import keras, tf
from edgeq_lib.tflite.output_kind import Kind

# Layers, and functions that Keras records as layers, that hand on their input's numbers.
_PASS_ON = (
    keras.layers.Reshape,
    keras.layers.Flatten,
    keras.layers.Permute,
    keras.layers.Dropout,
)
_PASSING_FUNCTIONS = {"cast", "reshape", "squeeze", "expand_dims", "identity", "transpose"}
_KINDS: dict[str, Kind] = {"softmax": "probabilities", "sigmoid": "sigmoid"}


def output_kind(model: keras.Model) -> Kind:
    """Tell from the end of a network's graph what its output holds.

    Reshapes, casts, dropout, `Activation("linear")` and the rounding of quantization-aware training
    are passed over: softmax → Reshape are probabilities like softmax alone.

    Args:
        model: A functional network with one output.

    Returns:
        "probabilities" behind a softmax, "sigmoid" behind a sigmoid, else "logits".
    """
    tensor = model.outputs[0]
    while hasattr(tensor, "_keras_history"):
        layer, node_index, _ = tensor._keras_history
        inner = getattr(layer, "layer", layer)  # of a wrapper of tfmot
        name = _function(inner)
        if name in _KINDS:
            return _KINDS[name]
        if not _passes_on(inner, name):
            break
        tensor = tf.nest.flatten(layer._inbound_nodes[node_index].keras_inputs)[0]
    return "logits"


def class_columns(outputs: tf.Tensor, kind: Kind) -> tf.Tensor:
    """Turn the single output of a two-class network into a score per class, differentiably.

    Args:
        outputs: (n, outputs).
        kind: What they hold.

    Returns:
        (n, 2): 1 - p and p of a sigmoid, 0 and x of a logit; several outputs as they are.
    """
    if outputs.shape[-1] != 1:
        return outputs
    other = 1 - outputs if kind == "sigmoid" else tf.zeros_like(outputs)
    return tf.concat([other, outputs], axis=-1)


def _function(layer: Any) -> str:
    """The name of the function that a layer ends with; "" where it has none."""
    if isinstance(layer, keras.layers.Softmax):
        return "softmax"
    function = getattr(layer, "activation", None)
    if function is None:  # a function called on tensors, such as tf.nn.softmax
        name = str(layer.get_config().get("function", "")) if hasattr(layer, "function") else ""
        return name.rsplit(".", 1)[-1]
    function = getattr(function, "activation", function)  # tfmot wraps it
    return getattr(function, "__name__", "")


def _passes_on(layer: Any, function: str) -> bool:
    is_identity = isinstance(layer, keras.layers.Activation) and function == "linear"
    is_rounding = type(layer).__name__ in ("QuantizeLayer", "Identity")
    return (
        isinstance(layer, _PASS_ON)
        or is_identity
        or is_rounding
        or (hasattr(layer, "function") and function in _PASSING_FUNCTIONS)
    )
