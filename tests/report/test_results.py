"""The published result, from a shelf made of known records."""

import copy
import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest

from edgeq_lib.analysis import decision
from edgeq_lib.files import EdgeqError
from edgeq_lib.measure.statistics import holm, quality_record
from edgeq_lib.plots.variants import plot_drops
from edgeq_lib.report import render
from edgeq_lib.report.document import blocks
from edgeq_lib.report.export import extra_figures, results_table, write_report
from edgeq_lib.report.pdf import pdf
from edgeq_lib.report.results import collect, decision_rows
from edgeq_lib.report.text import claims, limits, recommendation_text, terminal_table
from edgeq_lib.study import Study

CRITERIA = [{"name": "max_drop", "bound": 2.0}, {"name": "min_ratio", "bound": 3.0}]
CLASSES = ["cat", "dog <b>", "a|b", "d", "e", "f"]
N = 200


def outputs(labels, lost):
    predicted = labels.copy()
    predicted[:lost] = (predicted[:lost] + 1) % len(CLASSES)
    return (np.eye(len(CLASSES))[predicted] * 100).astype(np.int8)


def cost(size, latency, integer):
    spread = {"ratio": latency, "ratio_low": latency * 0.9, "ratio_high": latency * 1.1}
    times = {"p50": latency, "p90": latency, "p99": latency}
    return {
        "bytes": size,
        "gzip_bytes": size - 10,
        "latency_ms": {"1": times},
        "latency_ratio": latency,
        "latency_ratio_low": latency * 0.9,
        "latency_ratio_high": latency * 1.1,
        "latency_ratio_by_threads": {"1": {**spread, "rounds": 5, "invocations": 100}},
        "load_ms": 1.0,
        "peak_memory_bytes": None,
        "arena_bytes": 99,
        "fits": {"microcontroller": integer, "phone": True},
        "why": {"peak_memory_bytes": "it crashed"},
        "machine": {"cpu": "a <fast> one", "cores": 2, "flags": ["avx2"], "memory_bytes": 8e9},
        "runtime": {"ai-edge-litert": "2.3.0"},
        "report": {
            "ops": {"CONV_2D": 9},
            "float_ops": [],
            "integer_only": integer,
            "weight_bits": 8.0,
            "compute": "integer" if integer else "float32",
            "input_dtype": "int8",
            "output_dtype": "int8",
            "activation_bits": 8.0,
            "weight_bits_share": {"8": 1.0},
            "per_channel": True,
        },
    }


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEQ_RUNS", str(tmp_path))
    study, labels = Study("tiny", "03_ptq"), np.arange(N) % len(CLASSES)
    split = {"n": N, "fingerprint": "x", "per_class": np.bincount(labels).tolist()}
    study.write(
        "data",
        {
            "name": "tiny",
            "form": "made here",
            "classes": CLASSES,
            "fingerprint": "f" * 64,
            "image_size": [8, 8],
            "splits": {name: split for name in ("train", "validation", "test")},
        },
    )
    study.write(
        "baseline",
        {
            "model": "resnet8",
            "weights": "/a/path/w.h5",
            "alpha": 1.0,
            "parameters": 1234,
            "history": [
                {"epoch": 1, "val_accuracy": 0.5, "val_loss": 0.7, "seconds": 60.0},
                {"epoch": 2, "val_accuracy": 0.4, "val_loss": 0.6, "seconds": 60.0},
            ],
            "preprocessing": {"mean": [127.5], "std": [127.5], "bgr": False},
            "checkpoint_bytes": 12000,
        },
    )
    base = outputs(labels, 4)
    for name, technique, size, latency, validation, test in (
        ("float32", "baseline", 4000, 1.0, 4, 4),
        ("int8", "ptq", 1000, 0.5, 4, 5),
        ("w4", "ptq", 600, 0.6, 40, 44),
        ("qat|1", "qat", 1010, 0.5, 4, 4),
    ):
        variant = study.save_variant(
            name, name.encode(), technique=technique, scheme="int8", engine="x", seconds=1
        )
        against = None if name == "float32" else base
        variant.write(
            "quality",
            {
                part: quality_record(outputs(labels, lost), labels, CLASSES, against)
                for part, lost in (("validation", validation), ("test", test))
            },
        )
        variant.write("cost", cost(size, latency, name != "float32"))
    return study


@pytest.fixture
def results(study):
    return collect(study, "make run STUDY=tiny", CRITERIA, {"kernels": "integer"})


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
    poisoned = collect(study, "x", CRITERIA, {"kernels": "integer"})
    assert poisoned["recommendation"] == results["recommendation"]
    assert poisoned["validation"] == results["validation"]
    assert poisoned["variants"][1]["drop"] == -1e9
    assert results["recommendation"]["variant"] == "int8"


def test_variants_without_records_are_null_with_reasons(study):
    study.save_variant(
        "new", b"new", technique="ptq", scheme="w2", engine="litert-quantizer", seconds=1
    )
    found = collect(study, "x", CRITERIA)
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
        collect(results_of, "x", CRITERIA)


@pytest.fixture
def published(results, tmp_path):
    figures = {"drop": plot_drops(results["variants"])}
    names = write_report(results, figures, tmp_path / "figures" / "tiny")
    return tmp_path / "figures" / "tiny", names


def test_publish_writes_all(published, results):
    folder, names = published
    assert set(names) == {file.name for file in folder.iterdir()}
    assert set(names) == {
        "results.json",
        "results.csv",
        "report.md",
        "report.html",
        "report.pdf",
        "drop.png",
    }
    assert json.loads((folder / "results.json").read_text()) == json.loads(json.dumps(results))
    assert (folder / "report.pdf").read_bytes().startswith(b"%PDF")


def test_publishing_twice_gives_the_same_bytes(published, results, tmp_path):
    folder, names = published
    figures = {"drop": plot_drops(results["variants"])}
    write_report(copy.deepcopy(results), figures, tmp_path / "again")
    assert all(
        (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes() for name in names
    )


def test_csv_reads_back(published, results):
    folder, _ = published
    rows = list(csv.DictReader(io.StringIO((folder / "results.csv").read_text())))
    for read, row in zip(rows, results["variants"], strict=True):
        for field, value in row.items():
            if value is None:
                assert read[field] == ""
            elif isinstance(value, str):
                assert read[field] == value
            else:
                assert json.loads(read[field]) == json.loads(json.dumps(value))


def test_names_are_escaped_in_html(published):
    text = (published[0] / "report.html").read_text()
    assert "a &lt;fast&gt; one" in text and "dog <b>" not in text  # the rest is in test_page.py


def test_a_strange_study_name_is_escaped(results):
    text = render.page(results, blocks({**results, "study": "</title><i>"}, []), {})
    assert "</title><i>" not in text


def test_markdown_tables_keep_their_columns(published):
    text = (published[0] / "report.md").read_text()
    for block in re.findall(r"(?:^\|.*\n)+", text, re.M):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(widths) == 1
    assert "qat\\|1" in text and "![" in text and "](drop.png)" in text


def test_sentences_are_computed(results):
    said = recommendation_text(results)
    assert said.startswith(
        "Ship int8 (post-training quantization, 8 bits per weight, 8 per activation): 4.00 × "
        "smaller than float32, 0.50 × its latency, 0.50 points less accurate on 200 test images"
    )
    sentences = claims(results)
    effect = f"{results['variants'][1]['detectable_drop']:.2f}"
    assert "(drop 0.50 [" in sentences[0]
    assert "not distinguishable from float32 on 200 test images" in sentences[0]
    assert f"a drop above {effect} points (minimum detectable effect)" in sentences[0]
    assert sentences[1].startswith(
        "`qat|1` is likewise not distinguishable from float32 on 200 images (drop 0.00"
    )
    assert sentences[2].startswith("1 file is less accurate than float32 beyond chance (p < 0.001")
    assert "`w4` 20.00 [" in sentences[2]
    assert "4.00 × smaller than the float32 file" in sentences[4] and "12.00 ×" in sentences[4]
    unknown = " ".join(limits(results))
    assert "the 2 files not distinguishable" in unknown
    assert "`qat|1` and `float32` name the same class" in unknown
    assert "a <fast> one (avx2)" in unknown


def test_the_recommendation_can_be_computed_again_from_the_file(results):
    read = json.loads(json.dumps(results))
    again = decision.recommend(decision_rows(read), read["criteria"], read["answers"])
    assert again == read["recommendation"]


def test_code_and_machines_are_named(results):
    assert results["code"]["version"] and "commit" in results["code"]
    (machine,) = results["machines"]
    assert machine["isa"] == ["avx2"] and machine["name"] == "this machine"
    facts = dict(blocks(results, [])[-1][1])
    assert facts["Code"].startswith("edgeq ") and "isa avx2" in facts["Machine"]


def test_results_of_before_the_list_of_machines_are_still_shown(results):
    old = {**results, "machine": results["machines"][0]}
    del old["machines"], old["code"]
    assert "a <fast> one (avx2)" in render.markdown(blocks(old, []))


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
        "| **As answered; or images without labels; or training not possible; or a target that "
        "runs float" in text
    )
    assert "| No image at all; or fewer than 8 bits wanted; or no image at all, and fewer" in text
    assert "| nothing yet |" in text
    assert (
        "There are labelled training images, training possible, a target that runs integers only."
        in text
    )


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
    rows = {row["name"]: row for row in collect(study, "x", CRITERIA)["variants"]}
    assert rows["taught"]["trained"] == "outputs" and "trained" not in rows["taught"]["why"]
    assert (
        rows["int8"]["trained"] is None
        and rows["int8"]["why"]["trained"] == "nothing was trained for it"
    )
    assert rows["int8"]["stage"] == "03_ptq"


def test_fifteen_alike_variants_make_one_sentence(results):
    results["variants"] += [{**results["variants"][3], "name": f"v{index}"} for index in range(15)]
    assert len(claims(results)) == 5 and "and 13 others are likewise" in claims(results)[1]


def test_a_difference_that_only_the_adjustment_takes_away_is_called_that(results):
    results["variants"][1] |= {"drop": 1.7, "drop_low": 0.2, "drop_high": 3.2, "p_value": 0.2}
    assert "different from float32 when looked at alone" in claims(results)[0]
    assert "the one file" in limits(results)[0]


def test_a_missed_criterion_is_said_plainly(study):
    found = collect(
        study, "x", [{"name": "min_ratio", "bound": 4.4}, {"name": "max_drop", "bound": 1}]
    )
    assert found["recommendation"]["variant"] == "int8" and not found["recommendation"]["met"]
    assert "misses min_ratio (4, bound 4.4)" in recommendation_text(found)


def test_no_runnable_variant_has_a_sentence_too(study):
    for variant in study.variants():
        record = variant.read("cost")
        record["report"]["integer_only"] = False
        variant.write("cost", record)
    found = collect(study, "x", CRITERIA, {"kernels": "integer"})
    assert "no variant" in recommendation_text(found) and "→" not in terminal_table(found)
    assert pdf(blocks(found, []), {}).startswith(b"%PDF")


def test_the_terminal_table_is_narrow(results):
    wide = copy.deepcopy(results)
    wide["variants"][1]["name"] = "a_variant_with_a_name_that_is_far_too_long_for_any_terminal"
    for each in (results, wide):
        lines = terminal_table(each).splitlines()
        assert len(lines) == 2 + len(each["variants"]) and max(map(len, lines)) <= 120
    assert [line for line in terminal_table(results).splitlines() if line.startswith("→ int8 ")]


def test_the_command_line_can_print_without_heavy_imports():
    import subprocess
    import sys

    code = (
        "import edgeq_lib.report.results, sys; sys.exit(any(m in sys.modules for m in "
        "('tensorflow', 'matplotlib', 'scipy', 'statsmodels', 'reportlab', 'pandas')))"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], cwd=Path(render.__file__).parents[2]
        ).returncode
        == 0
    )


# --- what real studies add ---
@pytest.fixture
def rich(study):
    """The shelf with a peer, two repeats, a figure of a technique and finished stages."""
    labels = np.arange(N) % len(CLASSES)
    base = outputs(labels, 4)
    for name, kind, facts in (
        (
            "google",
            "peer",
            {
                "technique": "peer",
                "source": "a zoo",
                "licence": "Apache-2.0",
                "image_size": 224,
                "class_offset": 1,
                "preprocessing": "raw",
            },
        ),
        ("int8_seed1", "repeat", {"technique": "ptq", "repeats": "int8", "seed": 1}),
        ("int8_seed2", "repeat", {"technique": "ptq", "repeats": "int8", "seed": 2}),
    ):
        lost = {"google": 2, "int8_seed1": 4, "int8_seed2": 7}[name]
        variant = study.save_variant(
            name, name.encode(), kind=kind, scheme="int8", engine="x", seconds=600, **facts
        )
        variant.write(
            "quality",
            {
                part: quality_record(outputs(labels, lost), labels, CLASSES, base)
                for part in ("validation", "test")
            },
        )
        variant.write("cost", cost(500, 0.2, True))
    study.figure("ablation", plot_drops([]), "From naive int8 to QAT.")
    study.finish({})
    unfinished = Study("tiny", "11_ptq_recovery")
    unfinished.figure("half", plot_drops([]), "A stage that broke off.")
    return Study("tiny", "90_analysis")


def test_seeds_stand_beside_the_differences(rich):
    found = collect(rich, "x", CRITERIA)
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
    found = collect(rich, "x", CRITERIA)
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
    found = collect(rich, "x", CRITERIA)
    assert found["minutes"] == [{"stage": "03_ptq", "seconds": 30.0, "training_seconds": 2}]
    assert "Total, the larger of both: 0.5 minutes" in render.markdown(blocks(found, []))


def test_figures_of_finished_stages_are_in_the_report(rich, tmp_path):
    found = collect(rich, "x", CRITERIA)
    extra = extra_figures(rich)
    assert [figure["name"] for figure in extra] == ["ablation"]
    write_report(found, {}, tmp_path / "out", extra)
    text = (tmp_path / "out" / "report.md").read_text()
    assert (
        "![From naive int8 to QAT.](ablation.png)" in text
        and (tmp_path / "out" / "ablation.png").exists()
    )
    write_report(found, {}, tmp_path / "out")
    assert not (tmp_path / "out" / "ablation.png").exists()


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


def test_question_and_reference_are_the_studys_own(study):
    reference = [{"what": "int8", "value": "77.20", "source": "a blog"}]
    found = collect(study, "x", CRITERIA, question="Is QAT worth it?", reference=reference)
    text = render.markdown(blocks(found, []))
    assert "same machine. Is QAT worth it?" in text and "| int8 | 77.20 | a blog |" in text
    assert "77.20" not in json.dumps(found["variants"])
    with pytest.raises(EdgeqError, match="what, value and source"):
        collect(study, "x", CRITERIA, reference=[{"what": "int8"}])


def test_the_setup_is_computed_and_names_no_folder(results):
    text = render.markdown(blocks(results, []))
    assert "`resnet8`, 1,234 parameters, from the weights `w.h5`." in text and "/a/path" not in text
    assert "Trained for 2 epochs (2 min; best on validation: epoch 1)" in text


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


def test_the_table_of_published_studies(results, tmp_path):
    for name, choice in (("b", "int8"), ("a", None)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text(
            json.dumps(
                {
                    **results,
                    "study": name,
                    "recommendation": {**results["recommendation"], "variant": choice},
                }
            )
        )
    lines = results_table(tmp_path).splitlines()
    assert (
        lines[2].startswith("| [a](figures/a/report.md) | tiny (made here), 200 |")
        and "nothing yet" in lines[2]
    )
    assert "`int8` | 0.50 [" in lines[3] and "| 4.00 | 0.50 [0.45, 0.55] |" in lines[3]
