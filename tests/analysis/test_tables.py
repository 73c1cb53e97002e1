"""Tables of the shelf, on two tiny files whose records are made up."""

import numpy as np
import pytest
from tiny_files import tiny_files

from edgeq_lib.analysis.tables import compare_table, rows, variants_table
from edgeq_lib.study import Study

LABELS = np.arange(40) % 5


def outputs(lost):
    """Scores of 40 images in five classes, the first `lost` of which are wrong."""
    predicted = LABELS.copy()
    predicted[:lost] = (predicted[:lost] + 1) % 5
    return np.eye(5, dtype=np.float32)[predicted]


@pytest.fixture
def variants(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEQ_RUNS", str(tmp_path))
    study, made = Study("sample", "03_ptq"), []
    for name, technique, lost in (("float32", "baseline", 4), ("int8", "ptq", 8)):
        facts = {"technique": technique, "scheme": name, "engine": "x", "seconds": 1.25}
        variant = study.save_variant(name, tiny_files()[name], **facts)
        top1 = 100 - 2.5 * lost
        variant.write("quality", {"validation": {"top1": top1, "low": top1 - 1, "high": top1 + 1}})
        variant.write_arrays(validation=outputs(lost))
        made.append(variant)
    return made


def test_a_row_per_variant(variants):
    table = variants_table(variants)
    assert list(table.index) == ["float32", "int8"]
    assert table.loc["int8", "weight bits"] == 8 and table.loc["int8", "top-1 %"] == 80
    assert table.loc["int8", "95 %"] == "79.00 … 81.00" and table.loc["int8", "drop 95 %"] == ""
    sizes = [len(tiny_files()[name]) for name in table.index]
    assert table.loc["int8", "× smaller"] == round(sizes[0] / sizes[1], 2)
    assert variants_table([]).empty


def test_another_variant_as_the_reference(variants):
    (line,) = compare_table(variants[0], variants[1:], {"validation": LABELS}).to_dict("records")
    assert (line["variant"], line["split"]) == ("int8", "validation")
    assert line["drop"] == pytest.approx(10) and line["drop_low"] < 10 < line["drop_high"]
    sizes = [len(tiny_files()[name]) for name in ("float32", "int8")]
    assert line["% smaller"] == pytest.approx(100 - 100 * sizes[1] / sizes[0])


def test_rows_for_figures_hold_sizes_or_what_the_benchmark_wrote(variants):
    base, int8 = rows(variants)
    assert base["ratio"] == 1 and int8["weight_bits"] == 8 and int8["value"] == 80
    assert int8["latency_ratio"] is None
    variants[1].write("cost", {"bytes": 100, "latency_ratio": 0.5})
    assert rows(variants, measured=True)[1]["latency_ratio"] == 0.5
