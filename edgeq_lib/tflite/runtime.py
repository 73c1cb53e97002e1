"""LiteRT interpreters for flatbuffers, and their quantized inputs and outputs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from edgeq_lib.files import EdgeqError
from edgeq_lib.tflite.quiet import quiet

# An interpreter's description of a tensor: its index, dtype, quantization (scale, zero point) …
Detail = Mapping[str, Any]


def make_interpreter(
    model: bytes | bytearray | Path,
    threads: int = 1,
    keep_tensors: bool = False,
    xnnpack: bool = True,
) -> Interpreter:
    """Make an allocated LiteRT interpreter with XNNPACK, the only one that edgeq measures with.

    A garbled file can bring the process down: files of unknown origin go through
    `inspect.check_flatbuffer` and `sandbox.check_loads` first.

    Args:
        model: Content or path of a `.tflite` file.
        threads: Threads that a single invocation may use.
        keep_tensors: Keep every intermediate tensor readable, computed by the same kernels.
        xnnpack: Without it LiteRT's own kernels compute, which round sums in another way.

    Returns:
        The interpreter, its tensors allocated.

    Raises:
        EdgeqError: The runtime refuses the file.
    """
    settings: dict[str, Any] = {"experimental_preserve_all_tensors": keep_tensors}
    if isinstance(model, bytes | bytearray):
        settings["model_content"] = bytes(model)
    else:
        settings["model_path"] = str(model)
    if not xnnpack:
        settings["experimental_op_resolver_type"] = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    try:
        with quiet():  # the first one announces its delegate
            interpreter = Interpreter(num_threads=threads, **settings)
            interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise EdgeqError(
            f"LiteRT refuses the model: {str(error).splitlines()[0]}; make it again, or export it "
            "for built-in ops only."
        ) from None
    return interpreter


def quantize_array(array: np.ndarray, detail: Detail) -> np.ndarray:
    """Quantize float values as a tensor holds them: round(value / scale) + zero point, clipped.

    Args:
        array: Float values of any shape.
        detail: An interpreter's description of the tensor (of its input or output details).

    Returns:
        The values in the tensor's type; only cast where that is not an integer type.
    """
    dtype = detail["dtype"]
    if not np.issubdtype(dtype, np.integer):
        return array.astype(dtype)
    scale, zero = detail["quantization"]
    bounds = np.iinfo(dtype)
    return np.clip(np.rint(array / scale) + zero, bounds.min, bounds.max).astype(dtype)


def dequantize_array(array: np.ndarray, detail: Detail) -> np.ndarray:
    """Compute the float32 values that a tensor stands for: (code - zero point) × scale.

    Args:
        array: What the tensor holds, of any shape.
        detail: An interpreter's description of the tensor.

    Returns:
        float32 values in the shape of `array`.
    """
    if not np.issubdtype(detail["dtype"], np.integer):
        return array.astype(np.float32)
    scale, zero = detail["quantization"]
    return (array.astype(np.float32) - zero) * np.float32(scale)


def run_images(interpreter: Interpreter, images: np.ndarray) -> np.ndarray:
    """Run a file on images, one at a time.

    Args:
        interpreter: Of a file with one input and one output, both of batch 1.
        images: Preprocessed, float32 (n, H, W, C); quantized here as the file's input asks.

    Returns:
        Outputs (n, classes), in the file's own output type.
    """
    inputs, outputs = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    images = quantize_array(images, inputs)
    results = np.empty((len(images), *outputs["shape"][1:]), outputs["dtype"])
    for row, image in enumerate(images):
        interpreter.set_tensor(inputs["index"], image[None])
        interpreter.invoke()
        results[row] = interpreter.get_tensor(outputs["index"])[0]
    return results
