"""Progress of slow work: a bar where a person looks, a line to the runner where none does."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def progress(iterable: Iterable[Item], label: str, total: int | None = None) -> Iterator[Item]:
    """Yield the items of `iterable` and show how far it is.

    Run by `edgeq run`, the state goes to the file that `EDGEQ_PROGRESS` names, which the runner shows as one line;
    by hand, a bar that goes away at its end, so that no bar is ever stored in a notebook.
    """
    if total is None and hasattr(iterable, "__len__"):
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
            Path(channel).write_text(
                json.dumps({"label": label, "done": done, "total": total, "eta": eta})
            )
        yield item
