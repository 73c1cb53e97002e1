"""Calibration: activation ranges from one pass over the calibration images.

1. `observe` runs the float network and keeps each image's minimum and maximum per tensor, and one
   histogram per tensor over some of the images.
2. A summary, a row of `SUMMARIES`, turns these into one range per tensor. Clipping rare large
   values and coarsening the scale for all others are the two errors to weigh (Krishnamoorthi, arXiv
   1806.08342; Sakr et al., arXiv 2206.06501).
3. `summarize` writes the ranges as litert-quantizer takes them. `calibrate` does all three.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from edgeq_lib.files import EdgeqError
from edgeq_lib.progress import progress
from edgeq_lib.tflite.pool import InterpreterPool, chunks, open_executor
from edgeq_lib.tflite.reader import Graph, read_graph

Ranges = dict[str, dict[str, np.ndarray]]
COVERED = 0.98  # share of the calibration images that a covering range holds in full
_MOMENTUM = 0.95  # of litert-quantizer's moving average
# The histogram's bins are float32's own: sign, exponent and six bits of the mantissa. So no range
# must be known
# before the pass, and a bin is at most 1.6 % wide.
_SHIFT = 17
_BINS = 2 ** (32 - _SHIFT)
# Images, evenly spaced, whose values go into the histogram: counting takes longer than inferring
_COUNTED = 64
_CHUNK = 8


@dataclass(frozen=True)
class ActivationStatistics:
    """What a float network's tensors held on the calibration images.

    Extremes are float32 (images, tensors); counts are int64 (tensors, bins) over up to 64 images.
    """

    names: list[str]
    ranks: list[int]  # of the tensors
    low: np.ndarray
    high: np.ndarray
    counts: np.ndarray

    def spread(self, n: int) -> ActivationStatistics:
        """Take `n` of the images, evenly spread over all; the histogram stays as it is."""
        rows = np.linspace(0, len(self.low) - 1, n).astype(int)
        return replace(self, low=self.low[rows], high=self.high[rows])


def observe(
    model: bytes, images: np.ndarray, executor: Executor | None = None, histogram: bool = True
) -> ActivationStatistics:
    """Run a float flatbuffer on images and keep what its tensors held.

    Args:
        model: The float flatbuffer.
        images: Preprocessed float32 (n, H, W, C).
        executor: Runs the images; threads of its own by default (the runtime frees Python's lock).
        histogram: Count values too; without, the pass is faster and some summaries are not
            possible.

    Returns:
        The statistics, the input first.

    Raises:
        EdgeqError: For an empty set and for NaN images.
    """
    _check_images(images)
    graph = read_graph(model)
    indices = _float_tensors(graph)
    counted = set(np.linspace(0, len(images) - 1, _COUNTED).astype(int)) if histogram else set()
    no_counts = np.zeros((len(indices), _BINS if histogram else 0), np.int64)
    pool = InterpreterPool([model], keep_tensors=True)

    def work(interpreters: list[Any], part: slice) -> tuple[np.ndarray, np.ndarray]:
        (interpreter,) = interpreters
        extremes = np.empty((2, len(images[part]), len(indices)), np.float32)
        counts = no_counts.copy()
        for row, image in enumerate(images[part]):
            interpreter.set_tensor(graph.inputs[0], image[None])
            interpreter.invoke()
            for column, index in enumerate(indices):
                values = interpreter.get_tensor(index).ravel()
                extremes[:, row, column] = values.min(), values.max()
                if part.start + row in counted:
                    counts[column] += np.bincount(values.view(np.uint32) >> _SHIFT, minlength=_BINS)
        return extremes, counts

    shares = chunks(len(images), _CHUNK)
    with open_executor(executor, pool.workers) as threads:
        results = progress(pool.map(work, shares, threads), "calibration", len(shares))
        parts, counts = [], no_counts
        for extremes, counts_of_part in results:
            parts.append(extremes)
            counts = counts + counts_of_part
    low, high = np.concatenate(parts, axis=1)
    tensors = [graph.tensors[index] for index in indices]
    names, ranks = [tensor.name for tensor in tensors], [len(tensor.shape) for tensor in tensors]
    return ActivationStatistics(names, ranks, low, high, counts)


def _check_images(images: np.ndarray) -> None:
    if not len(images):
        raise EdgeqError(
            "The representative set is empty; set `calibration` in the section 'data' to 16 "
            "images or more."
        )
    if not np.isfinite(images).all():
        raise EdgeqError(
            "A calibration image holds NaN or infinite values; remove it from the training set."
        )


def _float_tensors(graph: Graph) -> list[int]:
    """Indices of the float32 tensors that are fed or computed, the input first."""
    computed = {index for op in graph.ops for index in op.outputs} - set(graph.inputs)
    return [
        index
        for index in (*graph.inputs, *sorted(computed))
        if graph.tensors[index].dtype == "FLOAT32"
    ]


def min_max(observed: ActivationStatistics) -> tuple[np.ndarray, np.ndarray]:
    """Take the true extremes of all images, (tensors,) each: nothing seen is clipped."""
    return observed.low.min(axis=0), observed.high.max(axis=0)


def moving_average(observed: ActivationStatistics) -> tuple[np.ndarray, np.ndarray]:
    """Average the extremes as litert-quantizer does by default: each further image counts for 5 %.

    It depends on the order of the images and clips rare large values.
    """
    low, high = observed.low[0], observed.high[0]
    for new_low, new_high in zip(observed.low[1:], observed.high[1:], strict=True):
        low, high = (
            _MOMENTUM * old + (1 - _MOMENTUM) * new
            for old, new in ((low, new_low), (high, new_high))
        )
    return low, high


def covering(
    observed: ActivationStatistics, share: float = COVERED
) -> tuple[np.ndarray, np.ndarray]:
    """Cover a share of the images in full: one vote each, so that no outlier sets a range."""
    return np.quantile(observed.low, 1 - share, axis=0), np.quantile(observed.high, share, axis=0)


def percentile(observed: ActivationStatistics, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Cover a share of the values, on either side."""
    values, counts = _sorted(observed)
    below = np.cumsum(counts, axis=1)
    lower, upper = (
        values[np.argmax(below >= np.ceil(part * below[:, -1:]), axis=1)]
        for part in (1 - share, share)
    )
    low, high = min_max(observed)
    return np.maximum(lower, low), np.minimum(upper, high)


def mse(observed: ActivationStatistics) -> tuple[np.ndarray, np.ndarray]:
    """Minimize the expected squared error, either end searched down to a tenth.

    The error is that of what is clipped, and a twelfth of a squared scale for all else but zeros,
    which are exact (as Sakr et al., arXiv 2206.06501, do for weights).
    """
    values, counts = _sorted(observed)
    shares = np.concatenate([[1.0], 0.97 ** np.arange(1, 76)])
    ranges = []
    for count, low, high in zip(counts, *min_max(observed), strict=True):
        occurs = count > 0
        value, number = values[occurs].astype(np.float64), count[occurs].astype(np.float64)
        lows, highs = (np.unique(end * shares) for end in (min(low, 0.0), max(high, 0.0)))
        below, above = (
            np.array([number @ np.maximum(sign * (value - end), 0) ** 2 for end in tried])
            for sign, tried in ((-1, lows), (1, highs))
        )
        rounding = ((highs - lows[:, None]) / 255) ** 2 / 12 * number[value != 0].sum()
        best = np.unravel_index(np.argmin(below[:, None] + above + rounding), rounding.shape)
        ranges.append((lows[best[0]], highs[best[1]]))
    low, high = np.transpose(ranges)
    return low, high


def drop_outlier_images(observed: ActivationStatistics, n: int) -> np.ndarray:
    """Choose images evenly among those that are no outliers in any tensor.

    Means are as sensitive to outliers as extremes are. An image's excess is how far it goes beyond
    the covering range, in widths of that, in the tensor where it does so most. The images of
    largest excess are left out, the share that `covering` leaves out of a range.

    Args:
        observed: What the images did.
        n: How many to choose.

    Returns:
        Sorted indices, int64, at most `n`.
    """
    low, high = covering(observed)
    width = np.maximum(high - low, 1e-12)
    excess = np.maximum((observed.high - high) / width, (low - observed.low) / width).max(axis=1)
    usual = np.sort(np.argsort(excess, kind="stable")[: max(int(COVERED * len(excess)), 1)])
    return usual[np.unique(np.linspace(0, len(usual) - 1, min(n, len(usual))).astype(int))]


def deviations(observed: ActivationStatistics) -> np.ndarray:
    """Estimate each tensor's standard deviation, (tensors,), from the histogram."""
    values, counts = _sorted(observed)
    total = counts.sum(axis=1)
    mean, square = counts @ values / total, counts @ np.square(values.astype(np.float64)) / total
    return np.sqrt(np.maximum(square - mean**2, 0))


def _sorted(observed: ActivationStatistics) -> tuple[np.ndarray, np.ndarray]:
    """The histogram by ascending value: middles of the bins (bins,), and counts (tensors, bins)."""
    middle = ((np.arange(_BINS, dtype=np.uint32) << _SHIFT) + 2 ** (_SHIFT - 1)).view(np.float32)
    zero = np.flatnonzero(np.abs(middle) < np.finfo(np.float32).tiny)
    middle = middle.copy()
    middle[zero] = 0.0
    order = np.argsort(middle, kind="stable")
    order = order[np.isfinite(middle[order])]
    return middle[order], observed.counts[:, order]


SUMMARIES: dict[str, Callable[[ActivationStatistics], tuple[np.ndarray, np.ndarray]]] = {
    "moving_average": moving_average,
    "min_max": min_max,
    "covering": covering,
    **{f"covering_{share}": partial(covering, share=share / 100) for share in (80, 90, 95, 99)},
    "percentile_99.9": partial(percentile, share=0.999),
    "percentile_99.99": partial(percentile, share=0.9999),
    "percentile_99.999": partial(percentile, share=0.99999),
    "mse": mse,
}
BY_VALUES = (
    "percentile_99.9",
    "percentile_99.99",
    "percentile_99.999",
    "mse",
)  # these need the histogram


def summarize(
    observed: ActivationStatistics, summary: str, input_range: tuple[float, float]
) -> Ranges:
    """Turn statistics into ranges as litert-quantizer takes them.

    Args:
        observed: What the images did.
        summary: A row of `SUMMARIES`.
        input_range: The range of the network's input, which is known and not estimated.

    Returns:
        Tensor → {"min", "max"}.
    """
    low, high = (np.array(end, np.float32) for end in SUMMARIES[summary](observed))
    low[0], high[0] = range_with_integral_zero(*input_range)
    return {
        name: {"min": np.full((1,) * rank, below), "max": np.full((1,) * rank, above)}
        for name, rank, below, above in zip(observed.names, observed.ranks, low, high, strict=True)
    }


def range_width(extremes: Mapping[str, np.ndarray]) -> float:
    """Measure a tensor's range {"min", "max"}, which always holds 0."""
    return max(float(extremes["max"].max()), 0.0) - min(float(extremes["min"].min()), 0.0)


def range_with_integral_zero(low: float, high: float) -> tuple[float, float]:
    """Widen a range until 0 lies on a code of its own accord.

    Pixels lie on a grid: with -1 … 1 each of the 256 levels falls half way between two codes, and
    training and LiteRT, which round halves differently, would see different images.
    """
    if not low < 0 < high:
        return low, high
    below = int(255 * -low / (high - low))
    scale = max(-low / max(below, 1), high / (255 - below))
    return -below * scale, (255 - below) * scale


def calibrate(
    model: bytes, images: np.ndarray, input_range: tuple[float, float], summary: str = "covering"
) -> Ranges:
    """Calibrate a float flatbuffer; one set of ranges serves every scheme.

    Args:
        model: The float flatbuffer.
        images: Preprocessed float32 (n, H, W, C), the representative data set.
        input_range: The range of the network's input, which is known and not estimated.
        summary: A row of `SUMMARIES`.

    Returns:
        Tensor → {"min", "max"}.

    Raises:
        EdgeqError: For an empty set and for NaN images.
    """
    return summarize(observe(model, images, histogram=summary in BY_VALUES), summary, input_range)
