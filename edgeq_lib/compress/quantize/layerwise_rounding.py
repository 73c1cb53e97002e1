"""Output-aware rounding: few bits from a handful of unlabelled images, layer by layer.

1. In the order of the graph, take the inputs that the rounded layers before a layer really send.
2. Round the layer so that its output stays what it was in float, by a row of `METHODS` (`gptq`).
3. `quantized_weights.to_file` makes the file; `bias_correction.correct_biases` gives channels their
   means back.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Executor
from typing import Any

import numpy as np

from edgeq_lib.compress.quantize import calibration, gptq, quantized_weights
from edgeq_lib.compress.quantize.bias_overflow import least_scales
from edgeq_lib.compress.quantize.calibration import range_width
from edgeq_lib.compress.quantize.kernels import Kernel, Use, by_channel, float_kernels
from edgeq_lib.files import CannotTake
from edgeq_lib.progress import progress
from edgeq_lib.tflite.buffers import writable_buffers
from edgeq_lib.tflite.conv_geometry import patches, window
from edgeq_lib.tflite.pool import SUM_CHUNK, chunks, open_executor
from edgeq_lib.tflite.reader import read_graph
from edgeq_lib.tflite.segments import Frontier

_SPARED = 0.05  # share of the weights that is kept at 8 bits because it frees next to nothing
_POSITIONS = 1024  # of an image's positions that enter the moments: neighbours say the same
_MEMORY = 2**29  # bytes that the images' tensors may take, in float and behind rounded layers each
Method = Callable[[np.ndarray, np.ndarray, int, np.ndarray], quantized_weights.QuantizedWeights]


def _gptq_then_descent(
    weights: np.ndarray, scales: np.ndarray, bits: int, second: np.ndarray
) -> quantized_weights.QuantizedWeights:
    return gptq.coordinate_descent(weights, gptq.gptq(weights, scales, bits, second), second)


METHODS: dict[str, Method] = {
    "nearest": lambda weights, scales, bits, second: quantized_weights.round_to_nearest(
        weights, scales, bits
    ),
    "descent": lambda weights, scales, bits, second: gptq.coordinate_descent(
        weights, quantized_weights.round_to_nearest(weights, scales, bits), second
    ),
    "gptq": lambda weights, scales, bits, second: gptq.gptq(weights, scales, bits, second),
    "gptq_descent": _gptq_then_descent,
    "power_of_two": lambda weights, scales, bits, second: _gptq_then_descent(
        weights, gptq.powers_of_two(weights, scales, bits, second), bits, second
    ),
}


def default_widths(model: bytes, *, bits: int = 4, classifier: int = 4) -> dict[str, int]:
    """Give each kernel a width.

    Dense layers (1 × 1 convolutions, see `rewrite.as_dense`) have `bits`, the last of them
    `classifier`. First layer and depthwise kernels keep 8: they hold few weights and are sensitive.
    So do transposed ones, for which LiteRT has nothing narrower. Other convolutions keep 8 as well,
    since LiteRT has no fast kernel for fewer; but where dense layers hold less than half of the
    weights, there is nothing to win without them. The smallest layers, a twentieth of the weights
    together, keep 8: they are early ones, which compute most, and unpacking 4 bits takes time.

    Returns:
        Output of each kernel's op → bits.

    Raises:
        CannotTake: When there is nothing to round.
    """
    kernels = float_kernels(model)
    if reason := why_not(model):
        raise CannotTake(reason)
    every = sum(kernel.weights.size for kernel in kernels)
    dense = sum(kernel.weights.size for kernel in kernels if kernel.kind == "FULLY_CONNECTED")
    kinds = {
        "FULLY_CONNECTED": bits,
        "CONV_2D": 8 if dense >= 0.5 * every else bits,
        "DEPTHWISE_CONV_2D": 8,
        "TRANSPOSE_CONV": 8,
    }
    chosen = {kernel.name: kinds[kernel.kind] for kernel in kernels}
    shrunk = sorted(
        (kernel for kernel in kernels if chosen[kernel.name] < 8),
        key=lambda kernel: kernel.weights.size,
    )
    held = np.cumsum([kernel.weights.size for kernel in shrunk])
    spared = {
        kernel.name: 8
        for kernel, weights in zip(shrunk, held, strict=True)
        if weights <= _SPARED * every
    }
    return {**chosen, **spared, kernels[-1].name: classifier, kernels[0].name: 8}


def why_not(model: bytes) -> str | None:
    """Say why the weights of a network cannot be rounded to few bits.

    Args:
        model: The float flatbuffer.

    Returns:
        The reason, one sentence; None when they can.
    """
    if float_kernels(model):
        return None
    return "The network has no convolution and no dense layer, so there are no weights to round."


def round_layers(
    model: bytes,
    images: np.ndarray,
    ranges: calibration.Ranges,
    bits: Mapping[str, int],
    method: str = "gptq_descent",
    executor: Executor | None = None,
) -> dict[str, quantized_weights.QuantizedWeights]:
    """Round all kernels of a float flatbuffer, in the order of the graph.

    Kernels of 8 bits are rounded by the method too: their errors are small, and what they make up
    for are those of the layers before them. Depthwise and transposed kernels are rounded to
    nearest. Each group of a grouped convolution sees its own inputs; a kernel of several ops sees
    the inputs of all.

    Args:
        model: The float flatbuffer.
        images: Preprocessed float32 (n, H, W, C), unlabelled.
        ranges: Activation ranges: how coarse each layer's int8 inputs are, which counts as noise on
            them, and how small scales may be.
        bits: Output of an op → its width; 8 where it has none.
        method: A row of `METHODS`.
        executor: Runs the images; threads of its own by default.

    Returns:
        Output of each kernel's op → its quantized weights.
    """
    tried = round_each(
        model, images, ranges, {name: [width] for name, width in bits.items()}, method, executor
    )
    return {name: by_width[bits.get(name, 8)] for name, by_width in tried.items()}


def round_each(
    model: bytes,
    images: np.ndarray,
    ranges: calibration.Ranges,
    widths: Mapping[str, Collection[int]],
    method: str = "gptq_descent",
    executor: Executor | None = None,
) -> dict[str, dict[int, quantized_weights.QuantizedWeights]]:
    """Round each kernel at several widths, given the kernels before it at their widest.

    Args:
        model: The float flatbuffer.
        images: Preprocessed float32 (n, H, W, C), unlabelled.
        ranges: Activation ranges.
        widths: Output of an op → what to try; 8 alone for those that it does not name.
        method: A row of `METHODS`.
        executor: Runs the images; threads of its own by default.

    Returns:
        Output of each kernel's op → width → its quantized weights.
    """
    graph, least = read_graph(model), least_scales(model, ranges)
    by_kernel: dict[str, dict[int, quantized_weights.QuantizedWeights]] = {}
    rounded_model = bytearray(model)
    constants = writable_buffers(rounded_model)
    frontiers = Frontier(model, images, _MEMORY), Frontier(model, images, _MEMORY)
    with open_executor(executor) as pool:
        for kernel in progress(float_kernels(model), "rounding"):
            tried, smallest = sorted(widths.get(kernel.name, (8,))), least[kernel.name]
            if kernel.kind in ("DEPTHWISE_CONV_2D", "TRANSPOSE_CONV"):
                rounded = {width: _nearest(kernel.weights, width, smallest) for width in tried}
            else:
                noises = [
                    _rounding_noise(ranges[graph.tensors[use.source].name]) for use in kernel.uses
                ]
                moments = _moments(model, rounded_model, kernel, frontiers, images, pool)
                rounded = _rounded_by_group(
                    kernel.weights,
                    moments,
                    float(np.mean(noises)),
                    tried,
                    smallest,
                    METHODS[method],
                )
            by_kernel[kernel.name] = rounded
            by_channel(kernel.kind, constants[kernel.index])[:] = rounded[tried[-1]].values
    return by_kernel


def _nearest(
    weights: np.ndarray, bits: int, least: np.ndarray
) -> quantized_weights.QuantizedWeights:
    scales = np.maximum(quantized_weights.min_max_scales(weights, bits), least)
    return quantized_weights.round_to_nearest(weights, scales, bits)


def _rounded_by_group(
    weights: np.ndarray,
    moments: np.ndarray,
    noise: float,
    widths: Collection[int],
    least: np.ndarray,
    method: Method,
) -> dict[int, quantized_weights.QuantizedWeights]:
    """Round a kernel at several widths by its output's error, each group by its own inputs."""
    groups = len(moments)
    by_group = []
    for (second, cross), own, smallest in zip(
        moments, np.split(weights, groups, axis=1), np.split(least, groups), strict=True
    ):
        second = second + np.eye(len(second)) * noise
        wanted = gptq.target(own, second, cross)
        rounded = {}
        for width in widths:
            scales = gptq.scales_by_output_error(wanted, second, width, smallest)
            rounded[width] = method(wanted, scales, width, second)
        by_group.append(rounded)
    return {
        width: quantized_weights.QuantizedWeights(
            np.concatenate([rounded[width].codes for rounded in by_group], axis=1),
            np.concatenate([rounded[width].scales for rounded in by_group]),
            width,
        )
        for width in widths
    }


def _moments(
    model: bytes,
    rounded_model: bytearray,
    kernel: Kernel,
    frontiers: tuple[Frontier, Frontier],
    images: np.ndarray,
    pool: Executor,
) -> np.ndarray:
    """Means of x̃ x̃ᵀ and x̃ xᵀ per group, (groups, 2, weights, weights).

    x is what a kernel reads in float, x̃ after the rounded ones; of a kernel that several ops read,
    the mean over what they read.
    """
    uses = {use.source: use for use in reversed(kernel.uses)}  # the first of those that read it
    first, *later = sorted(uses.values(), key=lambda use: use.number)
    moments = [_moments_of(model, rounded_model, kernel, first, frontiers, pool)]
    for use in later:  # the frontier must not pass kernels between, which are not rounded yet
        ahead = Frontier(model, images, _MEMORY), Frontier(model, images, _MEMORY)
        moments.append(_moments_of(model, rounded_model, kernel, use, ahead, pool))
    return np.mean(moments, axis=0)


def _moments_of(
    model: bytes,
    rounded_model: bytearray,
    kernel: Kernel,
    use: Use,
    frontiers: tuple[Frontier, Frontier],
    pool: Executor,
) -> np.ndarray:
    geometry = window(model, use.number, read_graph(model).tensors[use.index].shape)
    in_float, behind_rounded = frontiers
    with (
        in_float.segment(model, use.number, use.source) as exact,
        behind_rounded.segment(rounded_model, use.number, use.source) as changed,
    ):

        def rows(values: np.ndarray) -> np.ndarray:
            # A dense layer flattens what it reads, and in attention reads tensors without a batch.
            return patches(
                values.reshape(-1, kernel.width) if geometry is None else values, geometry
            )

        def work(part: slice) -> Any:
            total: Any = 0
            for images in zip(exact(part), changed(part), strict=True):
                x, rounded = map(rows, images)
                every = -(-len(x) // _POSITIONS)
                x, rounded = x[::every], rounded[::every]
                pairs = zip(_by_group(x, kernel), _by_group(rounded, kernel), strict=True)
                sums = np.stack([np.stack([near.T @ near, near.T @ own]) for own, near in pairs])
                total = total + sums.astype(np.float64) / len(x)
            return total

        return sum(pool.map(work, chunks(in_float.images, SUM_CHUNK))) / in_float.images


def _by_group(rows: np.ndarray, kernel: Kernel) -> list[np.ndarray]:
    """Patches, (positions, window * channels), as each group of a convolution sees them."""
    groups = rows.shape[1] // len(kernel.weights)
    if groups == 1:
        return [rows]
    cells = rows.reshape(len(rows), -1, groups, kernel.width)
    return [cells[:, :, group].reshape(len(rows), -1) for group in range(groups)]


def _rounding_noise(extremes: Mapping[str, np.ndarray]) -> float:
    """The variance that rounding to 256 levels adds to a value: a twelfth of a squared scale."""
    return (range_width(extremes) / 255) ** 2 / 12


def round_by_classifier_width(
    model: bytes,
    images: np.ndarray,
    ranges: calibration.Ranges,
    bits: int,
    classifier_bits: Collection[int],
    method: str,
) -> dict[int, dict[str, quantized_weights.QuantizedWeights]]:
    """Round the network once and its classifier at several widths.

    Args:
        model: The float flatbuffer.
        images: Preprocessed float32 (n, H, W, C), unlabelled.
        ranges: Activation ranges.
        bits: Of the other layers (see `default_widths`).
        classifier_bits: Tried.
        method: A row of `METHODS`.

    Returns:
        Width of the classifier → quantized weights of all kernels.
    """
    last = float_kernels(model)[-1].name
    widths: dict[str, Collection[int]] = {
        name: [width] for name, width in default_widths(model, bits=bits).items()
    }
    tried = round_each(model, images, ranges, {**widths, last: classifier_bits}, method)
    return {
        width: {
            name: by_width[width] if name == last else next(iter(by_width.values()))
            for name, by_width in tried.items()
        }
        for width in classifier_bits
    }
