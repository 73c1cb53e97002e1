"""Run a flatbuffer on images and mark each inference; `measure.arm64` runs it on an emulated Arm.

It is called as a script, `arm64_guest.py MODEL INPUTS OUTPUTS SECONDS KERNELS`, by a Python that
has numpy and ai-edge-litert only.
"""

from __future__ import annotations

import ctypes
import gc
import sys
import time

MARKER = 25956  # the system call that arm64_count.c waits for; no kernel knows it
EMPTY, START, STOP = 0, 1, 2
ROUNDS = 4


def main(model: str, inputs: str, outputs: str, seconds: str, kernels: str) -> None:
    """Invoke a model once per input, between two markers.

    Args:
        model: A `.tflite` file with one input and one output, both of batch 1.
        inputs: A `.npy` file (n, …) in the type of the model's input.
        outputs: The `.npy` file to write: (n, …) in the type of the model's output.
        seconds: When this time is over, no further input is taken.
        kernels: The name of an `OpResolverType`.
    """
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    mark = ctypes.CDLL(None).syscall
    interpreter = Interpreter(
        model_path=model,
        num_threads=1,
        experimental_op_resolver_type=OpResolverType[kernels],
    )
    interpreter.allocate_tensors()
    source = interpreter.get_input_details()[0]["index"]
    target = interpreter.get_output_details()[0]["index"]
    results: list[np.ndarray] = []
    end = time.monotonic() + float(seconds)
    for values in np.load(inputs):
        if results and time.monotonic() > end:
            break
        interpreter.set_tensor(source, values[None])
        interpreter.invoke()
        results.append(interpreter.get_tensor(target)[0])
    np.save(outputs, np.stack(results))
    gc.disable()  # from here on Python does the same in every round
    for _ in range(ROUNDS):  # what two markers and nothing between them take
        mark(MARKER, EMPTY)
        mark(MARKER, STOP)
    for _ in range(ROUNDS):
        mark(MARKER, START)
        interpreter.invoke()
        mark(MARKER, STOP)


if __name__ == "__main__":
    main(*sys.argv[1:])
