"""Why an int8 file loses against its float32 parent, layer by layer, and what wins it back without training.

Diagnosis: the error of each tensor from paired interpreters, and sweeps in which one layer alone is int8, or all but one.
Cures: activation ranges (`ranges`), weight ranges, bias correction (`bias_correction`), and float32 for single layers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeq_lib.compress.quantize.sensitivity import fidelity
from edgeq_lib.data.splits import draw_calibration
from edgeq_lib.measure.statistics import quality_record
from edgeq_lib.tflite.runtime import dequantize_array, make_interpreter


def disjoint_calibration_sets(
    labels: np.ndarray, largest: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Two disjoint calibration sets from train, shuffled, of at most `largest` images each: int64 indices. Together they
    are balanced over the classes."""
    drawn = draw_calibration(labels, min(2 * largest, len(labels)), seed)
    drawn = np.random.default_rng([seed, 2]).permutation(drawn)
    return drawn[: len(drawn) // 2], drawn[len(drawn) // 2 : 2 * (len(drawn) // 2)]


def ablation_row(
    name: str,
    technique: str,
    model: bytes,
    outputs: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    base: np.ndarray,
) -> dict:
    """A row of the ladder: `stats.quality` of a file's stored outputs on validation, with the rung's name, technique and
    signal-to-noise ratio; `base` is float32's outputs (n, classes)."""
    detail = make_interpreter(model).get_output_details()[0]
    return {
        "step": name,
        "technique": technique,
        **quality_record(outputs, labels, classes, base),
        "snr": fidelity(dequantize_array(outputs, detail), base)["snr"],
    }
