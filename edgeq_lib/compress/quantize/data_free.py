"""Data-free quantization (DFQ): make a float network easy to round, from weights and norms alone.

Nagel et al., arXiv 1906.04721. Constants and fused activations of the float flatbuffer are
rewritten in place, so that names, ops and sizes stay. A step that changes what tensors hold returns
the statistics that then hold.

1. `equalize`: scale channels so that both sides of each pair of layers have the same ranges.
2. `absorb_high_biases`: move what a channel nearly always exceeds into the next op.
3. `int8_per_tensor`: ranges from batch norms, biases corrected analytically.
4. `files_by_rounding`: fewer bits, nearest or SQuant.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgeq_lib.compress.quantize import bn_statistics, quantized_weights, quantizer, squant
from edgeq_lib.compress.quantize.bias_correction import mean_output
from edgeq_lib.compress.quantize.bn_statistics import Norms
from edgeq_lib.compress.quantize.kernels import by_channel, float_kernels
from edgeq_lib.tflite.buffers import writable_buffers
from edgeq_lib.tflite.conv_geometry import window
from edgeq_lib.tflite.reader import read_graph
from edgeq_lib.tflite.rewrite import as_dense

_THROUGH = (
    "MEAN",
    "AVERAGE_POOL_2D",
    "MAX_POOL_2D",
    "RESHAPE",
    "SQUEEZE",
    "PAD",
)  # a scaled channel comes out as scaled
# Where the table of an op's options keeps its fused activation (schema of TensorFlow Lite).
_SLOTS = {
    "CONV_2D": (schema.Conv2DOptions, 10),
    "DEPTHWISE_CONV_2D": (schema.DepthwiseConv2DOptions, 12),
    "FULLY_CONNECTED": (schema.FullyConnectedOptions, 4),
}


class Pair(NamedTuple):
    """Two ops with weights between which a channel can be scaled."""

    first: int  # number in the graph
    second: int
    between: tuple[str, ...]  # the ops on the way


def pairs(model: bytes, allowed: tuple[str, ...] = ("NONE", "RELU", "RELU6")) -> list[Pair]:
    """List the pairs of ops that cross-layer equalization may touch, in the order of the graph.

    The first one's output has one reader, the second, maybe behind pooling; the first's activation
    is one of `allowed`, through which a positive factor passes. It does not pass through a swish or
    a sigmoid, and behind a residual addition or a squeeze-and-excite multiplication a channel has
    several readers or writers. Ops without a bias are left out.
    """
    graph, fused = read_graph(model), bn_statistics.activations(model)
    kernels = {
        kernel.number: kernel
        for kernel in float_kernels(model)
        if kernel.kind != "TRANSPOSE_CONV" and len(kernel.uses) == 1
    }
    readers = Counter(index for op in graph.ops for index in op.inputs)
    readers.update(graph.outputs)
    shared = _shared(model)
    linked = []
    for number in kernels:
        op = graph.ops[number]
        if (
            fused[number] not in allowed
            or len(op.inputs) < 3
            or -1 in op.inputs
            or shared & {*op.inputs[1:3]}
        ):
            continue
        reader, index, between = None, op.outputs[0], []
        while readers[index] == 1 and index not in graph.outputs:
            reader = next(
                position for position, other in enumerate(graph.ops) if index in other.inputs
            )
            if graph.ops[reader].name not in _THROUGH or fused[reader] != "NONE":
                break
            index = graph.ops[reader].outputs[0]
            between.append(graph.ops[reader].name)
        if (
            reader in kernels
            and graph.ops[reader].inputs[0] == index
            and graph.ops[reader].inputs[1] not in shared
            and _takes_all(
                graph.ops[reader].name,
                graph.tensors[kernels[reader].index].shape,
                len(kernels[number].bias),
            )
        ):
            linked.append(Pair(number, reader, tuple(between)))
    return linked


def _shared(model: bytes) -> set[int]:
    """The constants whose bytes more than one op reads: rewriting one would rewrite the other."""
    graph, constants = read_graph(model), writable_buffers(bytearray(model))
    addresses = {index: values.ctypes.data for index, values in constants.items()}
    uses = Counter(
        addresses[index] for op in graph.ops for index in op.inputs if index in addresses
    )
    return {index for index, address in addresses.items() if uses[address] > 1}


def _takes_all(kind: str, shape: tuple[int, ...], channels: int) -> bool:
    """Whether a kernel is no grouped one; a dense one may read a flattened image."""
    return shape[-1] == channels if kind == "CONV_2D" else shape[-1] % channels == 0


def without_relu6(model: bytes) -> bytes:
    """Put RELU in the place of each RELU6 that stands between a pair.

    A factor does not pass the ceiling at 6; what this costs is the float accuracy of the result.
    """
    mended = bytearray(model)
    table, graph = schema.Model.GetRootAs(mended).Subgraphs(0), read_graph(model)
    for first, *_ in pairs(model):
        reader, slot = _SLOTS[graph.ops[first].name]
        options = reader()
        options.Init(mended, table.Operators(first).BuiltinOptions().Pos)
        if options.FusedActivationFunction() == schema.ActivationFunctionType.RELU6:
            mended[options._tab.Offset(slot) + options._tab.Pos] = (
                schema.ActivationFunctionType.RELU
            )
    return bytes(mended)


def _incoming(kind: str, kernel: np.ndarray, channels: int) -> np.ndarray:
    """A view (…, channels, …) of a stored kernel with the input channel on axis 1."""
    return (
        kernel.reshape(-1, channels, kernel.shape[-1] // channels)
        if kind == "DEPTHWISE_CONV_2D"
        else kernel.reshape(-1, channels, 1)
    )


def equalize(
    model: bytes, norms: Norms, reach: float = 3.0, rounds: int = 20
) -> tuple[bytes, Norms]:
    """Equalize across layers: scale channels so that both sides of each pair have the same ranges.

    A channel of the first is divided by sqrt(r1 / r2) and what reads it multiplied, r being the
    largest magnitudes; chains settle in some rounds. Through a linear op or a ReLU nothing changes
    in float but rounding (1e-5 of the largest output). Through a ReLU6 only those channels are
    scaled that stay below 6 before and after: the ceiling then cuts next to nothing, and the
    network needs no ReLU in its place. No channel grows beyond the widest of its tensor, whose
    range would suffer. Channels without weights on either side stay.

    Args:
        model: The float flatbuffer.
        norms: Statistics of its batch norms (`bn_statistics.batch_norm_statistics`).
        reach: Standard deviations above the mean that must stay below 6.
        rounds: Passes over the pairs.

    Returns:
        The float flatbuffer, and the statistics that then hold.
    """
    mended, norms = bytearray(model), dict(norms)
    graph, constants, fused = (
        read_graph(model),
        writable_buffers(mended),
        bn_statistics.activations(model),
    )
    for first, second, _ in pairs(model) * rounds:
        one, two = graph.ops[first], graph.ops[second]
        name = graph.tensors[one.outputs[0]].name
        if name not in norms and fused[first] == "RELU6":
            continue
        outgoing = by_channel(one.name, constants[one.inputs[1]])
        incoming = _incoming(two.name, constants[two.inputs[1]], outgoing.shape[1])
        largest_out = np.abs(outgoing).max(axis=0)
        largest_in = np.abs(incoming).max(axis=(0, 2))
        alive = (largest_out > 0) & (largest_in > 0)
        factor = np.sqrt(np.where(alive, largest_out, 1) / np.where(alive, largest_in, 1))
        if name in norms:
            beta, gamma = norms[name]
            widest = np.abs(beta) + reach * gamma
            ceiling = 6.0 if fused[first] == "RELU6" else widest.max()
            free = beta + reach * gamma <= ceiling * (1 + 1e-9)
            factor = np.where(free, np.maximum(factor, np.minimum(widest / ceiling, 1)), 1)
            norms[name] = beta / factor, gamma / factor
        outgoing /= factor
        constants[one.inputs[2]][:] /= factor
        incoming *= factor[:, None]
    return bytes(mended), norms


def absorb_high_biases(model: bytes, norms: Norms) -> tuple[bytes, Norms]:
    """Move what a channel nearly always exceeds into the next op's bias.

    That is c = max(0, beta - 3 gamma).

    Behind a ReLU this is exact for all values above c, 99.9 % of them if they are normal; behind a
    ReLU6 for channels that stay below 6 as well. The next op must be dense or 1 × 1: a wider one
    reads zeros beyond the border, which know nothing of c.

    Returns:
        The float flatbuffer, and the statistics that then hold.
    """
    mended, norms = bytearray(model), dict(norms)
    graph, constants = read_graph(model), writable_buffers(mended)
    fused, shared = bn_statistics.activations(model), _shared(model)
    for first, second, between in pairs(model, ("RELU", "RELU6")):
        one, two = graph.ops[first], graph.ops[second]
        name, kernel = graph.tensors[one.outputs[0]].name, constants[two.inputs[1]]
        wide = two.name != "FULLY_CONNECTED" and kernel.shape[1:3] != (1, 1)
        if (
            name in norms
            and not wide
            and "PAD" not in between
            and two.inputs[2] in constants.keys() - shared
        ):
            beta, gamma = norms[name]
            ceiling = 6.0 if fused[first] == "RELU6" else np.inf
            excess = np.where(beta + 3 * gamma <= ceiling, np.maximum(beta - 3 * gamma, 0), 0)
            constants[one.inputs[2]][:] -= excess
            taken = _incoming(two.name, kernel, len(excess)) * excess[:, None]
            # (outputs × window, channels, 1), or (window, channels, multiplier) of a depthwise one
            constants[two.inputs[2]][:] += (
                taken.sum(axis=0).ravel()
                if two.name == "DEPTHWISE_CONV_2D"
                else taken.reshape(len(kernel), -1).sum(axis=1)
            )
            norms[name] = beta - excess, gamma
    return bytes(mended), norms


def clip_weights(model: bytes, limit: float) -> bytes:
    """Clip all weights to ± `limit`, where few large weights make scales coarse.

    `correct_biases_from_statistics` makes up for what it does to the means.
    """
    mended = bytearray(model)
    constants = writable_buffers(mended)
    for kernel in float_kernels(model):
        np.clip(constants[kernel.index], -limit, limit, out=constants[kernel.index])
    return bytes(mended)


def correct_biases_from_statistics(
    model: bytes, changed: bytes, norms: Norms, input_range: tuple[float, float]
) -> bytes:
    """Correct biases analytically: keep the mean of each channel when weights change.

    The mean of what an op reads comes from the batch norms, through the activation in closed form.

    Args:
        model: The float flatbuffer whose means are kept.
        changed: The same with other weights.
        norms: Statistics of its batch norms.
        input_range: The range of the network's input.
    """
    corrected, graph = bytearray(changed), read_graph(model)
    exact, constants = writable_buffers(bytearray(model)), writable_buffers(corrected)
    expected = bn_statistics.tensor_moments(model, norms, input_range)
    shared = _shared(model)
    for kernel in float_kernels(model):
        if kernel.kind == "TRANSPOSE_CONV":
            continue
        for use in kernel.uses:
            op = graph.ops[use.number]
            if len(op.inputs) > 2 and op.inputs[2] in constants.keys() - shared:
                error = constants[use.index].astype(np.float64) - exact[use.index]
                shape = graph.tensors[use.source].shape
                mean = np.broadcast_to(expected[use.source].mean, shape)[0]
                constants[op.inputs[2]][:] -= mean_output(
                    op.name, error, window(model, use.number, error.shape), mean
                )
    return bytes(corrected)


def int8_per_tensor(
    model: bytes, norms: Norms, input_range: tuple[float, float], exact: bytes | None = None
) -> bytes:
    """Make an int8 file with one scale per tensor for the weights too, without any image.

    Args:
        model: The float flatbuffer.
        norms: Statistics of its batch norms.
        input_range: The range of the network's input.
        exact: The network whose channel means are kept (`model` itself, say); None for no
            correction.
    """
    ranges = bn_statistics.ranges_from_moments(exact or model, norms, input_range)
    if exact is not None:
        scales = {
            kernel.name: np.full_like(
                kernel.bias, quantized_weights.min_max_scales(kernel.weights.reshape(-1, 1), 8)[0]
            )
            for kernel in float_kernels(model)
        }
        rounded = {
            kernel.name: quantized_weights.round_to_nearest(kernel.weights, scales[kernel.name], 8)
            for kernel in float_kernels(model)
        }
        model = correct_biases_from_statistics(
            exact, quantized_weights.with_quantized_weights(model, rounded), norms, input_range
        )
    return quantizer.quantize(
        model, quantizer.scheme("int8_per_tensor"), ranges, fix_dead=False
    )  # its scales are coarse enough


def with_weights(
    model: bytes,
    quantized: Mapping[str, quantized_weights.QuantizedWeights],
    norms: Norms,
    input_range: tuple[float, float],
) -> bytes:
    """Put rounded weights into the float flatbuffer, biases corrected analytically."""
    return correct_biases_from_statistics(
        model, quantized_weights.with_quantized_weights(model, quantized), norms, input_range
    )


def files_by_rounding(
    model: bytes, norms: Norms, input_range: tuple[float, float], bits: int, method: str
) -> dict[str, bytes]:
    """Make files of one width and one way of rounding, without any image.

    Args:
        model: The float flatbuffer.
        norms: Statistics of its batch norms.
        input_range: The range of the network's input.
        bits: Of the weights.
        method: A row of `squant.METHODS`.

    Returns:
        "weights only": all kernels rounded, float activations and biases as they were; "biases
        corrected": the same with analytic bias correction; "int8 activations": the real file of the
        latter, in which depthwise kernels have 8 bits (LiteRT has none of fewer), and 1 × 1
        convolutions of fewer than 8 are dense layers (LiteRT has no fast 4-bit convolution).
    """
    ranges = bn_statistics.ranges_from_moments(model, norms, input_range)
    not_narrower = {
        kernel.name: 8
        for kernel in float_kernels(model)
        if quantized_weights.STORAGE_WIDTHS[kernel.kind] == (8,)
    }
    everywhere, storable = (
        squant.round_network(model, ranges, widths, bits, method) for widths in ({}, not_narrower)
    )
    network = with_weights(model, storable, norms, input_range)
    if quantized_weights.storage_bits(bits) < 8:
        network = as_dense(network)
    return {
        "weights only": quantized_weights.with_quantized_weights(model, everywhere),
        "biases corrected": with_weights(model, everywhere, norms, input_range),
        "int8 activations": quantized_weights.to_file(network, storable, ranges),
    }
