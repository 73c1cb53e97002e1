"""A study: its run folder, its records, and its shelf, the registry of measured variants.

This is the interface between notebooks: what one stage saves, another reads. It imports no
TensorFlow, so that the command line answers at once.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np

from edgeq_lib.files import (
    EdgeqError,
    digest,
    guard_disk,
    read_json,
    replace_folder,
    runs,
    state_of,
    write_bytes,
    write_json,
)
from edgeq_lib.records import VariantFacts

# The form of synthetic data begins so: their studies are smoke tests, and must not be published.
SYNTHETIC = "STAND-IN"


class Variant:
    """One compressed model on the shelf: `model.tflite` with its records beside it.

    Attributes:
        study: The study that holds it.
        name: Its name, which is also its folder's.
        folder: Where it is stored.
        path: Its `.tflite` file.
        facts: How it was made.
    """

    def __init__(self, study: Study, folder: Path):
        self.study = study
        self.folder = folder
        self.name = folder.name
        self.path = folder / "model.tflite"
        self.facts: VariantFacts = read_json(folder / "variant.json")

    def model(self) -> bytes:
        """Return the flatbuffer.

        Raises:
            EdgeqError: The file is not the one that was saved.
        """
        content = self.path.read_bytes() if self.path.exists() else b""
        if digest(content) != self.facts["sha256"]:
            raise EdgeqError(
                f"The file of variant '{self.name}' ({len(content)} bytes) is not the one that was "
                f"shelved; make it again with `edgeq run {self.study.name} --force --only "
                f"{self.facts['stage']}`."
            )
        self.study.note_read(self.path)
        return content

    def read(self, kind: str) -> dict[str, Any] | None:
        """Return a record of this variant, or None when nothing has measured it yet.

        Args:
            kind: `quality` or `cost`.
        """
        path = self.folder / f"{kind}.json"
        self.study.note_read(path)
        return read_json(path) if path.exists() else None

    def write(self, kind: str, content: dict[str, Any]) -> None:
        """Store a record of this variant.

        Args:
            kind: `quality` or `cost`.
            content: The record.
        """
        path = self.folder / f"{kind}.json"
        self.study.note_write(path)
        write_json(path, content)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the stored outputs per split.

        Returns:
            Split → (n, classes), in the file's own output type; empty when none are stored.
        """
        path = self.folder / "predictions.npz"
        self.study.note_read(path)
        if not path.exists():
            return {}
        with np.load(path) as stored:
            return dict(stored)

    def write_arrays(self, **arrays: np.ndarray) -> None:
        """Store the outputs per split.

        Args:
            **arrays: Split → (n, classes).

        Raises:
            EdgeqError: The disk is full.
        """
        path = self.folder / "predictions.npz"
        self.study.note_write(path)
        temporary = path.with_name(f".{os.getpid()}.npz")
        with guard_disk(path.name):
            try:
                np.savez_compressed(temporary, **arrays)
                os.replace(temporary, path)
            finally:
                temporary.unlink(missing_ok=True)


class Study:
    """The run folder of one study, `runs/NAME`, and the shelf in it.

    It notes what the stage at work reads and writes. So the runner can tell later whether the stage
    is still current, and a stage removes the variants that it made once and makes no more.

    Attributes:
        name: The study's name.
        stage: The notebook at work.
        folder: The run folder.
        started: When this object was made, in seconds since the epoch.
    """

    def __init__(self, name: str, stage: str = ""):
        self.name, self.stage, self.folder = name, stage, runs() / name
        self.started = time.time()
        self._reads: dict[str, str | None] = {}
        self._written: set[str] = set()
        self._made: list[str] = []

    def _relative(self, path: Path) -> str:
        """The path in the run folder; of a file elsewhere, the absolute one."""
        inside = path.is_relative_to(self.folder)
        return (path.relative_to(self.folder) if inside else path.absolute()).as_posix()

    def note_read(self, path: Path) -> None:
        """Remember that this stage reads a file, with the file's state at the first reading.

        Args:
            path: A file in the run folder.
        """
        key = self._relative(path)
        if key not in self._written and key not in self._reads:
            self._reads[key] = state_of(path)

    def note_sources(self, *names: str | None) -> None:
        """Remember that this stage reads files of the user's: it is stale when they change.

        Args:
            *names: Paths of files or folders; what is None, or no path, is passed over.
        """
        for path in (Path(name) for name in names if name):
            parts = sorted(path.rglob("*")) if path.is_dir() else [path]
            for part in parts:
                if part.is_file():
                    self.note_read(part)

    def note_write(self, path: Path) -> None:
        """Remember that this stage writes a file: reading it, before or after, is no dependency.

        Args:
            path: A file in the run folder.
        """
        self._written.add(self._relative(path))
        self._reads.pop(self._relative(path), None)

    def read(self, record: str) -> dict[str, Any]:
        """Return a record of the study.

        Args:
            record: Its name, without suffix.

        Raises:
            EdgeqError: No stage has written it.
        """
        path = self.folder / "records" / f"{record}.json"
        if not path.exists():
            raise EdgeqError(
                f"Study '{self.name}' has no record '{record}' yet: run the earlier notebooks "
                f"first, `edgeq run {self.name}` does it."
            )
        self.note_read(path)
        return read_json(path)

    def write(self, record: str, content: Any) -> None:
        """Store a record of the study.

        Args:
            record: Its name, without suffix.
            content: A mapping that JSON can hold.
        """
        path = self.folder / "records" / f"{record}.json"
        self.note_write(path)
        write_json(path, content)

    def figure(self, name: str, figure: Any, caption: str) -> Any:
        """Keep a figure of this stage for the report.

        Args:
            name: The file's name, without suffix.
            figure: A matplotlib figure.
            caption: What it shows.

        Returns:
            The figure, to be shown.
        """
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=100, bbox_inches="tight")
        caption_record = json.dumps({"caption": caption, "stage": self.stage}).encode()
        for suffix, content in ((".png", buffer.getvalue()), (".json", caption_record)):
            path = self.folder / "extra_figures" / (name + suffix)
            self.note_write(path)
            write_bytes(path, content)
        return figure

    def on_shelf(self) -> list[Variant]:
        """Return variants, peers and repeats of the finished stages and of the one at work."""
        folders = [path.parent for path in (self.folder / "variants").glob("*/variant.json")]
        stored = [Variant(self, folder) for folder in folders if not folder.name.startswith(".")]
        # What a stage left behind that broke off before its end does not count.
        stages = {path.stem for path in (self.folder / "stages").glob("*.json")} | {self.stage}
        return sorted(
            (variant for variant in stored if variant.facts["stage"] in stages),
            key=lambda variant: (variant.facts["stage"], variant.facts["order"], variant.name),
        )

    def _noted_shelf(self) -> list[Variant]:
        """Read the shelf, and note that this stage did."""
        stored = self.on_shelf()
        self._reads.setdefault("variants", shelf_state(stored, self._made))
        return stored

    def variants(self) -> list[Variant]:
        """Return all variants and peers: the baseline first, then by stage and order of making."""
        return [variant for variant in self._noted_shelf() if variant.facts["kind"] != "repeat"]

    def repeats(self) -> list[Variant]:
        """Return the variants that were made again with another seed, in the same order.

        Each names in its facts which variant it `repeats`.
        """
        return [variant for variant in self._noted_shelf() if variant.facts["kind"] == "repeat"]

    def variant(self, name: str) -> Variant:
        """Return one variant by name.

        Args:
            name: The variant's name.

        Raises:
            EdgeqError: It is not on the shelf.
        """
        folder = self.folder / "variants" / name
        if not (folder / "variant.json").exists():
            stored = (self.folder / "variants").glob("*/variant.json")
            names = ", ".join(sorted(path.parent.name for path in stored))
            raise EdgeqError(
                f"There is no variant '{name}' in study '{self.name}' (there: {names or 'none'}); "
                "run the notebook that makes it first."
            )
        return Variant(self, folder)

    def save_variant(self, name: str, model: bytes, **facts: Any) -> Variant:
        """Put a variant on the shelf, completely or not at all.

        A variant of the same name and content keeps its measurements; of another content, it goes.

        Args:
            name: The variant's name.
            model: The flatbuffer.
            **facts: technique, scheme, engine and seconds (to make); parent and seed where there
                are any; kind, unless it is "variant"; see `VariantFacts`.

        Returns:
            The variant.

        Raises:
            EdgeqError: The disk is full.
        """
        folder = self.folder / "variants" / name
        facts = {
            "kind": "variant",
            "parent": None,
            "seed": None,
            **facts,
            "stage": self.stage,
            "order": len(self._made),
            "sha256": digest(model),
        }
        self._made.append(name)
        files = ("model.tflite", "variant.json")
        for file in files:
            self.note_write(folder / file)
        staging = folder.with_name(f".{name}")
        shutil.rmtree(staging, ignore_errors=True)
        write_bytes(staging / "model.tflite", model)
        write_json(staging / "variant.json", facts)
        if _holds(folder, facts["sha256"]):
            for file in files:
                os.replace(staging / file, folder / file)
            staging.rmdir()
        else:
            replace_folder(staging, folder)
        return Variant(self, folder)

    def boards(self) -> list[dict[str, Any]]:
        """List what other machines measured, as `edgeq import-bench` took it in.

        Noted as read, so that a stage that shows it is not current after an import.

        Returns:
            machine, versions and variants (by name, as `measure.standalone` writes them) of each,
            in the order of their names. What was measured on a file that has changed is left out.
        """
        listing, boards = self.folder / "boards.json", []
        self.note_read(listing)
        current = {variant.name: variant.facts["sha256"] for variant in self.variants()}
        for machine in read_json(listing) if listing.exists() else []:
            path = self.folder / "boards" / f"{machine}.json"
            self.note_read(path)
            board = read_json(path) if path.exists() else {"variants": {}}
            measured = {
                name: cost
                for name, cost in board["variants"].items()
                if current.get(name) == cost["sha256"]
            }
            boards += [board | {"variants": measured}] if measured else []
        return boards

    def leave_out(self, reason: str) -> None:
        """Close the stage without a result: its technique cannot take this network.

        Args:
            reason: Why, in one sentence.
        """
        self._made.clear()
        self.finish({"left_out": reason})

    def left_out(self) -> dict[str, str]:
        """Return the stages without a result, and why; noted as read."""
        reasons = left_out(self.folder)
        self._reads.setdefault("left_out", digest(reasons))
        return reasons

    def finish(self, summary: dict[str, Any]) -> None:
        """Close the stage: remove its variants that it no longer makes, and write its record.

        The runner counts a stage as done only when this record exists.

        Args:
            summary: What the notebook concludes.
        """
        for variant in self.on_shelf():
            if variant.facts["stage"] == self.stage and variant.name not in self._made:
                shutil.rmtree(variant.folder)
        write_json(
            self.folder / "stages" / f"{self.stage}.json",
            {
                "stage": self.stage,
                "key": os.environ.get("EDGEQ_STAGE_KEY"),
                "reads": self._reads,
                "made": self._made,
                "written": {path: state_of(self.folder / path) for path in sorted(self._written)},
                "seconds": round(time.time() - self.started, 1),
                "summary": summary,
            },
        )


def _holds(folder: Path, sha256: str) -> bool:
    """Tell whether a variant of that content is stored in `folder`."""
    facts = folder / "variant.json"
    return (
        facts.exists()
        and (folder / "model.tflite").exists()
        and read_json(facts)["sha256"] == sha256
    )


def left_out(folder: Path) -> dict[str, str]:
    """Return the stages of a study that have no result: left out, or failed in the last run.

    Args:
        folder: The run folder.

    Returns:
        Stage → why, in one sentence.
    """
    reasons = {}
    for path in sorted((folder / "stages").glob("*.json")):
        if reason := read_json(path)["summary"].get("left_out"):
            reasons[path.stem] = reason
    for path in sorted((folder / "failures").glob("*.json")):
        reasons[path.stem] = read_json(path)["reason"]
    return reasons


def shelf_state(variants: list[Variant], made: list[str]) -> str:
    """Return a fingerprint of the list of variants.

    Args:
        variants: The shelf.
        made: Names that the reading stage makes itself, which are left out.
    """
    return digest(
        [
            [variant.name, variant.facts["sha256"]]
            for variant in variants
            if variant.name not in made
        ]
    )
