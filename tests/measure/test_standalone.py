"""The file that is copied to other machines: what it needs, and what it says about them."""

import ast
import json
import os
import sys
from pathlib import Path

from tiny_files import tiny_files

from edgeq_lib.measure import remote, standalone
from edgeq_lib.measure.latency import versions


def test_the_standalone_file_needs_no_more_than_it_says():
    text = remote.STANDALONE.read_text()
    tree = ast.parse(text, feature_version=(3, 9))  # without match statements
    named = {
        node.module.split(".")[0]
        if isinstance(node, ast.ImportFrom)
        else node.names[0].name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert named - set(sys.stdlib_module_names) == {"numpy", "ai_edge_litert"}
    assert "strict=" not in text  # of zip, since Python 3.10


def test_cold_measures_a_process_of_its_own(tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(tiny_files()["float32"])
    cost = standalone.measure_cold_start(path)
    assert cost["load_ms"] > 0 and cost["peak_memory_bytes"] > len(tiny_files()["float32"])


def test_the_machine_is_described_without_names():
    text = json.dumps([standalone.describe_machine(), versions()])
    assert os.uname().nodename not in text and os.getcwd() not in text
    assert standalone.describe_machine()["cores"] >= 1 and "ai-edge-litert" in versions()


def test_instruction_sets_are_read_from_the_system(monkeypatch):
    """On Arm the kernel calls them Features and names no processor; the board's name stands in."""
    cpuinfo = "processor : 0\nFeatures : fp asimd asimddp crc32\n"
    monkeypatch.setattr(Path, "read_text", lambda path: cpuinfo)
    monkeypatch.setattr(standalone, "_board", lambda: "Raspberry Pi 5")
    machine = standalone.describe_machine()
    assert machine["isa"] == machine["flags"] == ["asimd", "asimddp"]
    assert machine["cpu"] == "Raspberry Pi 5"


def test_slugs():
    slug = standalone.file_slug
    assert slug("Raspberry Pi 4 Model B Rev 1.4") == "raspberry-pi-4-model-b-rev-1-4"
    assert slug("../../etc") == "etc" and slug("—") == "machine" and len(slug("x" * 200)) == 60


def test_the_spread_of_a_ratio_is_its_10th_and_90th_percentile_over_rounds():
    summary = standalone._summary([[1.0, 2.0, 3.0]], [float(ratio) for ratio in range(1, 12)])
    assert (summary["ratio_low"], summary["ratio"], summary["ratio_high"]) == (2, 6, 10)
    assert (summary["p50"], summary["rounds"], summary["invocations"]) == (2, 11, 3)
