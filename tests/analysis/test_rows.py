"""Rows of results.json: what is published validates, and a mistake is named."""

import copy
import json
from pathlib import Path
from typing import get_type_hints

import pytest

from edgeq_lib.analysis import rows
from edgeq_lib.files import EdgeqError

PUBLISHED = sorted((Path(__file__).parents[2] / "figures").glob("*/results.json"))


@pytest.fixture
def results():
    return json.loads(PUBLISHED[0].read_text())


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.parent.name)
def test_published_results_validate(path):
    rows.check_results(json.loads(path.read_text()))


def test_the_fields_are_those_that_are_written():
    written = {*rows.FROM_FACTS, *rows.FROM_REPORT, *rows.FROM_QUALITY, *rows.FROM_COST}
    written |= {"name", "kind", "metric", "value", "seconds_to_make", "checkpoint_ratio"}
    written |= {"target_latency_ratio", "target_latency_ratio_high", "fits"}
    assert set(get_type_hints(rows.ResultRow)) == written | {"passed", "why"}


@pytest.mark.parametrize(
    "field, value",
    [
        ("value", "high"),
        ("bytes", 1.5),
        ("kind", "cousin"),
        ("passed", None),
        ("ops", {"ADD": "x"}),
    ],
)
def test_a_wrong_type_is_named(results, field, value):
    row = {**results["variants"][1], field: value}
    with pytest.raises(EdgeqError, match=f"{row['name']}.*'{field}"):
        rows.check_row(row)


def test_missing_and_unknown_fields_are_named(results):
    row = results["variants"][1]
    with pytest.raises(EdgeqError, match="'drop'"):
        rows.check_row({field: value for field, value in row.items() if field != "drop"})
    with pytest.raises(EdgeqError, match="'dorp'"):
        rows.check_row({**row, "dorp": 1.0})


def test_a_nested_field_is_named(results):
    row = copy.deepcopy(results["variants"][1])
    row["worst_class"]["n"] = "many"
    with pytest.raises(EdgeqError, match=r"'worst_class\.n'"):
        rows.check_row(row)


def test_the_table_has_one_row_per_name_and_its_baseline(results):
    with pytest.raises(EdgeqError, match="'baseline'.*'nothing'"):
        rows.check_results({**results, "baseline": "nothing"})
    with pytest.raises(EdgeqError, match="'name'.*twice"):
        rows.check_results({**results, "variants": [*results["variants"], results["variants"][1]]})
