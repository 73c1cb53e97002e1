"""Costs side by side. Nothing asserts how long anything takes: machines and their load differ."""

import json
import random

import numpy as np
import pytest
from tiny_files import tiny_files

from edgeq_lib.files import EdgeqError
from edgeq_lib.measure import latency, standalone
from edgeq_lib.measure.latency import measure_costs, measure_latency
from edgeq_lib.tflite.inspect import inspect_file, sizes


@pytest.fixture(autouse=True)
def no_second_attempt(monkeypatch):
    """Whatever this machine does else; test_standalone.py has one of its own."""
    monkeypatch.setattr(standalone, "ATTEMPTS", (1.0,))


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """float32, int8 and int16x8 of the tiny network as files, laid out like a shelf."""
    folder, paths = tmp_path_factory.mktemp("shelf"), {}
    for name in ("float32", "int8", "int16x8"):
        paths[name] = folder / name / "model.tflite"
        paths[name].parent.mkdir()
        paths[name].write_bytes(tiny_files()[name])
    return paths


def test_the_baseline_is_its_own_measure(shelf):
    measured = measure_latency(shelf, threads=1, budget_seconds=0.5)
    assert [measured["float32"][key] for key in ("ratio", "ratio_low", "ratio_high")] == [1, 1, 1]
    for spent in measured.values():
        assert 0 < spent["p50"] <= spent["p90"] <= spent["p99"]
        assert 0 < spent["ratio_low"] <= spent["ratio"] <= spent["ratio_high"]
        assert spent["rounds"] == standalone.ROUNDS and spent["invocations"] >= standalone.ROUNDS


def test_ratios_pair_the_turns_of_one_round(shelf, monkeypatch):
    """A machine that gets slower by half from round to round leaves the ratios as they are."""
    speed = {"float32": 2.0, "int8": 1.0, "int16x8": 100.0}
    turns = {name: 0 for name in shelf}
    monkeypatch.setattr(latency, "make_interpreter", lambda path, threads: path.parent.name)
    monkeypatch.setattr(latency, "_fill", lambda interpreter, value: None)

    def turn(name, times, batch):
        turns[name] += 1
        return [speed[name] * 1.5 ** turns[name]] * times

    monkeypatch.setattr(standalone, "_turn", turn)
    measured = measure_latency(shelf, budget_seconds=60)
    assert measured["int8"]["ratio"] == pytest.approx(0.5) == measured["int8"]["ratio_low"]
    assert measured["float32"]["p99"] > 50 * measured["float32"]["p50"]


def test_slow_models_get_fewer_turns_and_the_baseline_all(shelf, monkeypatch):
    monkeypatch.setattr(latency, "make_interpreter", lambda path, threads: path.parent.name)
    monkeypatch.setattr(latency, "_fill", lambda interpreter, value: None)
    monkeypatch.setattr(
        standalone,
        "_turn",
        lambda name, times, batch: [9000.0 if name == "int16x8" else 1.0] * times,
    )
    measured = measure_latency(shelf, budget_seconds=30)
    assert measured["float32"]["rounds"] == measured["int8"]["rounds"] == standalone.ROUNDS
    assert measured["int16x8"]["rounds"] == measured["int16x8"]["invocations"] == 7
    assert measured["int16x8"]["ratio"] == 9000


def test_every_round_is_shuffled_alike_each_time(shelf, monkeypatch):
    orders = []
    for _ in range(2):
        order = []
        monkeypatch.setattr(latency, "make_interpreter", lambda path, threads: path.parent.name)
        monkeypatch.setattr(latency, "_fill", lambda interpreter, value: None)
        monkeypatch.setattr(
            standalone,
            "_turn",
            lambda name, times, batch, order=order: order.append(name) or [1.0] * times,
        )
        measure_latency(shelf, budget_seconds=1)
        orders.append(order[len(shelf) :])
    assert orders[0] == orders[1]
    rounds = {tuple(orders[0][start : start + 3]) for start in range(0, len(orders[0]), 3)}
    assert len(rounds) > 3 and all(len(set(players)) == 3 for players in rounds)


def test_a_given_image_is_quantized_for_each_file_and_must_suit_it(shelf):
    image = np.zeros((1, 8, 8, 3), np.float32)
    measure_latency(shelf, budget_seconds=0.1, images={name: image for name in shelf})
    with pytest.raises(EdgeqError, match="'int8' does not suit"):
        measure_latency(shelf, budget_seconds=0.1, images={"float32": image, "int8": image[:, :4]})


def test_a_baseline_is_needed(shelf):
    for measure in (measure_latency, lambda models: measure_costs(models, [1])):
        with pytest.raises(EdgeqError, match="no 'float32'"):
            measure({"int8": shelf["int8"]})


def test_sizes_are_the_same_each_time():
    model = tiny_files()["float32"]
    assert sizes(model) == sizes(model)
    assert sizes(model)["bytes"] == len(model)
    assert sizes(bytes(10000))["gzip_bytes"] < 100
    assert sizes(random.Random(0).randbytes(10000))["gzip_bytes"] >= 10000


def test_measure_gives_whole_records(shelf):
    costs = measure_costs(shelf, [1, 2], budget_seconds=0.5)
    for name, cost in costs.items():
        json.dumps(cost, allow_nan=False)
        assert cost["bytes"] == len(tiny_files()[name])
        assert cost["report"] == inspect_file(tiny_files()[name])
        assert cost["machine"]["isa"] == cost["machine"]["flags"]
        assert list(cost["latency_ms"]) == list(cost["latency_ratio_by_threads"]) == ["1", "2"]
        assert cost["latency_ratio"] == cost["latency_ratio_by_threads"]["1"]["ratio"]
        assert cost["arena_bytes"] == cost["report"]["arena_bytes"]
        assert (cost["vela"] is None) == ("vela" in cost["why"])
    assert costs["float32"]["latency_ratio"] == 1


def test_a_variant_that_litert_cannot_run_costs_only_its_own_figures(shelf, monkeypatch):
    real = standalone.run_in_subprocess

    def crash(path, timeout=60):
        if path == shelf["int16x8"]:
            raise standalone.Refused("brings LiteRT down (SIGSEGV)")
        return real(path, timeout)

    monkeypatch.setattr(standalone, "run_in_subprocess", crash)
    costs = measure_costs(shelf, [1], budget_seconds=0.3)
    assert costs["int8"]["latency_ratio"] > 0 and "latency_ms" not in costs["int8"]["why"]
    broken = costs["int16x8"]
    empty = {field for field, value in broken.items() if value is None}
    unmeasured = {"latency_ms", "latency_ratio", "load_ms", "peak_memory_bytes"}
    assert unmeasured <= empty <= set(broken["why"])
    assert "SIGSEGV" in broken["why"]["latency_ms"] and broken["bytes"] > 0


def test_a_garbled_variant_is_named_before_anything_is_measured(shelf, tmp_path, monkeypatch):
    monkeypatch.setattr(standalone, "measure_cold_start", lambda path: pytest.fail("measured"))
    path = tmp_path / "model.tflite"
    path.write_bytes(tiny_files()["int8"][:500])
    with pytest.raises(EdgeqError, match="Variant 'broken'"):
        measure_costs({**shelf, "broken": path}, [1])
