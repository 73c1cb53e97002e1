"""The registry of targets: each file is whole, and what is wrong with one is one sentence."""

import pytest

from edgeq_lib import cli, targets
from edgeq_lib.files import EdgeqError

SHIPPED = targets.names()
GOOD = "words: a board\nruntime: litert\nprocessor: P1\nsources: [a datasheet]\n"


@pytest.mark.parametrize("name", SHIPPED)
def test_every_target_is_whole_and_says_where_its_facts_come_from(name):
    target = targets.load(name)
    assert target.name == name and all(len(source) > 10 for source in target.sources)
    assert (target.runtime == "vela") == (target.accelerator is not None)
    assert target.words[0].islower() or target.words.startswith(("O", "A")), "inside a sentence"


def test_the_targets_that_people_ask_for_are_there():
    runtimes = [targets.load(name).runtime for name in SHIPPED]
    assert runtimes.count("tflite-micro") == 4 and runtimes.count("vela") == 3
    assert {"edgetpu", "openvino", "onnxruntime"} <= set(runtimes) and len(SHIPPED) == 15


def test_a_target_of_ones_own_is_a_path(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD)
    assert targets.load(str(path)).name == "mine"
    for wrong, word in (
        (GOOD + "ram: 3\n", "ram will not do"),
        (GOOD.replace("litert", "magic"), "runtime will not do"),
        ("sources: []\n", "mine.yaml: "),
        ("- a\n- b\n", "no list of keys"),
    ):
        path.write_text(wrong)
        with pytest.raises(EdgeqError, match=word):
            targets.load(str(path))
    with pytest.raises(EdgeqError, match="no target 'toaster'; there are android_phone"):
        targets.load("toaster")


def test_latencies_belong_to_machines_of_the_same_instruction_sets():
    old = {"isa": ["avx2"]}
    new = {"isa": ["avx2", "avx512f", "avx512_vnni"]}
    assert targets.load("x86_avx2").is_machine(old) and not targets.load("x86_avx2").is_machine(new)
    assert targets.load("x86_vnni").is_machine(new) and not targets.load("x86_vnni").is_machine(old)
    assert not targets.load("cortex_m_1m").is_machine(new)
    assert targets.load("raspberry_pi_5").is_machine({"flags": ["asimd", "asimddp"]})
    assert not targets.load("raspberry_pi_4").is_machine({"flags": ["asimd", "asimddp"]})


def test_what_is_not_listed_takes_8_bits():
    micro = targets.load("cortex_m_1m")
    assert micro.granularity("FULLY_CONNECTED", 4) == "tensor"
    assert micro.granularity("CONV_2D", 4) == "channel"
    assert micro.granularity("CONV_2D", 2) is None
    assert micro.granularity("TRANSPOSE_CONV", 8) == "channel"
    assert micro.granularity("TRANSPOSE_CONV", 4) is None
    assert micro.room(1000) == 500 and micro.room(None) == float("inf")


def test_the_command_lists_them(capsys):
    assert cli.main(["targets"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == SHIPPED
