"""How fast an Arm Ethos-U would be: an estimate by Arm's compiler, Vela.

Vela compiles an integer-only file for the accelerator and says what its performance model expects.
That the file compiles is a fact; time and memory are the model's word, not a measurement.
"""

from __future__ import annotations

import csv
import importlib.metadata
import importlib.util
import math
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeq_lib.files import EdgeqError
from edgeq_lib.tflite.inspect import inspect_file

KIB = 2**10
# Configurations in the `Arm/vela.ini` that comes with Vela: (system, memory mode) by accelerator
# family. U55 systems keep weights in external flash and everything else in SRAM; U65 and U85 use
# the SRAM as a cache before DRAM.
VELA_SYSTEMS = {
    "ethos-u55": ("Ethos_U55_High_End_Embedded", "Shared_Sram"),
    "ethos-u65": ("Ethos_U65_High_End", "Dedicated_Sram"),
    "ethos-u85": ("Ethos_U85_SYS_DRAM_Mid", "Dedicated_Sram"),
}


def estimate(path: Path, accelerator: str = "ethos-u55-128", timeout: float = 300) -> dict:
    """Estimate what an Ethos-U needs for an integer-only file, with Arm's compiler Vela.

    An estimate by Vela's performance model, not a measurement.

    Args:
        path: A `.tflite` file.
        accelerator: As Vela names it: ethos-u55-32 … ethos-u85-2048; the last number is MACs per
            cycle.
        timeout: Seconds that the compiler may take.

    Returns:
        estimate (True), compiler (package and version), accelerator, system and memory_mode (Vela's
        configuration), clock_mhz, npu_ops_share and npu_macs_share (0 to 1, of the file's ops and
        MACs: the rest stays on the CPU, whose time is not in the estimate; the latter None without
        MACs), sram_bytes, dram_bytes, flash_bytes, npu_macs (elementwise work included), ms and
        inferences_per_second (None when nothing runs on the NPU). When Vela cannot say:
        {"why": one sentence}.

    Raises:
        EdgeqError: The accelerator is unknown, or the file broken.
    """
    family = accelerator.rsplit("-", 1)[0]
    if family not in VELA_SYSTEMS:
        raise EdgeqError(
            f"'{accelerator}' is no Ethos-U that Vela knows; write ethos-u55-128, for example."
        )
    report = inspect_file(path.read_bytes())
    if not report["integer_only"]:
        return {"why": "Ethos-U computes in integers; this file holds float tensors."}
    if importlib.util.find_spec("ethosu") is None:
        return {"why": "The compiler is not installed (package ethos-u-vela)."}
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = _run_vela(path, accelerator, Path(folder), timeout)
        except subprocess.TimeoutExpired:
            return {"why": f"Vela did not finish within {timeout:g} s."}
        summaries = list(Path(folder).glob("*_summary_*.csv"))
        compiled = list(Path(folder).glob("*_vela.tflite"))
        if done.returncode or not summaries or not compiled:
            return {"why": _why_not(done, four_bits="4" in report["weight_bits_share"])}
        with open(summaries[0], newline="") as file:
            summary = next(csv.DictReader(file))
        left = inspect_file(compiled[0].read_bytes())
    return _record(accelerator, report, left, summary)


def _run_vela(
    path: Path, accelerator: str, folder: Path, timeout: float
) -> subprocess.CompletedProcess[str]:
    """Compile a file in a process of its own, which may crash; results go to `folder`."""
    system, mode = VELA_SYSTEMS[accelerator.rsplit("-", 1)[0]]
    options = {
        "--accelerator-config": accelerator,
        "--config": "Arm/vela.ini",
        "--system-config": system,
        "--memory-mode": mode,
        "--output-dir": str(folder),
    }
    arguments = [word for option in options.items() for word in option]
    return subprocess.run(
        [sys.executable, "-P", "-m", "ethosu.vela", *arguments, str(path.resolve())],
        cwd=folder,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout,
    )


def _why_not(done: subprocess.CompletedProcess[str], four_bits: bool) -> str:
    """Why Vela made nothing of a file."""
    if done.returncode < 0:
        reason = ": it holds 4-bit weights." if four_bits else "."
        return f"Vela crashes on this file ({signal.Signals(-done.returncode).name}){reason}"
    output = (done.stdout + done.stderr).splitlines()
    errors = [line.strip() for line in output if "error" in line.lower()]
    return f"Vela refuses this file ({(errors or ['no message'])[0][:200]})."


def _record(
    accelerator: str,
    report: Mapping[str, Any],
    left: Mapping[str, Any],
    summary: Mapping[str, str],
) -> dict:
    """The estimate, from the reports of the file before and after, and Vela's summary."""
    system, mode = VELA_SYSTEMS[accelerator.rsplit("-", 1)[0]]
    ops_left = sum(count for op, count in left["ops"].items() if op != "ethos-u")
    rate = float(summary["inferences_per_second"])
    runs = math.isfinite(rate) and rate > 0
    return {
        "estimate": True,
        "compiler": f"ethos-u-vela {importlib.metadata.version('ethos-u-vela')}",
        "accelerator": accelerator,
        "system": system,
        "memory_mode": mode,
        "clock_mhz": float(summary["core_clock"]) / 1e6,
        "npu_ops_share": max(1 - ops_left / sum(report["ops"].values()), 0.0),
        "npu_macs_share": 1 - left["macs"] / report["macs"] if report["macs"] else None,
        "sram_bytes": _bytes(summary["sram_memory_used"]),
        "dram_bytes": _bytes(summary["dram_memory_used"]),
        "flash_bytes": _bytes(summary["off_chip_flash_memory_used"])
        + _bytes(summary["on_chip_flash_memory_used"]),
        "npu_macs": int(summary["nn_macs"]),
        "ms": float(summary["inference_time"]) * 1e3 if runs else None,
        "inferences_per_second": rate if runs else None,
    }


def _bytes(kibibytes: str) -> int:
    return round(float(kibibytes) * KIB)
