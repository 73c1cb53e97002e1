"""Targets: what a file will meet where it is to run. One YAML each in `targets/`.

A target says which runtime and processor it has, how much memory, and which operations and widths
it takes in which form, each with its source. It decides how files are exported (`forms`), what
counts as running (`measure.verdicts`) and which latency is its own (`is_machine`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import pydantic
import yaml

from edgeq_lib.files import EdgeqError, home

Granularity = Literal["channel", "tensor"]
ANY = "any"  # a study that names no target


class Target(pydantic.BaseModel):
    """What is known of a target.

    Attributes:
        name: That of its YAML file.
        words: What it is, as a sentence would say it.
        runtime: What executes a file there.
        processor: The processor, as its maker calls it.
        isa: The instruction sets that its latency belongs to, spelled as benchmarks do
            (`standalone.describe_machine`); empty where no machine of ours can be it.
        without_isa: Instruction sets that it lacks: a machine that has one of them is another.
        accelerator: As the accelerator's compiler names it.
        emulated_as: The Arm core that stands for its processor where it is emulated.
        ram_bytes: Working memory; None where it is no limit.
        flash_bytes: Where the file lies; None where it is no limit.
        share: How much of either a model may take; the rest is the application's.
        weights_in_place: Weights are read from flash; else they are held in RAM too.
        integer_only: It computes no floats, the graph's inputs and outputs included.
        activation_bits: Widths of integer activations that it takes.
        weights: Operation → bits of its weights → the finest scales that it takes. What is not
            listed it takes with 8 bits per channel.
        operations: The only operations that it has; None for all of its runtime.
        sources: Where these facts stand, a document or a measurement each.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    name: str
    words: str
    runtime: Literal["litert", "tflite-micro", "vela", "edgetpu", "onnxruntime", "openvino"]
    processor: str
    isa: tuple[str, ...] = ()
    without_isa: tuple[str, ...] = ()
    accelerator: str | None = None
    emulated_as: Literal["cortex-a53", "cortex-a72", "cortex-a76"] | None = None
    ram_bytes: pydantic.PositiveInt | None = None
    flash_bytes: pydantic.PositiveInt | None = None
    share: float = pydantic.Field(default=0.5, gt=0, le=1)
    weights_in_place: bool = False
    integer_only: bool = False
    activation_bits: tuple[Literal[8, 16], ...] = (8, 16)
    weights: Mapping[str, Mapping[Literal[2, 4, 8], Granularity]] = {}
    operations: tuple[str, ...] | None = None
    sources: tuple[str, ...] = pydantic.Field(min_length=1)

    def granularity(self, operation: str, bits: int) -> Granularity | None:
        """Return the finest scales that it takes for weights; None where it does not take them."""
        own = self.weights.get(operation)
        if own is None:
            return "channel" if bits == 8 else None
        return own.get(bits)  # type: ignore[call-overload]

    def room(self, memory: int | None) -> float:
        """Return the bytes of a memory that are a model's."""
        return float("inf") if memory is None else self.share * memory

    def is_machine(self, machine: Mapping[str, Any]) -> bool:
        """Tell whether latencies of a machine are latencies of this target.

        Args:
            machine: Its record, with `isa` (older ones: `flags`).
        """
        isa = set(machine.get("isa") or machine.get("flags") or ())
        return bool(self.isa) and set(self.isa) <= isa and not isa & set(self.without_isa)


def names() -> list[str]:
    """Return the names of the workbook's own targets."""
    return sorted(path.stem for path in (home() / "targets").glob("*.yaml"))


def path_of(name_or_path: str) -> Path:
    """Return the file of a target, which need not exist."""
    path = Path(name_or_path)
    is_path = path.suffix in (".yaml", ".yml")
    return path if is_path else home() / "targets" / f"{name_or_path}.yaml"


def load(name_or_path: str) -> Target:
    """Read a target.

    Args:
        name_or_path: A name in `targets/`, or the path of a YAML file of one's own.

    Raises:
        EdgeqError: There is no such target, or its file is wrong; the sentence names the key.
    """
    path = path_of(name_or_path)
    if not path.exists():
        raise EdgeqError(
            f"There is no target '{name_or_path}'; there are {', '.join(names())}, or give the "
            "path of a YAML file of your own."
        )
    try:
        return Target(name=path.stem, **(yaml.safe_load(path.read_text()) or {}))
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise EdgeqError(f"{path.name}: {key} will not do: {first['msg'].lower()}.") from None
    except (yaml.YAMLError, TypeError):
        raise EdgeqError(f"{path.name} is no list of keys and values in YAML.") from None


def table(targets: Iterable[Target]) -> list[dict[str, str]]:
    """Write targets as rows for people: name, what it is, runtime, memory, widths of weights."""
    return [
        {
            "target": target.name,
            "what": target.words,
            "runtime": target.runtime,
            "RAM": _memory(target.ram_bytes),
            "flash": _memory(target.flash_bytes),
            "computes": "integers" if target.integer_only else "float and integers",
        }
        for target in targets
    ]


def _memory(size: int | None) -> str:
    if size is None:
        return "–"
    if size >= 2**30:
        return f"{size / 2**30:g} GB"
    return f"{size / 2**20:g} MB" if size >= 2**20 else f"{size / 2**10:g} KB"
