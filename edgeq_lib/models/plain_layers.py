"""Operations of a network as plain Keras layers, which graph rewriting and training know.

TensorFlow functions in a functional Keras 2 model (`x + 3.0`, `tf.nn.relu6(x)`) become layers of
the class TFOpLambda, those of a Keras 3 model nodes of their own; no quantizer has a place there.
What they compute is written here with layers: a constant factor or summand is a Rescaling, a hard
swish is x · relu6(x + 3) / 6 (Howard et al., arXiv 1905.02244).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from edgeq_lib.models.graph import Replacement, clone, rebuild
from edgeq_lib.models.tf import keras

layers = keras.layers


class NotPlainError(Exception):
    """An operation has no plain layers; the message says which."""


def op_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """List the layers of a model that TensorFlow functions became.

    Args:
        model: A functional model.

    Returns:
        The layers, in the model's order.
    """
    return [layer for layer in model.layers if type(layer).__name__ in _OP_CLASSES]


def with_plain_layers(model: keras.Model) -> keras.Model:
    """Rewrite the TensorFlow functions of a functional model with plain layers.

    Args:
        model: A flat model.

    Returns:
        A copy; functions that have no plain layers stay as they are (`op_layers` lists them).
    """

    def replace(layer: keras.layers.Layer) -> Replacement:
        return _plain_or_same(layer) if type(layer).__name__ in _OP_CLASSES else None

    return rebuild(model, replace)


def _plain_or_same(layer: keras.layers.Layer) -> Callable[..., Any]:
    calls = itertools.count()

    def call(*args: Any, **kwargs: Any) -> Any:
        number = next(calls)
        name = f"{_name(layer)}_call{number}" if number else _name(layer)
        try:
            return plain_call(_symbol(layer), name, args, kwargs)
        except NotPlainError:
            return clone(layer, name=f"{layer.name}_call{number}" if number else layer.name)(
                *args, **kwargs
            )

    return call


def plain_call(op: str, name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Compute what an operation computes, by plain layers.

    Args:
        op: Its name: a key of `OPS`.
        name: The stem of the layers' names.
        args: Its positional arguments, Keras 2 tensors among them.
        kwargs: Its keyword arguments.

    Returns:
        The Keras 2 tensor.

    Raises:
        NotPlainError: For an operation that there are no plain layers for, or used in a way that
            they do not have.
    """
    write = OPS.get(op)
    if write is None:
        raise NotPlainError(f"the operation {op}")
    kwargs = {
        key: value
        for key, value in kwargs.items()
        if key != "name" and (key, value) not in (("conjugate", False), ("data_format", None))
    }
    try:
        return write(name, *args, **kwargs)
    except TypeError as error:  # arguments that the plain form does not know
        raise NotPlainError(f"the operation {op} as it is used here ({error})") from None


_OP_CLASSES = ("TFOpLambda", "SlicingOpLambda")


def _symbol(layer: keras.layers.Layer) -> str:
    return layer.get_config()["function"].rsplit(".", 1)[-1]


def _name(layer: keras.layers.Layer) -> str:
    return layer.name.removeprefix("tf.").replace(".", "_").replace("__operators__", "op")


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "_keras_history")


def _constant(value: Any) -> float | list[float]:
    """A constant as Rescaling takes it: one number, or one per channel."""
    array = np.asarray(value, np.float64)
    if array.size == 1:
        return float(array.reshape(()))
    if array.size != array.shape[-1]:
        raise NotPlainError("a constant that differs between pixels")
    return array.reshape(-1).tolist()


def _scaled(name: str, x: Any, scale: Any, offset: Any) -> Any:
    return layers.Rescaling(_constant(scale), _constant(offset), name=name)(x)


def _merged(name: str, layer: Any, x: Any, y: Any) -> Any:
    if len(x.shape) != len(y.shape):
        raise NotPlainError("operands with different numbers of axes")
    return layer(name=name)([x, y])


def _add(name: str, x: Any, y: Any) -> Any:
    if _is_tensor(x) and _is_tensor(y):
        return _merged(name, layers.Add, x, y)
    return _scaled(name, x, 1.0, y) if _is_tensor(x) else _scaled(name, y, 1.0, x)


def _subtract(name: str, x: Any, y: Any) -> Any:
    if _is_tensor(x) and _is_tensor(y):
        return _merged(name, layers.Subtract, x, y)
    if _is_tensor(x):
        return _scaled(name, x, 1.0, -np.asarray(y, np.float64))
    return _scaled(name, y, -1.0, x)


def _multiply(name: str, x: Any, y: Any) -> Any:
    if _is_tensor(x) and _is_tensor(y):
        return _merged(name, layers.Multiply, x, y)
    return _scaled(name, x, y, 0.0) if _is_tensor(x) else _scaled(name, y, x, 0.0)


def _divide(name: str, x: Any, y: Any) -> Any:
    if _is_tensor(y):
        raise NotPlainError("a division by a tensor")
    return _scaled(name, x, 1 / np.asarray(y, np.float64), 0.0)


def _clip(name: str, x: Any, low: Any, high: Any) -> Any:
    if float(low) != 0.0:
        raise NotPlainError("a clip that does not begin at 0")
    return layers.ReLU(float(high), name=name)(x)


def _extreme(layer: Any, name: str, x: Any, y: Any) -> Any:
    if _is_tensor(x) and _is_tensor(y):
        return _merged(name, layer, x, y)
    tensor, constant = (x, y) if _is_tensor(x) else (y, x)
    if layer is not layers.Maximum or np.any(np.asarray(constant) != 0):
        raise NotPlainError("a maximum or minimum with a constant other than max(x, 0)")
    return layers.ReLU(name=name)(tensor)


def hard_sigmoid(name: str, x: Any) -> Any:
    """Compute relu6(x + 3) / 6, the hard sigmoid of MobileNetV3 and of Keras 3.

    Args:
        name: The stem of the layers' names.
        x: A Keras 2 tensor.
    """
    x = layers.ReLU(6.0, name=f"{name}_relu6")(_scaled(f"{name}_shift", x, 1.0, 3.0))
    return _scaled(name, x, 1 / 6, 0.0)


def hard_swish(name: str, x: Any) -> Any:
    """Compute x · relu6(x + 3) / 6.

    Args:
        name: The stem of the layers' names.
        x: A Keras 2 tensor.
    """
    return layers.Multiply(name=name)([x, hard_sigmoid(f"{name}_gate", x)])


def _leaky_relu(name: str, x: Any, alpha: float = 0.2, negative_slope: float | None = None) -> Any:
    slope = alpha if negative_slope is None else negative_slope
    return layers.LeakyReLU(float(slope), name=name)(x)


def _pooled(average: bool, name: str, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    axes = [] if axis is None else sorted(int(a) % len(x.shape) for a in np.ravel(axis))
    if len(x.shape) != 4 or axes != [1, 2]:
        raise NotPlainError("a mean or maximum over other axes than height and width")
    pool = layers.GlobalAveragePooling2D if average else layers.GlobalMaxPooling2D
    return pool(keepdims=bool(keepdims), name=name)(x)


def _reshape(name: str, x: Any, shape: Any) -> Any:
    if any(_is_tensor(size) for size in shape) or shape[0] not in (-1, None):
        raise NotPlainError("a reshape that states the number of images")
    return layers.Reshape([-1 if size is None else int(size) for size in shape[1:]], name=name)(x)


def _transpose(name: str, x: Any, perm: Any = None) -> Any:
    order = list(range(len(x.shape)))[::-1] if perm is None else [int(axis) for axis in perm]
    if order[0] != 0:
        raise NotPlainError("a transpose that moves the axis of images")
    return x if order == sorted(order) else layers.Permute(order[1:], name=name)(x)


def _concat(name: str, values: Any, axis: int = -1) -> Any:
    if not all(_is_tensor(value) for value in values):
        raise NotPlainError("a concatenation with a constant")
    return layers.Concatenate(int(axis), name=name)(list(values))


def _pad(
    name: str,
    x: Any,
    paddings: Any,
    mode: str = "CONSTANT",
    _: Any = None,  # tf.pad has its name here
    constant_values: Any = 0,
) -> Any:
    pads = np.asarray(paddings).tolist()
    outer = len(pads) != 4 or any(pads[0]) or any(pads[3])
    if outer or mode.upper() != "CONSTANT" or float(constant_values or 0) != 0.0:
        raise NotPlainError("padding other than zeros around the image")
    return layers.ZeroPadding2D(((*pads[1],), (*pads[2],)), name=name)(x)


def _softmax(name: str, x: Any, axis: int = -1) -> Any:
    return layers.Softmax(int(axis), name=name)(x)


def _same(name: str, x: Any, *_: Any, **__: Any) -> Any:
    return x


def _active(activation: str) -> Callable[..., Any]:
    return lambda name, x: layers.Activation(activation, name=name)(x)


# What TensorFlow and Keras 3 call an operation, without its module → the layers that compute it:
# a function of the layers' name and the operation's arguments.
OPS: dict[str, Callable[..., Any]] = {
    "add": _add,
    "add_v2": _add,
    "radd": _add,
    "subtract": _subtract,
    "sub": _subtract,
    "rsub": lambda name, x, y: _subtract(name, y, x),
    "multiply": _multiply,
    "mul": _multiply,
    "rmul": _multiply,
    "divide": _divide,
    "truediv": _divide,
    "true_divide": _divide,
    "relu": lambda name, x: layers.ReLU(name=name)(x),
    "relu6": lambda name, x: layers.ReLU(6.0, name=name)(x),
    "leaky_relu": _leaky_relu,
    "hard_sigmoid": hard_sigmoid,
    "hard_silu": hard_swish,
    "hard_swish": hard_swish,
    "silu": _active("swish"),
    "swish": _active("swish"),
    **{
        name: _active(name)
        for name in ("sigmoid", "tanh", "softplus", "softsign", "elu", "selu", "gelu")
    },
    "softmax": _softmax,
    "reduce_mean": lambda name, x, axis=None, keepdims=False: _pooled(
        True, name, x, axis, keepdims
    ),
    "mean": lambda name, x, axis=None, keepdims=False: _pooled(True, name, x, axis, keepdims),
    "reduce_max": lambda name, x, axis=None, keepdims=False: _pooled(
        False, name, x, axis, keepdims
    ),
    "max": lambda name, x, axis=None, keepdims=False: _pooled(False, name, x, axis, keepdims),
    "clip_by_value": lambda name, t, clip_value_min, clip_value_max: _clip(
        name, t, clip_value_min, clip_value_max
    ),
    "clip": lambda name, x, x_min, x_max: _clip(name, x, x_min, x_max),
    "maximum": lambda name, x, y: _extreme(layers.Maximum, name, x, y),
    "minimum": lambda name, x, y: _extreme(layers.Minimum, name, x, y),
    "reshape": lambda name, tensor, shape: _reshape(name, tensor, shape),
    "flatten": lambda name, x: layers.Flatten(name=name)(x),
    "transpose": lambda name, a, perm=None: _transpose(name, a, perm),
    "concat": lambda name, values, axis: _concat(name, values, axis),
    "concatenate": _concat,
    "pad": lambda name, tensor, *args, **kwargs: _pad(name, tensor, *args, **kwargs),
    "identity": _same,
    "stop_gradient": _same,
    "convert_to_tensor": _same,
}
