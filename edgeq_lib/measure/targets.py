"""What a variant needs against what devices have, and what the compiler of an embedded accelerator says."""

from __future__ import annotations

import csv
import importlib.metadata
import importlib.util
import math
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from edgeq_lib.files import EdgeqError
from edgeq_lib.tflite.inspect import inspect_file

KIB, MIB, GIB = 2**10, 2**20, 2**30
# The rest of a device's memory is the firmware's, the operating system's and the application's. A round assumption.
MODEL_SHARE = 0.5


class Device(NamedTuple):
    board: str
    ram: int  # bytes
    flash: int  # bytes: where the file lies
    in_place: (
        bool  # weights are read where they lie; False: the file is held in RAM beside the arena
    )
    source: str


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
    """Which device classes hold a file of `size` bytes whose planned activations take `arena_bytes`.

    A class fits when the file takes at most `MODEL_SHARE` of its flash, and the arena (with the file, where weights
    are not read in place) at most that share of its RAM. Whether the runtime there has all the ops is not asked.
    """
    return {
        name: size <= MODEL_SHARE * device.flash
        and arena_bytes + (0 if device.in_place else size) <= MODEL_SHARE * device.ram
        for name, device in DEVICES.items()
    }


# Configurations in the `Arm/vela.ini` that comes with Vela: (system, memory mode) by accelerator family. U55 systems
# keep weights in external flash and everything else in SRAM; U65 and U85 use the SRAM as a cache before DRAM.
VELA_SYSTEMS = {
    "ethos-u55": ("Ethos_U55_High_End_Embedded", "Shared_Sram"),
    "ethos-u65": ("Ethos_U65_High_End", "Dedicated_Sram"),
    "ethos-u85": ("Ethos_U85_SYS_DRAM_Mid", "Dedicated_Sram"),
}


def estimate_vela(path: Path, accelerator: str = "ethos-u55-128", timeout: float = 300) -> dict:
    """What Arm's Ethos-U compiler Vela expects of an integer-only file: an estimate by its model, not a measurement.

    Returns estimate, compiler, accelerator, system, memory_mode, clock_mhz, npu_ops_share and npu_macs_share (0 to 1,
    of the file's ops and MACs: the rest stays on the CPU, whose time is not in the estimate), sram_bytes, dram_bytes,
    flash_bytes, npu_macs (elementwise work included), ms and inferences_per_second (None when nothing runs on the
    NPU). When Vela cannot say: {"why": one sentence}. Raises EdgeqError for an unknown accelerator or a broken file.
    """
    if accelerator.rsplit("-", 1)[0] not in VELA_SYSTEMS:
        raise EdgeqError(
            f"'{accelerator}' is no Ethos-U that Vela knows; write ethos-u55-128, for example."
        )
    system, mode = VELA_SYSTEMS[accelerator.rsplit("-", 1)[0]]
    before = inspect_file(path.read_bytes())
    if not before["integer_only"]:
        return {"why": "Ethos-U computes in integers; this file holds float tensors."}
    if importlib.util.find_spec("ethosu") is None:
        return {"why": "The compiler is not installed (package ethos-u-vela)."}
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-P",
            "-m",
            "ethosu.vela",
            "--accelerator-config",
            accelerator,
            "--config",
            "Arm/vela.ini",
            "--system-config",
            system,
            "--memory-mode",
            mode,
            "--output-dir",
            folder,
            str(path.resolve()),
        ]
        try:
            done = subprocess.run(
                command,
                cwd=folder,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout,
            )
        except subprocess.TimeoutExpired:
            return {"why": f"Vela did not finish within {timeout:g} s."}
        tables = list(Path(folder).glob("*_summary_*.csv"))
        compiled = list(Path(folder).glob("*_vela.tflite"))
        if done.returncode < 0:
            return {
                "why": f"Vela crashes on this file ({signal.Signals(-done.returncode).name})"
                + (": it holds 4-bit weights." if "4" in before["weight_bits_share"] else ".")
            }
        if done.returncode or not tables or not compiled:
            lines = [
                line for line in (done.stdout + done.stderr).splitlines() if "error" in line.lower()
            ]
            return {
                "why": f"Vela refuses this file ({(lines or ['no message'])[0].strip()[:200]})."
            }
        with open(tables[0], newline="") as file:
            summary = next(csv.DictReader(file))
        after = inspect_file(compiled[0].read_bytes())
    left = sum(count for op, count in after["ops"].items() if op != "ethos-u")
    rate = float(summary["inferences_per_second"])
    runs = math.isfinite(rate) and rate > 0
    return {
        "estimate": True,
        "compiler": f"ethos-u-vela {importlib.metadata.version('ethos-u-vela')}",
        "accelerator": accelerator,
        "system": system,
        "memory_mode": mode,
        "clock_mhz": float(summary["core_clock"]) / 1e6,
        "npu_ops_share": max(1 - left / sum(before["ops"].values()), 0.0),
        "npu_macs_share": 1 - after["macs"] / before["macs"] if before["macs"] else None,
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
