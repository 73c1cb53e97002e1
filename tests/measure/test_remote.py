"""A folder that measures anywhere, and what comes back from there."""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from small_study import int8_of, make_study

from edgeq_lib import cli
from edgeq_lib.analysis.rows import PERCENTILES, latency_interval
from edgeq_lib.files import EdgeqError, read_json
from edgeq_lib.measure import remote, standalone
from edgeq_lib.study import Study


@pytest.fixture(scope="module")
def models(small_net, pictures):
    return {"float32": small_net[1], "int8": int8_of(small_net[1], pictures)}


@pytest.fixture
def shelf(tmp_path, pictures, models):
    return make_study(tmp_path, pictures, models["float32"], models["int8"])


@pytest.fixture
def folder(shelf, tmp_path):
    assert remote.export_folder("sample", tmp_path / "bench") == 2
    return tmp_path / "bench"


def cost(models, ratio=0.5):
    """What a machine would have written."""
    spread = {"ratio": ratio, "ratio_low": ratio, "ratio_high": ratio}
    return {
        "format": standalone.FORMAT,
        "study": "sample",
        "machine": {"name": "Pi 4", **standalone.describe_machine()},
        "versions": {"numpy": "1"},
        "variants": {
            name: {
                "sha256": hashlib.sha256(model).hexdigest(),
                "bytes": len(model),
                "latency_ms": {"1": {"p50": 2.0, "p90": 2.5, "p99": 3.0}},
                "latency_ratio": ratio,
                "latency_ratio_low": ratio,
                "latency_ratio_high": ratio,
                "latency_ratio_by_threads": {"1": {**spread, "rounds": 25, "invocations": 99}},
                "load_ms": 1.0,
                "peak_memory_bytes": None,
                "why": {},
            }
            for name, model in models.items()
        },
    }


@pytest.fixture
def file(tmp_path, models):
    path = tmp_path / "cost.pi-4.json"
    path.write_text(json.dumps(cost(models)))
    return path


def test_the_folder_holds_models_and_real_images_in_the_files_own_type(folder, models):
    listed = read_json(folder / "bench.json")
    assert listed["study"] == "sample" and listed["baseline"] == "float32"
    assert [entry["name"] for entry in listed["variants"]] == ["float32", "int8"]
    for entry, dtype in zip(listed["variants"], (np.float32, np.int8), strict=True):
        assert (folder / entry["model"]).read_bytes() == models[entry["name"]]
        image = np.load(folder / entry["image"])
        assert image.shape == (1, 8, 8, 3) and image.dtype == dtype and image.std() > 0
    assert (folder / "benchmark.py").read_bytes() == remote.STANDALONE.read_bytes()


def test_an_export_replaces_an_export_and_nothing_else(folder, tmp_path):
    (folder / "models" / "old.tflite").write_bytes(b"")
    assert remote.export_folder("sample", folder) == 2
    assert not (folder / "models" / "old.tflite").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(EdgeqError, match="holds something else"):
        remote.export_folder("sample", tmp_path / "mine")
    with pytest.raises(EdgeqError, match="no float32"):
        remote.export_folder("nothing", tmp_path / "new")


def test_there_and_back(shelf, folder, monkeypatch, capsys):
    monkeypatch.setattr(standalone, "BUDGET_SECONDS", 0.3)
    monkeypatch.setattr(standalone, "WAIT_SECONDS", 0.0)
    monkeypatch.setattr(standalone, "STRETCH_SECONDS", 0.02)
    monkeypatch.setattr(standalone, "IDLE_SECONDS", 0.01)
    # As if run there; its children are.
    monkeypatch.setattr(standalone, "__file__", str(folder / "benchmark.py"))
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "--energy", "--name", "Räspberry Pi 4 / B"])
    standalone.main()
    printed = capsys.readouterr().out
    assert "cost.r-spberry-pi-4-b.json" in printed and "int8 " in printed
    written = folder / "cost.r-spberry-pi-4-b.json"
    ran = [stretch["name"] for stretch in read_json(written)["stretches"] if stretch["name"]]
    assert sorted(ran) == ["float32"] * 6 + ["int8"] * 6
    assert cli.main(["import-bench", "sample", str(written)]) == 0
    (board,) = Study("sample").boards()
    assert board["machine"]["name"] == "Räspberry Pi 4 / B"
    assert set(board["versions"]) == {"ai-edge-litert", "numpy"}
    assert board["variants"]["float32"]["latency_ratio"] == 1
    int8 = board["variants"]["int8"]
    assert int8["latency_ms"]["1"]["p50"] > 0
    assert list(int8["latency_ms"]) == [str(n) for n in sorted({1, standalone.cores()})]
    assert int8["latency_ratio_low"] <= int8["latency_ratio"] <= int8["latency_ratio_high"]
    assert latency_interval(int8) == standalone.INTERVAL
    assert int8["conditions"]["1"]["processors"] >= 1
    assert int8["load_ms"] > 0 and int8["peak_memory_bytes"] > 0


def test_a_file_that_cannot_run_there_is_recorded_with_why(folder, monkeypatch):
    real = standalone.measure_cold_start
    monkeypatch.setattr(standalone, "BUDGET_SECONDS", 0.1)
    monkeypatch.setattr(standalone, "WAIT_SECONDS", 0.0)
    monkeypatch.setattr(
        standalone,
        "run_in_subprocess",
        lambda path, timeout: {"load_ms": 1.0, "peak_memory_bytes": None},
    )

    def no_kernel(path, timeout):
        if path.stem == "int8":
            raise standalone.Refused("is refused by LiteRT (no kernel)")
        return real(path, timeout)

    monkeypatch.setattr(standalone, "measure_cold_start", no_kernel)
    costs = standalone.measure_folder(folder, report=lambda line: None)
    assert costs["int8"]["latency_ratio"] is None
    assert "no kernel" in costs["int8"]["why"]["latency_ms"]
    assert costs["float32"]["latency_ratio"] == 1
    assert costs["float32"]["why"] == {"peak_memory_bytes": "this system does not tell"}
    monkeypatch.setattr(
        standalone, "measure_cold_start", lambda path, timeout: no_kernel(Path("int8"), timeout)
    )
    with pytest.raises(SystemExit, match="float32, with which all are compared, does not run here"):
        standalone.measure_folder(folder, report=lambda line: None)


def test_a_file_damaged_on_the_way_there_stops_it(folder):
    (folder / "models" / "int8.tflite").write_bytes(b"short")
    with pytest.raises(SystemExit, match="models/int8.tflite is not the file that was exported"):
        standalone.measure_folder(folder)


def test_taken_in_twice_replaces(shelf, file, models):
    assert remote.import_results("sample", file) == "Pi 4"
    file.write_text(json.dumps(cost(models, 0.7)))
    remote.import_results("sample", file)
    machine = {"name": "A board", **standalone.describe_machine()}
    file.write_text(json.dumps(cost(models, 0.2) | {"machine": machine}))
    remote.import_results("sample", file)
    ratios = {
        board["machine"]["name"]: board["variants"]["int8"]["latency_ratio"]
        for board in Study("sample").boards()
    }
    assert list(ratios.items()) == [("A board", 0.2), ("Pi 4", 0.7)]


def test_results_of_an_earlier_export_name_their_instruction_sets_too(shelf, file, models):
    old = cost(models)
    flags = old["machine"]["flags"] = ["asimd", "asimddp"]
    del old["machine"]["isa"]
    file.write_text(json.dumps(old))
    remote.import_results("sample", file)
    (board,) = Study("sample").boards()
    assert board["machine"]["isa"] == board["machine"]["flags"] == flags


def test_results_of_an_earlier_export_say_nothing_of_their_interval(shelf, file):
    remote.import_results("sample", file)
    (board,) = Study("sample").boards()
    assert latency_interval(board["variants"]["int8"]) == PERCENTILES


def test_a_power_meter_gives_joules(shelf, file, models, tmp_path, capsys):
    content, now, lines = cost(models), 1.8e9, ["time,watts"]
    content["stretches"] = []
    for name in (None, *["int8", None] * 6):
        lasts, watts = (4.0, 4.5) if name else (2.0, 2.5)
        content["stretches"].append(
            {"name": name, "start": now, "end": now + lasts, "invocations": 100 if name else 0}
        )
        lines += [f"{now + lasts * part / 20},{watts}" for part in range(20)]
        now += lasts
    lines.append(f"{now},2.5")
    file.write_text(json.dumps(content))
    trace = tmp_path / "power.csv"
    trace.write_text("\n".join(lines))
    assert cli.main(["import-bench", "sample", str(file), "--power", str(trace)]) == 0
    (board,) = Study("sample").boards()
    assert board["variants"]["int8"]["energy"]["joules"] == pytest.approx(2.0 * 4 / 100)
    assert board["variants"]["float32"]["energy"] is None and "stretches" not in board
    remote.import_results("sample", file)
    assert Study("sample").boards()[0]["variants"]["int8"]["energy"] is None, "no meter, no joules"
    trace.write_text("\n".join(lines[:-5]))
    assert cli.main(["import-bench", "sample", str(file), "--power", str(trace)]) == 1
    assert "does not cover the benchmark" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (None, "python benchmark.py --energy"),
        ([None], "python benchmark.py --energy"),
        (["int8", None], "damaged"),
        ([None, "int8", "int8", None, None], "damaged"),
        ([None, "w4", None], "damaged"),
    ],
)
def test_power_needs_to_know_when_each_file_ran(shelf, file, models, tmp_path, names, says):
    content = cost(models)
    content["stretches"] = names and [
        {"name": name, "start": index + 1, "end": index + 2, "invocations": 5}
        for index, name in enumerate(names)
    ]
    file.write_text(json.dumps(content))
    with pytest.raises(EdgeqError, match=says):
        remote.import_results("sample", file, tmp_path / "power.csv")


def damage(change):
    def done(content):
        change(content)
        return json.dumps(content)

    return done


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda content: json.dumps(content)[:-30], "damaged"),
        (lambda content: "[]", "damaged"),
        (lambda content: "", "damaged"),
        (damage(lambda content: content.update(format="edgeq cost 9")), "damaged"),
        (
            damage(lambda content: content["variants"]["int8"].update(latency_ratio=float("nan"))),
            "damaged",
        ),
        (damage(lambda content: content["variants"]["int8"].update(latency_ratio=-1)), "damaged"),
        (damage(lambda content: content["variants"]["int8"].pop("latency_ms")), "damaged"),
        (damage(lambda content: content["machine"].update(name="")), "damaged"),
        (
            damage(
                lambda content: content.update(
                    stretches=[{"name": "int8", "start": 2, "end": 1, "invocations": 1}]
                )
            ),
            "damaged",
        ),
        (damage(lambda content: content.update(study="another")), "edgeq import-bench another"),
        (
            damage(lambda content: content["variants"]["int8"].update(sha256="0")),
            "'int8' that is not the one on the shelf",
        ),
        (
            damage(lambda content: content["variants"].update(w4=content["variants"]["int8"])),
            "'w4' that is not the one",
        ),
        (damage(lambda content: content["variants"].clear()), "measured nothing"),
    ],
)
def test_damaged_and_foreign_files_get_one_sentence(shelf, file, models, capsys, spoil, says):
    file.write_text(spoil(cost(models)))
    assert cli.main(["import-bench", "sample", str(file)]) == 1
    printed = capsys.readouterr().err
    assert says in printed and len(printed.splitlines()) == 1
    assert not (shelf.folder / "boards").exists() and Study("sample").boards() == []


def test_a_missing_file(shelf, tmp_path):
    with pytest.raises(EdgeqError, match="no file none.json"):
        remote.import_results("sample", tmp_path / "none.json")


def test_an_import_is_noticed_by_what_reads_it(shelf, file):
    """The stage that showed the machines before is not current any more.

    The listing was read when it was not there.
    """
    from edgeq_lib.pipeline.runner import is_current

    reader = Study("sample", "90_analysis")
    reader.boards()
    reader.finish({})
    assert is_current(Study("sample"), "90_analysis", None)
    remote.import_results("sample", file)
    assert not is_current(Study("sample"), "90_analysis", None)
    reader = Study("sample", "90_analysis")
    reader.boards()
    reader.finish({})
    remote.import_results("sample", file)
    assert is_current(Study("sample"), "90_analysis", None), "the same file again changes nothing"


def test_what_was_measured_on_a_file_that_changed_is_left_out(shelf, file, models):
    remote.import_results("sample", file)
    shelf.save_variant(
        "int8", models["int8"] + b"\0", technique="ptq", scheme="int8", engine="x", seconds=0
    )
    (board,) = Study("sample").boards()
    assert list(board["variants"]) == ["float32"]


def test_machines_stand_side_by_side(shelf, file, models):
    remote.import_results("sample", file)
    boards, variants = Study("sample").boards(), Study("sample").variants()
    here = {
        "float32": {
            "latency_ms": {"1": {"p50": 1.2345}},
            "latency_ratio": 1.0,
            "why": {},
            "machine": {"cpu": "AMD EPYC", "isa": ["avx2"]},
        },
        "int8": {
            "latency_ms": None,
            "latency_ratio": None,
            "why": {"latency_ms": "the file is refused"},
        },
    }
    boards[0]["machine"]["isa"] = ["asimd", "asimddp"]
    own, board = "this machine (avx2)", "Pi 4 (asimd, asimddp)"
    assert remote.side_by_side(boards, here, variants) == [
        {"variant": "float32", own: "1.00 (1.23 ms)", board: "0.50 (2 ms)"},
        {"variant": "int8", own: "the file is refused", board: "0.50 (2 ms)"},
    ]
    del boards[0]["variants"]["int8"]
    assert remote.side_by_side(boards, here, variants)[1][board] == "not measured"
