"""Where a variant fits, without running it there: device classes, and an estimate for Ethos-U.

Two questions, neither of which needs the hardware:

* Does it fit? `fits` compares the size of the file and of the planned arena with the flash and the
  RAM of four device classes (`DEVICES`), each one real product with its datasheet.
* How fast would an embedded accelerator be? `estimate_vela` compiles the file with Arm's compiler
  for Ethos-U, Vela, and returns its estimate. It is a performance model's word, not a measurement.
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
from typing import Any, NamedTuple

from edgeq_lib.files import EdgeqError
from edgeq_lib.tflite.inspect import inspect_file

KIB, MIB, GIB = 2**10, 2**20, 2**30
# The rest of a device's memory is the firmware's, the operating system's and the application's. A
# round assumption.
MODEL_SHARE = 0.5


class Device(NamedTuple):
    """A device class, by the product that stands for it."""

    board: str
    ram: int  # bytes
    flash: int  # bytes: where the file lies
    in_place: bool  # weights are read from flash; False: the file is held in RAM beside the arena
    source: str  # of these figures


DEVICES = {
    "microcontroller": Device(
        "STM32H743 (Arm Cortex-M7, 480 MHz)",
        1 * MIB,
        2 * MIB,
        True,
        "STMicroelectronics datasheet DS12110",
    ),
    "iot_board": Device(
        "ESP32-S3-WROOM-1-N16R8 (2 × Xtensa LX7, 240 MHz)",
        8 * MIB,
        16 * MIB,
        True,
        "Espressif ESP32-S3-WROOM-1 datasheet, variant N16R8",
    ),
    "gateway": Device(
        "Raspberry Pi Compute Module 4 (4 × Cortex-A72), 1 GB RAM, 8 GB eMMC",
        1 * GIB,
        8 * GIB,
        False,
        "Raspberry Pi Compute Module 4 datasheet",
    ),
    "phone": Device(
        "Android phone with 2 GB RAM; flash is the 200 MB that Google Play allows a base module",
        2 * GIB,
        200 * MIB,
        False,
        "Android Go edition requirements; Google Play maximum size limits",
    ),
}


def fits(size: int, arena_bytes: int) -> dict[str, bool]:
    """Tell which device classes hold a file.

    A class fits when the file takes at most `MODEL_SHARE` of its flash, and the arena (with the
    file, where weights are not read in place) at most that share of its RAM. Whether the runtime
    there has all the ops is not asked.

    Args:
        size: Bytes of the file.
        arena_bytes: Bytes of its planned activations (`arena.plan_arena`).

    Returns:
        {name of the class in `DEVICES`: whether it fits}.
    """
    return {
        name: size <= MODEL_SHARE * device.flash
        and arena_bytes + (0 if device.in_place else size) <= MODEL_SHARE * device.ram
        for name, device in DEVICES.items()
    }


# Configurations in the `Arm/vela.ini` that comes with Vela: (system, memory mode) by accelerator
# family. U55 systems keep weights in external flash and everything else in SRAM; U65 and U85 use
# the SRAM as a cache before DRAM.
VELA_SYSTEMS = {
    "ethos-u55": ("Ethos_U55_High_End_Embedded", "Shared_Sram"),
    "ethos-u65": ("Ethos_U65_High_End", "Dedicated_Sram"),
    "ethos-u85": ("Ethos_U85_SYS_DRAM_Mid", "Dedicated_Sram"),
}


def estimate_vela(path: Path, accelerator: str = "ethos-u55-128", timeout: float = 300) -> dict:
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
    return _estimate(accelerator, report, left, summary)


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


def _estimate(
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
