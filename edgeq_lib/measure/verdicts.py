"""Does a target run a file? Executed where that can be done here, compiled, or at least checked.

| runtime of the target | how it is known |
|---|---|
| TensorFlow Lite Micro | executed by its interpreter on images, which also says what RAM it takes |
| LiteRT, on this machine's instruction set | executed |
| LiteRT, elsewhere | checked: operations, widths and size; executed where Arm is emulated |
| Vela (Ethos-U) | compiled by Arm's compiler |
| Edge TPU | checked against the published table of operations: its compiler is not to be had |
| ONNX Runtime | reads no `.tflite` file; `71_runtimes` makes files of its own |
| OpenVINO | `71_runtimes` makes files of its own, and reads this one |

A file that is too large for the memory that a target leaves to a model does not run there, however
it is known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeq_lib.analysis.rows import Verdict
from edgeq_lib.measure import micro, vela
from edgeq_lib.targets import Target
from edgeq_lib.tflite.reader import BITS, KERNELS, Graph, Op, read_graph

if TYPE_CHECKING:
    from edgeq_lib.study import Variant


def judge(
    target: Target,
    path: Path,
    cost: Mapping[str, Any],
    *,
    on_micro: Mapping[str, Any] | None = None,
    emulated: Mapping[str, Any] | None = None,
) -> Verdict:
    """Say whether a target runs a file.

    Args:
        target: The target.
        path: A `.tflite` file.
        cost: What was measured of it here (`latency.measure_costs`).
        on_micro: What TensorFlow Lite Micro made of the file (`micro.compare`); None where it was
            not asked.
        emulated: What LiteRT's Arm kernels made of it (`arm64.measure`); None where not asked.

    Returns:
        The verdict.
    """
    model, arena = path.read_bytes(), cost["arena_bytes"]
    refused = cost["why"].get("load_ms")
    if target.runtime == "vela":
        return _compiled(target, path, cost)
    if target.runtime == "onnxruntime":
        return _other_engine(False, "ONNX Runtime reads no .tflite file")
    if target.runtime == "openvino":
        return _other_engine(None, "it was not tried here")
    if target.runtime == "tflite-micro" and on_micro and on_micro["runs"] is not None:
        why = on_micro["why"] if not on_micro["runs"] else on_micro.get("difference")
        return _with_memory(
            target, "executed", why, len(model), on_micro.get("arena_bytes"), runs=on_micro["runs"]
        )
    if target.runtime == "litert" and target.is_machine(cost["machine"]):
        return _with_memory(target, "executed", refused, len(model), arena)
    core = target.emulated_as
    if target.runtime == "litert" and emulated and core in emulated["outputs"]:
        outputs = emulated["outputs"][core]
        why = outputs["remark"] if outputs else emulated["why"].get(core)
        return _with_memory(target, "executed", why, len(model), arena, runs=outputs is not None)
    reasons = check(target, model)
    if target.runtime == "litert" and refused:
        reasons = [f"LiteRT does not run it on this machine: {refused}"]
    return _with_memory(target, "checked", reasons[0] if reasons else None, len(model), arena)


def _other_engine(runs: bool | None, why: str) -> Verdict:
    why = f"{why}; 71_runtimes makes a file for it"
    return Verdict(runs=runs, how="checked", why=why, ram_bytes=None, flash_bytes=None)


def _with_memory(
    target: Target,
    how: Any,
    why: str | None,
    size: int,
    arena: int | None,
    runs: bool | None = None,
) -> Verdict:
    """A verdict in which memory has its say; without `runs`, a file runs that has no `why`."""
    ram = None if arena is None else arena + (0 if target.weights_in_place else size)
    runs = why is None if runs is None else runs
    too_large = _too_large(target, size, ram)
    if runs and too_large:
        runs, why = False, too_large
    return Verdict(runs=runs, how=how, why=why and why.rstrip("."), ram_bytes=ram, flash_bytes=size)


def _too_large(target: Target, size: int, ram: int | None) -> str | None:
    for taken, memory, name in (
        (size, target.flash_bytes, "flash"),
        (ram, target.ram_bytes, "RAM"),
    ):
        if taken is not None and taken > target.room(memory):
            return (
                f"it takes {taken / 1000:,.0f} kB of {name}, and {target.share:.0%} of "
                f"{(memory or 0) / 1000:,.0f} kB are left to a model"
            )
    return None


def _compiled(target: Target, path: Path, cost: Mapping[str, Any]) -> Verdict:
    estimate, size = cost["vela"], path.stat().st_size
    if not estimate or estimate["accelerator"] != target.accelerator:
        estimate = vela.estimate(path, str(target.accelerator))
    if "why" in estimate:
        known = "not installed" not in estimate["why"] and "did not finish" not in estimate["why"]
        return Verdict(
            runs=False if known else None,
            how="compiled",
            why=estimate["why"].rstrip("."),
            ram_bytes=None,
            flash_bytes=size,
        )
    share = estimate["npu_macs_share"]
    left = None
    if share is not None and share < 1:
        left = f"{1 - share:.0%} of its multiplications stay on the processor beside the NPU"
    return Verdict(
        runs=True, how="compiled", why=left, ram_bytes=estimate["sram_bytes"], flash_bytes=size
    )


def check(target: Target, model: bytes) -> list[str]:
    """List what a target lacks for a file, from the file alone.

    Args:
        target: The target.
        model: Content of a `.tflite` file.

    Returns:
        Reasons, the first the most telling; empty where nothing speaks against it.
    """
    graph = read_graph(model)
    reasons = []
    if target.integer_only and any(tensor.is_float for tensor in graph.tensors):
        reasons.append("it holds float tensors, and the target computes integers only")
    if target.operations is not None:
        missing = sorted({op.name for op in graph.ops} - set(target.operations))
        if missing:
            reasons.append(f"the target has no {', '.join(missing)}")
    if any(graph.tensors[index].shape[:1] != (1,) for index in graph.inputs):
        reasons.append("its batch is not one")
    for op in graph.ops:
        reasons += _against_weights(target, graph, op)
    reasons += _against_activations(target, graph)
    return list(dict.fromkeys(reasons))


def _against_weights(target: Target, graph: Graph, op: Op) -> list[str]:
    """What speaks against the weights of one operation."""
    if op.name not in KERNELS:
        return []
    tensor = graph.tensors[op.inputs[KERNELS[op.name]]]
    if tensor.is_float or not tensor.constant:
        return []
    bits = BITS[tensor.dtype]
    finest = target.granularity(op.name, bits)
    if finest is None:
        return [f"{op.name} with {bits}-bit weights is none of the target's operations"]
    if finest == "tensor" and tensor.scales > 1:
        return [f"{op.name} with {bits}-bit weights takes one scale per tensor on the target only"]
    return []


def _against_activations(target: Target, graph: Graph) -> list[str]:
    widths = {
        BITS[tensor.dtype]
        for op in graph.ops
        if op.name in KERNELS
        for tensor in [graph.tensors[op.outputs[0]]]
        if not tensor.is_float
    }
    wide = sorted(widths - set(target.activation_bits))
    return [f"its activations have {wide[0]} bits"] if wide else []


def judge_all(
    targets: Sequence[Target],
    variant: Variant,
    cost: Mapping[str, Any],
    images: Any,
    preprocess: micro.Preprocess,
    emulated: Mapping[str, Any] | None = None,
) -> dict[str, Verdict]:
    """Judge a variant for each target; what the micro runtime says is kept beside the variant.

    Args:
        targets: The targets.
        variant: The variant.
        cost: What was measured of it here.
        images: The test images, uint8 (n, H, W, C): the micro runtime is compared with LiteRT on
            some of them, which no choice follows from.
        preprocess: Makes of them what the network was trained on.
        emulated: As `judge` takes it.

    Returns:
        Name of the target → verdict.
    """
    size, arena = variant.path.stat().st_size, cost["arena_bytes"]
    may = [
        target
        for target in targets  # the plan is a lower bound: what does not fit by it need not be run
        if target.runtime == "tflite-micro" and not _too_large(target, size, arena)
    ]
    record = None
    if may and variant.facts.get("kind") != "peer":  # a peer has pixels of its own
        record = micro.compare(variant.model(), images, preprocess)
        variant.write("micro", record)
    return {
        target.name: judge(
            target,
            variant.path,
            cost,
            on_micro=record if target in may else None,
            emulated=emulated,
        )
        for target in targets
    }


def words(verdict: Verdict) -> str:
    """Say a verdict in two words: "yes, executed"."""
    return f"{ {True: 'yes', False: 'no', None: 'unknown'}[verdict['runs']] }, {verdict['how']}"


def reasons(costs: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Group the files that targets do not run, or may not, by reason.

    Args:
        costs: Records of cost by name of the variant, with their verdicts.

    Returns:
        Rows of target, variants, reason.
    """
    groups: dict[tuple[str, str], list[str]] = {}
    for name, cost in costs.items():
        for target, verdict in cost["targets"].items():
            if verdict["runs"] is not True:
                groups.setdefault((target, verdict["why"] or ""), []).append(name)
    return [[target, ", ".join(names), why] for (target, why), names in groups.items()]


def how_many(costs: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> str:
    """Say of how many variants each target is known to run."""
    first = next(iter(costs.values()))["targets"]
    counts = {
        target: sum(costs[name]["targets"][target]["runs"] is True for name in names)
        for target in first
    }
    listed = ", ".join(f"{target} {count}" for target, count in counts.items())
    return f"Of {len(names)} variants each target runs: {listed}." if counts else ""
