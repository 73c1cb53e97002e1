"""Two calibration sets, and the rows of the ablation."""

import numpy as np

from edgeq_lib.compress.quantize import ptq_recovery
from edgeq_lib.measure.statistics import quality_record


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
