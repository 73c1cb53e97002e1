"""Quantized weights: integer codes and a scale per channel, and the file that holds exactly these.

Rounding methods decide codes and scales. Here they become a float flatbuffer that computes with the
rounded weights (what a method sees while it works) and a real int8, int4 or int2 file. Codes of 3,
5, 6 or 7 bits are stored in the next width that LiteRT has; compression finds the unused codes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgeq_lib.compress.quantize import calibration, quantizer
from edgeq_lib.compress.quantize.bias_overflow import least_scales
from edgeq_lib.compress.quantize.kernels import by_channel, float_kernels
from edgeq_lib.files import EdgeqError
from edgeq_lib.tflite.buffers import writable_buffers
from edgeq_lib.tflite.reader import read_graph

STORAGE_WIDTHS = {
    "FULLY_CONNECTED": (2, 4, 8),
    "CONV_2D": (4, 8),
    "DEPTHWISE_CONV_2D": (8,),
    "TRANSPOSE_CONV": (8,),
}  # widths that LiteRT computes with


@dataclass(frozen=True)
class QuantizedWeights:
    """Rounded weights of one kernel.

    Codes are int8 (weights, channels) within ± `qmax(bits)`, scales float64 (channels,).
    """

    codes: np.ndarray
    scales: np.ndarray
    bits: int

    @property
    def values(self) -> np.ndarray:
        """The weights that the codes stand for, float64 (weights, channels)."""
        return self.codes * self.scales


def qmax(bits: int) -> int:
    """Return the largest code of a symmetric width: 7 for 4 bits, 127 for 8."""
    return 2 ** (bits - 1) - 1


def storage_bits(bits: int, kind: str = "FULLY_CONNECTED") -> int:
    """Return the width in which an op of this kind holds codes of `bits`.

    Raises:
        EdgeqError: For widths outside 2 to 8.
    """
    if not 2 <= bits <= 8:
        raise EdgeqError(f"Weights of {bits} bits have no place in a LiteRT file; take 2 to 8.")
    return next(width for width in STORAGE_WIDTHS[kind] if width >= bits)


def round_to_nearest(weights: np.ndarray, scales: np.ndarray, bits: int) -> QuantizedWeights:
    """Round weights (weights, channels) to the nearest code of each scale (channels,).

    Raises:
        EdgeqError: For weights that are NaN or infinite.
    """
    if not np.isfinite(weights).all():
        raise EdgeqError(
            "The weights hold NaN or infinite values; load sound weights, or train again with a "
            "lower rate."
        )
    largest_code = qmax(bits)
    return QuantizedWeights(
        np.clip(np.rint(weights / scales), -largest_code, largest_code).astype(np.int8),
        np.asarray(scales, np.float64),
        bits,
    )


def min_max_scales(weights: np.ndarray, bits: int) -> np.ndarray:
    """Return scales (channels,) that put the largest magnitude of each channel on the largest code.

    Never 0: a channel of zeros still multiplies its scale with that of its input to get its bias's.
    """
    return np.maximum(np.abs(weights).max(axis=0, initial=0.0) / qmax(bits), 1e-10)


def best_scales(
    weights: np.ndarray,
    bits: int,
    shares: Sequence[float] | np.ndarray,
    error: Callable[[QuantizedWeights], np.ndarray],
    least: np.ndarray | float = 0.0,
) -> np.ndarray:
    """Choose scales by the error of rounding to nearest.

    Clipping a few large weights may cost less than a coarse scale for all.

    Args:
        weights: Float (weights, channels).
        bits: Of the codes.
        shares: Tried, as shares of `min_max_scales`; the first of equals wins.
        error: Quantized weights → error (channels,).
        least: Scales below this are raised to it, (channels,) or one number.

    Returns:
        Scales (channels,).
    """
    widest = min_max_scales(weights, bits)
    tried = np.array([np.maximum(share * widest, least) for share in shares])
    chosen = np.argmin([error(round_to_nearest(weights, scales, bits)) for scales in tried], axis=0)
    return tried[chosen, np.arange(len(chosen))]


def round_all_to_nearest(
    model: bytes, ranges: calibration.Ranges, bits: Mapping[str, int], default: int = 8
) -> dict[str, QuantizedWeights]:
    """Round every kernel to nearest, its largest magnitude on the largest code: the naive baseline.

    Args:
        model: The float flatbuffer.
        ranges: Activation ranges (`calibration.calibrate`).
        bits: Output of an op → its width, where it differs from `default`.
        default: Width of all others.

    Returns:
        Output of each kernel's op → its quantized weights.
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


def with_quantized_weights(model: bytes, quantized: Mapping[str, QuantizedWeights]) -> bytes:
    """Put rounded weights in the place of a float flatbuffer's own.

    Args:
        model: The float flatbuffer.
        quantized: Output of an op → its quantized weights.
    """
    mended = bytearray(model)
    constants = writable_buffers(mended)
    for kernel in float_kernels(model):
        if kernel.name in quantized:
            by_channel(kernel.kind, constants[kernel.index])[:] = quantized[kernel.name].values
    return bytes(mended)


def to_file(
    model: bytes,
    quantized: Mapping[str, QuantizedWeights],
    ranges: calibration.Ranges,
    io: str = "int8",
) -> bytes:
    """Make the file whose weights are exactly these, with int8 activations.

    Quantized weights reach the file by their range: the quantizer divides it into as many codes as
    the width has. (`litert-quantizer`'s own way in for weights on a grid takes one kernel's width
    for all.)

    Args:
        model: The float flatbuffer.
        quantized: Output of an op → its quantized weights; kernels that it does not name are
            rounded to nearest, 8 bits.
        ranges: Activation ranges (`calibration.calibrate`).
        io: A row of `quantizer.SCHEMES`: the type of input and output.
    """
    graph, named = read_graph(model), dict(ranges)
    quantized = {**round_all_to_nearest(model, ranges, {}), **quantized}
    bits = {}
    for kernel in float_kernels(model):
        for use in kernel.uses:
            tensor, rounded_to = graph.tensors[use.index], quantized[kernel.name]
            width = bits[use.name] = storage_bits(rounded_to.bits, kernel.kind)
            shape = [1] * len(tensor.shape)
            shape[-1 if kernel.kind == "DEPTHWISE_CONV_2D" else 0] = len(rounded_to.scales)
            bound = (rounded_to.scales * qmax(width)).reshape(shape).astype(np.float32)
            named[tensor.name] = {"min": -bound, "max": bound}
    return quantizer.quantize(
        with_quantized_weights(model, quantized),
        quantizer.scheme(io),
        named,
        bits=bits,
        fix_dead=False,
    )
