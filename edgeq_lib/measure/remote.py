"""Other machines: a folder that measures the shelf's files anywhere, and what came back from there."""

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


STANDALONE = Path(__file__).with_name("standalone.py")
Positive = Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)]
Words = Annotated[str, pydantic.Field(max_length=300)]


class _Spread(pydantic.BaseModel):
    p50: Positive
    p90: Positive
    p99: Positive


class _Ratio(pydantic.BaseModel):
    ratio: Positive
    ratio_low: Positive
    ratio_high: Positive
    rounds: int
    invocations: int


class _Cost(pydantic.BaseModel):
    sha256: str
    bytes: int
    latency_ms: dict[str, _Spread] | None
    latency_ratio: Positive | None
    latency_ratio_low: Positive | None
    latency_ratio_high: Positive | None
    latency_ratio_by_threads: dict[str, _Ratio] | None
    load_ms: Positive | None
    peak_memory_bytes: int | None
    why: dict[str, Words]


class _Machine(pydantic.BaseModel):
    name: Annotated[str, pydantic.Field(min_length=1, max_length=100)]
    cpu: Words
    cores: int
    flags: list[Words]
    memory_bytes: int | None
    platform: Words
    python: Words


class _Board(pydantic.BaseModel):
    format: str
    study: str
    machine: _Machine
    versions: dict[str, Words]
    variants: dict[str, _Cost]


def export_folder(name: str, folder: Path) -> int:
    """Write a folder whose benchmark.py measures every variant of a study where only Python, numpy and ai-edge-litert are:
    models, a real validation image each as the file's own input type has it, and bench.json. Returns how many variants.

    Raises EdgeqError without a baseline, or when the folder holds something else; an earlier export is replaced.
    """
    from edgeq_lib.data import dataset
    from edgeq_lib.measure import peers
    from edgeq_lib.models.preprocessing import Preprocessing
    from edgeq_lib.tflite.runtime import make_interpreter, quantize_array

    study = Study(name)
    variants = study.variants()
    if "float32" not in [variant.name for variant in variants]:
        raise EdgeqError(
            f"Study '{name}' has no float32 on its shelf to compare with; `edgeq run {name}` first."
        )
    if folder.exists() and (
        not folder.is_dir() or any(folder.iterdir()) and not (folder / "bench.json").exists()
    ):
        raise EdgeqError(f"{folder.name} holds something else; name a new folder.")
    preprocess = Preprocessing(**study.read("baseline")["preprocessing"])
    images = peers.first_images(study, variants, dataset.load(study), preprocess)
    for part in ("models", "images"):
        shutil.rmtree(folder / part, ignore_errors=True)
        (folder / part).mkdir(parents=True)
    listed = []
    for variant in variants:
        entry = {
            "name": variant.name,
            "model": f"models/{variant.name}.tflite",
            "image": f"images/{variant.name}.npy",
            "sha256": variant.facts["sha256"],
        }
        write_bytes(folder / entry["model"], variant.model())
        detail = make_interpreter(variant.model()).get_input_details()[0]
        np.save(folder / entry["image"], quantize_array(images[variant.name], detail))
        listed.append(entry)
    shutil.copyfile(STANDALONE, folder / "benchmark.py")
    write_json(folder / "bench.json", {"study": name, "baseline": "float32", "variants": listed})
    return len(listed)


def import_results(name: str, file: Path) -> str:
    """Check what a machine measured and keep it as runs/STUDY/boards/MACHINE.json, in the place of what the same machine
    measured before; returns the machine's name.

    Raises EdgeqError for a file that is damaged, belongs to another study, or measured other files than those on the shelf.
    """
    from edgeq_lib.measure.standalone import FORMAT, file_slug  # here, since it loads LiteRT

    study = Study(name)
    try:
        found = _Board.model_validate(json.loads(file.read_text()))
        if found.format != FORMAT:
            raise ValueError
    except FileNotFoundError:
        raise EdgeqError(
            f"There is no file {file.name}; give the cost.MACHINE.json that benchmark.py wrote."
        ) from None
    except (OSError, ValueError):  # what json and pydantic raise are ValueErrors
        raise EdgeqError(
            f"{file.name} is damaged, or not what benchmark.py of `edgeq export-bench` writes; measure again, or "
            "copy it again."
        ) from None
    if found.study != name:
        raise EdgeqError(
            f"{file.name} belongs to study '{found.study}'; say `edgeq import-bench {found.study} {file.name}`."
        )
    shelved = {variant.name: variant.facts["sha256"] for variant in study.variants()}
    other = [each for each, cost in found.variants.items() if shelved.get(each) != cost.sha256]
    if other or not found.variants:
        what = f"a '{other[0]}' that is not the one on the shelf" if other else "nothing"
        raise EdgeqError(
            f"{file.name} measured {what} of study '{name}'; run `edgeq export-bench` again and measure those."
        )
    machine = file_slug(found.machine.name)
    write_json(
        study.folder / "boards" / f"{machine}.json", found.model_dump(exclude={"format", "study"})
    )
    listing = study.folder / "boards.json"
    before = read_json(listing) if listing.exists() else []
    write_json(listing, sorted({*before, machine}))
    return found.machine.name


def side_by_side(
    found: Sequence[Mapping[str, Any]],
    here: Mapping[str, Mapping[str, Any]],
    variants: Sequence[Variant],
) -> list[dict[str, Any]]:
    """A row a variant: its latency at one thread on this machine (`here`, cost records by name) and on each other one, as
    "ratio to float32 (median in ms)", or why there is none."""

    def cell(cost: Mapping[str, Any] | None) -> str:
        if cost is None:
            return "not measured"
        one = (cost["latency_ms"] or {}).get("1")
        return (
            f"{cost['latency_ratio']:.2f} ({one['p50']:.3g} ms)"
            if one
            else cost["why"].get("latency_ms", "not measured")
        )

    return [
        {
            "variant": variant.name,
            "this machine": cell(here.get(variant.name)),
            **{
                board["machine"]["name"]: cell(board["variants"].get(variant.name))
                for board in found
            },
        }
        for variant in variants
    ]
