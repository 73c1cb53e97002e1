"""Other machines: a folder that measures the shelf's files anywhere, and what came back from there.

1. `export_folder` writes the models, an image for each, and a copy of `measure/standalone.py`.
2. That file runs on the other machine and writes cost.MACHINE.json.
3. `import_results` checks this and keeps it in the study; `Study.boards` reads it.

`measure/board.py` does all three over ssh.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import pydantic

from edgeq_lib.files import EdgeqError, read_json, write_bytes, write_json
from edgeq_lib.study import Study

if TYPE_CHECKING:
    from edgeq_lib.study import Variant


STANDALONE = Path(__file__).parent / "standalone.py"  # copied as benchmark.py
Positive = Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)]
Words = Annotated[str, pydantic.Field(max_length=300)]


class _Spread(pydantic.BaseModel):
    """Percentiles of the latency over what was timed (invocations, or batches of them), in ms."""

    p50: Positive
    p90: Positive
    p99: Positive


class _Ratio(pydantic.BaseModel):
    """Latency by the baseline's: median over rounds, and its interval."""

    ratio: Positive
    ratio_low: Positive | None
    ratio_high: Positive | None
    interval: Words | None = None  # earlier exports have the 10th and 90th percentile, and no word
    rounds: int
    invocations: int
    batch: int = 1


class _Condition(pydantic.BaseModel):
    """What the machine was like meanwhile, as `standalone.time_interleaved` tells it."""

    load_start: float | None
    load_end: float | None
    others: float | None
    processors: int
    spread: float


class _Stretch(pydantic.BaseModel):
    """When a file ran alone, or none did, as `standalone.run_stretches` notes it."""

    name: str | None
    start: Positive
    end: Positive
    invocations: int

    @pydantic.model_validator(mode="after")
    def _lasts(self) -> _Stretch:
        if self.end <= self.start or (self.name is not None and self.invocations < 1):
            raise ValueError("a stretch without time or invocations")
        return self


class _Cost(pydantic.BaseModel):
    """What `standalone.measure_folder` returns for a variant."""

    sha256: str
    bytes: int
    latency_ms: dict[str, _Spread] | None
    latency_ratio: Positive | None
    latency_ratio_low: Positive | None
    latency_ratio_high: Positive | None
    latency_interval: Words | None = None
    latency_ratio_by_threads: dict[str, _Ratio] | None
    load_ms: Positive | None
    peak_memory_bytes: int | None
    conditions: dict[str, _Condition] | None = None  # by number of threads
    busy: Annotated[str, pydantic.Field(max_length=1000)] | None = None
    energy: dict[str, Any] | None = None  # what `power.energies` computes on import
    why: dict[str, Words]


class _Machine(pydantic.BaseModel):
    """What `standalone.describe_machine` returns, and the machine's name."""

    name: Annotated[str, pydantic.Field(min_length=1, max_length=100)]
    cpu: Words
    cores: int
    flags: list[Words]
    isa: list[Words] | None = None  # files of earlier exports have it under `flags` alone
    memory_bytes: int | None
    platform: Words
    python: Words

    @pydantic.model_validator(mode="after")
    def _name_instruction_sets(self) -> _Machine:
        if self.isa is None:
            self.isa = self.flags
        return self


class _Board(pydantic.BaseModel):
    """A cost.MACHINE.json."""

    format: str
    study: str
    machine: _Machine
    versions: dict[str, Words]
    variants: dict[str, _Cost]
    stretches: list[_Stretch] | None = None


def export_folder(name: str, folder: Path) -> int:
    """Write a folder that measures every variant of a study on another machine.

    Its benchmark.py needs Python, numpy and ai-edge-litert only. Beside it lie models/, images/ (a
    real validation image for each, as the file's own input type has it) and bench.json.

    Args:
        name: The study.
        folder: Where to write; an earlier export there is replaced.

    Returns:
        The number of variants.

    Raises:
        EdgeqError: The study has no baseline, or the folder holds something else.
    """
    from edgeq_lib.data import dataset
    from edgeq_lib.measure import peers
    from edgeq_lib.models.preprocessing import Preprocessing

    study = Study(name)
    variants = study.variants()
    if "float32" not in [variant.name for variant in variants]:
        raise EdgeqError(
            f"Study '{name}' has no float32 on its shelf to compare with; `edgeq run {name}` first."
        )
    if folder.exists() and not (folder / "bench.json").exists():
        if not folder.is_dir() or any(folder.iterdir()):
            raise EdgeqError(f"{folder.name} holds something else; name a new folder.")
    preprocess = Preprocessing(**study.read("baseline")["preprocessing"])
    images = peers.first_images(study, variants, dataset.load(study), preprocess)
    for part in ("models", "images"):
        shutil.rmtree(folder / part, ignore_errors=True)
        (folder / part).mkdir(parents=True)
    entries = [_export_variant(variant, images[variant.name], folder) for variant in variants]
    shutil.copyfile(STANDALONE, folder / "benchmark.py")
    write_json(folder / "bench.json", {"study": name, "baseline": "float32", "variants": entries})
    return len(entries)


def _export_variant(variant: Variant, image: np.ndarray, folder: Path) -> dict[str, str]:
    """Write a variant's model and image, and return its entry in bench.json."""
    from edgeq_lib.tflite.runtime import make_interpreter, quantize_array

    entry = {
        "name": variant.name,
        "model": f"models/{variant.name}.tflite",
        "image": f"images/{variant.name}.npy",
        "sha256": variant.facts["sha256"],
    }
    model = variant.model()
    write_bytes(folder / entry["model"], model)
    detail = make_interpreter(model).get_input_details()[0]
    np.save(folder / entry["image"], quantize_array(image, detail))
    return entry


def import_results(name: str, file: Path, power: Path | None = None) -> str:
    """Check what a machine measured and keep it as runs/STUDY/boards/MACHINE.json.

    It takes the place of what the same machine measured before.

    Args:
        name: The study.
        file: The cost.MACHINE.json that benchmark.py wrote.
        power: What a power meter recorded meanwhile, as `power.read_trace` reads it.

    Returns:
        The machine's name.

    Raises:
        EdgeqError: The file is damaged, belongs to another study, or measured other files than
            those on the shelf; or the power cannot be laid beside it.
    """
    from edgeq_lib.measure.standalone import file_slug  # here, since it loads LiteRT

    study, board = Study(name), _read_results(file)
    if board.study != name:
        raise EdgeqError(
            f"{file.name} belongs to study '{board.study}'; say "
            f"`edgeq import-bench {board.study} {file.name}`."
        )
    shelved = {variant.name: variant.facts["sha256"] for variant in study.variants()}
    others = [label for label, cost in board.variants.items() if shelved.get(label) != cost.sha256]
    if others or not board.variants:
        what = f"a '{others[0]}' that is not the one on the shelf" if others else "nothing"
        raise EdgeqError(
            f"{file.name} measured {what} of study '{name}'; run `edgeq export-bench` again and "
            "measure those."
        )
    if power is not None:
        _add_energy(board, file, power)
    machine = file_slug(board.machine.name)
    write_json(
        study.folder / "boards" / f"{machine}.json",
        board.model_dump(exclude={"format", "study", "stretches"}),
    )
    listing = study.folder / "boards.json"
    before = read_json(listing) if listing.exists() else []
    write_json(listing, sorted({*before, machine}))
    return board.machine.name


def _add_energy(board: _Board, file: Path, trace: Path) -> None:
    """Enter what an inference takes into the costs of a board."""
    from edgeq_lib.measure import power

    stretches = [stretch.model_dump() for stretch in board.stretches or []]
    names = [stretch["name"] for stretch in stretches]
    if not any(names):
        raise EdgeqError(
            f"{file.name} does not say when each file ran; let the meter run during "
            "`python benchmark.py --energy` on the board, and import what that writes."
        )
    in_turn = len(names) % 2 and not any(names[::2]) and all(names[1::2])  # idle first and last
    if not in_turn or set(names[1::2]) - set(board.variants):
        raise EdgeqError(f"{file.name} is damaged; measure again, or copy it again.")
    for name, energy in power.energies(power.read_trace(trace), stretches, trace.name).items():
        board.variants[name].energy = energy


def _read_results(file: Path) -> _Board:
    """A cost.MACHINE.json, checked."""
    from edgeq_lib.measure.standalone import FORMAT

    try:
        board = _Board.model_validate(json.loads(file.read_text()))
        if board.format != FORMAT:
            raise ValueError
    except FileNotFoundError:
        raise EdgeqError(
            f"There is no file {file.name}; give the cost.MACHINE.json that benchmark.py wrote."
        ) from None
    except (OSError, ValueError):  # what json and pydantic raise are ValueErrors
        raise EdgeqError(
            f"{file.name} is damaged, or not what benchmark.py of `edgeq export-bench` writes; "
            "measure again, or copy it again."
        ) from None
    return board


def side_by_side(
    boards: Sequence[Mapping[str, Any]],
    here: Mapping[str, Mapping[str, Any]],
    variants: Sequence[Variant],
) -> list[dict[str, Any]]:
    """Compare the latency at one thread on this machine and on the others.

    Args:
        boards: What `read_boards` returned.
        here: This machine's cost records by the variants' names.
        variants: The rows, in their order.

    Returns:
        A row per variant: variant, and a column per machine, this one first, headed by its name and
        instruction sets; in the cells "ratio to float32 (median in ms)", or why there is none.
    """
    machine: Mapping[str, Any] = next(
        filter(None, (cost.get("machine") for cost in here.values())), {}
    )
    own = _heading({**machine, "name": "this machine"})
    return [
        {
            "variant": variant.name,
            own: _cell(here.get(variant.name)),
            **{
                _heading(board["machine"]): _cell(board["variants"].get(variant.name))
                for board in boards
            },
        }
        for variant in variants
    ]


def _heading(machine: Mapping[str, Any]) -> str:
    """A machine's name with its instruction sets."""
    instruction_sets = ", ".join(machine.get("isa") or machine.get("flags") or [])
    return f"{machine['name']} ({instruction_sets or 'instruction sets not recorded'})"


def _cell(cost: Mapping[str, Any] | None) -> str:
    """Ratio and median at one thread, or why there is none."""
    if cost is None:
        return "not measured"
    spread = (cost["latency_ms"] or {}).get("1")
    if spread is None:
        return cost["why"].get("latency_ms", "not measured")
    return f"{cost['latency_ratio']:.2f} ({spread['p50']:.3g} ms)"
