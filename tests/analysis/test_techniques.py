"""The table of techniques, and that flow and figures follow it."""

from edgeq_lib.analysis import flow
from edgeq_lib.analysis.techniques import BY_NAME, TABLE, label_of


def test_names_and_labels_are_unique():
    assert len(BY_NAME) == len(TABLE) == len({technique.label for technique in TABLE})
    assert label_of("ptq_recovery") == "PTQ recovery"
    assert label_of("some_day") == "some day"


def test_the_flow_follows_the_table():
    assert flow.TECHNIQUES["ptq_recovery"] == "post-training quantization, recovered"
    assert set(flow.TECHNIQUES) == set(BY_NAME)
    assert flow.EFFORT["ptq"] == ("ptq",)
    assert set(flow.EFFORT["recovery"]) == {
        "ptq_recovery",
        "data_free",
        "mixed_precision",
        "low_bit",
    }
    for technique in TABLE:
        row = {"technique": technique.name, "trained": None}
        assert flow.effort(row) == (technique.effort or "training")
        assert flow.effort({**row, "trained": "outputs"}) == "training"
