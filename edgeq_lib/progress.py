"""Progress of slow work: a bar for a person at a terminal, a status file for the runner."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Sized
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def progress(iterable: Iterable[Item], label: str, total: int | None = None) -> Iterator[Item]:
    """Yield the items of `iterable` and show how far it is.

    Under `edgeq run` the state goes to the file that `EDGEQ_PROGRESS` names, which the runner shows
    as one line. By hand it is a bar that disappears at its end, so that no bar is ever stored in a
    notebook.

    Args:
        iterable: The work.
        label: What to call it.
        total: The number of items, where `iterable` does not know its length.

    Yields:
        The items, unchanged.
    """
    if total is None and isinstance(iterable, Sized):
        total = len(iterable)
    channel = os.environ.get("EDGEQ_PROGRESS")
    if not channel:
        yield from tqdm(iterable, desc=label, total=total, leave=False)
        return
    started, last = time.time(), 0.0
    for done, item in enumerate(iterable):
        if time.time() - last > 0.5:
            last = time.time()
            eta = (last - started) / done * (total - done) if done and total else None
            state = {"label": label, "done": done, "total": total, "eta": eta}
            Path(channel).write_text(json.dumps(state))
        yield item
