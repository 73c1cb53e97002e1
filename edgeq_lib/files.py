"""Files and records: written whole or not at all, read with a clear error. No TensorFlow, no LiteRT."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np


class EdgeqError(Exception):
    """A mistake that the user can mend; its message is one sentence that says what is wrong and how."""


def home() -> Path:
    """The folder that holds `studies`, `notebooks`, `data`, `runs` and `figures`: `EDGEQ_HOME`, or this checkout."""
    return Path(os.environ.get("EDGEQ_HOME") or Path(__file__).resolve().parent.parent)


def runs() -> Path:
    """Where working output goes: `EDGEQ_RUNS`, or `runs` in the checkout."""
    return Path(os.environ.get("EDGEQ_RUNS") or home() / "runs")


def digest(content: bytes | str | Any) -> str:
    """SHA-256 of bytes, text, or anything that JSON can hold (keys sorted)."""
    if not isinstance(content, bytes):
        content = (
            content if isinstance(content, str) else json.dumps(content, sort_keys=True)
        ).encode()
    return hashlib.sha256(content).hexdigest()


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: to a temporary name in the same folder, then renamed.

    Raises EdgeqError when the disk is full; what stood at `path` before is still there then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        if error.errno == errno.ENOSPC:
            raise EdgeqError(
                f"The disk is full: {path.name} was not written; free some space and run the same "
                "command again, finished work is kept."
            ) from None
        raise


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically; NaN is refused, since no reader could compare it."""
    write_bytes(
        path, (json.dumps(content, indent=1, allow_nan=False, default=_plain) + "\n").encode()
    )


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} has no place in a JSON record")


def read_json(path: Path) -> Any:
    """Read a JSON record; raises EdgeqError when it is garbled (a file that a person edited, say)."""
    try:
        return json.loads(path.read_text())
    except ValueError:
        raise EdgeqError(
            f"The record {path.name} in {path.parent.name} is not valid JSON; delete it and run the stage "
            "again."
        ) from None


def state_of(path: Path) -> str | None:
    """A fingerprint of a file's content, None when it is missing; for arrays of images, size and time stand for it."""
    if not path.exists():
        return None
    if path.suffix == ".npy":
        return f"{path.stat().st_size}:{path.stat().st_mtime_ns}"
    return digest(path.read_bytes())


@contextmanager
def guard_disk(what: str) -> Iterator[None]:
    """Turn "no space left" inside the block into an EdgeqError; `what` names that which was being written."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise EdgeqError(
                f"The disk is full: {what} could not be written; free some space and run the same command "
                "again, finished work is kept."
            ) from None
        raise


def replace_folder(new: Path, folder: Path) -> None:
    """Rename the folder `new` to `folder`; what stood there goes away afterwards."""
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    os.replace(new, folder)
    shutil.rmtree(old, ignore_errors=True)
