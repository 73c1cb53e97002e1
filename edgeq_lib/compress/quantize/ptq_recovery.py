"""PTQ recovery: what wins back an int8 file's losses without training.

1. Activation ranges are chosen by a sweep (`sensitivity.sweep` over `calibration.SUMMARIES`).
2. Weight ranges likewise; dead channels are fixed (`bias_overflow`).
3. Biases are corrected (`bias_correction`), codes chosen by the layer's output
   (`layerwise_rounding`).
4. The most sensitive layers stay float32.
5. `ablation_row` puts each step beside the others on all of validation.
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
    """Draw two disjoint calibration sets from train, shuffled, together balanced over the classes.

    Args:
        labels: Of train, int64 (n,).
        largest: Images in each at most.
        seed: Of the draw.

    Returns:
        Two arrays of indices, int64.
    """
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
    """Write a row of an ablation from a file's stored outputs on validation.

    Args:
        name: Of the step.
        technique: Of the step, a key of the table of techniques.
        model: The file.
        outputs: Its outputs (n, classes), in its own type.
        labels: int64 (n,).
        classes: Their names.
        base: float32's outputs (n, classes).

    Returns:
        step, technique, snr (dB) and the figures of `statistics.quality_record`.
    """
    detail = make_interpreter(model).get_output_details()[0]
    return {
        "step": name,
        "technique": technique,
        **quality_record(outputs, labels, classes, base),
        "snr": fidelity(dequantize_array(outputs, detail), base)["snr"],
    }
