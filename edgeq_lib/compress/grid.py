"""Weights on a grid: integer codes and a step a channel, at any width, and the file that holds exactly these.

Rounding methods decide codes and steps; here they become a float flatbuffer that computes with the rounded weights (what a
method sees while it works) and a real int8, int4 or int2 file. Codes of 3, 5, 6 or 7 bits are stored in the next width that
LiteRT has; what they do not use of it, compression finds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from edgeq_lib import flatbuffer
from edgeq_lib.compress import ptq
from edgeq_lib.compress.constants import open_constants
from edgeq_lib.compress.ranges import span
from edgeq_lib.study import EdgeqError

STORED = {"FULLY_CONNECTED": (2, 4, 8), "CONV_2D": (4, 8), "DEPTHWISE_CONV_2D": (8,)}  # widths that LiteRT computes with


@dataclass(frozen=True)
class Grid:
    """Rounded weights: codes int8 (weights, channels) within ± `largest(bits)`, steps float64 (channels,)."""

    codes: np.ndarray
    steps: np.ndarray
    bits: int

    @property
    def values(self) -> np.ndarray:
        """The weights that the codes stand for, float64 (weights, channels)."""
        return self.codes * self.steps


class Kernel(NamedTuple):
    """The weights of one op of a float flatbuffer."""

    name: str  # of the op's output
    kind: str  # of the op
    number: int  # of the op in the graph
    source: int  # the tensor that it reads
    index: int  # the tensor of its weights
    weights: np.ndarray  # float64 (weights, channels), a copy; the channels are those of the output
    bias: np.ndarray  # float64 (channels,)


def kernels(model: bytes) -> list[Kernel]:
    """The kernels of a float flatbuffer, in the order of the graph.

    Weights that several ops read, such as the converter makes where it computes a layer with and without its bias, are one
    kernel under the name of the first op, with the larger of the biases.
    """
    graph, constants = flatbuffer.read(model), open_constants(bytearray(model))
    found: dict[int, Kernel] = {}
    for number, op in enumerate(graph.ops):
        if op.name in ptq.KERNEL_OPS and op.inputs[1] in constants:
            weights = ptq.by_channel(op.name, constants[op.inputs[1]]).astype(np.float64)
            bias = constants.get(op.inputs[2]) if len(op.inputs) > 2 else None
            bias = np.zeros(weights.shape[1]) if bias is None else bias.astype(np.float64)
            first = found.setdefault(op.inputs[1], Kernel(graph.tensors[op.outputs[0]].name, op.name, number, op.inputs[0],
                                                          op.inputs[1], weights, bias))
            larger = np.where(np.abs(first.bias) >= np.abs(bias), first.bias, bias)
            found[op.inputs[1]] = first._replace(bias=larger)
    return list(found.values())


def holds(kernel: Kernel, weights: np.ndarray) -> bool:
    """Whether a kernel of the flatbuffer is this Keras layer's, by its values: the converter keeps no reliable names."""
    return kernel.weights.size == weights.size and close(kernel.weights, weights.reshape(kernel.weights.shape))


def close(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two arrays are the same but for what a converter's rounding does."""
    return np.allclose(one, other, rtol=1e-3, atol=1e-4 * np.abs(other).max(initial=1e-30))


def largest(bits: int) -> int:
    """The largest code of a symmetric grid: 7 of 4 bits, 127 of 8."""
    return 2 ** (bits - 1) - 1


def stored(bits: int, kind: str = "FULLY_CONNECTED") -> int:
    """The width, in bits, in which an op of this kind holds codes of `bits`. Raises EdgeqError for widths outside 2 to 8."""
    if not 2 <= bits <= 8:
        raise EdgeqError(f"Weights of {bits} bits have no place in a LiteRT file; take 2 to 8.")
    return next(width for width in STORED[kind] if width >= bits)


def nearest(weights: np.ndarray, steps: np.ndarray, bits: int) -> Grid:
    """Round to nearest: weights (weights, channels), steps (channels,). Raises EdgeqError for weights that are no numbers."""
    if not np.isfinite(weights).all():
        raise EdgeqError("The weights hold NaN or infinite values; load sound weights, or train again with a lower rate.")
    most = largest(bits)
    return Grid(np.clip(np.rint(weights / steps), -most, most).astype(np.int8), np.asarray(steps, np.float64), bits)


def min_max_steps(weights: np.ndarray, bits: int) -> np.ndarray:
    """Steps (channels,) with which the largest magnitude of each channel is the largest code; never 0, for what is all
    zeros still multiplies its step with that of its input to get its bias's."""
    return np.maximum(np.abs(weights).max(axis=0, initial=0.0) / largest(bits), 1e-10)


def least_steps(model: bytes, ranges: ptq.Ranges) -> dict[str, np.ndarray]:
    """Output of each kernel's op → the smallest steps (channels,) with which its bias fits into int32.

    A dead channel, and MobileNets have them, is all bias and no weights; the steps that suit its weights clip its bias.
    """
    tensors = flatbuffer.read(model).tensors
    return {kernel.name: ptq.least_steps(kernel.bias, span(ranges[tensors[kernel.source].name])) for kernel in kernels(model)}


def best_steps(weights: np.ndarray, bits: int, shares: Sequence[float], error: Callable[[Grid], np.ndarray],
               least: np.ndarray | float = 0.0) -> np.ndarray:
    """Steps (channels,), none below `least`, that round to nearest with the smallest `error`, (channels,) of a grid: of
    `shares` of those of `min_max_steps`, the first where equal. Clipping a few large weights may cost less than coarse
    steps for all."""
    widest = min_max_steps(weights, bits)
    tried = np.array([np.maximum(share * widest, least) for share in shares])
    chosen = np.argmin([error(nearest(weights, steps, bits)) for steps in tried], axis=0)
    return tried[chosen, np.arange(len(chosen))]


def rounded(model: bytes, ranges: ptq.Ranges, bits: Mapping[str, int], default: int = 8) -> dict[str, Grid]:
    """Every kernel rounded to nearest, its largest magnitude on the largest code: what the cleverer methods must beat.

    `bits` gives single ops, by the names of their outputs, another width than `default`.
    """
    least = least_steps(model, ranges)
    return {kernel.name: nearest(kernel.weights, np.maximum(min_max_steps(kernel.weights, width), least[kernel.name]), width)
            for kernel in kernels(model) for width in [bits.get(kernel.name, default)]}


def with_grids(model: bytes, grids: Mapping[str, Grid]) -> bytes:
    """The float flatbuffer with the rounded weights in the place of its own; `grids` by the names of ops' outputs."""
    mended = bytearray(model)
    constants = open_constants(mended)
    for kernel in kernels(model):
        if kernel.name in grids:
            ptq.by_channel(kernel.kind, constants[kernel.index])[:] = grids[kernel.name].values
    return bytes(mended)


def to_file(model: bytes, grids: Mapping[str, Grid], ranges: ptq.Ranges, io: str = "int8") -> bytes:
    """The file whose weights are exactly these grids, with int8 activations in `ranges` (see `ptq.calibrate`).

    Kernels that `grids` does not name are rounded to nearest, 8 bits (see `rounded`). `io` is a row of `ptq.SCHEMES`. A
    grid reaches the file by its range: the quantizer divides it into as many steps as the width has.
    """
    graph, named = flatbuffer.read(model), dict(ranges)
    grids = {**rounded(model, ranges, {}), **grids}
    found, bits = {kernel.index: kernel for kernel in kernels(model)}, {}
    for op in graph.ops:  # of several that read the same weights, each
        if op.name not in ptq.KERNEL_OPS or op.inputs[1] not in found:
            continue
        kernel = found[op.inputs[1]]
        tensor, rounded_to = graph.tensors[kernel.index], grids[kernel.name]
        width = bits[graph.tensors[op.outputs[0]].name] = stored(rounded_to.bits, kernel.kind)
        shape = [1] * len(tensor.shape)
        shape[-1 if kernel.kind == "DEPTHWISE_CONV_2D" else 0] = len(rounded_to.steps)
        end = (rounded_to.steps * largest(width)).reshape(shape).astype(np.float32)
        named[tensor.name] = {"min": -end, "max": end}
    return ptq.quantize(with_grids(model, grids), ptq.scheme(io), named, bits=bits, cure_dead=False)
