"""CIFAR-10: the original Python batches, or the JPEG form of the assets."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from edgeq_lib.data.source import (
    DOWNLOADS,
    Item,
    Source,
    file_state,
    from_assets,
    has_assets,
    official_file,
)
from edgeq_lib.files import EdgeqError


class _ArraysOnly(pickle.Unpickler):
    """Reads pickles that hold arrays and plain values; anything else could run code."""

    def find_class(self, module: str, name: str) -> Any:
        if name == "_reconstruct" and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            return np.empty(0).__reduce__()[0]
        if module == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        raise EdgeqError(
            f"A file of CIFAR-10 holds {module}.{name}, so it is not the official one; delete it "
            "and fetch it anew."
        )


def cifar10() -> Source:
    """Find CIFAR-10 (Krizhevsky, *Learning multiple layers of features from tiny images*, 2009).

    Returns:
        The official arrays, or the smaller form from `EDGEQ_ASSETS`.

    Raises:
        EdgeqError: When neither can be had, or when the archive is not the official one.
    """
    if has_assets("cifar10", "cifar10_jpeg60k.npz"):
        return cifar10_jpeg(*from_assets("cifar10", "cifar10_jpeg60k.npz"))
    folder = official_file("cifar10") / "cifar-10-batches-py"

    def read(name: str) -> dict:
        return _ArraysOnly(io.BytesIO((folder / name).read_bytes()), encoding="bytes").load()

    pools: dict[str, list[Item]] = {"train": [], "test": []}
    for name in [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]:
        batch = read(name)
        rows = batch[b"data"].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        pools["test" if name == "test_batch" else "train"] += [
            Item(f"{name}/{i}", row, int(label))
            for i, (row, label) in enumerate(zip(rows, batch[b"labels"], strict=True))
        ]
    classes = [name.decode() for name in read("batches.meta")[b"label_names"]]
    return Source(
        "CIFAR-10",
        "lossless, 32 × 32",
        DOWNLOADS["cifar10"][1],
        classes,
        pools,
        DOWNLOADS["cifar10"][2],
        validation=0.1,
    )


def cifar10_jpeg(path: Path) -> Source:
    """Read CIFAR-10 from a folder of JPEG files.

    Args:
        path: The folder.

    Returns:
        The data set.
    """
    with np.load(path) as packed:
        stored = dict(packed)
    header = stored["header"].tobytes()
    pools = {}
    for split in ("train", "test"):
        data, offsets = stored[f"{split}_bytes"].tobytes(), stored[f"{split}_offsets"]
        pools[split] = [
            Item(f"{split}/{i}", header + data[offsets[i] : offsets[i + 1]], int(label))
            for i, label in enumerate(stored[f"{split}_labels"])
        ]
    return Source(
        "CIFAR-10 (JPEG)",
        "JPEG of quality 75, 32 × 32",
        path.name,
        stored["class_names"].tolist(),
        pools,
        file_state(path),
        validation=0.1,
    )
