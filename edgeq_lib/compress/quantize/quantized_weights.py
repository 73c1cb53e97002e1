"""Weights on a grid: integer codes and a step a channel, at any width, and the file that holds exactly these.

Rounding methods decide codes and steps; here they become a float flatbuffer that computes with the rounded weights (what a
method sees while it works) and a real int8, int4 or int2 file. Codes of 3, 5, 6 or 7 bits are stored in the next width that
LiteRT has; what they do not use of it, compression finds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgeq_lib.compress.quantize import calibration, quantizer
from edgeq_lib.compress.quantize.bias_overflow import least_scales
from edgeq_lib.compress.quantize.kernels import KERNEL_OPS, by_channel, float_kernels
from edgeq_lib.files import EdgeqError
from edgeq_lib.tflite.buffers import writable_buffers
from edgeq_lib.tflite.reader import read_graph

STORAGE_WIDTHS = {
    "FULLY_CONNECTED": (2, 4, 8),
    "CONV_2D": (4, 8),
    "DEPTHWISE_CONV_2D": (8,),
}  # widths that LiteRT computes with


@dataclass(frozen=True)
class QuantizedWeights:
    """Rounded weights: codes int8 (weights, channels) within ± `largest(bits)`, steps float64 (channels,)."""

    codes: np.ndarray
    steps: np.ndarray
    bits: int

    @property
    def values(self) -> np.ndarray:
        """The weights that the codes stand for, float64 (weights, channels)."""
        return self.codes * self.steps


def qmax(bits: int) -> int:
    """The largest code of a symmetric grid: 7 of 4 bits, 127 of 8."""
    return 2 ** (bits - 1) - 1


def storage_bits(bits: int, kind: str = "FULLY_CONNECTED") -> int:
    """The width, in bits, in which an op of this kind holds codes of `bits`. Raises EdgeqError for widths outside 2 to 8."""
    if not 2 <= bits <= 8:
        raise EdgeqError(f"Weights of {bits} bits have no place in a LiteRT file; take 2 to 8.")
    return next(width for width in STORAGE_WIDTHS[kind] if width >= bits)


def round_to_nearest(weights: np.ndarray, steps: np.ndarray, bits: int) -> QuantizedWeights:
    """Round to nearest: weights (weights, channels), steps (channels,). Raises EdgeqError for weights that are no numbers."""
    if not np.isfinite(weights).all():
        raise EdgeqError(
            "The weights hold NaN or infinite values; load sound weights, or train again with a lower rate."
        )
    most = qmax(bits)
    return QuantizedWeights(
        np.clip(np.rint(weights / steps), -most, most).astype(np.int8),
        np.asarray(steps, np.float64),
        bits,
    )


def min_max_scales(weights: np.ndarray, bits: int) -> np.ndarray:
    """Steps (channels,) with which the largest magnitude of each channel is the largest code; never 0, for what is all
    zeros still multiplies its step with that of its input to get its bias's."""
    return np.maximum(np.abs(weights).max(axis=0, initial=0.0) / qmax(bits), 1e-10)


def best_scales(
    weights: np.ndarray,
    bits: int,
    shares: Sequence[float],
    error: Callable[[QuantizedWeights], np.ndarray],
    least: np.ndarray | float = 0.0,
) -> np.ndarray:
    """Steps (channels,), none below `least`, that round to nearest with the smallest `error`, (channels,) of a grid: of
    `shares` of those of `min_max_steps`, the first where equal. Clipping a few large weights may cost less than coarse
    steps for all."""
    widest = min_max_scales(weights, bits)
    tried = np.array([np.maximum(share * widest, least) for share in shares])
    chosen = np.argmin([error(round_to_nearest(weights, steps, bits)) for steps in tried], axis=0)
    return tried[chosen, np.arange(len(chosen))]


def round_all_to_nearest(
    model: bytes, ranges: calibration.Ranges, bits: Mapping[str, int], default: int = 8
) -> dict[str, QuantizedWeights]:
    """Every kernel rounded to nearest, its largest magnitude on the largest code: what the cleverer methods must beat.

    `bits` gives single ops, by the names of their outputs, another width than `default`.
    """
    least = least_scales(model, ranges)
    return {
        kernel.name: round_to_nearest(
            kernel.weights,
            np.maximum(min_max_scales(kernel.weights, width), least[kernel.name]),
            width,
        )
        for kernel in float_kernels(model)
        for width in [bits.get(kernel.name, default)]
    }


def with_quantized_weights(model: bytes, grids: Mapping[str, QuantizedWeights]) -> bytes:
    """The float flatbuffer with the rounded weights in the place of its own; `grids` by the names of ops' outputs."""
    mended = bytearray(model)
    constants = writable_buffers(mended)
    for kernel in float_kernels(model):
        if kernel.name in grids:
            by_channel(kernel.kind, constants[kernel.index])[:] = grids[kernel.name].values
    return bytes(mended)


def to_file(
    model: bytes,
    grids: Mapping[str, QuantizedWeights],
    ranges: calibration.Ranges,
    io: str = "int8",
) -> bytes:
    """The file whose weights are exactly these grids, with int8 activations in `ranges` (see `ptq.calibrate`).

    Kernels that `grids` does not name are rounded to nearest, 8 bits (see `rounded`). `io` is a row of `ptq.SCHEMES`. A
    grid reaches the file by its range: the quantizer divides it into as many steps as the width has.
    """
    graph, named = read_graph(model), dict(ranges)
    grids = {**round_all_to_nearest(model, ranges, {}), **grids}
    found, bits = {kernel.index: kernel for kernel in float_kernels(model)}, {}
    for op in graph.ops:  # of several that read the same weights, each
        if op.name not in KERNEL_OPS or op.inputs[1] not in found:
            continue
        kernel = found[op.inputs[1]]
        tensor, rounded_to = graph.tensors[kernel.index], grids[kernel.name]
        width = bits[graph.tensors[op.outputs[0]].name] = storage_bits(rounded_to.bits, kernel.kind)
        shape = [1] * len(tensor.shape)
        shape[-1 if kernel.kind == "DEPTHWISE_CONV_2D" else 0] = len(rounded_to.steps)
        end = (rounded_to.steps * qmax(width)).reshape(shape).astype(np.float32)
        named[tensor.name] = {"min": -end, "max": end}
    return quantizer.quantize(
        with_quantized_weights(model, grids),
        quantizer.scheme(io),
        named,
        bits=bits,
        fix_dead=False,
    )
