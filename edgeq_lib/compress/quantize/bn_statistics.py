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
from edgeq_lib.tflite.reader import Graph, Op, read_graph

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
# independent, which those of a trained network are not: a margin, not a law.
DEPENDENCE_MARGIN = 2
_UNCHANGED = ("MEAN", "AVERAGE_POOL_2D", "MAX_POOL_2D", "RESHAPE", "SQUEEZE")


@dataclass(frozen=True)
class Moments:
    """What is believed of a tensor's channels.

    Attributes:
        mean: float64 (channels,).
        std: Standard deviation, float64 (channels,).
        low: Lower bound of the range, float64 (channels,).
        high: Upper bound of the range, float64 (channels,).
    """

    mean: np.ndarray
    std: np.ndarray
    low: np.ndarray
    high: np.ndarray


# Output of an op → beta and the absolute value of gamma of its channels before activation,
# float64 (channels,) each.
Norms = dict[str, tuple[np.ndarray, np.ndarray]]


def activations(model: bytes) -> list[str]:
    """List the activation that is fused into each op of a flatbuffer.

    Args:
        model: The flatbuffer.

    Returns:
        Names of `ActivationFunctionType` in the schema, in the order of the ops; "NONE" where
        there is none.
    """
    table, names = schema.Model.GetRootAs(model).Subgraphs(0), []
    kinds = {
        value: name
        for name, value in vars(schema.BuiltinOptions).items()
        if not name.startswith("_")
    }
    for number in range(table.OperatorsLength()):
        op = table.Operators(number)
        options_type = getattr(schema, kinds[op.BuiltinOptionsType()], None)
        if options_type is None or not hasattr(options_type, "FusedActivationFunction"):
            names.append("NONE")
            continue
        options = options_type()
        options.Init(op.BuiltinOptions().Bytes, op.BuiltinOptions().Pos)
        names.append(_ACTIVATIONS[options.FusedActivationFunction()])
    return names


def batch_norm_statistics(model: keras.Model, float_model: bytes) -> Norms:
    """Find beta and absolute gamma of the batch norms folded into a flatbuffer's kernels.

    Layers and ops are paired by their folded weights and biases, since the converter's names are no
    guide.

    Args:
        model: The Keras model, batch norms in place.
        float_model: The float flatbuffer made from it.

    Returns:
        Output of an op → beta and absolute gamma; an op that no batch norm follows is absent.

    Raises:
        EdgeqError: When the flatbuffer was not made from this model, or no batch norm follows a
            layer with weights.
    """
    folded, unpaired = fold_batch_norms(model), float_kernels(float_model)
    left_in_place = {layer.name for layer in folded.layers}
    norms: Norms = {}
    followed = 0
    for layer in model.layers:
        norm = only_consumer(model, layer) if isinstance(layer, WITH_KERNEL) else None
        if not isinstance(norm, keras.layers.BatchNormalization) or norm.name in left_in_place:
            continue
        followed += 1
        weights, bias = folded.get_layer(layer.name).get_weights()
        for position, kernel in enumerate(unpaired):
            if is_kernel_of(kernel, weights) and nearly_equal(kernel.bias, bias):
                beta = norm.beta.numpy() if norm.center else np.zeros(len(bias))
                gamma = norm.gamma.numpy() if norm.scale else np.ones(len(bias))
                norms[kernel.name] = beta.astype(np.float64), np.abs(gamma).astype(np.float64)
                del unpaired[position]
                break
    if not norms or len(norms) < followed:
        raise EdgeqError(
            "The network's batch norms cannot be found in its float file; data-free quantization "
            "needs a network with batch norms and the float file that was converted from it: run "
            "02_baseline again."
        )
    return norms


def why_not(model: keras.Model, float_model: bytes) -> str | None:
    """Say why data-free quantization cannot take a network.

    Args:
        model: The Keras model, batch norms in place.
        float_model: The float flatbuffer made from it.

    Returns:
        The reason, one sentence; None when it can.
    """
    try:
        tensor_moments(float_model, batch_norm_statistics(model, float_model), (0.0, 1.0))
    except EdgeqError as reason:
        return str(reason)
    return None


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
    graph, fused = read_graph(model), activations(model)
    constants = writable_buffers(bytearray(model))
    kernels = {kernel.number: kernel for kernel in float_kernels(model)}
    width = graph.tensors[graph.inputs[0]].shape[-1]
    moments = {graph.inputs[0]: _uniform(*input_range, width)}
    for number, op in enumerate(graph.ops):
        inputs = [
            moments.get(index) or _constant(constants[index])
            for index in op.inputs
            if index in moments or (op.name in ("ADD", "MUL") and index in constants)
        ]
        shape = graph.tensors[op.outputs[0]].shape
        if number in kernels:
            result = _of_kernel(kernels[number], inputs[0], norms, reach)
        elif op.name == "MUL":
            result = _of_multiplication(graph, op, inputs)
        else:
            result = _of_op(op.name, inputs, shape, reach)
        if fused[number] != "NONE":
            result = unary(result, UNARY[fused[number]])
        moments[op.outputs[0]] = _per_channel(result, shape)
    return moments


def _of_kernel(kernel: Kernel, source: Moments, norms: Norms, reach: float) -> Moments:
    """What a convolution or a dense layer computes: its batch norm says it, or its weights."""
    if kernel.name in norms:
        return _normal(*norms[kernel.name], reach)
    return _normal(*_weighted_sum(kernel, source), DEPENDENCE_MARGIN * reach)


def _of_multiplication(graph: Graph, op: Op, inputs: list[Moments]) -> Moments:
    """What a multiplication computes: a swish where one factor is the other's sigmoid."""
    for position, index in enumerate(op.inputs):
        gates = (gate for gate in graph.ops if gate.name == "LOGISTIC")
        if any(
            (gate.outputs[0], gate.inputs[0]) == (index, op.inputs[1 - position]) for gate in gates
        ):
            return unary(inputs[1 - position], lambda x: x * _sigmoid(x))
    return _product(*inputs)


def _of_op(name: str, inputs: list[Moments], shape: tuple[int, ...], reach: float) -> Moments:
    """What an op without weights computes, by the rule for its kind; `shape` of its output."""
    if name == "ADD":
        one, other = inputs
        total = _normal(one.mean + other.mean, np.hypot(one.std, other.std), reach)
        return _clipped(total, one.low + other.low, one.high + other.high)
    if name in UNARY:
        return unary(inputs[0], UNARY[name])
    if name in _UNCHANGED:
        return inputs[0]
    if name in ("PAD", "PADV2"):
        low, high = np.minimum(inputs[0].low, 0), np.maximum(inputs[0].high, 0)
        return Moments(inputs[0].mean, inputs[0].std, low, high)
    if name == "CONCATENATION":
        fields = ("mean", "std", "low", "high")
        return Moments(
            *(np.concatenate([getattr(part, field) for part in inputs]) for field in fields)
        )
    if name == "SOFTMAX":
        share = 1 / shape[-1]
        return Moments(*(np.full(shape[-1], value) for value in (share, share, 0.0, 1.0)))
    raise EdgeqError(
        f"There is no rule for the range of {name} without images; calibrate on images (03_ptq)."
    )


def ranges_from_moments(
    model: bytes, norms: Norms, input_range: tuple[float, float], reach: float = 6.0
) -> Ranges:
    """Return activation ranges as `calibration.calibrate` does, from the batch norms alone.

    Args:
        model: The float flatbuffer.
        norms: Statistics of its batch norms.
        input_range: The range of the network's input.
        reach: Standard deviations (see `tensor_moments`).

    Returns:
        Tensor → {"min", "max"}, float32, one value with as many axes as the tensor.

    Raises:
        EdgeqError: For an op that there is no rule for.
    """
    graph, ranges = read_graph(model), {}
    for index, moments in tensor_moments(model, norms, input_range, reach).items():
        tensor = graph.tensors[index]
        low, high = moments.low.min(), moments.high.max()
        if index in graph.inputs:
            low, high = range_with_integral_zero(*input_range)
        ranges[tensor.name] = {
            key: np.full((1,) * len(tensor.shape), bound, np.float32)
            for key, bound in (("min", low), ("max", high))
        }
    return ranges


def unary(moments: Moments, function: Callable[[np.ndarray], np.ndarray]) -> Moments:
    """Pass moments through an elementwise function.

    Args:
        moments: Of the function's argument, taken as normal.
        function: Elementwise, on float64 arrays.

    Returns:
        Mean and deviation by quadrature, the range by trying the argument's range.
    """
    values = function(moments.mean + moments.std * _POINTS[:, None])
    mean = _SHARES @ values
    std = np.sqrt(_SHARES @ (values - mean) ** 2)
    tried = function(np.linspace(moments.low, moments.high, 201))
    return Moments(mean, std, tried.min(axis=0), tried.max(axis=0))


def _uniform(low: float, high: float, width: int) -> Moments:
    """Channels that are uniform between two bounds."""
    mean, std = (low + high) / 2, (high - low) / np.sqrt(12)
    return Moments(*(np.full(width, value) for value in (mean, std, low, high)))


def _normal(mean: np.ndarray, std: np.ndarray, reach: float) -> Moments:
    return Moments(mean, std, mean - reach * std, mean + reach * std)


def _weighted_sum(kernel: Kernel, source: Moments) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of what a kernel computes from independent channels."""
    weights, bias = kernel.weights, kernel.bias
    if kernel.kind == "DEPTHWISE_CONV_2D":
        multiplier = weights.shape[1] // len(source.mean)
        mean, std = np.repeat(source.mean, multiplier), np.repeat(source.std, multiplier)
        return weights.sum(axis=0) * mean + bias, np.sqrt(np.square(weights).sum(axis=0)) * std
    inputs = np.arange(len(weights)) % len(source.mean)  # the input channel varies fastest
    variance = np.square(source.std[inputs]) @ np.square(weights)
    return source.mean[inputs] @ weights + bias, np.sqrt(variance)


def _product(one: Moments, other: Moments) -> Moments:
    mean = one.mean * other.mean
    square = (one.mean**2 + one.std**2) * (other.mean**2 + other.std**2)
    corners = np.array([a * b for a in (one.low, one.high) for b in (other.low, other.high)])
    std = np.sqrt(np.maximum(square - mean**2, 0))
    return Moments(mean, std, corners.min(axis=0), corners.max(axis=0))


def _clipped(moments: Moments, low: np.ndarray, high: np.ndarray) -> Moments:
    """The same moments, the range no wider than from `low` to `high`."""
    return Moments(
        moments.mean, moments.std, np.maximum(moments.low, low), np.minimum(moments.high, high)
    )


def _constant(values: np.ndarray) -> Moments:
    flat = values.astype(np.float64).reshape(-1)
    return Moments(flat, np.zeros_like(flat), flat, flat)


def _per_channel(moments: Moments, shape: tuple[int, ...]) -> Moments:
    """One entry per channel: a flattened image repeats its channels, a constant its value."""
    width = shape[-1] if shape else prod(shape)
    return Moments(
        *(np.resize(part, width) for part in (moments.mean, moments.std, moments.low, moments.high))
    )
