"""Does a target run a file? Checked by operation, width and memory; executed where that can be."""

import pytest
from tiny_files import tiny_files

from edgeq_lib import targets
from edgeq_lib.measure import verdicts
from edgeq_lib.tflite.forms import for_target
from edgeq_lib.tflite.inspect import inspect_file

FILES = dict(tiny_files())  # a copy: the files are made once for all tests
FILES["int8_convolutions"] = for_target(FILES["int8"], targets.load("edge_tpu"))
VNNI = {"isa": ["avx2", "avx512f", "avx512_vnni"]}


def judge(name, file, tmp_path, target=None, why=None, **more):
    path = tmp_path / "model.tflite"
    path.write_bytes(file)
    cost = {
        "machine": VNNI,
        "arena_bytes": inspect_file(file)["arena_bytes"],
        "vela": None,
        "why": {"load_ms": why} if why else {},
    }
    return verdicts.judge(target or targets.load(name), path, cost, **more)


@pytest.mark.parametrize(
    ("target", "file", "reason"),
    [
        ("edge_tpu", "int8_convolutions", None),
        ("edge_tpu", "int8", "takes one scale per tensor"),
        ("edge_tpu", "int8_float_io", "float tensors"),
        ("edge_tpu", "int4", "4-bit weights is none of the target's operations"),
        ("raspberry_pi_4", "float32", None),
        ("raspberry_pi_4", "int8", None),
    ],
)
def test_what_cannot_be_executed_is_checked(target, file, reason, tmp_path):
    found = judge(target, FILES[file], tmp_path)
    assert found["how"] == "checked" and found["runs"] == (reason is None)
    assert reason is None if found["why"] is None else reason in found["why"]


def test_this_machine_executes_its_own_target_only(tmp_path):
    assert judge("x86_vnni", FILES["int8"], tmp_path)["how"] == "executed"
    assert judge("x86_avx2", FILES["int8"], tmp_path)["how"] == "checked"
    refused = judge("x86_vnni", FILES["int8"], tmp_path, why="the file is refused")
    assert refused["runs"] is False and refused["why"] == "the file is refused"
    elsewhere = judge("x86_avx2", FILES["int8"], tmp_path, why="the file is refused")
    assert elsewhere["runs"] is False and "on this machine" in elsewhere["why"]


def test_memory_has_its_say(tmp_path):
    file = FILES["int8_convolutions"]
    size, arena = len(file), inspect_file(file)["arena_bytes"]
    fits = targets.load("edge_tpu").model_copy(
        update={"ram_bytes": 2 * (size + arena), "flash_bytes": 2 * size}
    )
    assert judge("", file, tmp_path, fits)["runs"]
    for field, word in (("ram_bytes", "of RAM"), ("flash_bytes", "of flash")):
        small = fits.model_copy(update={field: getattr(fits, field) - 2})
        found = judge("", file, tmp_path, small)
        assert found["runs"] is False and word in found["why"]
    in_place = fits.model_copy(update={"weights_in_place": True})
    assert judge("", file, tmp_path, in_place)["ram_bytes"] == arena


def test_every_reason_is_listed():
    reasons = verdicts.check(targets.load("edge_tpu"), FILES["int16x8"])
    assert "its activations have 16 bits" in reasons


def test_micro_is_believed_where_it_was_asked(tmp_path):
    def micro(**record):
        return judge("cortex_m_1m", FILES["int8"], tmp_path, on_micro=record)

    ran = micro(runs=True, arena_bytes=5000, difference="It rounds otherwise.")
    assert ran["runs"] and ran["how"] == "executed" and ran["ram_bytes"] == 5000
    assert ran["why"] == "It rounds otherwise"
    refused = micro(runs=False, why="No such operation.")
    assert refused["runs"] is False and refused["why"] == "No such operation"
    large = micro(runs=True, arena_bytes=600_000, difference=None)
    assert large["runs"] is False and "600 kB of RAM" in large["why"]
    assert micro(runs=None, why="It is not installed.")["how"] == "checked"


def test_arm_is_believed_where_it_was_emulated(tmp_path):
    def pi(**record):
        return judge("raspberry_pi_4", FILES["int8"], tmp_path, emulated=record)

    same = {"cortex-a72": {"remark": None}}
    assert pi(outputs=same, why={})["how"] == "executed" and pi(outputs=same, why={})["runs"]
    other = pi(outputs={"cortex-a72": {"remark": "It differs by 3 steps."}}, why={})
    assert other["runs"] and other["why"] == "It differs by 3 steps"
    crashed = pi(outputs={"cortex-a72": None}, why={"cortex-a72": "It crashed."})
    assert crashed["runs"] is False and crashed["why"] == "It crashed"
    assert pi(outputs={"cortex-a76": {"remark": None}}, why={})["how"] == "checked"


def test_other_engines_read_no_file_of_ours(tmp_path):
    assert judge("onnxruntime", FILES["int8"], tmp_path)["runs"] is False
    assert judge("openvino", FILES["int8"], tmp_path)["runs"] is None


def test_tables_group_reasons_and_count():
    yes = {"runs": True, "how": "executed", "why": None}
    no = {"runs": False, "how": "compiled", "why": "too wide"}
    costs = {"a": {"targets": {"t": yes}}, "b": {"targets": {"t": no}}, "c": {"targets": {"t": no}}}
    assert verdicts.words(yes) == "yes, executed" and verdicts.words(no) == "no, compiled"
    assert verdicts.reasons(costs) == [["t", "b, c", "too wide"]]
    assert verdicts.how_many(costs, ["a", "b"]) == "Of 2 variants each target runs: t 1."
    assert verdicts.how_many({"a": {"targets": {}}}, ["a"]) == ""
