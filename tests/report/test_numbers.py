"""How figures, names and verdicts are written."""

import pytest

from edgeq_lib.report import numbers


@pytest.mark.parametrize(
    ("value", "written"),
    [(None, "–"), (1.005, "1.00"), (-0.5, "−0.50"), (-0.001, "0.00"), (97.5, "97.50")],
)
def test_a_figure_has_two_digits_and_a_true_minus_and_zero_has_none(value, written):
    assert numbers.number(value) == written


def test_an_interval_is_left_out_where_there_is_none():
    row = {"drop": 0.5, "drop_low": -0.25, "drop_high": 1.0}
    assert numbers.drop(row) == "0.50 [−0.25, 1.00]"
    assert numbers.drop({**row, "drop_low": None}) == "0.50"
    assert numbers.drop({**row, "drop": None}) == "–"
    row = {"latency_ratio": 0.5, "latency_ratio_low": 0.4, "latency_ratio_high": 0.6}
    assert numbers.latency(row) == "0.50 [0.40, 0.60]"
    assert numbers.shipped_latency(row) == "0.50"
    assert "10th and 90th percentile" in numbers.latency_intervals([row])
    now = row | {"latency_interval": "95 % of the median"}
    assert numbers.shipped_latency(now) == "0.50 [0.40, 0.60]"
    assert numbers.latency_intervals([now]) == "95 % interval of the median ratio"
    assert ", or 10th and" in numbers.latency_intervals([row, now])
    assert numbers.latency_intervals([{"latency_ratio_low": None}]) == ""


def test_small_p_values_are_said_to_be_small():
    assert [numbers.p_value(p) for p in (None, 0.0, 0.0009, 0.0014, 1.0)] == [
        "–",
        "< 0.001",
        "< 0.001",
        "0.001",
        "1.000",
    ]


def test_sizes_are_thousands_of_bytes_and_bits_may_be_unknown():
    assert [numbers.kilobytes(size) for size in (None, 999, 12_345, 3_400_000)] == [
        "–",
        "1.0",
        "12.3",
        "3,400",
    ]
    assert numbers.bits({"weight_bits": 4.25, "activation_bits": None}) == "4.25 / –"


def test_a_range_of_figures_that_read_the_same_is_one_figure():
    assert numbers.range_text([2.0, -1.0, 0.5]) == "−1.00 to 2.00"
    assert numbers.range_text(iter([1.001, 1.002])) == "1.00"


def test_names_past_the_limit_are_counted():
    assert numbers.listed(["a"]) == "`a`" and numbers.listed("ab") == "`a` and `b`"
    assert numbers.listed("abc") == "`a`, `b` and `c`"
    assert numbers.listed("abcdef", limit=3) == "`a`, `b` and 4 others"
    assert numbers.listed("abc", limit=3) == "`a`, `b` and `c`"


def test_the_worst_mark_is_said_and_names_may_be_shortened():
    marks = {"max_drop": "met", "min_ratio": "missed", "max_latency_ratio": "not measured"}
    assert numbers.status_text(marks) == "missed: min_ratio"
    assert numbers.status_text(marks, {"min_ratio": "size"}) == "missed: size"
    assert numbers.status_text({**marks, "min_ratio": "met"}) == "not measured: max_latency_ratio"
    assert numbers.status_text({"a": "met", "b": "met within noise"}) == "met within noise: b"
    assert numbers.status_text({"a": "met"}) == "met" and numbers.status_text({}) == "–"


def test_images_are_named_with_their_form_once():
    assert numbers.data_form({"name": "Digits", "form": "8 × 8 grey"}) == "Digits (8 × 8 grey)"
    assert numbers.data_form({"name": "CIFAR-10 (JPEG)", "form": "JPEG"}) == "CIFAR-10 (JPEG)"


def test_machines_of_old_and_new_results_are_named_with_their_instruction_sets():
    own = {"cpu": "fast", "flags": ["avx2", "fma"]}
    (machine,) = numbers.machines({"machine": own})
    assert numbers.machine_name(machine) == "fast (avx2, fma)"
    assert numbers.machines({"machines": [machine], "machine": {}}) == [machine]
    assert numbers.machines({}) == []
    board = {"name": "pi", "cpu": "arm"}
    assert numbers.machine_name(board) == "pi (instruction sets not recorded)"
    assert numbers.machine_name({}).startswith("processor not recorded")


def test_a_row_is_found_by_its_name_and_an_unknown_technique_reads_as_words(results):
    assert numbers.find_row(results, "w4")["name"] == "w4"
    assert numbers.technique("ptq") == "post-training quantization"
    assert numbers.technique("a_new_one") == "a new one"


def test_a_verdict_is_that_of_the_criteria(results):
    row = numbers.find_row(results, "w4")
    assert numbers.verdict(row, results["criteria"]) == "missed: max_drop"
    assert numbers.verdict(numbers.find_row(results, "int8"), []) == "–"
