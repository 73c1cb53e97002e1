"""A pool of interpreters that share the images among threads."""

from __future__ import annotations

import os
import queue
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from edgeq_lib.tflite.runtime import make_interpreter, quantize_array

_CHUNK = 8


def pool_of(executor: Executor | None) -> AbstractContextManager[Executor]:
    """The caller's executor, left open, or threads of our own."""
    return nullcontext(executor) if executor else ThreadPoolExecutor(os.cpu_count())


def sum_over_images(
    models: Sequence[bytes],
    images: np.ndarray,
    measure: Callable[..., Any],
    pool: Executor,
    keep_tensors: bool,
) -> Any:
    """The sum of `measure(*interpreters)` after each image; the order of summation is that of a loop."""
    idle: queue.SimpleQueue = queue.SimpleQueue()
    for _ in range(os.cpu_count() or 1):
        idle.put([make_interpreter(model, keep_tensors=keep_tensors) for model in models])

    def work(start: int) -> Any:
        interpreters, total = idle.get(), 0
        try:
            for image in images[start : start + _CHUNK]:
                for interpreter in interpreters:
                    detail = interpreter.get_input_details()[0]
                    interpreter.set_tensor(detail["index"], quantize_array(image[None], detail))
                    interpreter.invoke()
                total = total + measure(*interpreters)
            return total
        finally:
            idle.put(interpreters)

    return sum(pool.map(work, range(0, len(images), _CHUNK)))
