"""The blocks of a report: its sections, tables and setup."""

from report_shelf import CRITERIA, LABELS

from edgeq_lib.report import render
from edgeq_lib.report.document import blocks, left_out_text
from edgeq_lib.report.results import collect
from edgeq_lib.report.text import claims, limits


def test_the_paper_has_its_sections_in_order(results):
    heads = [block[1] for block in blocks(results, []) if block[0] == "heading"]
    assert heads == [
        "Question",
        "Setup",
        "Results",
        "What we conclude",
        "What we do not know",
        "Appendix",
    ]


def test_the_setup_is_computed_and_names_no_folder(results):
    text = render.markdown(blocks(results, []))
    assert "`resnet8`, 1,234 parameters, from the weights `w.h5`." in text and "/a/path" not in text
    assert "Trained for 2 epochs (2 min; best on validation: epoch 1)" in text


def test_the_other_ends_of_the_flow_are_in_results_and_report(results):
    assert [entry["variant"] for entry in results["what_if"]] == ["int8", None] and results[
        "what_if"
    ][0]["stage"] == "03_ptq"
    assert (
        results["what_if"][0]["drop"]
        == results["validation"]["int8"]["drop"]
        == 0.0
        != results["variants"][1]["drop"]
    )
    text = render.markdown(blocks(results, []))
    assert (
        "| **As answered; or images without labels; or training not possible; or on whatever "
        "target; or on the target raspberry_pi_4" in text
    )
    assert "| No image at all; or fewer than 8 bits wanted, on whatever target; or no" in text
    assert "| nothing yet |" in text
    assert "There are labelled training images, training possible, the target cortex_m_1m." in text


def test_boards_stand_side_by_side(results):
    results["boards"] = [
        {
            "machine": {"name": "pi", "isa": ["asimddp"]},
            "versions": {},
            "variants": {"int8": {"latency_ratio": 0.6, "latency_ms": {"1": {"p50": 12.34}}}},
        }
    ]
    text = render.markdown(blocks(results, []))
    assert "| Here: a <fast> one (avx2) | pi (asimddp) |" in text and "0.60 (12.3 ms)" in text
    assert "Latency of `int8` against float32 on other machines: 0.60 on pi (asimddp)." in claims(
        results
    )
    assert "one machine" not in " ".join(limits(results))


def test_every_latency_names_its_machine_and_the_kind_of_its_interval(results):
    text = render.markdown(blocks(results, ["pareto_latency"]))
    assert "Accuracy against latency on a <fast> one (avx2):" in text
    assert text.count("with the 95 % interval of the median ratio") == 2
    assert "Brackets: 95 % interval of the median ratio." in text and "percentile of" not in text
    assert "p50: latency at one thread on a <fast> one (avx2)." in text
    for row in results["variants"]:  # as version 0.2.0 wrote them
        del row["latency_interval"]
    text = render.markdown(blocks(results, []))
    assert "with the 10th and 90th percentile of the ratio over rounds, not a 95 % interval" in text
    assert "95 % interval of the median" not in text


def test_energy_is_shown_where_a_meter_was_on(results):
    energy = {"joules": 0.00123, "joules_low": 0.0011, "joules_high": 0.0014}
    machine = {"name": "pi", "isa": ["asimddp"]}
    costs = {
        "float32": {"energy": energy | {"joules_low": None, "joules_high": None}},
        "int8": {"energy": energy},
    }
    results["boards"] = [{"machine": machine, "versions": {}, "variants": costs}]
    text = render.markdown(blocks(results, []))
    assert "| **`int8`** | **1.23 [1.1, 1.4]** |" in text and "| `float32` | 1.23 |" in text
    assert "| `w4` | – |" in text and "Energy per inference in millijoules" in text
    results["boards"][0]["variants"] = {"int8": {"energy": None}}
    assert "Energy" not in render.markdown(blocks(results, []))


def test_results_of_before_the_list_of_machines_are_still_shown(results):
    old = {**results, "machine": results["machines"][0]}
    del old["machines"], old["code"]
    assert "a <fast> one (avx2)" in render.markdown(blocks(old, []))


def test_what_was_left_out_is_said_by_reason_with_names():
    assert left_out_text({}) == left_out_text({"left_out": [], "near_crowd": 0}) == ""
    rows = [
        {"why": "hidden", "n": 7, "names": ["a", "b", "c", "d", "e"]},
        {"why": "unreadable: empty file", "n": 1, "names": ["x.png"]},
    ]
    told = left_out_text({"left_out": rows, "near_crowd": 1200})
    assert "7 × hidden (a, b, c, d, e, …); 1 × unreadable: empty file (x.png)." in told
    assert "1,200 images look nearly the same" in told


def test_of_a_users_file_only_what_is_known_is_said(results):
    rows = [{"name": "none", "chosen": True}, {"name": "unit", "chosen": False}]
    setup = {
        **results["setup"], "model": "net.keras", "weights": "none", "epochs": 0, "own": True,
        "notes": ["Look here."],
        "preprocessings_tried": {"stated": False, "images": 90, "rows": rows},
    }  # fmt: skip
    text = render.markdown(blocks({**results, "setup": setup}, []))
    assert "with the weights of that file. This study did not train it." in text
    assert "(none) is the one of 2 usual ones that suits 90 validation images best" in text
    assert "**Mind.** Look here." in text
    assert "random weights" not in text and "trained further" not in text
    old = {key: setup[key] for key in ("model", "weights", "epochs")}  # of before `own`
    assert "random weights" not in render.markdown(blocks({**results, "setup": old}, []))
    zoo = {"model": "resnet8", "weights": "none", "epochs": 0}
    assert "from random weights. It was not trained further." in render.markdown(
        blocks({**results, "setup": zoo}, [])
    )


def test_the_page_shows_what_each_objective_ships(results):
    text = render.markdown(blocks(results, []))
    assert "| **the simplest technique** | **`int8`** | **post-training quantization** |" in text
    assert "| the smallest file | `int8` | post-training quantization | 0.50 [" in text
    assert "**Objective.** The simplest technique." in text
    results["strict"] = True
    assert "each by the whole interval" in render.markdown(blocks(results, []))


def test_results_without_the_new_fields_are_still_shown(results):
    new = ("objectives", "objective", "strict", "pairs", "notes", "not_tried")
    old = {field: value for field, value in results.items() if field not in new}
    ends = ("agreement_low", "agreement_high")
    old["variants"] = [
        {field: value for field, value in row.items() if field not in ends}
        for row in results["variants"]
    ]
    assert "per comparison" in render.markdown(blocks(old, []))


def test_notes_of_the_study_open_what_we_do_not_know(study):
    found = collect(study, "x", CRITERIA, labels=LABELS, notes=["The criteria were set late."])
    shown = blocks(found, [])
    at = shown.index(("heading", "What we do not know"))
    assert shown[at + 1][1][0] == "The criteria were set late."


def test_float_operations_in_integer_files_are_named_with_what_to_do(results):
    assert "Float operations" not in render.markdown(blocks(results, []))
    half = {"compute": "integer", "integer_only": False}
    results["variants"][2] |= half | {"float_ops": ["DEQUANTIZE", "PRELU", "QUANTIZE"]}
    results["variants"][3] |= half | {"float_ops": ["CONV_2D", "PRELU"]}
    text = render.markdown(blocks(results, []))
    assert "### Float operations inside integer files" in text
    assert "- `w4` and `qat|1` compute `PRELU` in float: a target that runs integers only" in text
    assert "Put ReLU or ReLU6 in its place" in text
    assert "- `qat|1` computes `CONV_2D` in float: kept so to lose less" in text


def test_the_page_says_where_each_file_runs_and_how_that_is_known(results):
    text = render.markdown(blocks(results, []))
    assert "### Where each file runs" in text
    assert "| Variant | cortex_m_1m | raspberry_pi_4 |" in text
    assert "yes, executed, 0.1 KB of RAM" in text and "yes, checked" in text
    assert "- `cortex_m_1m`, `float32`" in text and ": it holds floats." in text
    assert "Latency was not measured on the target `cortex_m_1m`" in text
    anywhere = {**results, "targets": {}, "answers": {}}
    text = render.markdown(blocks(anywhere, []))
    assert "### Where each file runs" not in text
    assert "Latency was not measured on the target" not in text
