"""Keras to a float flatbuffer, once a study, and interpreters for what is made of it."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from edgeq_lib.study import EdgeqError

_NULL = open(os.devnull, "w")  # stays open: a logger made while it is quiet keeps writing to it


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence what native code and progress bars write to the process's standard output and error.

    File descriptors as well as sys.stdout: the converter and XNNPACK print from C++.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    with contextlib.redirect_stderr(_NULL), contextlib.redirect_stdout(_NULL):
        try:
            os.dup2(_NULL.fileno(), 1)
            os.dup2(_NULL.fileno(), 2)
            yield
        finally:
            os.dup2(saved[0], 1)
            os.dup2(saved[1], 2)
            os.close(saved[0])
            os.close(saved[1])


def make_interpreter(model: bytes | Path, threads: int = 1, keep_tensors: bool = False, xnnpack: bool = True) -> Interpreter:
    """An allocated LiteRT interpreter with XNNPACK, the only one that edgeq measures with.

    `keep_tensors` keeps every intermediate tensor readable, computed by the same kernels. Without `xnnpack` LiteRT's own
    kernels compute, which round sums in another way.
    Raises EdgeqError when the runtime refuses the file. A garbled file can bring the process down: files of unknown
    origin go through `flatbuffer.check` and `isolated.check_loads` first.
    """
    source = {"model_content": bytes(model)} if isinstance(model, bytes | bytearray) else {"model_path": str(model)}
    source["experimental_preserve_all_tensors"] = keep_tensors
    if not xnnpack:
        source["experimental_op_resolver_type"] = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    try:
        with quiet():  # the first one announces its delegate
            interpreter = Interpreter(num_threads=threads, **source)
            interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise EdgeqError(f"LiteRT refuses the model: {str(error).splitlines()[0]}; make it again, or export it for "
                         "built-in ops only.") from None
    return interpreter


def convert(model: Any, configure: Callable[[Any], None] = lambda converter: None) -> bytes:
    """A Keras model as a flatbuffer with a fixed batch of one and the signature `serving_default`.

    A dynamic batch would leave SHAPE, STRIDED_SLICE and PACK in the graph. `configure` may set the converter's own
    quantization (https://ai.google.dev/edge/litert/conversion/tensorflow/quantization/post_training_quantization).
    Raises EdgeqError when an op has no LiteRT counterpart.
    """
    from edgeq_lib.quiet_tensorflow import tf
    call = tf.function(lambda image: {"output": model(image, training=False)}, autograph=False)
    image = tf.TensorSpec((1, *model.input_shape[1:]), tf.float32, name="image")
    with quiet():
        converter = tf.lite.TFLiteConverter.from_concrete_functions([call.get_concrete_function(image)], model)
        configure(converter)
        try:
            return bytes(converter.convert())
        except Exception as error:  # the converter raises its own, undocumented classes
            cause = next((line for line in str(error).splitlines() if "error" in line.lower()), type(error).__name__)
    raise EdgeqError(f"TensorFlow's converter refuses this model ({cause.strip()[:200]}); replace the layer that it names.")


def quantized(array: np.ndarray, detail: dict) -> np.ndarray:
    """Float values as the tensor described by `detail` (an interpreter's input or output details) holds them."""
    dtype = detail["dtype"]
    if not np.issubdtype(dtype, np.integer):
        return array.astype(dtype)
    scale, zero = detail["quantization"]
    bounds = np.iinfo(dtype)
    return np.clip(np.rint(array / scale) + zero, bounds.min, bounds.max).astype(dtype)


def dequantized(array: np.ndarray, detail: dict) -> np.ndarray:
    """The float32 values that a tensor stands for."""
    if not np.issubdtype(detail["dtype"], np.integer):
        return array.astype(np.float32)
    scale, zero = detail["quantization"]
    return (array.astype(np.float32) - zero) * np.float32(scale)


def run_images(interpreter: Interpreter, images: np.ndarray) -> np.ndarray:
    """Outputs (n, classes) of preprocessed float32 images (n, H, W, C), in the file's own output type."""
    inputs, outputs = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    images = quantized(images, inputs)
    results = np.empty((len(images), *outputs["shape"][1:]), outputs["dtype"])
    for row, image in enumerate(images):
        interpreter.set_tensor(inputs["index"], image[None])
        interpreter.invoke()
        results[row] = interpreter.get_tensor(outputs["index"])[0]
    return results
