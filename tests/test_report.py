"""The published result, from a shelf made of known records."""

import copy
import csv
import io
import json
import re

import numpy as np
import pytest

from edgeq_lib import plots, report, stats
from edgeq_lib.study import EdgeqError, Study

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
    return {"bytes": size, "gzip_bytes": size - 10, "latency_ms": {"1": times}, "latency_ratio": latency,
            "latency_ratio_low": latency * 0.9, "latency_ratio_high": latency * 1.1,
            "latency_ratio_by_threads": {"1": spread}, "load_ms": 1.0, "peak_memory_bytes": None, "arena_bytes": 99,
            "fits": {"microcontroller": integer, "phone": True}, "why": {"peak_memory_bytes": "it crashed"},
            "machine": {"cpu": "a <fast> one", "cores": 2, "flags": ["avx2"], "memory_bytes": 8e9},
            "runtime": {"ai-edge-litert": "2.3.0"},
            "report": {"ops": {"CONV_2D": 9}, "float_ops": [], "integer_only": integer, "weight_bits": 8.0,
                       "compute": "integer" if integer else "float32", "input_dtype": "int8", "output_dtype": "int8",
                       "activation_bits": 8.0, "weight_bits_share": {"8": 1.0}, "per_channel": True}}


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEQ_RUNS", str(tmp_path))
    study, labels = Study("tiny", "03_ptq"), np.arange(N) % len(CLASSES)
    split = {"n": N, "fingerprint": "x", "per_class": np.bincount(labels).tolist()}
    study.write("data", {"name": "tiny", "form": "made here", "classes": CLASSES, "fingerprint": "f" * 64,
                         "image_size": [8, 8], "splits": {name: split for name in ("train", "validation", "test")}})
    base = outputs(labels, 4)
    for name, technique, size, latency, validation, test in (
            ("float32", "baseline", 4000, 1.0, 4, 4), ("int8", "ptq", 1000, 0.5, 4, 5),
            ("w4", "ptq", 600, 0.6, 40, 44), ("qat|1", "qat", 1010, 0.5, 4, 4)):
        variant = study.shelve(name, name.encode(), technique=technique, scheme="int8", engine="x", seconds=1)
        against = None if name == "float32" else base
        variant.write("quality", {part: stats.quality(outputs(labels, lost), labels, CLASSES, against)
                                  for part, lost in (("validation", validation), ("test", test))})
        variant.write("cost", cost(size, latency, name != "float32"))
    return study


@pytest.fixture
def results(study):
    return report.collect(study, "make run STUDY=tiny", CRITERIA, {"kernels": "integer"})


def test_results_hold_the_schema(results):
    assert [row["name"] for row in results["variants"]] == ["float32", "int8", "w4", "qat|1"]
    first, second = results["variants"][:2]
    assert second["value"] == pytest.approx(97.5) and second["drop"] == pytest.approx(0.5) and second["ratio"] == 4
    assert second["passed"] == {"max_drop": True, "min_ratio": True}
    assert first["drop"] is None and first["agreement"] is None and first["ratio"] == 1
    assert results["data"] == {"name": "tiny", "form": "made here", "fingerprint": "f" * 64, "n_train": N, "n_test": N,
                               "n_validation": N, "n_classes": 6, "image_size": [8, 8]}
    assert results["versions"] == {"ai-edge-litert": "2.3.0"} and results["machine"]["cores"] == 2


def test_every_null_has_its_reason_and_nothing_else_has(results):
    for row in results["variants"]:
        assert set(row["why"]) == {field for field, value in row.items() if value is None}
    assert results["variants"][1]["why"]["peak_memory_bytes"] == "it crashed"
    assert "compared with" in results["variants"][0]["why"]["p_value"]


def test_p_values_are_adjusted_over_the_table(study, results):
    raw = [study.variant(name).read("quality")["test"]["p_value"] for name in ("int8", "w4", "qat|1")]
    assert [row["p_value"] for row in results["variants"][1:]] == stats.holm(raw)
    assert results["variants"][2]["p_value"] == pytest.approx(3 * raw[1])


def test_the_recommendation_never_reads_test(study, results):
    for variant in study.variants():
        quality = variant.read("quality")
        poison = {field: -1e9 if isinstance(value, float) else value for field, value in quality["test"].items()}
        variant.write("quality", {**quality, "test": {**poison, "p_value": quality["test"]["p_value"]}})
    poisoned = report.collect(study, "x", CRITERIA, {"kernels": "integer"})
    assert poisoned["recommendation"] == results["recommendation"]
    assert poisoned["validation"] == results["validation"]
    assert poisoned["variants"][1]["drop"] == -1e9
    assert results["recommendation"]["variant"] == "int8"


def test_variants_without_records_are_null_with_reasons(study):
    study.shelve("new", b"new", technique="ptq", scheme="w2", engine="litert-quantizer", seconds=1)
    found = report.collect(study, "x", CRITERIA)
    row = next(row for row in found["variants"] if row["name"] == "new")
    assert row["value"] is None and row["why"]["value"] == "not evaluated"
    assert row["bytes"] is None and row["why"]["bytes"] == "not benchmarked"
    assert "new" in found["recommendation"]["rejected"]
    report.table(found), report.markdown(report.blocks(found, []))


def test_a_shelf_without_a_baseline_is_an_error(study):
    results_of = Study("tiny", "03_ptq")
    results_of.shelve("int8", b"int8", technique="ptq", scheme="int8", engine="litert-quantizer", seconds=1)
    results_of.finish({})
    with pytest.raises(EdgeqError, match="baseline"):
        report.collect(results_of, "x", CRITERIA)


@pytest.fixture
def published(results, tmp_path):
    figures = {"accuracy": plots.accuracy_bars(results["variants"])}
    names = report.publish(results, figures, tmp_path / "figures" / "tiny")
    return tmp_path / "figures" / "tiny", names


def test_publish_writes_all(published, results):
    folder, names = published
    assert set(names) == {file.name for file in folder.iterdir()}
    assert set(names) == {"results.json", "results.csv", "report.md", "report.html", "report.pdf", "accuracy.png",
                          "accuracy.svg"}
    assert json.loads((folder / "results.json").read_text()) == json.loads(json.dumps(results))
    assert (folder / "report.pdf").read_bytes().startswith(b"%PDF")


def test_publishing_twice_gives_the_same_bytes(published, results, tmp_path):
    folder, names = published
    figures = {"accuracy": plots.accuracy_bars(results["variants"])}
    report.publish(copy.deepcopy(results), figures, tmp_path / "again")
    assert all((folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes() for name in names)


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


def test_html_is_self_contained_and_escaped(published):
    text = (published[0] / "report.html").read_text()
    assert not re.search(r"https?://|<script|<link|@import|url\(", text)
    assert not re.search(r'src="(?!data:image/png;base64,)', text)
    assert "a &lt;fast&gt; one" in text and "<fast>" not in text and "<b>" not in text
    assert "prefers-color-scheme: dark" in text and 'name="viewport"' in text
    assert text.count("<img") == 1 and text.count('class=\'chosen\'') == 2


def test_a_strange_study_name_is_escaped(results):
    text = report.page(report.blocks({**results, "study": "</title><i>"}, []), {})
    assert "<i>" not in text and text.count("</title>") == 1


def test_markdown_tables_keep_their_columns(published):
    text = (published[0] / "report.md").read_text()
    for block in re.findall(r"(?:^\|.*\n)+", text, re.M):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(widths) == 1
    assert "qat\\|1" in text and "![" in text and "](accuracy.png)" in text


def test_sentences_are_computed(results):
    said = report.sentence(results)
    assert said.startswith("Ship int8 (post-training quantization): 4.00 × smaller than float32, 0.50 × its latency, "
                           "0.50 points less accurate on 200 test images")
    claims = report.claims(results)
    assert len(claims) == 3 and "cannot be told from float32 on 200 images" in claims[0]
    assert f"above {results['variants'][1]['detectable_drop']:.2f} points" in claims[0]
    assert "`w4` is less accurate" in claims[1]
    limits = " ".join(report.limits(results))
    assert "cannot tell float32 from `int8`, `qat|1`" in limits and "`qat|1` and float32 name the same class" in limits


def test_a_difference_that_only_the_adjustment_takes_away_is_called_that(results):
    results["variants"][1] |= {"drop": 1.7, "drop_low": 0.2, "drop_high": 3.2, "p_value": 0.2}
    assert "differs from float32 when looked at alone" in report.claims(results)[0]
    assert "`int8`" not in report.limits(results)[0]


def test_a_missed_criterion_is_said_plainly(study):
    found = report.collect(study, "x", [{"name": "min_ratio", "bound": 4.4}, {"name": "max_drop", "bound": 1}])
    assert found["recommendation"]["variant"] == "int8" and not found["recommendation"]["met"]
    assert "misses min_ratio (4, bound 4.4)" in report.sentence(found)


def test_no_runnable_variant_has_a_sentence_too(study):
    for variant in study.variants():
        record = variant.read("cost")
        record["report"]["integer_only"] = False
        variant.write("cost", record)
    found = report.collect(study, "x", CRITERIA, {"kernels": "integer"})
    assert "no variant" in report.sentence(found) and "→" not in report.table(found)
    assert report.pdf(report.blocks(found, []), {}).startswith(b"%PDF")


def test_the_terminal_table_is_narrow(results):
    wide = copy.deepcopy(results)
    wide["variants"][1]["name"] = "a_variant_with_a_name_that_is_far_too_long_for_any_terminal"
    for each in (results, wide):
        lines = report.table(each).splitlines()
        assert len(lines) == 2 + len(each["variants"]) and max(map(len, lines)) <= 120
    assert [line for line in report.table(results).splitlines() if line.startswith("→ int8 ")]


def test_the_command_line_can_print_without_heavy_imports():
    import subprocess
    import sys
    code = "import edgeq_lib.report, sys; sys.exit(any(m in sys.modules for m in " \
           "('tensorflow', 'matplotlib', 'scipy', 'statsmodels', 'reportlab', 'pandas')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=report.Path(report.__file__).parents[1]).returncode == 0
