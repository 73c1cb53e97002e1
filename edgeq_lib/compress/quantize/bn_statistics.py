"""Statistics from batch norms alone: mean, variance and range of each channel, without an image.

1. A batch norm leaves the data that it was trained on with mean beta and standard deviation gamma
   in each channel.
2. Taken as normal, these pass through activations in closed form.
3. Where no batch norm says anything (sums, means, scores) they are propagated as if what meets were
   independent (Nagel et al., arXiv 1906.04721, section 4.2 and appendix).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgeq_lib.compress.quantize.calibration import Ranges, range_with_integral_zero
from edgeq_lib.compress.quantize.kernels import Kernel, float_kernels, is_kernel_of, nearly_equal
from edgeq_lib.files import EdgeqError
from edgeq_lib.models.graph import WITH_KERNEL, fold_batch_norms, only_consumer
from edgeq_lib.models.tf import keras
from edgeq_lib.tflite.buffers import writable_buffers
from edgeq_lib.tflite.reader import read_graph

_POINTS = np.linspace(-6, 6, 241)  # where a normal distribution is sampled, in standard deviations
_SHARES = np.exp(-(_POINTS**2) / 2) / np.exp(-(_POINTS**2) / 2).sum()
_ACTIVATIONS = {
    value: name for name, value in vars(schema.ActivationFunctionType).items() if name.isupper()
}


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(x, -80, 80)))


UNARY: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "NONE": lambda x: x,
    "RELU": lambda x: np.maximum(x, 0),
    "RELU6": lambda x: np.clip(x, 0, 6),
    "TANH": np.tanh,
    "LOGISTIC": _sigmoid,
    "HARD_SWISH": lambda x: x * np.clip(x + 3, 0, 6) / 6,
}
# Sums of channels that no batch norm speaks for reach so many times as far as if channels were
# independent, which those of
# a trained network are not: a margin, not a law.
_TOGETHER = 2
_UNCHANGED = ("MEAN", "AVERAGE_POOL_2D", "MAX_POOL_2D", "RESHAPE", "SQUEEZE")


@dataclass(frozen=True)
class Moments:
    """A tensor's channels: mean, deviation and the believed range, float64 (channels,)."""

    mean: np.ndarray
    std: np.ndarray
    low: np.ndarray
    high: np.ndarray


Norms = dict[
    str, tuple[np.ndarray, np.ndarray]
]  # output of an op → beta and |gamma| of its channels, before activation


def activations(model: bytes) -> list[str]:
    """List the activation fused into each op of a flatbuffer, "NONE" where there is none."""
    table, found = schema.Model.GetRootAs(model).Subgraphs(0), []
    kinds = {
        value: name
        for name, value in vars(schema.BuiltinOptions).items()
        if not name.startswith("_")
    }
    for number in range(table.OperatorsLength()):
        op = table.Operators(number)
        reader = getattr(schema, kinds[op.BuiltinOptionsType()], None)
        if reader is not None and hasattr(reader, "FusedActivationFunction"):
            options = reader()
            options.Init(op.BuiltinOptions().Bytes, op.BuiltinOptions().Pos)
            found.append(_ACTIVATIONS[options.FusedActivationFunction()])
        else:
            found.append("NONE")
    return found


def batch_norm_statistics(model: keras.Model, float_model: bytes) -> Norms:
    """Find beta and |gamma| of the batch norms that were folded into the kernels of a flatbuffer.

    Layers and ops are paired by their folded weights and biases, since the converter's names are no
    guide.

    Args:
        model: The Keras model, batch norms in place.
        float_model: The float flatbuffer made from it.

    Raises:
        EdgeqError: When the flatbuffer was not made from this model, or no batch norm follows a
            layer with weights.
    """
    folded, found, left = fold_batch_norms(model), {}, float_kernels(float_model)
    followed = 0
    for layer in model.layers:
        norm = only_consumer(model, layer)
        if (
            not isinstance(layer, WITH_KERNEL)
            or not isinstance(norm, keras.layers.BatchNormalization)
            or norm.name in {each.name for each in folded.layers}
        ):
            continue
        followed += 1
        kernel, bias = folded.get_layer(layer.name).get_weights()
        for each in left:
            if is_kernel_of(each, kernel) and nearly_equal(each.bias, bias):
                beta = norm.beta.numpy() if norm.center else np.zeros(len(bias))
                gamma = norm.gamma.numpy() if norm.scale else np.ones(len(bias))
                found[each.name] = beta.astype(np.float64), np.abs(gamma).astype(np.float64)
                left.remove(each)
                break
    if not found or len(found) < followed:
        raise EdgeqError(
            "The network's batch norms cannot be found in its float file; data-free quantization "
            "needs a network "
            "with batch norms and the float file that was converted from it: run 02_baseline again."
        )
    return found


def tensor_moments(
    model: bytes, norms: Norms, input_range: tuple[float, float], reach: float = 6.0
) -> dict[int, Moments]:
    """Propagate moments through a float flatbuffer, the input's being uniform in its range.

    A range is mean ± `reach` standard deviations per channel before the activation (twice that
    where a kernel has no batch norm), then what the activation makes of it.

    Args:
        model: The float flatbuffer.
        norms: Statistics of its batch norms.
        input_range: The range of the network's input.
        reach: Standard deviations.

    Returns:
        Tensor index → moments, of every computed tensor.

    Raises:
        EdgeqError: For an op that it has no rule for.
    """
    graph, fused, constants = (
        read_graph(model),
        activations(model),
        writable_buffers(bytearray(model)),
    )
    kernels = {kernel.number: kernel for kernel in float_kernels(model)}
    width = graph.tensors[graph.inputs[0]].shape[-1]
    low, high = input_range
    found = {
        graph.inputs[0]: Moments(
            *(
                np.full(width, value)
                for value in ((low + high) / 2, (high - low) / np.sqrt(12), low, high)
            )
        )
    }
    for number, op in enumerate(graph.ops):
        parts = [
            found.get(index) or _constant(constants[index])
            for index in op.inputs
            if index in found or (op.name in ("ADD", "MUL") and index in constants)
        ]
        shape = graph.tensors[op.outputs[0]].shape
        if number in kernels:
            name = kernels[number].name
            result = (
                _normal(*norms[name], reach)
                if name in norms
                else _normal(*_through(kernels[number], parts[0]), _TOGETHER * reach)
            )
        elif op.name == "ADD":
            result = _normal(
                parts[0].mean + parts[1].mean, np.hypot(parts[0].std, parts[1].std), reach
            )
            result = _within(result, parts[0].low + parts[1].low, parts[0].high + parts[1].high)
        elif op.name == "MUL":
            swish = [
                at
                for at, index in enumerate(op.inputs)
                if any(
                    other.name == "LOGISTIC"
                    and other.outputs[0] == index
                    and other.inputs[0] == op.inputs[1 - at]
                    for other in graph.ops
                )
            ]
            result = (
                unary(parts[1 - swish[0]], lambda x: x * _sigmoid(x)) if swish else _product(*parts)
            )
        elif op.name in UNARY:
            result = unary(parts[0], UNARY[op.name])
        elif op.name in _UNCHANGED:
            result = parts[0]
        elif op.name in ("PAD", "PADV2"):
            result = _within(parts[0], -np.inf, np.inf, zero=True)
        elif op.name == "CONCATENATION":
            result = Moments(
                *(
                    np.concatenate([getattr(part, field) for part in parts])
                    for field in ("mean", "std", "low", "high")
                )
            )
        elif op.name == "SOFTMAX":
            result = Moments(
                *(np.full(shape[-1], value) for value in (1 / shape[-1], 1 / shape[-1], 0.0, 1.0))
            )
        else:
            raise EdgeqError(
                f"There is no rule for the range of {op.name} without images; calibrate on "
                "images (03_ptq)."
            )
        result = unary(result, UNARY[fused[number]]) if fused[number] != "NONE" else result
        found[op.outputs[0]] = _spread(result, shape)
    return found


def ranges_from_moments(
    model: bytes, norms: Norms, input_range: tuple[float, float], reach: float = 6.0
) -> Ranges:
    """Return activation ranges as `calibration.calibrate` does, from the batch norms alone."""
    graph, result = read_graph(model), {}
    for index, moments in tensor_moments(model, norms, input_range, reach).items():
        tensor = graph.tensors[index]
        ends = (
            range_with_integral_zero(*input_range)
            if index in graph.inputs
            else (moments.low.min(), moments.high.max())
        )
        result[tensor.name] = {
            key: np.full((1,) * len(tensor.shape), end, np.float32)
            for key, end in zip(("min", "max"), ends, strict=True)
        }
    return result


def unary(moments: Moments, function: Callable[[np.ndarray], np.ndarray]) -> Moments:
    """Pass moments through an elementwise function: by quadrature, the range by trying it."""
    values = function(moments.mean + moments.std * _POINTS[:, None])
    mean = _SHARES @ values
    ends = function(np.linspace(moments.low, moments.high, 201))
    return Moments(
        mean, np.sqrt(_SHARES @ (values - mean) ** 2), ends.min(axis=0), ends.max(axis=0)
    )


def _normal(mean: np.ndarray, std: np.ndarray, reach: float) -> Moments:
    return Moments(mean, std, mean - reach * std, mean + reach * std)


def _through(kernel: Kernel, source: Moments) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of what a kernel computes from independent channels."""
    inputs = np.arange(len(kernel.weights)) % len(source.mean)  # the input channel varies fastest
    if kernel.kind == "DEPTHWISE_CONV_2D":
        repeated = kernel.weights.shape[1] // len(source.mean)
        mean, std = np.repeat(source.mean, repeated), np.repeat(source.std, repeated)
        return kernel.weights.sum(axis=0) * mean + kernel.bias, np.sqrt(
            np.square(kernel.weights).sum(axis=0)
        ) * std
    return source.mean[inputs] @ kernel.weights + kernel.bias, np.sqrt(
        np.square(source.std[inputs]) @ np.square(kernel.weights)
    )


def _product(one: Moments, other: Moments) -> Moments:
    mean = one.mean * other.mean
    square = (one.mean**2 + one.std**2) * (other.mean**2 + other.std**2)
    corners = np.array([a * b for a in (one.low, one.high) for b in (other.low, other.high)])
    return Moments(
        mean, np.sqrt(np.maximum(square - mean**2, 0)), corners.min(axis=0), corners.max(axis=0)
    )


def _within(
    moments: Moments, low: np.ndarray | float, high: np.ndarray | float, zero: bool = False
) -> Moments:
    ends = np.maximum(moments.low, low), np.minimum(moments.high, high)
    if zero:
        ends = np.minimum(ends[0], 0), np.maximum(ends[1], 0)
    return Moments(moments.mean, moments.std, *ends)


def _constant(values: np.ndarray) -> Moments:
    flat = values.astype(np.float64).reshape(-1)
    return Moments(flat, np.zeros_like(flat), flat, flat)


def _spread(moments: Moments, shape: tuple[int, ...]) -> Moments:
    """One entry per channel: a flattened image repeats its channels, a constant its value."""
    width = shape[-1] if shape else prod(shape)
    return Moments(
        *(np.resize(part, width) for part in (moments.mean, moments.std, moments.low, moments.high))
    )
