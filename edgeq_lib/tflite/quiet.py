"""Silence for native code that prints to the process's standard output and error."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

_NULL = open(os.devnull, "w")  # stays open: a logger made while it is quiet keeps writing to it


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence what native code and progress bars write to standard output and error.

    The process's file descriptors are redirected as well as sys.stdout and sys.stderr: the
    converter and XNNPACK print from C++. Hence only one thread at a time may be quiet.

    Yields:
        Nothing.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    with contextlib.redirect_stderr(_NULL), contextlib.redirect_stdout(_NULL):
        try:
            os.dup2(_NULL.fileno(), 1)
            os.dup2(_NULL.fileno(), 2)
            yield
        finally:
            os.dup2(saved[0], 1)
            os.dup2(saved[1], 2)
            os.close(saved[0])
            os.close(saved[1])
