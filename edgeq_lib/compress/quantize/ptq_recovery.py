"""PTQ recovery: what wins back an int8 file's losses without training.

1. Activation ranges are chosen by a sweep (`sensitivity.sweep` over `calibration.SUMMARIES`).
2. Weight ranges likewise; dead channels are fixed (`bias_overflow`).
3. Biases are corrected (`bias_correction`), codes chosen by the layer's output
   (`layerwise_rounding`).
4. The most sensitive layers stay float32.
5. `ablation_row` puts each step beside the others on all of validation.
6. `make_again` makes a step's file from other calibration images, its choices kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edgeq_lib.compress.quantize import calibration, layerwise_rounding, quantized_weights
from edgeq_lib.compress.quantize.bias_correction import correct_biases
from edgeq_lib.compress.quantize.sensitivity import EvaluationContext, Int8Recipe, fidelity
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


def make_again(
    context: EvaluationContext,
    calibration_set: np.ndarray,
    step: str,
    recipes: Mapping[str, Int8Recipe],
    correction_images: int,
) -> bytes:
    """Make the file of an integer-only step from other calibration images; no choice is made anew.

    Args:
        context: Of the float flatbuffer.
        calibration_set: Preprocessed float32 (n, H, W, C).
        step: A step of `recipes`, or "bias correction" or "output-aware rounding", which go on from
            its step "weight ranges".
        recipes: Step → the recipe that the main run chose for it.
        correction_images: Calibration images that bias correction averages over, at most.
    """
    observed = calibration.observe(context.model, calibration_set)
    if step in recipes:
        return context.make(recipes[step], observed)
    recipe = recipes["weight ranges"]
    chosen = calibration_set[calibration.drop_outlier_images(observed, correction_images)]
    if step == "output-aware rounding":
        ranges = calibration.summarize(observed, recipe.activations, context.preprocess.range)
        codes = layerwise_rounding.round_layers(context.model, chosen, ranges, {})
        file = quantized_weights.to_file(context.model, codes, ranges)
    else:
        file = context.make(recipe, observed)
    return correct_biases(context.model, file, chosen)
