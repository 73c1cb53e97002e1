"""OpenVINO: the float network read from the flatbuffer, int8 by NNCF, predictions, latency.

It is an optional extra, and imported where it is used.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from edgeq_lib.files import CannotTake
from edgeq_lib.measure.runtimes.engine import Files, missing
from edgeq_lib.tflite.quiet import quiet

NAME = "OpenVINO"
PACKAGES = ("openvino", "nncf")
# One thread; float32 where a network says so: by default OpenVINO computes it in bfloat16 on
# processors that have that (AMX), which is another network.
SETTINGS: dict[str, int | str] = {
    "INFERENCE_NUM_THREADS": 1,
    "NUM_STREAMS": 1,
    "INFERENCE_PRECISION_HINT": "f32",
}
# How NNCF turns extremes into ranges: their mean over images, its default, clips what few hold.
RANGES = ("mean", "min_max")


def reason_missing() -> str:
    """Say why OpenVINO cannot be used; empty when it can."""
    return missing(NAME, PACKAGES)


def float_files(model: bytes) -> Files:
    """Make OpenVINO's float network of a float flatbuffer, which it reads itself.

    Args:
        model: The flatbuffer.

    Returns:
        model.xml and model.bin, with float32 weights.

    Raises:
        CannotTake: OpenVINO does not read the flatbuffer.
    """
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        path.write_bytes(model)
        try:
            return _files(openvino.Core().read_model(path))
        except RuntimeError as error:
            reason = " ".join(str(error).split())[-300:]
            raise CannotTake(f"OpenVINO does not read the float flatbuffer: {reason}") from None


def _files(network: Any) -> Files:
    """The two files of a network, weights as they are: by default float ones would be halved."""
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.xml"
        openvino.save_model(network, path, compress_to_fp16=False)
        return {path.name: path.read_bytes(), "model.bin": path.with_suffix(".bin").read_bytes()}


def quantize(files: Files, images: np.ndarray, ranges: str = RANGES[0]) -> Files:
    """Quantize to int8 as NNCF does best without training: with accurate bias correction.

    Args:
        files: The float network.
        images: Preprocessed float32 (n, H, W, C), the calibration set; all are used, for ranges and
            for the correction.
        ranges: Of activations, one of `RANGES`.

    Returns:
        model.xml and model.bin.
    """
    os.environ.setdefault("NNCF_CI", "1")  # at import: send no telemetry
    # In a notebook its bars go past standard output, unless they take it for a terminal.
    with quiet(), mock.patch("rich.console._is_jupyter", return_value=False):
        import nncf
        from nncf.quantization import range_estimator

        summary = {
            "mean": range_estimator.RangeEstimatorParameters(),
            "min_max": range_estimator.RangeEstimatorParametersSet.MINMAX,
        }[ranges]
        quantized = nncf.quantize(
            _read(files),
            nncf.Dataset(list(images), lambda image: image[None]),
            subset_size=len(images),
            fast_bias_correction=False,
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                activations_range_estimator_params=summary
            ),
        )
    return _files(quantized)


def _read(files: Files) -> Any:
    import openvino

    return openvino.Core().read_model(files["model.xml"], files["model.bin"])


class Network:
    """A compiled network with its one request."""

    def __init__(self, files: Files) -> None:
        """Compile the network for one thread of this processor."""
        import openvino

        self._request = (
            openvino.Core().compile_model(_read(files), "CPU", SETTINGS).create_infer_request()
        )

    def answer(self, image: np.ndarray) -> np.ndarray:
        """Return the output (1, outputs) for a preprocessed image, float32 (1, H, W, C)."""
        self.set_image(image)
        self.invoke()
        return self._request.get_output_tensor().data.copy()

    def set_image(self, image: np.ndarray) -> None:
        """Take the image that `invoke` computes with."""
        import openvino

        self._request.set_input_tensor(openvino.Tensor(np.ascontiguousarray(image)))

    def invoke(self) -> None:
        """Compute once."""
        self._request.start_async()  # these two copy no output, as LiteRT's `invoke` does not
        self._request.wait()


load = Network
