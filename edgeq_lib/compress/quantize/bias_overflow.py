"""Dead channels: biases that would not fit into int32."""

from __future__ import annotations

import numpy as np

from edgeq_lib.compress.quantize import calibration
from edgeq_lib.compress.quantize.calibration import Ranges, range_width
from edgeq_lib.compress.quantize.kernels import KERNEL_OPS, by_channel, float_kernels
from edgeq_lib.tflite.buffers import writable_buffers
from edgeq_lib.tflite.reader import read_graph


def least_scales(model: bytes, ranges: calibration.Ranges) -> dict[str, np.ndarray]:
    """Output of each kernel's op → the smallest steps (channels,) with which its bias fits into int32.

    A dead channel, and MobileNets have them, is all bias and no weights; the steps that suit its weights clip its bias.
    """
    tensors = read_graph(model).tensors
    return {
        kernel.name: least_scales_for_bias(
            kernel.bias, range_width(ranges[tensors[kernel.source].name])
        )
        for kernel in float_kernels(model)
    }


def prevent_bias_overflow(model: bytes, ranges: Ranges) -> bytes:
    """The float flatbuffer with one weight raised in each channel whose bias would not fit into int32.

    A dead channel, and MobileNets have them, is all bias and no weights, so its steps are too fine for its bias, which
    the quantizer clips without a word. The weight's effect on any input in the range stays below 1/30,000 of the bias.
    """
    mended = bytearray(model)
    graph, constants = read_graph(model), writable_buffers(mended)
    for op in graph.ops:
        if (
            op.name in KERNEL_OPS
            and len(op.inputs) > 2
            and {op.inputs[1], op.inputs[2]} <= constants.keys()
        ):
            fix_dead_channels(
                by_channel(op.name, constants[op.inputs[1]]),
                constants[op.inputs[2]],
                calibration.range_width(ranges[graph.tensors[op.inputs[0]].name]),
            )
    return bytes(mended)


def least_scales_for_bias(bias: np.ndarray, span: float) -> np.ndarray:
    """The smallest weight steps (channels,) with which `bias` (channels,) fits into int32 when the input spans `span`."""
    return np.abs(bias) * 255 / (max(span, 1e-9) * 2**30)


def fix_dead_channels(kernel: np.ndarray, bias: np.ndarray, span: float) -> np.ndarray:
    """Raise, in place, one weight of each channel of `kernel` (weights, channels) just enough that `bias` (channels,)
    fits into int32 when the input spans `span`; returns which channels needed it."""
    least = 127 * least_scales_for_bias(bias, span)
    dead = np.abs(kernel).max(axis=0) < least
    kernel[0, dead] = least[dead]
    return dead


def count_dead_channels(model: bytes, found: calibration.Ranges) -> int:
    """How many channels of a float flatbuffer have a bias that would not fit into int32 (see `ptq.with_fitting_biases`)."""
    before, after = (
        writable_buffers(bytearray(each)) for each in (model, prevent_bias_overflow(model, found))
    )
    return sum(int((before[index] != after[index]).sum()) for index in before)
