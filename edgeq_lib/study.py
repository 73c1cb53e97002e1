"""A study and its shelf: validated parameters, the run folder, and the variants that stages put there.

This is the interface between notebooks: what one stage shelves, another reads. It imports no TensorFlow, so that the
command line answers at once.
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

from edgeq_lib.files import EdgeqError, digest, read_json, runs, state_of, write_bytes, write_json


class Variant:
    """One compressed model on the shelf: `model.tflite` with its records beside it."""

    def __init__(self, study: Study, folder: Path):
        self.study, self.folder, self.name, self.path = (
            study,
            folder,
            folder.name,
            folder / "model.tflite",
        )
        self.facts: dict[str, Any] = read_json(folder / "variant.json")

    def model(self) -> bytes:
        """The flatbuffer. Raises EdgeqError when it is not the file that was shelved."""
        content = self.path.read_bytes() if self.path.exists() else b""
        if digest(content) != self.facts["sha256"]:
            raise EdgeqError(
                f"The file of variant '{self.name}' ({len(content)} bytes) is not the one that was shelved; "
                f"make it again with `edgeq run {self.study.name} --force --only {self.facts['stage']}`."
            )
        self.study.note_read(self.path)
        return content

    def read(self, kind: str) -> dict | None:
        """A record (`quality`, `cost`) of this variant, or None when nothing has measured it yet."""
        path = self.folder / f"{kind}.json"
        self.study.note_read(path)
        return read_json(path) if path.exists() else None

    def write(self, kind: str, content: dict) -> None:
        """Store a record of this variant."""
        self.study.note_write(self.folder / f"{kind}.json")
        write_json(self.folder / f"{kind}.json", content)

    def arrays(self) -> dict[str, np.ndarray]:
        """The stored outputs a split, (n, classes) each, in the file's own output type; {} when there are none."""
        path = self.folder / "predictions.npz"
        self.study.note_read(path)
        if not path.exists():
            return {}
        with np.load(path) as stored:
            return dict(stored)

    def write_arrays(self, **arrays: np.ndarray) -> None:
        """Store the outputs a split."""
        path = self.folder / "predictions.npz"
        self.study.note_write(path)
        temporary = path.with_name(f".{os.getpid()}.npz")
        try:
            np.savez_compressed(temporary, **arrays)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


class Study:
    """The run folder of one study, `runs/NAME`, and the shelf in it.

    `stage` is the notebook at work. What it reads and writes is noted, so that the runner can tell later whether the
    stage is still current, and so that a stage takes away the variants that it made once and makes no more.
    """

    def __init__(self, name: str, stage: str = ""):
        self.name, self.stage, self.folder = name, stage, runs() / name
        self.started = time.time()
        self._reads: dict[str, str | None] = {}
        self._written: set[str] = set()
        self._made: list[str] = []

    def _relative(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()

    def note_read(self, path: Path) -> None:
        """Remember what this stage read, with its state at the first reading."""
        key = self._relative(path)
        if key not in self._written and key not in self._reads:
            self._reads[key] = state_of(path)

    def note_write(self, path: Path) -> None:
        """Remember what this stage wrote: reading that, before or after, is no dependency."""
        self._written.add(self._relative(path))
        self._reads.pop(self._relative(path), None)

    def read(self, record: str) -> dict:
        """A record of the study. Raises EdgeqError when no stage has written it."""
        path = self.folder / "records" / f"{record}.json"
        if not path.exists():
            raise EdgeqError(
                f"Study '{self.name}' has no record '{record}' yet: run the earlier notebooks first, "
                f"`edgeq run {self.name}` does it."
            )
        self.note_read(path)
        return read_json(path)

    def write(self, record: str, content: dict) -> None:
        """Store a record of the study."""
        path = self.folder / "records" / f"{record}.json"
        self.note_write(path)
        write_json(path, content)

    def variants(self) -> list[Variant]:
        """All variants and peers, the baseline first, then in the order of the stages and of their making."""
        found = self.on_shelf()
        self._reads.setdefault("variants", shelf_state(found, self._made))
        return [variant for variant in found if variant.facts["kind"] != "repeat"]

    def repeats(self) -> list[Variant]:
        """The variants that were made again with another seed, in the same order; each names in its facts which one it
        `repeats`."""
        found = self.on_shelf()
        self._reads.setdefault("variants", shelf_state(found, self._made))
        return [variant for variant in found if variant.facts["kind"] == "repeat"]

    def figure(self, name: str, figure: Any, caption: str) -> Any:
        """Keep a matplotlib figure of this stage for the report, and return it to be shown."""
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=100, bbox_inches="tight")
        for suffix, content in (
            (".png", buffer.getvalue()),
            (".json", json.dumps({"caption": caption, "stage": self.stage}).encode()),
        ):
            path = self.folder / "extra_figures" / (name + suffix)
            self.note_write(path)
            write_bytes(path, content)
        return figure

    def on_shelf(self) -> list[Variant]:
        """Variants, peers and repeats of the stages that are done, and of the one at work."""
        folders = [path.parent for path in (self.folder / "variants").glob("*/variant.json")]
        found = [Variant(self, folder) for folder in folders if not folder.name.startswith(".")]
        # What a stage left that broke off before its end does not count.
        whole = {path.stem for path in (self.folder / "stages").glob("*.json")} | {self.stage}
        return sorted(
            (variant for variant in found if variant.facts["stage"] in whole),
            key=lambda variant: (variant.facts["stage"], variant.facts["order"], variant.name),
        )

    def variant(self, name: str) -> Variant:
        """One variant by name. Raises EdgeqError when it is not on the shelf."""
        folder = self.folder / "variants" / name
        if not (folder / "variant.json").exists():
            have = ", ".join(
                sorted(
                    path.parent.name for path in (self.folder / "variants").glob("*/variant.json")
                )
            )
            raise EdgeqError(
                f"There is no variant '{name}' in study '{self.name}' (there: {have or 'none'}); "
                "run the notebook that makes it first."
            )
        return Variant(self, folder)

    def save_variant(self, name: str, model: bytes, **facts: Any) -> Variant:
        """Put a variant on the shelf, whole or not at all; one of the same name and content keeps its measurements.

        `facts` must hold technique, scheme, engine and seconds (to make); parent and seed where there are any; `kind` is
        variant unless it is a peer or a repeat.
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
        for file in ("model.tflite", "variant.json"):
            self.note_write(folder / file)
        if (folder / "variant.json").exists():
            old = read_json(folder / "variant.json")
            if old["sha256"] != facts["sha256"] or not (folder / "model.tflite").exists():
                shutil.rmtree(folder)
        staging = folder.with_name(f".{name}")
        shutil.rmtree(staging, ignore_errors=True)
        write_bytes(staging / "model.tflite", model)
        write_json(staging / "variant.json", facts)
        if folder.exists():
            for file in staging.iterdir():
                os.replace(file, folder / file.name)
            staging.rmdir()
        else:
            os.replace(staging, folder)
        return Variant(self, folder)

    def boards(self) -> list[dict[str, Any]]:
        """List what other machines measured, as `edgeq import-bench` took it in.

        Noted as read, so that a stage that shows it is not current after an import.

        Returns:
            machine, versions and variants (by name, as `measure.standalone` writes them) of each, in
            the order of their names. What was measured on a file that has changed is left out.
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

    def finish(self, summary: dict) -> None:
        """Close the stage: take from the shelf what it no longer makes, and write its record.

        The runner takes a stage as done only when this record exists.
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


def shelf_state(variants: list[Variant], made: list[str]) -> str:
    """A fingerprint of the list of variants, those left out that the reading stage makes itself."""
    return digest(
        [
            [variant.name, variant.facts["sha256"]]
            for variant in variants
            if variant.name not in made
        ]
    )


SYNTHETIC = (
    "STAND-IN"  # begins the form of data that only prove the way; no study of them may be published
)
