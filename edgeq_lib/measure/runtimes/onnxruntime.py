"""ONNX Runtime: float network exported from the flatbuffer, int8 with QDQ, predictions, latency.

It is an optional extra, and imported where it is used.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edgeq_lib.measure.runtimes.engine import Files, missing
from edgeq_lib.measure.runtimes.to_onnx import INPUT, to_onnx
from edgeq_lib.measure.standalone import describe_machine
from edgeq_lib.tflite.quiet import quiet

NAME = "ONNX Runtime"
PACKAGES = ("onnx", "onnxruntime")
FILE = "model.onnx"
RANGES = ("min_max",)  # its histograms would hold every activation of all images in memory
# TensorRT: zero points of 0, float biases, QDQ before the layers that compute in int8 and nowhere
# between a layer and its activation, which it fuses.
TENSORRT = {
    "ActivationSymmetric": True,
    "QuantizeBias": False,
    "OpTypesToExcludeOutputQuantization": ["Conv", "Gemm", "MatMul", "Add"],
}


def reason_missing() -> str:
    """Say why ONNX Runtime cannot be used; empty when it can."""
    return missing(NAME, PACKAGES)


def float_files(model: bytes) -> Files:
    """Export a float flatbuffer to ONNX, see `to_onnx`.

    Raises:
        CannotTake: It holds an operation that the export does not know.
    """
    return {FILE: to_onnx(model)}


def needs_reduced_range(isa: Collection[str], platform: str) -> bool:
    """Tell whether weights must have seven bits for sums not to saturate.

    x86 before VNNI multiplies uint8 by int8 and adds two products in int16, which the largest
    codes overflow (ONNX Runtime's documentation, "Quantize ONNX models").

    Args:
        isa: Instruction sets, as `standalone.describe_machine` names them.
        platform: Likewise.
    """
    x86 = platform.split()[-1].lower() in ("x86_64", "amd64", "i686")
    return x86 and not {"avx512_vnni", "avx_vnni"} & set(isa)


def quantize(
    files: Files, images: np.ndarray, ranges: str = RANGES[0], reduce_range: bool | None = None
) -> Files:
    """Quantize to int8: QDQ, weights per channel, ranges by min-max.

    Activations are uint8, for which its kernels on x86 are written.

    Args:
        files: The float network.
        images: Preprocessed float32 (n, H, W, C), the calibration set.
        ranges: Of activations, one of `RANGES`.
        reduce_range: Weights of seven bits; None where this processor needs it.

    Returns:
        model.onnx.
    """
    if reduce_range is None:
        machine = describe_machine()
        reduce_range = needs_reduced_range(machine["isa"], machine["platform"])
    return _quantize(files, images, {}, reduce_range)


def quantize_for_tensorrt(files: Files, images: np.ndarray) -> Files:
    """Quantize to int8 as TensorRT takes it, see `TENSORRT`.

    Args:
        files: The float network.
        images: Preprocessed float32 (n, H, W, C), the calibration set.

    Returns:
        model.onnx.
    """
    return _quantize(files, images, TENSORRT, False)


def _quantize(
    files: Files, images: np.ndarray, options: dict[str, Any], reduce_range: bool
) -> Files:
    with tempfile.TemporaryDirectory() as folder, quiet():
        from onnxruntime import quantization

        class Reader(quantization.CalibrationDataReader):
            def __init__(self) -> None:
                self._images: Iterator[np.ndarray] = iter(images)

            def get_next(self) -> dict[str, np.ndarray] | None:
                image = next(self._images, None)
                return None if image is None else {INPUT: image[None]}

        before, after = Path(folder) / "float.onnx", Path(folder) / FILE
        before.write_bytes(files[FILE])
        kind, level = quantization.QuantType, logging.root.level
        logging.root.setLevel(logging.ERROR)  # it warns of what does not concern these graphs
        try:
            quantization.quantize_static(
                before,
                after,
                Reader(),
                calibrate_method=quantization.CalibrationMethod.MinMax,
                quant_format=quantization.QuantFormat.QDQ,
                per_channel=True,
                reduce_range=reduce_range,
                activation_type=kind.QInt8 if "ActivationSymmetric" in options else kind.QUInt8,
                weight_type=kind.QInt8,
                extra_options=options,
            )
        finally:
            logging.root.setLevel(level)
        return {FILE: after.read_bytes()}


class Network:
    """A session at one thread."""

    def __init__(self, files: Files, optimize: bool = True) -> None:
        """Make the session.

        Args:
            files: The network.
            optimize: Without it, the graph is executed as it is written: QDQ in float numbers.
        """
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors only
        if not optimize:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        self._session = onnxruntime.InferenceSession(
            files[FILE], options, providers=["CPUExecutionProvider"]
        )
        self._bound = self._session.io_binding()
        self._output = self._session.get_outputs()[0].name

    def answer(self, image: np.ndarray) -> np.ndarray:
        """Return the output (1, outputs) for a preprocessed image, float32 (1, H, W, C)."""
        return self._session.run(None, {INPUT: np.ascontiguousarray(image)})[0]

    def set_image(self, image: np.ndarray) -> None:
        """Take the image that `invoke` computes with."""
        self._image = np.ascontiguousarray(image)  # the binding does not hold it
        self._bound.bind_cpu_input(INPUT, self._image)
        self._bound.bind_output(self._output)

    def invoke(self) -> None:
        """Compute once."""
        self._session.run_with_iobinding(self._bound)


load = Network
