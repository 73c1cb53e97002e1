"""Run a file in TensorFlow Lite Micro, the runtime of microcontrollers, and compare with LiteRT.

PyPI's `tflite-micro` is that runtime with its reference kernels, built for this
machine. What it refuses here it refuses on a microcontroller, and what it computes here it computes
there. Its allocator says what the arena held; the pointers in the arena's tail take 8 bytes here
and 4 on most microcontrollers, which should need no more with these kernels. Optimized kernels have
scratch buffers of their own. It says nothing of time.

The runtime answers to a bad file with an error, or by bringing its process down: each file runs in
a process of its own (`micro_runtime`).
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from edgeq_lib.files import EdgeqError
from edgeq_lib.measure.accuracy import Preprocess, predict_file
from edgeq_lib.measure.standalone import cores
from edgeq_lib.measure.statistics import same_class
from edgeq_lib.tflite.output_kind import class_scores
from edgeq_lib.tflite.reader import ALIGNMENT, KERNELS, Graph, Op, read_graph
from edgeq_lib.tflite.runtime import dequantize_array, make_interpreter, quantize_array

PROGRAM = Path(__file__).with_name("micro_runtime.py")
IMAGES = 100  # at least so many say whether 99 % agree
AGREEMENT = 99.0  # percent of images on which the micro runtime must name LiteRT's class
FLOAT_TOLERANCE = 1e-4  # of the largest output: float sums in another order differ by less
_ARENAS = (2**24, 2**27, 2**30)  # bytes: the first that holds the network is taken
_COUNTED = re.compile(r"Arena allocation (total|head|tail) (\d+) bytes")
_NODE = re.compile(r"Node (\S+) \(number (\d+)\) failed")
_UNKNOWN_OP = re.compile(r"Didn't find op for builtin opcode '(\w+)'|custom op.*?'(\w+)'", re.I)


@dataclass(frozen=True)
class Arena:
    """What a network needs in the arena, in bytes, as the runtime's recording allocator says."""

    total: int
    head: int  # activations and scratch buffers, which share their places
    tail: int  # what lives as long as the interpreter: structures of the ops, per-channel factors
    smallest: int  # the smallest arena tried in which the file ran; never less than `total`


class MicroRun(NamedTuple):
    """What the micro runtime made of a file."""

    runs: bool | None  # None: not known, it took too long
    outputs: np.ndarray | None  # (n, …) in the type of the file's output
    arena: Arena | None
    version: str  # of tflite-micro
    why: str | None  # why it does not run, one sentence
    error: str | None  # the runtime's own words


def unavailable() -> str | None:
    """Say why files cannot run in the micro runtime here; None where they can."""
    if importlib.util.find_spec("tflite_micro") is None:
        return "TensorFlow Lite Micro is not installed here (package tflite-micro)."
    return None


def run(file: bytes, inputs: np.ndarray, timeout: float = 1800) -> MicroRun:
    """Run a file on inputs in the micro runtime, in processes of its own, one per processor.

    1. The first input runs in a large arena: that tells whether the file runs, and what it needs.
    2. The smallest arena in which it runs is sought from there.
    3. All inputs run in that arena.

    Args:
        file: Content of a `.tflite` file with one input and one output, both of batch 1.
        inputs: (n, …), n at least 1, in the type of the file's input.
        timeout: Seconds that a process may take.

    Returns:
        Outputs and arena where it runs, the reason where it does not.

    Raises:
        EdgeqError: The runtime is not installed, the file is broken, or the inputs do not fit it.
    """
    if (missing := unavailable()) is not None:
        raise EdgeqError(missing)
    graph, version = read_graph(file), importlib.metadata.version("tflite-micro")
    _check_inputs(graph, inputs)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "model.tflite").write_bytes(file)
        np.save(folder / "inputs.npy", inputs)
        try:
            counted = _count_arena(folder, timeout)
            arena = Arena(**counted, smallest=_smallest_arena(folder, counted["total"], timeout))
            outputs = _run_all(folder, len(inputs), arena.smallest, timeout)
        except subprocess.TimeoutExpired:
            why = f"TensorFlow Lite Micro did not answer within {timeout:g} s."
            return MicroRun(None, None, None, version, why, None)
        except _Refused as refused:
            error = " ".join(_messages(refused.text)) or None
            return MicroRun(False, None, None, version, _why_not(refused, graph), error)
    return MicroRun(True, outputs, arena, version, None, None)


def _check_inputs(graph: Graph, inputs: np.ndarray) -> None:
    tensor = graph.tensors[graph.inputs[0]]
    if len(graph.inputs) != 1 or len(graph.outputs) != 1 or tensor.shape[:1] != (1,):
        raise EdgeqError(
            "The micro runtime is tried with files of one input and one output of batch 1; "
            "export the network so."
        )
    if (
        inputs.shape[1:] != tensor.shape[1:]
        or inputs.dtype != tensor.dtype.lower()
        or not inputs.size
    ):
        raise EdgeqError(
            f"The file's input is {tensor.dtype.lower()} {tensor.shape}, which {inputs.dtype} "
            f"inputs of shape {inputs.shape} do not fit."
        )


class _Refused(Exception):
    """The runtime refused the file, or went down with it: its exit code and all it wrote."""

    def __init__(self, code: int, text: str):
        super().__init__(code, text)
        self.code, self.text = code, text


def _start(folder: Path, arena_bytes: int, start: int, stop: int, timeout: float) -> str:
    """Run the program on some inputs of a folder: what it and the runtime wrote."""
    numbers = [str(number) for number in (arena_bytes, start, stop)]
    done = subprocess.run(
        # -P: a module of the same name beside the program must not stand in for another.
        [sys.executable, "-P", str(PROGRAM), str(folder), *numbers],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout,
    )
    if done.returncode:
        raise _Refused(done.returncode, done.stderr)
    return done.stderr


def _count_arena(folder: Path, timeout: float) -> dict[str, int]:
    """What the allocator counts in an arena that is large enough."""
    for arena_bytes in _ARENAS:
        try:
            text = _start(folder, arena_bytes, 0, 1, timeout)
            return {part: int(size) for part, size in _COUNTED.findall(text)}
        except _Refused as refused:
            if "missing:" not in refused.text or arena_bytes == _ARENAS[-1]:
                raise
    raise AssertionError("no arena was tried")


def _smallest_arena(folder: Path, total: int, timeout: float) -> int:
    """The smallest arena, from `total` to twice that by sixteenths, in which the file runs.

    The runtime plans in the room that its structures leave, so `total` alone may not do.
    """
    sizes = [-(-total * (16 + part) // (16 * ALIGNMENT)) * ALIGNMENT for part in range(17)]
    too_small, enough = -1, len(sizes) - 1
    tried = 0  # `total` does for most
    while enough - too_small > 1:
        try:
            _start(folder, sizes[tried], 0, 1, timeout)
            enough = tried
        except _Refused:
            too_small = tried
        tried = (too_small + enough) // 2
    return sizes[enough]


def _run_all(folder: Path, count: int, arena_bytes: int, timeout: float) -> np.ndarray:
    """The outputs of all inputs, shared out among as many processes as there are processors."""
    size = -(-count // min(cores(), count))
    parts = [(start, min(start + size, count)) for start in range(0, count, size)]
    with ThreadPoolExecutor(len(parts)) as threads:
        work = [threads.submit(_start, folder, arena_bytes, *part, timeout) for part in parts]
        for share in work:
            share.result()
    return np.concatenate([np.load(folder / f"outputs.{start}.npy") for start, _ in parts])


def _messages(text: str) -> list[str]:
    """The runtime's own lines, and Python's last one; not its traceback."""
    lines = [line.strip() for line in text.splitlines() if not line.startswith(" ")]
    return [line for line in lines if line and not line.startswith("Traceback")]


def _why_not(refused: _Refused, graph: Graph) -> str:
    """Why a file does not run, in one sentence: the runtime's error, and the op that it names."""
    code, text = refused.code, refused.text
    if "missing:" in text:
        return f"TensorFlow Lite Micro does not hold the file in an arena of {_ARENAS[-1]} bytes."
    if (unknown := _UNKNOWN_OP.search(text)) is not None:
        return f"TensorFlow Lite Micro has no operation {unknown[1] or unknown[2]}."
    node = _NODE.search(text)
    if node is not None and int(node[2]) < len(graph.ops):
        op = graph.ops[int(node[2])]
        if op.name == node[1]:
            reason = _refusal(op, graph) or f"it says '{_messages(text)[0][:200]}'"
            return f"TensorFlow Lite Micro refuses {op.name} (operation {node[2]}): {reason}."
    if code < 0:
        return f"The file brings TensorFlow Lite Micro down ({signal.Signals(-code).name})."
    last_line = (_messages(text) or ["no message"])[-1]
    return f"TensorFlow Lite Micro refuses the file: '{last_line[:200]}'."


def _refusal(op: Op, graph: Graph) -> str | None:
    """What about an op's tensors the micro runtime is known to refuse."""
    if op.name == "DEQUANTIZE" and graph.tensors[op.inputs[0]].dtype == "FLOAT16":
        return "it cannot unpack float16 weights"
    if op.name not in KERNELS:
        return None
    weights = graph.tensors[op.inputs[KERNELS[op.name]]]
    data = graph.tensors[op.inputs[2 if op.name == "TRANSPOSE_CONV" else 0]]
    kind, activations = weights.dtype.lower(), data.dtype.lower()
    if kind == "int2":
        return "it knows no 2-bit weights"
    if data.is_float and not weights.is_float:
        return f"it runs no hybrid operation, here {kind} weights with {activations} activations"
    four_bits = kind == "int4"
    if four_bits and op.name == "FULLY_CONNECTED" and activations == "int8" and weights.scales > 1:
        return (
            f"4-bit weights of this operation must share one scale, and these have {weights.scales}"
        )
    if four_bits:
        return f"it has no kernel for 4-bit weights with {activations} activations here"
    return None


def spread(images: Any, count: int) -> np.ndarray:
    """Take so many images from all over a split, or all where there are fewer.

    Args:
        images: uint8 (n, H, W, C); what NumPy makes an array of when it is sliced will do.
        count: How many.

    Returns:
        uint8 (min(n, count), H, W, C), in the split's order.
    """
    chosen = np.unique(np.linspace(0, len(images) - 1, min(count, len(images))).round().astype(int))
    return np.concatenate([np.asarray(images[index : index + 1]) for index in chosen])


def compare(
    file: bytes,
    images: Any,
    preprocess: Preprocess,
    count: int = IMAGES,
    timeout: float = 1800,
) -> dict[str, Any]:
    """Compare the micro runtime's outputs with LiteRT's on test images.

    Args:
        file: Content of a `.tflite` file with one input and one output, both of batch 1.
        images: uint8 (n, H, W, C), the test split; `spread` takes `count` of them.
        preprocess: Makes of uint8 images what the network was trained on, float32.
        count: How many images.
        timeout: Seconds that the micro runtime may take.

    Returns:
        A record for JSON. Always: runtime (with its version; None where it is missing), runs (None:
        not known; False also where it executes and what it computes is wrong), how ("executed", or
        None), why (one sentence where it does not run, or nobody knows), error (the runtime's own
        words). Where it executes:

        * arena_bytes (the smallest arena in which it ran), arena (`Arena`'s fields).
        * example: What it answers to the split's first image: image (its index, 0) and output (in
          the type of the file's output).
        * images: How many.
        * top1_agreement: Percent of images on which both name the same class (of tied classes the
          first, as `statistics.same_class`), disagreements (their number), and ties: images whose
          first rank is shared in either.
        * step: The output's scale, in units of the output; None for outputs computed in float.
        * largest_difference (in units of the output), largest_steps (in steps; None without step).
        * beyond_one_step: Number of outputs, all classes of all images, that differ by more; of
          float outputs by more than `FLOAT_TOLERANCE` of the largest.
        * own_kernels, between_kernels: top1_agreement and largest_difference of the micro runtime
          to LiteRT without XNNPACK, and of LiteRT's two sets of kernels to each other.
        * difference: What the difference comes from, one sentence; None within one step.
        * right: The micro runtime names the class that LiteRT names, with either of its sets of
          kernels, on at least 99 % of the images, and differs from LiteRT by no more than one step,
          or than these two differ from each other.

    Raises:
        EdgeqError: The file is broken, or LiteRT refuses it.
    """
    if (missing := unavailable()) is not None:
        return _record(None, None, missing)
    chosen = spread(images, count)
    interpreter = make_interpreter(file)
    detail = interpreter.get_output_details()[0]
    inputs = quantize_array(preprocess(chosen), interpreter.get_input_details()[0])
    done = run(file, inputs, timeout)
    head = _record(f"tflite-micro {done.version}", done.runs, done.why, done.error)
    if done.outputs is None or done.arena is None:
        return head
    answers = {
        "micro": class_scores(file, done.outputs, detail),
        "litert": predict_file(file, chosen, preprocess, "LiteRT"),
        "own": predict_file(file, chosen, preprocess, "LiteRT's own kernels", xnnpack=False),
    }
    values = {name: dequantize_array(scores, detail) for name, scores in answers.items()}
    step = _output_step(file)
    head |= {
        "arena_bytes": done.arena.smallest,
        "arena": asdict(done.arena),
        "example": {"image": 0, "output": done.outputs[0].ravel().tolist()},
    }
    return head | _differences(values, step, read_graph(file))


def _record(
    runtime: str | None, runs: bool | None, why: str | None, error: str | None = None
) -> dict[str, Any]:
    how = None if runs is None else "executed"
    return {"runtime": runtime, "runs": runs, "how": how, "why": why, "error": error}


def _output_step(file: bytes) -> float | None:
    """The scale of the output, or of the integers that the last op turns into floats."""
    graph, interpreter = read_graph(file), make_interpreter(file)
    makers = {index: op for op in graph.ops for index in op.outputs}
    index = graph.outputs[0]
    if (op := makers.get(index)) is not None and op.name == "DEQUANTIZE":
        index = op.inputs[0]
    details = {detail["index"]: detail for detail in interpreter.get_tensor_details()}
    return float(details[index]["quantization"][0]) or None


def _differences(values: dict[str, np.ndarray], step: float | None, graph: Graph) -> dict[str, Any]:
    """The part of the record that compares outputs (n, classes), in units of the output."""
    micro, litert, own = values["micro"], values["litert"], values["own"]
    tolerance = 1.001 * step if step else FLOAT_TOLERANCE * float(np.abs(litert).max())
    beyond = int((np.abs(micro - litert) > tolerance).sum())
    first = [(part == part.max(axis=1, keepdims=True)).sum(axis=1) > 1 for part in (micro, litert)]
    to_litert, to_own, between = (
        _pair(*pair) for pair in ((micro, litert), (micro, own), (litert, own))
    )
    largest = to_litert["largest_difference"]
    is_rounding = to_own["largest_difference"] <= tolerance or (
        largest <= between["largest_difference"] + tolerance
    )
    agreed = max(pair["top1_agreement"] for pair in (to_litert, to_own))
    differ = f"{beyond} of {micro.size} outputs differ from LiteRT's by more than " + (
        f"one step, by up to {largest / step:.0f}" if step else "float sums do"
    )
    why = _explain(differ, to_own, between, tolerance, graph) if beyond else None
    is_wrong = not is_rounding and (agreed < AGREEMENT or _unpacked_scales(graph) > 1)
    return {
        "runs": not is_wrong,
        "why": why if is_wrong else None,
        "images": len(micro),
        **to_litert,
        "disagreements": int((~same_class(micro, litert)).sum()),
        "ties": int((first[0] | first[1]).sum()),
        "step": step,
        "largest_steps": round(largest / step) if step else None,
        "beyond_one_step": beyond,
        "own_kernels": to_own,
        "between_kernels": between,
        "difference": why,
        "right": agreed >= AGREEMENT and (not beyond or is_rounding),
    }


def _pair(some: np.ndarray, others: np.ndarray) -> dict[str, float]:
    return {
        "top1_agreement": float(100 * same_class(some, others).mean()),
        "largest_difference": float(np.abs(some - others).max()),
    }


def _explain(
    differ: str,
    to_own: dict[str, float],
    between: dict[str, float],
    tolerance: float,
    graph: Graph,
) -> str:
    """What the difference comes from, in one sentence that begins with how large it is."""
    if to_own["largest_difference"] <= tolerance:
        return f"{differ}; from those of LiteRT without XNNPACK none does."
    if _unpacked_scales(graph) > 1:
        return (
            f"{differ}: the micro runtime unpacks weights with their first channel's scale alone "
            "(DEQUANTIZE), so what this file computes there is wrong."
        )
    return (
        f"{differ}; LiteRT with and without XNNPACK differ by up to "
        f"{between['largest_difference']:.3g}, the micro runtime and LiteRT without XNNPACK by up "
        f"to {to_own['largest_difference']:.3g}."
    )


def _unpacked_scales(graph: Graph) -> int:
    """The largest number of scales of weights that a DEQUANTIZE unpacks."""
    unpacked = (graph.tensors[op.inputs[0]] for op in graph.ops if op.name == "DEQUANTIZE")
    return max((tensor.scales for tensor in unpacked if tensor.constant), default=0)
