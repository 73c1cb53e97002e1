"""Keras to a float flatbuffer, once a study, and interpreters for what is made of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from edgeq_lib.files import EdgeqError
from edgeq_lib.tflite.quiet import quiet


def make_interpreter(
    model: bytes | Path, threads: int = 1, keep_tensors: bool = False, xnnpack: bool = True
) -> Interpreter:
    """An allocated LiteRT interpreter with XNNPACK, the only one that edgeq measures with.

    `keep_tensors` keeps every intermediate tensor readable, computed by the same kernels. Without `xnnpack` LiteRT's own
    kernels compute, which round sums in another way.
    Raises EdgeqError when the runtime refuses the file. A garbled file can bring the process down: files of unknown
    origin go through `flatbuffer.check` and `isolated.check_loads` first.
    """
    source = (
        {"model_content": bytes(model)}
        if isinstance(model, bytes | bytearray)
        else {"model_path": str(model)}
    )
    source["experimental_preserve_all_tensors"] = keep_tensors
    if not xnnpack:
        source["experimental_op_resolver_type"] = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    try:
        with quiet():  # the first one announces its delegate
            interpreter = Interpreter(num_threads=threads, **source)
            interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise EdgeqError(
            f"LiteRT refuses the model: {str(error).splitlines()[0]}; make it again, or export it for "
            "built-in ops only."
        ) from None
    return interpreter


def quantize_array(array: np.ndarray, detail: dict) -> np.ndarray:
    """Float values as the tensor described by `detail` (an interpreter's input or output details) holds them."""
    dtype = detail["dtype"]
    if not np.issubdtype(dtype, np.integer):
        return array.astype(dtype)
    scale, zero = detail["quantization"]
    bounds = np.iinfo(dtype)
    return np.clip(np.rint(array / scale) + zero, bounds.min, bounds.max).astype(dtype)


def dequantize_array(array: np.ndarray, detail: dict) -> np.ndarray:
    """The float32 values that a tensor stands for."""
    if not np.issubdtype(detail["dtype"], np.integer):
        return array.astype(np.float32)
    scale, zero = detail["quantization"]
    return (array.astype(np.float32) - zero) * np.float32(scale)


def run_images(interpreter: Interpreter, images: np.ndarray) -> np.ndarray:
    """Outputs (n, classes) of preprocessed float32 images (n, H, W, C), in the file's own output type."""
    inputs, outputs = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    images = quantize_array(images, inputs)
    results = np.empty((len(images), *outputs["shape"][1:]), outputs["dtype"])
    for row, image in enumerate(images):
        interpreter.set_tensor(inputs["index"], image[None])
        interpreter.invoke()
        results[row] = interpreter.get_tensor(outputs["index"])[0]
    return results
