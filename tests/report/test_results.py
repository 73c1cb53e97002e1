"""The published result, from a shelf made of known records."""

import json

import numpy as np
import pytest
from report_shelf import CRITERIA, LABELS, N

from edgeq_lib.analysis import decision
from edgeq_lib.files import EdgeqError
from edgeq_lib.measure.statistics import holm, smallest_detectable_drop
from edgeq_lib.report import render
from edgeq_lib.report.document import blocks
from edgeq_lib.report.results import collect, decision_rows
from edgeq_lib.report.text import claims, terminal_table
from edgeq_lib.study import Study


def test_results_hold_the_schema(results):
    assert [row["name"] for row in results["variants"]] == ["float32", "int8", "w4", "qat|1"]
    first, second = results["variants"][:2]
    assert (
        second["value"] == pytest.approx(97.5)
        and second["drop"] == pytest.approx(0.5)
        and second["ratio"] == 4
    )
    assert second["passed"] == {"max_drop": True, "min_ratio": True}
    assert first["drop"] is None and first["agreement"] is None and first["ratio"] == 1
    assert results["data"] == {
        "name": "tiny",
        "form": "made here",
        "fingerprint": "f" * 64,
        "n_train": N,
        "n_test": N,
        "n_validation": N,
        "n_classes": 6,
        "image_size": [8, 8],
        "left_out": [],
        "near_crowd": 0,
    }
    assert (
        results["versions"] == {"ai-edge-litert": "2.3.0"} and results["machines"][0]["cores"] == 2
    )


def test_every_null_has_its_reason_and_nothing_else_has(results):
    for row in results["variants"]:
        assert set(row["why"]) == {field for field, value in row.items() if value is None}
    assert results["variants"][1]["why"]["peak_memory_bytes"] == "it crashed"
    assert "compared with" in results["variants"][0]["why"]["p_value"]


def test_p_values_are_adjusted_over_the_table(study, results):
    raw = [
        study.variant(name).read("quality")["test"]["p_value"] for name in ("int8", "w4", "qat|1")
    ]
    assert [row["p_value"] for row in results["variants"][1:]] == holm(raw)
    assert results["variants"][2]["p_value"] == pytest.approx(3 * raw[1])


def test_the_recommendation_never_reads_test(study, results):
    for variant in study.variants():
        quality = variant.read("quality")
        poison = {
            field: -1e9 if isinstance(value, float) else value
            for field, value in quality["test"].items()
        }
        variant.write(
            "quality", {**quality, "test": {**poison, "p_value": quality["test"]["p_value"]}}
        )
    poisoned = collect(study, "x", CRITERIA, {"target": "cortex_m_1m"}, labels=LABELS)
    assert poisoned["recommendation"] == results["recommendation"]
    assert poisoned["validation"] == results["validation"]
    assert poisoned["variants"][1]["drop"] == -1e9
    assert results["recommendation"]["variant"] == "int8"


def test_variants_without_records_are_null_with_reasons(study):
    study.save_variant(
        "new", b"new", technique="ptq", scheme="w2", engine="litert-quantizer", seconds=1
    )
    found = collect(study, "x", CRITERIA, labels=LABELS)
    row = next(row for row in found["variants"] if row["name"] == "new")
    assert row["value"] is None and row["why"]["value"] == "not evaluated"
    assert row["bytes"] is None and row["why"]["bytes"] == "not benchmarked"
    assert "new" in found["recommendation"]["rejected"]
    terminal_table(found), render.markdown(blocks(found, []))


def test_a_shelf_without_a_baseline_is_an_error(study):
    results_of = Study("tiny", "03_ptq")
    results_of.save_variant(
        "int8", b"int8", technique="ptq", scheme="int8", engine="litert-quantizer", seconds=1
    )
    results_of.finish({})
    with pytest.raises(EdgeqError, match="baseline"):
        collect(results_of, "x", CRITERIA, labels=LABELS)


QUESTIONS = [
    (CRITERIA, "simplest", False),
    (CRITERIA, "smallest", True),
    ([*CRITERIA, {"name": "min_agreement", "bound": 90.0}], "accurate", False),
    ([{"name": "max_drop", "bound": 30.0}], "simplest", False),
]


@pytest.mark.parametrize("criteria, objective, strict", QUESTIONS)
def test_the_recommendation_can_be_computed_again_from_the_file(study, criteria, objective, strict):
    asked = {"labels": LABELS, "objective": objective, "strict": strict}
    found = collect(study, "x", criteria, {"target": "cortex_m_1m"}, **asked)
    read = json.loads(json.dumps(found))
    question = (read["criteria"], read["answers"], read["objective"], read["strict"])
    assert decision.recommend(decision_rows(read), *question) == read["recommendation"]
    entry = next(entry for entry in read["objectives"] if entry["objective"] == objective)
    assert entry["variant"] == read["recommendation"]["variant"]


def test_pairs_count_images_on_which_one_file_is_right_alone(study):
    loose = [{"name": "max_drop", "bound": 30.0}]
    found = collect(study, "x", loose, labels=LABELS)
    assert found["pairs"]["measure"] == "top1" and found["pairs"]["n"] == N
    assert found["pairs"]["names"] == ["int8", "w4", "qat|1"]
    assert found["pairs"]["only_one_right"] == ["0 36 0", "0 0 0", "0 36 0"]
    choice = found["recommendation"]
    assert choice["variant"] == "int8", "w4 is smaller, and proven less accurate"
    assert "paired test" in choice["rejected"]["w4"]
    agreement = collect(study, "x", [{"name": "min_agreement", "bound": 1.0}], labels=LABELS)
    assert agreement["pairs"]["measure"] == "agreement"


def test_the_minimum_detectable_effect_counts_every_comparison(study, results):
    quality = study.variant("int8").read("quality")["test"]
    expected = smallest_detectable_drop(N, quality["discordance"], comparisons=3)
    assert results["variants"][1]["detectable_drop"] == pytest.approx(expected)
    assert results["variants"][0]["detectable_drop"] is None


def test_code_and_machines_are_named(results):
    assert results["code"]["version"] and "commit" in results["code"]
    (machine,) = results["machines"]
    assert machine["isa"] == ["avx2"] and machine["name"] == "this machine"
    facts = dict(blocks(results, [])[-1][1])
    assert facts["Code"].startswith("edgeq ") and "isa avx2" in facts["Machine"]


def test_what_training_learned_from_is_in_the_table(study):
    study.save_variant(
        "taught",
        b"taught",
        technique="low_bit",
        scheme="w4a8",
        engine="x",
        seconds=1,
        trained="outputs",
    )
    rows = {row["name"]: row for row in collect(study, "x", CRITERIA, labels=LABELS)["variants"]}
    assert rows["taught"]["trained"] == "outputs" and "trained" not in rows["taught"]["why"]
    assert (
        rows["int8"]["trained"] is None
        and rows["int8"]["why"]["trained"] == "nothing was trained for it"
    )
    assert rows["int8"]["stage"] == "03_ptq"


def test_seeds_stand_beside_the_differences(rich):
    found = collect(rich, "x", CRITERIA, labels=LABELS)
    assert [row["name"] for row in found["variants"]][-1] == "google" and len(
        found["variants"]
    ) == 5
    (seeds,) = found["seeds"]
    assert seeds["name"] == "int8" and [run["seed"] for run in seeds["runs"]] == [None, 1, 2]
    assert [run["drop"] for run in seeds["runs"]] == pytest.approx([0.5, 0.0, 1.5])
    assert seeds["drop_mean"] == pytest.approx(2 / 3) and seeds["drop_sd"] == pytest.approx(
        np.std([0.5, 0, 1.5], ddof=1)
    )
    said = " ".join(claims(found))
    assert (
        "`int8` made with 3 seeds loses 0.67 ± 0.76 points" in said
        and "spread between seeds, 1.50 points here" in said
    )
    text = render.markdown(blocks(found, []))
    assert "0.50, 0.00, 1.50" in text and "Each variant was made once" not in text


def test_peers_are_shown_last_and_never_recommended(rich):
    found = collect(rich, "x", CRITERIA, labels=LABELS)
    assert (
        found["recommendation"]["variant"] != "google"
        and "google" in found["recommendation"]["rejected"]
    )
    assert found["peers"] == [
        {
            "name": "google",
            "source": "a zoo",
            "licence": "Apache-2.0",
            "preprocessing": "raw",
            "image_size": 224,
            "class_offset": 1,
        }
    ]
    text = render.markdown(blocks(found, []))
    assert "`google` (peer)" in text and "a zoo" in text and "trained by others" in text
    assert (
        found["variants"][-1]["checkpoint_ratio"] is None
        and found["variants"][1]["checkpoint_ratio"] == 12.0
    )


def test_minutes_add_up_and_count_what_an_earlier_run_trained(rich):
    path = rich.folder / "stages" / "03_ptq.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "seconds": 30.0}))
    found = collect(rich, "x", CRITERIA, labels=LABELS)
    assert found["minutes"] == [{"stage": "03_ptq", "seconds": 30.0, "training_seconds": 2}]
    assert "Total, the larger of both: 0.5 minutes" in render.markdown(blocks(found, []))


def test_question_and_reference_are_the_studys_own(study):
    reference = [{"what": "int8", "value": "77.20", "source": "a blog"}]
    found = collect(
        study, "x", CRITERIA, question="Is QAT worth it?", reference=reference, labels=LABELS
    )
    text = render.markdown(blocks(found, []))
    assert "same machine. Is QAT worth it?" in text and "| int8 | 77.20 | a blog |" in text
    assert "77.20" not in json.dumps(found["variants"])
    with pytest.raises(EdgeqError, match="what, value and source"):
        collect(study, "x", CRITERIA, reference=[{"what": "int8"}], labels=LABELS)


def test_what_was_not_tried_is_said_with_its_reason(study):
    """Whole stages that were left out, and parts that the baseline knows the network lacks."""
    parts = [
        {"stage": "30_low_bit", "without": "training", "why": "It has no Keras network."},
        {"stage": "04_qat", "without": "all of it", "why": "Said by the stage already."},
    ]
    study.write("baseline", study.read("baseline") | {"missing_parts": parts})
    Study(study.name, "04_qat").leave_out("The network holds PReLU.")
    found = collect(study, "x", CRITERIA, labels=LABELS)
    assert found["not_tried"] == [
        {"stage": "04_qat", "part": "", "why": "The network holds PReLU."},
        {"stage": "30_low_bit", "part": "training", "why": "It has no Keras network."},
    ]
    text = render.markdown(blocks(found, []))
    assert "| quantization-aware training | 04_qat | The network holds PReLU. |" in text
    assert "| low-bit quantization: training only | 30_low_bit | It has no Keras network. |" in text
    assert "### Left out" in text
    assert "### Left out" not in render.markdown(blocks({**found, "not_tried": []}, []))


def test_a_busy_machine_and_intervals_of_before_are_recorded_as_what_they_are(study):
    asked = (study, "x", CRITERIA)
    assert collect(*asked, labels=LABELS)["busy"] is None
    for name in ("float32", "int8"):
        variant = study.variant(name)
        variant.write("cost", variant.read("cost") | {"busy": "It was.", "conditions": {"1": {}}})
    old = study.variant("w4")
    old.write("cost", {k: v for k, v in old.read("cost").items() if k != "latency_interval"})
    results = collect(*asked, labels=LABELS)
    assert results["busy"] == "It was." and results["conditions"] == {"1": {}}
    kinds = [row["latency_interval"] for row in results["variants"]]
    assert kinds[1] == "95 % of the median" and kinds[2] == "10th to 90th percentile over rounds"
