"""Files and records, written completely or not at all, and read with a clear error.

It imports neither TensorFlow nor LiteRT.
"""

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
    """A mistake that the user can mend; its message is one sentence: what is wrong, and how."""


class CannotTake(EdgeqError):
    """A technique cannot take this network; its message says in one sentence what in it, and why.

    The stage is left out with that reason, the report shows it, and the study goes on.
    """


def home() -> Path:
    """Return the folder that holds `studies`, `notebooks`, `data`, `runs` and `figures`.

    Returns:
        `EDGEQ_HOME` from the environment, or this checkout.
    """
    return Path(os.environ.get("EDGEQ_HOME") or Path(__file__).resolve().parent.parent)


def runs() -> Path:
    """Return the folder for working output: `EDGEQ_RUNS`, or `runs` in the checkout."""
    return Path(os.environ.get("EDGEQ_RUNS") or home() / "runs")


def digest(content: bytes | str | Any) -> str:
    """Return the SHA-256 of bytes, of text, or of anything that JSON can hold (keys sorted)."""
    if not isinstance(content, bytes | str):
        content = json.dumps(content, sort_keys=True)
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()


@contextmanager
def guard_disk(what: str) -> Iterator[None]:
    """Turn "no space left" inside the block into an EdgeqError.

    Args:
        what: What is being written, for the message.

    Yields:
        Nothing.

    Raises:
        EdgeqError: The disk, or the user's quota, is full.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise EdgeqError(
                f"The disk is full: {what} could not be written; free some space and run the same "
                "command again, finished work is kept."
            ) from None
        raise


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically: under a temporary name in the same folder, then renamed.

    Args:
        path: The file; its folder is made if it is missing.
        content: What to write.

    Raises:
        EdgeqError: The disk is full; the old content of `path` is still there then.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with guard_disk(path.name):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def replace_folder(new: Path, folder: Path) -> None:
    """Rename the folder `new` to `folder`, and delete what `folder` was before.

    Args:
        new: The complete new folder, on the same file system.
        folder: Where it goes.
    """
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    os.replace(new, folder)
    shutil.rmtree(old, ignore_errors=True)


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically.

    Args:
        path: The file.
        content: Anything that JSON can hold; NumPy numbers and arrays become plain.

    Raises:
        ValueError: The content holds NaN or infinity, which no reader could compare.
        EdgeqError: The disk is full.
    """
    text = json.dumps(content, indent=1, allow_nan=False, default=_plain)
    write_bytes(path, (text + "\n").encode())


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not JSON serializable")


def read_json(path: Path) -> Any:
    """Read a JSON record.

    Args:
        path: The file.

    Returns:
        Its content.

    Raises:
        EdgeqError: It is not valid JSON (a file that a person edited, for example).
    """
    try:
        return json.loads(path.read_text())
    except ValueError:
        raise EdgeqError(
            f"The record {path.name} in {path.parent.name} is not valid JSON; delete it and run "
            "the stage again."
        ) from None


def state_of(path: Path) -> str | None:
    """Return a fingerprint of a file's content, or None when it is missing.

    For arrays of images (`.npy`) size and time of change stand for the content.
    """
    if not path.exists():
        return None
    if path.suffix == ".npy":
        return f"{path.stat().st_size}:{path.stat().st_mtime_ns}"
    return digest(path.read_bytes())
