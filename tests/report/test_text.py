"""Sentences and the terminal table, computed from results."""

import copy

from report_shelf import CRITERIA, LABELS

from edgeq_lib.report.document import blocks
from edgeq_lib.report.pdf import pdf
from edgeq_lib.report.results import collect
from edgeq_lib.report.text import claims, limits, on_test, recommendation_text, terminal_table


def test_sentences_are_computed(results):
    said = recommendation_text(results)
    assert said.startswith(
        "Ship int8 (post-training quantization, 8 bits per weight, 8 per activation): 4.00 × "
        "smaller than float32, 0.50 × its latency on a <fast> one (avx2), 0.50 points less "
        "accurate on 200 test images"
    )
    sentences = claims(results)
    effect = f"{results['variants'][1]['detectable_drop']:.2f}"
    assert "(drop 0.50 [" in sentences[0]
    assert "not distinguishable from float32 on 200 test images" in sentences[0]
    assert f"a drop above {effect} points (minimum detectable effect, all comp" in sentences[0]
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


def test_the_kind_of_a_latency_interval_is_named(results):
    fastest = claims(results)[3]
    assert "0.50 × its latency; 95 % interval of the median ratio: 0.45 to 0.55) on a <f" in fastest
    for row in results["variants"]:
        del row["latency_interval"]
    assert "10th and 90th percentile of the ratio over rounds, not a 95 % int" in claims(results)[3]


def test_a_busy_machine_is_no_secret(results):
    assert "busy" not in " ".join(limits(results))
    results["busy"] = "At 1 thread other processes kept 1.5 of 2 processors busy."
    machine = {"name": "pi", "isa": ["asimddp"]}
    costs = {"float32": {"latency_ratio": 1.0}, "int8": {"latency_ratio": 0.5, "busy": "It was."}}
    results["boards"] = [{"machine": machine, "versions": {}, "variants": costs}]
    own, board = [sentence for sentence in limits(results) if "that machine was busy" in sentence]
    assert "on a <fast> one (avx2)" in own and own.endswith("1.5 of 2 processors busy.")
    assert "on pi (asimddp)" in board and board.endswith("It was.")


def test_fifteen_alike_variants_make_one_sentence(results):
    results["variants"] += [{**results["variants"][3], "name": f"v{index}"} for index in range(15)]
    assert len(claims(results)) == 5 and "and 13 others are likewise" in claims(results)[1]


def test_a_difference_that_only_the_adjustment_takes_away_is_called_that(results):
    results["variants"][1] |= {"drop": 1.7, "drop_low": 0.2, "drop_high": 3.2, "p_value": 0.2}
    assert "different from float32 when looked at alone" in claims(results)[0]
    assert "the one file" in limits(results)[0]


def test_a_missed_criterion_is_said_plainly(study):
    found = collect(
        study,
        "x",
        [{"name": "min_ratio", "bound": 4.4}, {"name": "max_drop", "bound": 1}],
        labels=LABELS,
    )
    assert found["recommendation"]["variant"] == "int8" and not found["recommendation"]["met"]
    assert "misses min_ratio (4, bound 4.4)" in recommendation_text(found)


def test_no_runnable_variant_has_a_sentence_too(study):
    for variant in study.variants():
        record = variant.read("cost")
        record["targets"]["cortex_m_1m"] |= {"runs": False, "why": "it holds floats"}
        variant.write("cost", record)
    found = collect(study, "x", CRITERIA, {"target": "cortex_m_1m"}, labels=LABELS)
    assert "no variant" in recommendation_text(found) and "→" not in terminal_table(found)
    assert pdf(blocks(found, []), {}).startswith(b"%PDF")


def test_the_terminal_table_is_narrow(results):
    wide = copy.deepcopy(results)
    wide["variants"][1]["name"] = "a_variant_with_a_name_that_is_far_too_long_for_any_terminal"
    for each in (results, wide):
        lines = terminal_table(each).splitlines()
        assert len(lines) == 2 + len(each["variants"]) and max(map(len, lines)) <= 120
    assert [line for line in terminal_table(results).splitlines() if line.startswith("→ int8 ")]


def test_what_test_misses_is_said_beside_what_validation_meets(results):
    assert "but on the test images" not in recommendation_text(results)
    results["variants"][1] |= {"drop": 2.5, "drop_low": 1.0, "drop_high": 4.0}
    said = recommendation_text(results)
    assert "on validation it meets every criterion" in said
    assert "but on the test images it misses max_drop (2.5, bound 2)" in said
    assert on_test(results, "int8") == "missed: drop"
