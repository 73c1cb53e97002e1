"""A file in TensorFlow Lite Micro: the process that `measure.micro` starts, which may crash.

    python micro_runtime.py FOLDER ARENA_BYTES START STOP

FOLDER holds model.tflite and inputs.npy, (n, …) in the type of the file's input. The outputs of
inputs START to STOP go to outputs.START.npy there; the runtime's messages and its own count of the
arena go to standard error. It imports nothing of edgeq, so that the process starts at once.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np


def main(folder: Path, arena_bytes: int, start: int, stop: int) -> None:
    """Run the file on its share of the inputs and let the allocator print what the arena held."""
    from tflite_micro import runtime

    model = (folder / "model.tflite").read_bytes()
    inputs = np.load(folder / "inputs.npy", mmap_mode="r")[start:stop]
    interpreter = runtime.Interpreter.from_bytes(model, arena_size=arena_bytes)
    outputs = []
    for values in inputs:
        interpreter.set_input(np.array(values[None]), 0)
        interpreter.invoke()
        outputs.append(np.array(interpreter.get_output(0)[0]))
    np.save(folder / f"outputs.{start}.npy", np.stack(outputs))
    interpreter.print_allocations()


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
