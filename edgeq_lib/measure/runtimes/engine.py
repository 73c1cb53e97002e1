"""What the engines beside LiteRT have in common: files, one loaded network, predictions of it.

An engine is a module with `NAME`, `reason_missing`, `float_files`, `quantize` and `load`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Protocol

import numpy as np

from edgeq_lib.measure.accuracy import CHUNK, Preprocess
from edgeq_lib.progress import progress
from edgeq_lib.tflite.output_kind import class_scores
from edgeq_lib.tflite.pool import chunks, open_executor

Files = dict[str, bytes]  # what an engine loads: name of a file → its content
INSTALL = "`pip install 'edgeq[runtimes]'`, in a checkout `.venv/bin/pip install -e '.[runtimes]'`"


class Network(Protocol):
    """A network that an engine has loaded, at one thread."""

    def answer(self, image: np.ndarray) -> np.ndarray:
        """Return the output (1, outputs) for a preprocessed image, float32 (1, H, W, C)."""
        ...

    def set_image(self, image: np.ndarray) -> None:
        """Take the image that `invoke` computes with."""
        ...

    def invoke(self) -> None:
        """Compute once, as `standalone.time_interleaved` calls it."""
        ...


Load = Callable[[Files], Network]


def missing(engine: str, packages: Sequence[str]) -> str:
    """Say that packages of the extra `runtimes` are not installed.

    Args:
        engine: What needs them.
        packages: Names to import.

    Returns:
        One sentence; empty when all are there.
    """
    absent = [name for name in packages if importlib.util.find_spec(name) is None]
    if not absent:
        return ""
    return f"{engine} is not installed ({', '.join(absent)})."


def predict(
    load: Load,
    files: Files,
    model: bytes,
    images: np.ndarray,
    preprocess: Preprocess,
    label: str = "predictions",
    executor: Executor | None = None,
) -> np.ndarray:
    """Run a network of another engine on images, as `accuracy.predict_file` does with LiteRT.

    Args:
        load: The engine's.
        files: The network.
        model: The float flatbuffer that it was made from, which tells what its output is.
        images: uint8 (n, H, W, C).
        preprocess: Makes of uint8 images what the network was trained on, float32.
        label: What the progress bar says.
        executor: Runs chunks of the images, each with a network loaded anew; threads by default.

    Returns:
        Outputs float32 (n, classes); a single output becomes two columns.
    """

    def work(part: slice) -> np.ndarray:
        network, values = load(files), preprocess(np.asarray(images[part]))
        return np.concatenate([network.answer(image[None]) for image in values])

    # Loading takes as long as some dozens of images: few large parts.
    parts = chunks(len(images), max(CHUNK, -(-len(images) // 8)))
    with open_executor(executor) as threads:
        outputs = list(progress(threads.map(work, parts), label, len(parts)))
    return class_scores(model, np.concatenate(outputs), None)
