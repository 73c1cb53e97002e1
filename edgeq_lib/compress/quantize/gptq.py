"""GPTQ and coordinate descent: rounding that looks at what a layer computes.

The error of a layer's output is a quadratic form in the error of its weights: with S the mean of
x xᵀ over the inputs x, a channel whose weights are off by e is off by eᵀ S e on average. So the
calibration images enter once, as S, and every method below works on S alone.

1. `target`: the float weights that are right for the inputs that really come.
2. `scales_by_output_error`: scales by the output error of rounding to nearest.
3. `gptq`: one weight after the other, the rest making up for the error (arXiv 2210.17323).
4. `coordinate_descent`: single codes move while the output error falls (the objective of AdaRound,
   arXiv 2004.10568).

Weights are float64 (weights, channels), S is float64 (weights, weights).
"""

from __future__ import annotations

import numpy as np

from edgeq_lib.compress.quantize.quantized_weights import (
    QuantizedWeights,
    best_scales,
    qmax,
    round_to_nearest,
)

_DAMPING = (
    0.01  # share of the mean diagonal that is added to S: directions that calibration hardly saw
)
_SHRINK = np.linspace(1.0, 0.4, 25)  # scales tried, as shares of those that clip nothing
_SWEEPS = 8


def output_error(weights: np.ndarray, rounded: QuantizedWeights, second: np.ndarray) -> np.ndarray:
    """Return the mean squared error of each channel's output, (channels,)."""
    error = weights - rounded.values
    return np.einsum("ic,ic->c", error, second @ error)


def damped(second: np.ndarray) -> np.ndarray:
    """Add a little to the diagonal of S, so that it can be inverted; zeros become the identity."""
    mean = np.trace(second) / len(second)
    return second + np.eye(len(second)) * (_DAMPING * mean if mean > 0 else 1.0)


def target(weights: np.ndarray, second: np.ndarray, cross: np.ndarray) -> np.ndarray:
    """Find the float weights that give the layer's true output from the inputs that it really gets.

    Those differ from the float network's, because earlier layers are rounded. Directions that were
    hardly seen stay as they are.

    Args:
        weights: Float (weights, channels).
        second: The mean of x̃ x̃ᵀ, x̃ being the rounded network's inputs.
        cross: The mean of x̃ xᵀ, x being the float network's.
    """
    share = damped(second) - second
    return np.linalg.solve(second + share, cross @ weights + share @ weights)


def scales_by_output_error(
    weights: np.ndarray, second: np.ndarray, bits: int, least: np.ndarray
) -> np.ndarray:
    """Choose scales by the output error of rounding to nearest.

    Args:
        weights: Float (weights, channels).
        second: S, (weights, weights).
        bits: Of the codes.
        least: No scale goes below, (channels,).
    """
    return best_scales(
        weights, bits, _SHRINK, lambda rounded: output_error(weights, rounded, second), least
    )


def powers_of_two(
    weights: np.ndarray, scales: np.ndarray, bits: int, second: np.ndarray
) -> np.ndarray:
    """Take the better power of two beside each scale, by output error; of equals the larger.

    The larger, since the scale of a dead channel must not shrink.
    """
    upper = 2.0 ** np.ceil(np.log2(scales))
    errors = [
        output_error(weights, round_to_nearest(weights, candidate, bits), second)
        for candidate in (upper / 2, upper)
    ]
    return np.where(errors[0] < errors[1], upper / 2, upper)


def gptq(
    weights: np.ndarray, scales: np.ndarray, bits: int, second: np.ndarray
) -> QuantizedWeights:
    """Round one weight after the other, those still open making up for the error.

    Frantar et al., arXiv 2210.17323. The order is that of falling second moments. A weight may end
    further from where it was than its two neighbours.

    Args:
        weights: Float (weights, channels).
        scales: (channels,).
        bits: Of the codes.
        second: S, (weights, weights).
    """
    order, largest_code = np.argsort(-np.diag(second), kind="stable"), qmax(bits)
    moments = damped(second)[np.ix_(order, order)]
    upper = np.linalg.cholesky(np.linalg.inv(moments)).T
    open_, codes = weights[order].astype(np.float64), np.empty(weights.shape)
    for row in range(len(open_)):
        codes[row] = np.clip(np.rint(open_[row] / scales), -largest_code, largest_code)
        error = (open_[row] - codes[row] * scales) / upper[row, row]
        open_[row + 1 :] -= np.outer(upper[row, row + 1 :], error)
    in_order = np.empty_like(codes)
    in_order[order] = codes
    return QuantizedWeights(in_order.astype(np.int8), np.asarray(scales, np.float64), bits)


def coordinate_descent(
    weights: np.ndarray, start: QuantizedWeights, second: np.ndarray
) -> QuantizedWeights:
    """Move single codes by one as long as that lowers the output error; it never rises.

    On the objective of AdaRound (Nagel et al., arXiv 2004.10568), for all channels at once.

    Args:
        weights: Float (weights, channels), the target.
        start: Where it starts.
        second: S, (weights, weights).
    """
    codes, scales, largest_code = start.codes.astype(np.float64), start.scales, qmax(start.bits)
    gradient = second @ (weights - start.values)
    for _ in range(_SWEEPS):
        moved = False
        for row, curvature in enumerate(np.diag(second)):
            direction = np.sign(gradient[row])
            wins = (
                2 * scales * np.abs(gradient[row]) - scales**2 * curvature
                > 1e-9 * scales**2 * curvature
            )
            wins &= np.abs(codes[row] + direction) <= largest_code
            if wins.any():
                change = np.where(wins, direction, 0.0)
                codes[row] += change
                gradient -= np.outer(second[row], change * scales)
                moved = True
        if not moved:
            break
    return QuantizedWeights(codes.astype(np.int8), scales, start.bits)
