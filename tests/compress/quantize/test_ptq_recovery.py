"""Two calibration sets, and the rows of the ablation."""

import numpy as np
import pytest

from edgeq_lib.compress.quantize import (
    calibration,
    layerwise_rounding,
    ptq_recovery,
    quantized_weights,
)
from edgeq_lib.compress.quantize.bias_correction import correct_biases
from edgeq_lib.compress.quantize.sensitivity import Int8Recipe
from edgeq_lib.measure.statistics import quality_record
from edgeq_lib.models.preprocessing import SIGNED


def test_two_calibration_sets_share_no_image():
    labels = np.repeat(np.arange(10), 30)
    one, two = ptq_recovery.disjoint_calibration_sets(labels, 64, 3)
    assert len(one) == len(two) == 64 and not set(one) & set(two)
    assert np.ptp(np.bincount(labels[np.concatenate([one, two])])) <= 1
    assert [len(part) for part in ptq_recovery.disjoint_calibration_sets(labels, 500, 0)] == [
        150,
        150,
    ]


def test_a_row_of_the_ablation_holds_the_quality_of_the_file(context):
    outputs, classes = np.eye(4)[context.labels], list("abcd")
    row = ptq_recovery.ablation_row(
        "a", "ptq", context.model, outputs, context.labels, classes, context.reference
    )
    expected = quality_record(outputs, context.labels, classes, context.reference)
    assert (row["step"], row["technique"]) == ("a", "ptq")
    assert row["drop"] == expected["drop"] and row["agreement"] == expected["agreement"]


@pytest.fixture(scope="module")
def recipes():
    weights = Int8Recipe("covering_90", weights="mse", fix_dead=True)
    return {"naive int8": Int8Recipe(), "weight ranges": weights}


def test_a_step_made_again_from_the_same_images_is_the_same_file(context, pictures, recipes):
    images = SIGNED(pictures[0][:48])  # those that the context is calibrated on
    again = {
        step: ptq_recovery.make_again(context, images, step, recipes, 16)
        for step in (*recipes, "bias correction", "output-aware rounding")
    }
    plain, recipe = context.make(recipes["weight ranges"]), recipes["weight ranges"]
    chosen = images[calibration.drop_outlier_images(context.observed, 16)]
    ranges = calibration.summarize(context.observed, recipe.activations, SIGNED.range)
    codes = layerwise_rounding.round_layers(context.model, chosen, ranges, {})
    rounded = quantized_weights.to_file(context.model, codes, ranges)
    assert again == {
        "naive int8": context.make(recipes["naive int8"]),
        "weight ranges": plain,
        "bias correction": correct_biases(context.model, plain, chosen),
        "output-aware rounding": correct_biases(context.model, rounded, chosen),
    }


def test_other_calibration_images_give_another_file(context, pictures, recipes):
    one, other = (
        ptq_recovery.make_again(context, SIGNED(pictures[0][part]), "bias correction", recipes, 16)
        for part in (slice(0, 48), slice(48, 96))
    )
    assert one != other and len(one) == len(other)
