"""SQuant: rounding that keeps the sums right, from the weights alone (arXiv 2202.07471).

The loss of a layer is close to a quadratic form of its rounding errors, whose Hessian SQuant
approximates by three diagonal parts: single elements, kernels (the window of one input channel) and
whole output channels. In units of a scale it is

    sum of error² + sum over kernels of (sum of errors)² + (sum over the channel of errors)²

1. Round to nearest, which minimizes the first part alone.
2. Within each kernel, flip weights to their other neighbour, the cheapest first, while the whole
   falls.
3. Do the same within each channel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from edgeq_lib.compress.quantize.bias_overflow import least_scales
from edgeq_lib.compress.quantize.calibration import Ranges
from edgeq_lib.compress.quantize.kernels import float_kernels
from edgeq_lib.compress.quantize.quantized_weights import (
    QuantizedWeights,
    best_scales,
    min_max_scales,
    qmax,
    round_to_nearest,
)
from edgeq_lib.files import EdgeqError
from edgeq_lib.tflite.reader import read_graph


def objective(weights: np.ndarray, rounded: QuantizedWeights, number: int) -> np.ndarray:
    """Compute what SQuant minimizes, float64 (channels,).

    A part that repeats another one (kernels of one element, channels of one kernel) counts once.

    Args:
        weights: Float (weights, channels), the kernel varying fastest as in a flatbuffer.
        rounded: The rounded weights.
        number: Kernels per channel.
    """
    errors = rounded.codes - weights / rounded.scales
    of_kernels = (
        np.square(_by_kernel(errors, number).sum(axis=0)).sum(axis=0)
        if 1 < number < len(errors)
        else 0.0
    )
    return np.square(errors).sum(axis=0) + of_kernels + np.square(errors.sum(axis=0))


def _by_kernel(values: np.ndarray, number: int) -> np.ndarray:
    """A view (elements, kernels, channels) of (weights, channels)."""
    return values.reshape(-1, number, values.shape[1])


def squant(
    weights: np.ndarray,
    bits: int,
    number: int,
    scales: np.ndarray | None = None,
    channels: bool = True,
) -> QuantizedWeights:
    """Round weights so that `objective` is never above that of rounding to nearest.

    Each weight goes to one of its two neighbouring codes.

    Args:
        weights: Float (weights, channels).
        bits: Of the codes.
        number: Kernels per channel.
        scales: (channels,), `min_max_scales` by default.
        channels: Go on to whole channels; without, it stops at the kernels, since bias correction
            corrects the sum over a channel more exactly.

    Raises:
        EdgeqError: For weights that are NaN or infinite.
    """
    scales = min_max_scales(weights, bits) if scales is None else np.asarray(scales, np.float64)
    start, largest_code = round_to_nearest(weights, scales, bits), qmax(bits)
    exact, codes = weights / scales, start.codes.astype(np.float64)
    if number < len(weights):
        codes = _flip(_by_kernel(codes, number), _by_kernel(exact, number), largest_code).reshape(
            exact.shape
        )
    if channels and number > 1:
        codes = _flip_channels(codes, exact, number, largest_code)
    flipped = QuantizedWeights(codes.astype(np.int8), scales, bits)
    better = objective(weights, flipped, number) < objective(weights, start, number)
    return QuantizedWeights(np.where(better, flipped.codes, start.codes), scales, bits)


def least_squares_scales(weights: np.ndarray, bits: int) -> np.ndarray:
    """Choose scales (channels,) with the smallest squared error of rounding to nearest.

    Of 36 between 0.3 and 1 times `min_max_scales`: at few bits a finer scale is worth clipping the
    largest weights.
    """
    return best_scales(
        weights,
        bits,
        np.linspace(1, 0.3, 36),
        lambda rounded: np.square(rounded.values - weights).sum(axis=0),
    )


def round_network(
    model: bytes, ranges: Ranges, bits: Mapping[str, int], default: int = 8, method: str = "squant"
) -> dict[str, QuantizedWeights]:
    """Round every kernel of a float flatbuffer with least-squares scales.

    Args:
        model: The float flatbuffer.
        ranges: Activation ranges.
        bits: Output of an op → its width, where it differs from `default`.
        default: Width of all others.
        method: A row of `METHODS`.

    Returns:
        Output of each kernel's op → its quantized weights.

    Raises:
        EdgeqError: For a method that is not in the table.
    """
    if method not in METHODS:
        raise EdgeqError(
            f"There is no way of rounding '{method}'; take one of {', '.join(METHODS)}."
        )
    graph, least, rounded = read_graph(model), least_scales(model, ranges), {}
    for kernel in float_kernels(model):
        width = bits.get(kernel.name, default)
        scales = np.maximum(least_squares_scales(kernel.weights, width), least[kernel.name])
        inputs = graph.tensors[kernel.index].shape[-1]
        rounded[kernel.name] = METHODS[method](
            kernel.weights, width, 1 if kernel.kind == "DEPTHWISE_CONV_2D" else inputs, scales
        )
    return rounded


def _costs(
    errors: np.ndarray, codes: np.ndarray, side: np.ndarray, largest_code: int
) -> np.ndarray:
    """What flipping costs in squared error of the elements.

    Only what was rounded the same way as the sum (`side`) can be flipped against it, and only to
    the other neighbour; the rest costs infinitely much.
    """
    free = (errors * side > 0) & (np.abs(errors) <= 0.5) & (np.abs(codes - side) <= largest_code)
    return np.where(free, 1 - 2 * np.abs(errors), np.inf)


def _flip(codes: np.ndarray, exact: np.ndarray, largest_code: int) -> np.ndarray:
    """Flip along the first axis, cheapest first, while the objective falls.

    The gain of each further flip is smaller than that of the one before, so that stopping at the
    first loss is exact.
    """
    errors = codes - exact
    total = errors.sum(axis=0)
    side = np.where(total < 0, -1.0, 1.0)
    costs = _costs(errors, codes, side, largest_code)
    return codes - side * _chosen(costs, np.abs(total))


def _chosen(costs: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Which to flip: the k-th changes the square of the sum by 1 - 2 (total - k)."""
    order = np.argsort(costs, axis=0, kind="stable")
    rank = np.arange(len(costs)).reshape(-1, *(1,) * (costs.ndim - 1))
    falls = np.take_along_axis(costs, order, axis=0) + 1 - 2 * (total - rank) < 0
    chosen = np.zeros(costs.shape, bool)
    np.put_along_axis(chosen, order, falls, axis=0)
    return chosen


def _flip_channels(
    codes: np.ndarray, exact: np.ndarray, number: int, largest_code: int
) -> np.ndarray:
    """The same over whole channels, at most one flip per kernel, whose own sum counts too."""
    if number == len(codes):
        return _flip(codes, exact, largest_code)
    codes, errors = _by_kernel(codes, number).copy(), _by_kernel(codes - exact, number)
    sums = errors.sum(axis=0)  # (kernels, channels)
    total = sums.sum(axis=0)
    side = np.where(total < 0, -1.0, 1.0)
    costs = _costs(errors, codes, side, largest_code)
    cheapest = costs.argmin(axis=0)[None]
    chosen = _chosen(
        np.take_along_axis(costs, cheapest, axis=0)[0] + 1 - 2 * side * sums, np.abs(total)
    )
    moved = np.take_along_axis(codes, cheapest, axis=0) - side * chosen
    np.put_along_axis(codes, cheapest, moved, axis=0)
    return codes.reshape(exact.shape)


METHODS: dict[str, Callable[..., QuantizedWeights]] = {
    "nearest": lambda weights, bits, number, scales: round_to_nearest(weights, scales, bits),
    "squant": squant,
    "squant_kernels": partial(squant, channels=False),
}
