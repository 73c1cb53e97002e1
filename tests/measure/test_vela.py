"""The Ethos-U compiler's estimate of a file."""

import importlib.util
import subprocess

import pytest
from tiny_files import MACS, tiny_files

from edgeq_lib.files import EdgeqError
from edgeq_lib.measure import vela

needs_vela = pytest.mark.skipif(
    importlib.util.find_spec("ethosu") is None, reason="needs ethos-u-vela"
)


@pytest.fixture
def file(tmp_path):
    def write(content: bytes):
        path = tmp_path / "model.tflite"
        path.write_bytes(content)
        return path

    return write


@needs_vela
@pytest.mark.parametrize("name", ["int8", "uint8", "int16x8"])
def test_vela_takes_an_integer_network_whole(file, name):
    estimate = vela.estimate(file(tiny_files()[name]))
    assert estimate["estimate"] and "why" not in estimate
    assert estimate["npu_ops_share"] == estimate["npu_macs_share"] == 1
    assert estimate["ms"] > 0 and estimate["ms"] * estimate[
        "inferences_per_second"
    ] == pytest.approx(1000)
    assert estimate["sram_bytes"] > 0 and estimate["flash_bytes"] > 0
    assert (estimate["accelerator"], estimate["system"]) == (
        "ethos-u55-128",
        "Ethos_U55_High_End_Embedded",
    )


@needs_vela
@pytest.mark.parametrize("accelerator", ["ethos-u55-32", "ethos-u65-256", "ethos-u85-256"])
def test_each_family_has_a_configuration(file, accelerator):
    assert vela.estimate(file(tiny_files()["int8"]), accelerator)["ms"] > 0


@needs_vela
def test_what_stays_on_the_processor_is_not_the_npus_share(file, monkeypatch):
    run = subprocess.run
    monkeypatch.setattr(
        vela.subprocess,
        "run",
        lambda command, **settings: run([*command, "--ignore-ops", "FULLY_CONNECTED"], **settings),
    )
    estimate = vela.estimate(file(tiny_files()["int8"]))
    assert estimate["npu_ops_share"] == pytest.approx(1 - 1 / 6)
    assert estimate["npu_macs_share"] == pytest.approx(1 - 10 / MACS)


@needs_vela
def test_vela_reports_four_bit_weights_as_a_reason(file):
    estimate = vela.estimate(file(tiny_files()["int4"]))
    assert "why" in estimate or estimate["ms"] > 0  # 5.2 crashes; a later one may take them


def test_a_float_file_is_not_for_an_npu(file):
    assert "float" in vela.estimate(file(tiny_files()["int8_float_io"]))["why"]


def test_an_unknown_accelerator_is_an_error(file):
    with pytest.raises(EdgeqError, match="hexagon"):
        vela.estimate(file(tiny_files()["int8"]), "hexagon")


@needs_vela
@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (subprocess.CompletedProcess([], -8, "", ""), "SIGFPE"),
        (
            subprocess.CompletedProcess([], 1, "Error: Invalid tensor in the graph\n", ""),
            "Invalid tensor",
        ),
        (subprocess.CompletedProcess([], 0, "", ""), "refuses"),
        (subprocess.TimeoutExpired([], 5), "within 5 s"),
    ],
)
def test_what_vela_cannot_do_is_said(file, monkeypatch, answer, why):
    def run(*arguments, **settings):
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(vela.subprocess, "run", run)
    assert why in vela.estimate(file(tiny_files()["int8"]), timeout=5)["why"]
