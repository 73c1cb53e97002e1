"""Arm64 without a board: LiteRT's own Arm kernels under QEMU, their outputs and instructions.

`make arm64` fills a folder: `HOST` holds QEMU's user mode and its libraries, `GUEST` Debian's arm64
Python, `SITE` the aarch64 wheels, `RECORD` their versions. Instructions are counted, to the digit
and free of noise; they are not time: a core may finish several in a cycle, or wait for memory.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from edgeq_lib.files import EdgeqError, read_json
from edgeq_lib.measure import arm64_guest
from edgeq_lib.progress import progress
from edgeq_lib.tflite.pool import open_executor
from edgeq_lib.tflite.runtime import (
    Detail,
    dequantize_array,
    make_interpreter,
    quantize_array,
    run_images,
)

HOST, GUEST, SITE, RECORD = "host", "guest", "site", "versions.json"
COUNTER = Path(__file__).with_name("arm64_count.c")
FLOAT_TOLERANCE = 1e-3  # of the largest output: sums of floats are taken in another order
REFERENCE_IMAGES = 3  # these kernels take up to a hundred times as long


@dataclass(frozen=True)
class Core:
    """What Linux says of a core in /proc/cpuinfo, by which XNNPACK chooses its kernels.

    Attributes:
        part: Arm's number of the core ("CPU part").
        variant: Its major revision.
        revision: Its minor revision.
        features: Its instruction sets, as Linux names them.
    """

    part: str
    variant: str
    revision: int
    features: str


# Of boards that are sold: Cortex-A53 as in a Raspberry Pi 3, A72 as in a Pi 4, A76 as in a Pi 5.
# Only the last one has the dot products of Armv8.2 (asimddp). Emulated processors have the
# cryptographic extensions that the Pi 3 and 4 lack; kernels of neural networks use none.
CORES = {
    "cortex-a53": Core("0xd03", "0x0", 4, "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid"),
    "cortex-a72": Core("0xd08", "0x0", 3, "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid"),
    "cortex-a76": Core(
        "0xd0b",
        "0x4",
        1,
        "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc "
        "dcpop asimddp",
    ),
}


class Failed(Exception):
    """A file that did not run on the emulated processor; the message says why."""


def folder() -> Path:
    """Return the folder that `make arm64` fills: EDGEQ_ARM64, or `~/.cache/edgeq/arm64`."""
    return Path(os.environ.get("EDGEQ_ARM64") or Path.home() / ".cache" / "edgeq" / "arm64")


def available() -> str | None:
    """Return why Arm64 cannot be emulated here, in one sentence, or None where it can."""
    record = folder() / RECORD
    if not record.exists():
        return "QEMU and an arm64 Python have not been fetched; `make arm64` does it."
    fetched = read_json(record)["packages"]["ai-edge-litert"]
    if fetched != (here := importlib.metadata.version("ai-edge-litert")):
        return (
            f"`make arm64` fetched ai-edge-litert {fetched}, and this machine runs {here}; "
            "run it again."
        )
    if shutil.which("cc") is None:
        return "There is no C compiler (cc) for the plugin that counts instructions; install one."
    return None


def qemu_command(root: Path) -> list[str]:
    """Return the command that starts the fetched QEMU, with its own loader and libraries.

    Args:
        root: The folder that `make arm64` fills.
    """
    (loader,) = (root / HOST).glob("lib/*-linux-gnu/ld-linux-*.so.?")
    libraries = [root / HOST / part / loader.parent.name for part in ("lib", "usr/lib")]
    program = root / HOST / "usr" / "bin" / "qemu-aarch64"
    return [str(loader), "--library-path", ":".join(map(str, libraries)), str(program)]


def qemu_version(root: Path) -> str:
    """Return the fetched QEMU's version.

    Args:
        root: The folder that `make arm64` fills.
    """
    command = [*qemu_command(root), "--version"]
    words = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return words.split("version ")[1].split()[0].rstrip(")")


def run(
    files: Mapping[str, Path],
    inputs: Mapping[str, np.ndarray],
    cpu: str,
    seconds: float = 300,
    executor: Executor | None = None,
    kernels: OpResolverType = OpResolverType.AUTO,
) -> dict[str, dict[str, Any]]:
    """Run files on an emulated Arm processor, each in a process of its own.

    Args:
        files: Files by name, with one input and one output, both of batch 1.
        inputs: By the same names, (n, …) in the type of the file's own input.
        cpu: One of `CORES`.
        seconds: When this time is over, a file that is very slow is given no further input.
        executor: Waits for the processes; threads of our own by default, one per processor. Counts
            do not depend on how many run at a time.
        kernels: Which of LiteRT's compute: XNNPACK's where there are any, by default.

    Returns:
        For each name outputs (of the first of the n inputs, in the type of the file's own output),
        instructions per inference, spread (how many more the inference of the most took; both
        after a first one; a few hundred, by which Python's memory differs), and why it failed. What
        there is not is None.

    Raises:
        EdgeqError: Arm64 cannot be emulated here, or the C compiler refuses the plugin.
    """
    if reason := available():
        raise EdgeqError(reason)
    with tempfile.TemporaryDirectory(prefix="edgeq_arm64_") as scratch:
        counter, root = _compile(Path(scratch)), _make_root(Path(scratch) / cpu, CORES[cpu])

        def work(name: str) -> dict[str, Any]:
            try:
                outputs, counts = _run_file(
                    files[name], inputs[name], cpu, root, counter, (str(seconds), kernels.name)
                )
            except Failed as error:
                return dict(outputs=None, instructions=None, spread=None, why=f"{name} {error}")
            least, most = min(counts[1:]), max(counts[1:])
            return dict(outputs=outputs, instructions=least, spread=most - least, why=None)

        with open_executor(executor) as threads:
            records = progress(threads.map(work, files), f"emulated {cpu}", len(files))
            return dict(zip(files, records, strict=True))


def _compile(scratch: Path) -> Path:
    """Build the counting plugin with the host's C compiler."""
    library = scratch / "count.so"
    command = ["cc", "-O2", "-shared", "-fPIC", "-o", str(library), str(COUNTER)]
    built = subprocess.run(command, capture_output=True, text=True)
    if built.returncode:
        raise EdgeqError(
            "The C compiler refuses the plugin that counts instructions: "
            + _last_line(built.stderr)
        )
    return library


def _make_root(root: Path, core: Core) -> Path:
    """Make what the guest sees as `/`: the arm64 tree, and a processor of two such cores."""
    (root / "proc").mkdir(parents=True)
    for part in ("lib", "usr"):
        (root / part).symlink_to((folder() / GUEST / part).resolve())
    (root / "proc" / "cpuinfo").write_text(cpuinfo(core))
    cpus = root / "sys" / "devices" / "system" / "cpu"
    cpus.mkdir(parents=True)
    for file in ("possible", "present", "online"):
        (cpus / file).write_text("0-1\n")
    return root


def cpuinfo(core: Core, count: int = 2) -> str:
    """Return /proc/cpuinfo of a processor.

    Args:
        core: Its cores.
        count: How many.
    """
    fields = {
        "BogoMIPS": "108.00",
        "Features": core.features,
        "CPU implementer": "0x41",
        "CPU architecture": "8",
        "CPU variant": core.variant,
        "CPU part": core.part,
        "CPU revision": str(core.revision),
    }
    return "".join(
        f"processor\t: {index}\n"
        + "".join(f"{name}\t: {value}\n" for name, value in fields.items())
        + "\n"
        for index in range(count)
    )


def _run_file(
    path: Path,
    inputs: np.ndarray,
    cpu: str,
    root: Path,
    counter: Path,
    settings: tuple[str, str],
) -> tuple[np.ndarray, list[int]]:
    """Outputs and instructions of each inference of a file; raises `Failed`."""
    with tempfile.TemporaryDirectory(dir=root.parent) as scratch:
        source, target, log = (Path(scratch) / name for name in ("in.npy", "out.npy", "log"))
        np.save(source, inputs)
        command = [*qemu_command(folder()), "-cpu", cpu, "-L", str(root)]
        command += ["-plugin", str(counter), "-d", "plugin", "-D", str(log)]
        command += [str(root / "usr" / "bin" / "python3.11"), "-B", arm64_guest.__file__]
        command += [str(path.resolve()), str(source), str(target), *settings]
        environment = {
            "PYTHONPATH": str(folder() / SITE),
            "PYTHONHASHSEED": "0",
            "OPENBLAS_NUM_THREADS": "1",  # the counter is right in one thread only
        }
        limit = 2 * float(settings[0]) + 120
        try:
            child = subprocess.run(
                command,
                env=environment,
                capture_output=True,
                text=True,
                timeout=limit,
                errors="replace",
            )
        except subprocess.TimeoutExpired:
            raise Failed(f"did not end within {limit:g} s on an emulated {cpu}") from None
        if child.returncode:
            raise Failed(_why(child, cpu))
        return np.load(target), parse_log(log.read_text())


def _why(child: subprocess.CompletedProcess[str], cpu: str) -> str:
    """What a guest that ended badly did; QEMU passes a signal of the guest's on."""
    if child.returncode < 0:
        return f"brings an emulated {cpu} down ({signal.Signals(-child.returncode).name})"
    return f"does not run on an emulated {cpu} ({_last_line(child.stderr)})"


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no message"])[-1][:200]


def parse_log(log: str) -> list[int]:
    """Read the instructions of each inference from the markers in QEMU's log.

    Args:
        log: Lines "marker LABEL COUNT", labels as in `arm64_guest`; other lines are not ours.

    Returns:
        The count between each START and its STOP, less what the markers take themselves: the least
        between an EMPTY and its STOP.

    Raises:
        Failed: The markers do not come in pairs, or there are none.
    """
    marks = [(int(a), int(b)) for a, b in re.findall(r"^marker (\d+) (\d+)$", log, re.M)]
    spans: dict[int, list[int]] = {arm64_guest.EMPTY: [], arm64_guest.START: []}
    for (label, start), (end, stop) in zip(marks[::2], marks[1::2], strict=False):
        if label not in spans or end != arm64_guest.STOP:
            raise Failed("left markers that do not come in pairs")
        spans[label].append(stop - start)
    if len(marks) % 2 or not all(spans.values()):
        raise Failed("left no markers of an inference")
    empty = min(spans[arm64_guest.EMPTY])
    return [span - empty for span in spans[arm64_guest.START]]


def compare(arm: np.ndarray, here: np.ndarray, detail: Detail) -> dict[str, Any]:
    """Compare the outputs of Arm's kernels with those of this machine's, on the same images.

    Args:
        arm: Outputs (n, classes) in the file's own type, of the first n images.
        here: This machine's outputs, of at least as many images.
        detail: The interpreter's description of the output.

    Returns:
        images; difference, the largest: in steps of the output for integers, else as a share of the
        largest output (None where an output is NaN or infinite); unit, of that difference; bound,
        the most that is taken for equal; top1_agreement, in percent; agrees, whether the difference
        lies within the bound; remark, a sentence where it does not, else None.
    """
    here = here[: len(arm)]
    whole = bool(np.issubdtype(detail["dtype"], np.integer))
    unit, bound = ("steps", 1) if whole else ("of the largest output", FLOAT_TOLERANCE)
    difference: float | None = None
    if whole:
        difference = int(np.abs(arm.astype(np.int64) - here.astype(np.int64)).max())
    elif np.isfinite(arm).all() and np.isfinite(here).all():
        difference = float(np.abs(arm - here).max() / max(np.abs(here).max(), 1e-30))
    ours, theirs = (dequantize_array(outputs, detail) for outputs in (arm, here))
    agrees = difference is not None and difference <= bound
    remark = "An output is NaN or infinite, on Arm's kernels or on this machine's."
    if difference is not None:
        remark = (
            f"Arm's kernels differ from this machine's by up to {difference:.3g} {unit} on "
            f"{len(arm)} images: each rounds sums in its own way, and a deep network amplifies it."
        )
    return {
        "images": len(arm),
        "difference": difference,
        "unit": unit,
        "bound": bound,
        "top1_agreement": float(100 * (ours.argmax(-1) == theirs.argmax(-1)).mean()),
        "agrees": agrees,
        "remark": None if agrees else remark,
    }


def measure(
    files: Mapping[str, Path],
    images: Mapping[str, np.ndarray],
    cpus: Sequence[str] = tuple(CORES),
    baseline: str = "float32",
    seconds: float = 300,
    executor: Executor | None = None,
) -> dict[str, dict[str, Any]]:
    """Run files on emulated Arm processors and compare them with this machine.

    Args:
        files: Files by name.
        images: By the same names, float32 (n, H, W, C), preprocessed.
        cpus: Some of `CORES`.
        baseline: The file whose instructions the ratios are over.
        seconds: As `run` takes it, for each file on each processor.
        executor: As `run` takes it.

    Returns:
        For each name instructions and instructions_ratio (to the baseline's; both by processor,
        None where unknown), outputs (by processor, what `compare` returns, or None), reference
        (where outputs differ, the same of LiteRT's reference kernels, on `REFERENCE_IMAGES`; else
        None), versions (ai-edge-litert, numpy, qemu), why (by processor, why there is nothing).

    Raises:
        EdgeqError: Arm64 cannot be emulated here, or this machine's LiteRT refuses a file.
    """
    if reason := available():
        raise EdgeqError(reason)
    inputs, expected, details = {}, {}, {}
    for name, path in files.items():
        interpreter = make_interpreter(path)
        details[name] = interpreter.get_output_details()[0]
        inputs[name] = quantize_array(images[name], interpreter.get_input_details()[0])
        expected[name] = run_images(interpreter, images[name])
    runs = {cpu: run(files, inputs, cpu, seconds, executor) for cpu in cpus}
    fetched = read_json(folder() / RECORD)
    records = {}
    for name in files:
        on = {cpu: runs[cpu][name] for cpu in cpus}
        base = {cpu: runs[cpu].get(baseline, {}).get("instructions") for cpu in cpus}
        records[name] = {
            "instructions": {cpu: one["instructions"] for cpu, one in on.items()},
            "instructions_ratio": {
                cpu: one["instructions"] / base[cpu] if one["instructions"] and base[cpu] else None
                for cpu, one in on.items()
            },
            "outputs": {
                cpu: None if one["why"] else compare(one["outputs"], expected[name], details[name])
                for cpu, one in on.items()
            },
            "reference": None,
            "versions": fetched["packages"] | {"qemu": fetched["qemu"]},
            "why": {cpu: one["why"] for cpu, one in on.items() if one["why"]},
        }
        compared = records[name]["outputs"].items()
        differing = [cpu for cpu, outputs in compared if outputs and not outputs["agrees"]]
        if differing:
            first = inputs[name][:REFERENCE_IMAGES]
            records[name]["reference"] = _compare_reference(
                files[name], first, differing[0], seconds
            )
    return records


def _compare_reference(
    path: Path, inputs: np.ndarray, cpu: str, seconds: float
) -> dict[str, Any] | None:
    """Compare LiteRT's reference kernels on Arm with those here; None where they fail.

    They are plain C++, compiled for both. Where they agree the file says one thing on both, and
    what differs is the arithmetic of the fast kernels.
    """
    arm = run({"it": path}, {"it": inputs}, cpu, seconds, kernels=OpResolverType.BUILTIN_REF)["it"]
    if arm["why"]:
        return None
    here, detail = reference_outputs(path, inputs)
    return compare(arm["outputs"], here, detail)


def reference_outputs(path: Path, inputs: np.ndarray) -> tuple[np.ndarray, Detail]:
    """Run LiteRT's reference kernels, which are slow, on this machine.

    Args:
        path: A `.tflite` file with one input and one output, both of batch 1.
        inputs: (n, …) in the type of the file's own input.

    Returns:
        Outputs (n, classes), in the type of the file's own output, and its description.
    """
    kernels = OpResolverType.BUILTIN_REF
    interpreter = Interpreter(model_path=str(path), experimental_op_resolver_type=kernels)
    interpreter.allocate_tensors()
    source, target = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    outputs = []
    for values in inputs:
        interpreter.set_tensor(source["index"], values[None])
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(target["index"])[0])
    return np.stack(outputs), target


def table(records: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Make a table of instructions per inference.

    Args:
        records: What `measure` returned.

    Returns:
        A row per file: variant, and by processor the ratio to the baseline, with the number in
        millions, or "none".
    """
    return [
        {"variant": name, **{cpu: _cell(record, cpu) for cpu in record["instructions"]}}
        for name, record in records.items()
    ]


def _cell(record: Mapping[str, Any], cpu: str) -> str:
    """Ratio and count on a processor."""
    count, ratio = record["instructions"][cpu], record["instructions_ratio"][cpu]
    if count is None:
        return "none"
    millions = f"{count / 1e6:,.3g} M" if count < 1e8 else f"{count / 1e6:,.0f} M"
    return millions if ratio is None else f"{ratio:.2f} ({millions})"


def agreement(records: Mapping[str, Mapping[str, Any]]) -> str:
    """Say in words which files give the same outputs on Arm as here, and what the others do.

    Args:
        records: What `measure` returned.

    Returns:
        Markdown: a sentence on all, and a line per file that differs or failed, with the processors
        on which it did the same.
    """
    compared = [one for record in records.values() for one in record["outputs"].values() if one]
    within = sum(one["agrees"] for one in compared)
    lines = [
        f"{within} of {len(compared)} comparisons (files × processors) lie within the bound.",
        "",
    ]
    for name, record in records.items():
        lines += [f"- {why}" for why in record["why"].values()]
        by_words: dict[str, list[str]] = {}
        for cpu, one in record["outputs"].items():
            if one and not one["agrees"]:
                words = f"{one['remark']} Top-1 is the same on {one['top1_agreement']:.1f} %."
                by_words.setdefault(words, []).append(cpu)
        lines += [f"- {name} on {', '.join(cpus)}: {words}" for words, cpus in by_words.items()]
        reference = record["reference"]
        if reference and reference["agrees"]:
            bound = f"{reference['difference']:.3g} {reference['unit']}"
            lines.append(
                f"- {name}: LiteRT's slow reference kernels give the same on both, within {bound} "
                f"on {reference['images']} images."
            )
    return "\n".join(lines)
