"""A flatbuffer of unknown health, loaded and invoked in a process of its own, which may crash."""

from __future__ import annotations

from pathlib import Path

from edgeq_lib.files import EdgeqError
from edgeq_lib.measure import standalone


def check_loads(path: Path, timeout: float = 60) -> None:
    """Check that LiteRT can load a file and invoke it once, in a child process.

    Args:
        path: A `.tflite` file.
        timeout: Seconds that the child may take.

    Raises:
        EdgeqError: LiteRT refuses the file, takes longer, or is brought down by it; it names the
            file and its folder.
    """
    try:
        standalone.run_in_subprocess(path, timeout)
    except standalone.Refused as error:
        raise EdgeqError(
            f"{path.parent.name}/{path.name} {error}; make it again for built-in ops only, or "
            "leave it out."
        ) from None
