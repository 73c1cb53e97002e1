"""SQuant: rounding that keeps the sums right, from the weights alone (Guo et al., arXiv 2202.07471).

The loss of a layer is close to a quadratic form of its rounding errors, whose Hessian SQuant approximates by three diagonal
parts: single elements, kernels (the window of one input channel), whole output channels. In units of a step it is

    sum of error² + sum over kernels of (sum of errors)² + (sum over the channel of errors)²

Rounding to nearest minimizes the first part alone. From there weights are flipped to their other neighbour, first within
kernels, then within channels, the cheapest first and only while the whole falls.
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


def objective(weights: np.ndarray, grid: QuantizedWeights, number: int) -> np.ndarray:
    """What SQuant minimizes, float64 (channels,), for weights (weights, channels) of which `number` kernels make a channel,
    the kernel varying fastest as in a flatbuffer.

    A part that repeats another one (kernels of one element, channels of one kernel) counts once.
    """
    errors = grid.codes - weights / grid.steps
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
    steps: np.ndarray | None = None,
    channels: bool = True,
) -> QuantizedWeights:
    """Round weights (weights, channels), `number` kernels a channel, to `bits` so that `objective` is never above that of
    rounding to nearest.

    Each weight goes to one of its two neighbours on the grid; `steps` (channels,) are `grid.min_max_steps` by default.
    Without `channels` it stops at the kernels: the sum over a channel is what bias correction mends more exactly.
    Raises EdgeqError for weights that are no numbers.
    """
    steps = min_max_scales(weights, bits) if steps is None else np.asarray(steps, np.float64)
    start, most = round_to_nearest(weights, steps, bits), qmax(bits)
    exact, codes = weights / steps, start.codes.astype(np.float64)
    if number < len(weights):
        codes = _flip(_by_kernel(codes, number), _by_kernel(exact, number), most).reshape(
            exact.shape
        )
    if channels and number > 1:
        codes = _flip_channels(codes, exact, number, most)
    flipped = QuantizedWeights(codes.astype(np.int8), steps, bits)
    better = objective(weights, flipped, number) < objective(weights, start, number)
    return QuantizedWeights(np.where(better, flipped.codes, start.codes), steps, bits)


def least_squares_scales(weights: np.ndarray, bits: int) -> np.ndarray:
    """Steps (channels,) with which rounding to nearest has the smallest squared error, of 36 between 0.3 and 1 times those
    of `grid.min_max_steps`: at few bits a finer step is worth clipping the largest weights."""
    return best_scales(
        weights,
        bits,
        np.linspace(1, 0.3, 36),
        lambda grid: np.square(grid.values - weights).sum(axis=0),
    )


def round_network(
    model: bytes, ranges: Ranges, bits: Mapping[str, int], default: int = 8, method: str = "squant"
) -> dict[str, QuantizedWeights]:
    """Every kernel of a float flatbuffer on a grid with least-squares steps, rounded by a row of `METHODS`.

    `bits` gives single ops, by the names of their outputs, another width than `default`. Raises EdgeqError for a method that
    is not there.
    """
    if method not in METHODS:
        raise EdgeqError(
            f"There is no way of rounding '{method}'; take one of {', '.join(METHODS)}."
        )
    graph, least, found = read_graph(model), least_scales(model, ranges), {}
    for kernel in float_kernels(model):
        width = bits.get(kernel.name, default)
        steps = np.maximum(least_squares_scales(kernel.weights, width), least[kernel.name])
        inputs = graph.tensors[kernel.index].shape[-1]
        found[kernel.name] = METHODS[method](
            kernel.weights, width, 1 if kernel.kind == "DEPTHWISE_CONV_2D" else inputs, steps
        )
    return found


def _costs(errors: np.ndarray, codes: np.ndarray, side: np.ndarray, most: int) -> np.ndarray:
    """What flipping costs in squared error of the elements: only what was rounded the same way as the sum (`side`) can be
    flipped against it, and only to the other neighbour; the rest costs infinitely much."""
    free = (errors * side > 0) & (np.abs(errors) <= 0.5) & (np.abs(codes - side) <= most)
    return np.where(free, 1 - 2 * np.abs(errors), np.inf)


def _flip(codes: np.ndarray, exact: np.ndarray, most: int) -> np.ndarray:
    """Flip along the first axis, cheapest first, while squared errors plus the square of their sum fall.

    The gain of each further flip is smaller than that of the one before, so that stopping at the first loss is exact.
    """
    errors = codes - exact
    total = errors.sum(axis=0)
    side = np.where(total < 0, -1.0, 1.0)
    costs = _costs(errors, codes, side, most)
    return codes - side * _chosen(costs, np.abs(total))


def _chosen(costs: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Which (along the first axis) to flip, bool: the k-th cheapest changes the square of the sum by 1 - 2 (total - k)."""
    order = np.argsort(costs, axis=0, kind="stable")
    rank = np.arange(len(costs)).reshape(-1, *(1,) * (costs.ndim - 1))
    falls = np.take_along_axis(costs, order, axis=0) + 1 - 2 * (total - rank) < 0
    chosen = np.zeros(costs.shape, bool)
    np.put_along_axis(chosen, order, falls, axis=0)
    return chosen


def _flip_channels(codes: np.ndarray, exact: np.ndarray, number: int, most: int) -> np.ndarray:
    """The same over whole channels, at most one flip a kernel, whose own sum counts too."""
    if number == len(codes):
        return _flip(codes, exact, most)
    codes, errors = _by_kernel(codes, number).copy(), _by_kernel(codes - exact, number)
    sums = errors.sum(axis=0)  # (kernels, channels)
    total = sums.sum(axis=0)
    side = np.where(total < 0, -1.0, 1.0)
    costs = _costs(errors, codes, side, most)
    cheapest = costs.argmin(axis=0)[None]
    chosen = _chosen(
        np.take_along_axis(costs, cheapest, axis=0)[0] + 1 - 2 * side * sums, np.abs(total)
    )
    moved = np.take_along_axis(codes, cheapest, axis=0) - side * chosen
    np.put_along_axis(codes, cheapest, moved, axis=0)
    return codes.reshape(exact.shape)


METHODS: dict[str, Callable[..., QuantizedWeights]] = {
    "nearest": lambda weights, bits, number, steps: round_to_nearest(weights, steps, bits),
    "squant": squant,
    "squant_kernels": partial(squant, channels=False),
}
