"""Idle interpreters, and the one way in which edgeq shares images among threads.

The runtime gives up Python's lock while it computes, so threads scale, and a file of batch one
gains nothing from a larger batch: one interpreter with one thread per worker. Images are shared out
in chunks of a fixed size, and results come back in the images' order, so that results, and sums of
floating-point numbers, do not depend on the number of workers or on which of them was faster.
"""

from __future__ import annotations

import os
import queue
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from edgeq_lib.tflite.runtime import make_interpreter, quantize_array

Result = TypeVar("Result")

# Images per task where sums are taken. It is part of the result: sums of floating-point numbers are
# taken within a chunk first, then over chunks.
SUM_CHUNK = 8


@contextmanager
def open_executor(executor: Executor | None, workers: int | None = None) -> Iterator[Executor]:
    """Use the caller's executor, or threads of our own.

    Args:
        executor: The caller's, which is left open; None for threads that end with the context, when
            tasks that have not begun are cancelled.
        workers: How many threads of our own; one per processor by default.

    Yields:
        The executor.
    """
    if executor is not None:
        yield executor
        return
    threads = ThreadPoolExecutor(workers or os.cpu_count())
    try:
        yield threads
    finally:
        threads.shutdown(cancel_futures=True)


def chunks(count: int, size: int) -> list[slice]:
    """Cut indices 0 … `count` - 1 into slices of `size`; the last may be shorter in effect."""
    return [slice(start, start + size) for start in range(0, count, size)]


class InterpreterPool:
    """Interpreters of some flatbuffers, one of each per worker, lent to one task at a time.

    Making interpreters silences the process's output (`quiet`), which only one thread may do at a
    time: a pool is made in one thread, and used by many.

    Attributes:
        workers: How many tasks can run at the same time; further ones wait for an idle set.
    """

    def __init__(
        self,
        models: Sequence[bytes],
        workers: int | None = None,
        keep_tensors: bool = False,
        xnnpack: bool = True,
    ) -> None:
        """Make the interpreters.

        Args:
            models: Contents of `.tflite` files; a task gets an interpreter of each, in this order.
            workers: How many of each; one per processor by default.
            keep_tensors: Keep every intermediate tensor readable.
            xnnpack: Compute with XNNPACK, else with LiteRT's own kernels.

        Raises:
            EdgeqError: The runtime refuses a file.
        """
        self.workers = workers or os.cpu_count() or 1
        self._idle: queue.SimpleQueue[list[Interpreter]] = queue.SimpleQueue()
        for _ in range(self.workers):
            self._idle.put(
                [
                    make_interpreter(model, keep_tensors=keep_tensors, xnnpack=xnnpack)
                    for model in models
                ]
            )

    @contextmanager
    def lend(self) -> Iterator[list[Interpreter]]:
        """Lend an idle set of interpreters, and take it back at the end of the context.

        Yields:
            An interpreter of each file.
        """
        interpreters = self._idle.get()
        try:
            yield interpreters
        finally:
            self._idle.put(interpreters)

    def map(
        self,
        work: Callable[[list[Interpreter], slice], Result],
        parts: Sequence[slice],
        executor: Executor,
    ) -> Iterator[Result]:
        """Run a task per chunk of the images.

        Args:
            work: Called with an interpreter of each file, and the chunk; it runs in a thread.
            parts: The chunks, as `chunks` cuts them.
            executor: What runs the tasks; it may have more threads than the pool has workers.

        Returns:
            The results, in the order of `parts`.
        """

        def task(part: slice) -> Result:
            with self.lend() as interpreters:
                return work(interpreters, part)

        return executor.map(task, parts)


def sum_over_images(
    models: Sequence[bytes],
    images: np.ndarray,
    measure: Callable[..., Any],
    executor: Executor,
    keep_tensors: bool,
) -> Any:
    """Run files on each image and sum up what is measured on them.

    The order of summation is fixed, whatever the number of workers: within `SUM_CHUNK` images
    first, then over these chunks.

    Args:
        models: Contents of `.tflite` files with one input each.
        images: Preprocessed, float32 (n, H, W, C); quantized here as each file's input asks.
        measure: Called with an interpreter of each file after they have run on an image; returns
            numbers or arrays that can be added. It runs in several threads.
        executor: What shares the images among threads.
        keep_tensors: Keep every intermediate tensor readable.

    Returns:
        The sum over images of what `measure` returns.
    """
    pool = InterpreterPool(models, keep_tensors=keep_tensors)

    def work(interpreters: list[Interpreter], part: slice) -> Any:
        total: Any = 0
        for image in images[part]:
            for interpreter in interpreters:
                detail = interpreter.get_input_details()[0]
                interpreter.set_tensor(detail["index"], quantize_array(image[None], detail))
                interpreter.invoke()
            total = total + measure(*interpreters)
        return total

    return sum(pool.map(work, chunks(len(images), SUM_CHUNK), executor))
