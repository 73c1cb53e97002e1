"""A flatbuffer of unknown health, loaded and invoked in a process of its own, which may crash."""

from __future__ import annotations

from pathlib import Path

from edgeq_lib.files import EdgeqError
from edgeq_lib.measure import standalone


def run_in_subprocess(path: Path, timeout: float = 60) -> dict[str, float]:
    """Load a file and invoke it once on zeros in a process of its own (see `board.benchmark.run_alone`).

    Raises EdgeqError naming the file when LiteRT refuses it, takes longer than `timeout` seconds, or brings the process
    down.
    """
    try:
        return standalone.run_in_subprocess(path, timeout)
    except standalone.Refused as error:
        raise EdgeqError(
            f"{path.parent.name}/{path.name} {error}; make it again for built-in ops only, or leave it out."
        ) from None


def check_loads(path: Path, timeout: float = 60) -> None:
    """Raise EdgeqError naming the file when LiteRT cannot load and invoke it; tried in a child process."""
    run_in_subprocess(path, timeout)
