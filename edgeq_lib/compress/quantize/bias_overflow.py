"""Dead channels: biases that would not fit into int32.

A dead channel, and MobileNets have them, is all bias and no weights. The scale that suits its
weights is too fine for its bias, which the quantizer then clips silently.
"""

from __future__ import annotations

import numpy as np

from edgeq_lib.compress.quantize import calibration
from edgeq_lib.compress.quantize.calibration import Ranges, range_width
from edgeq_lib.compress.quantize.kernels import KERNEL_OPS, by_channel, float_kernels, operands
from edgeq_lib.tflite.buffers import writable_buffers
from edgeq_lib.tflite.reader import read_graph


def least_scales(model: bytes, ranges: calibration.Ranges) -> dict[str, np.ndarray]:
    """Find the smallest weight scales with which each bias fits into int32.

    Args:
        model: The float flatbuffer.
        ranges: Activation ranges (`calibration.calibrate`).

    Returns:
        Output of each kernel's op → scales (channels,).
    """
    tensors = read_graph(model).tensors
    return {
        kernel.name: np.max(
            [
                least_scales_for_bias(use.bias, range_width(ranges[tensors[use.source].name]))
                for use in kernel.uses
            ],
            axis=0,
        )
        for kernel in float_kernels(model)
    }


def prevent_bias_overflow(model: bytes, ranges: Ranges) -> bytes:
    """Raise one weight in each channel whose bias would not fit into int32.

    The weight's effect on any input in the range stays below 1/30,000 of the bias.

    Args:
        model: The float flatbuffer.
        ranges: Activation ranges (`calibration.calibrate`).

    Returns:
        The float flatbuffer, changed in these weights.
    """
    mended = bytearray(model)
    graph, constants = read_graph(model), writable_buffers(mended)
    for op in graph.ops:
        if op.name not in KERNEL_OPS:
            continue
        source, kernel, bias = operands(op)
        if {kernel, bias} <= constants.keys():
            fix_dead_channels(
                by_channel(op.name, constants[kernel]),
                constants[bias],
                calibration.range_width(ranges[graph.tensors[source].name]),
            )
    return bytes(mended)


def least_scales_for_bias(bias: np.ndarray, span: float) -> np.ndarray:
    """Find the smallest weight scales (channels,) with which `bias` (channels,) fits into int32.

    Args:
        bias: In float.
        span: The width of the input's range.
    """
    return np.abs(bias) * 255 / (max(span, 1e-9) * 2**30)


def fix_dead_channels(kernel: np.ndarray, bias: np.ndarray, span: float) -> np.ndarray:
    """Raise, in place, one weight of each dead channel just enough that its bias fits into int32.

    Args:
        kernel: Float (weights, channels), changed.
        bias: Float (channels,).
        span: The width of the input's range.

    Returns:
        Which channels needed it, bool (channels,).
    """
    least = 127 * least_scales_for_bias(bias, span)
    dead = np.abs(kernel).max(axis=0) < least
    kernel[0, dead] = least[dead]
    return dead


def count_dead_channels(model: bytes, ranges: calibration.Ranges) -> int:
    """Count the channels of a float flatbuffer whose bias would not fit into int32."""
    before, after = (
        writable_buffers(bytearray(content))
        for content in (model, prevent_bias_overflow(model, ranges))
    )
    return sum(int((before[index] != after[index]).sum()) for index in before)
