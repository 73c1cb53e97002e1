"""OpenVINO behind the few calls of LiteRT's interpreter that predict.py makes: one thread."""

import numpy as np
import openvino

SETTINGS = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}


class Interpreter:
    """A compiled network with its one request."""

    def __init__(self, path: str, num_threads: int = 1) -> None:
        settings = {**SETTINGS, "INFERENCE_NUM_THREADS": num_threads}
        self._request = openvino.Core().compile_model(path, "CPU", settings).create_infer_request()

    def allocate_tensors(self) -> None:
        """Do nothing: OpenVINO has done it."""

    def get_input_details(self) -> list[dict]:
        """Describe the input."""
        return [{"index": 0, "dtype": np.float32}]

    get_output_details = get_input_details

    def set_tensor(self, index: int, values: np.ndarray) -> None:
        """Take the image, float32 (1, height, width, channels)."""
        self._image = values

    def invoke(self) -> None:
        """Compute once."""
        self._scores = self._request.infer([self._image])[0]

    def get_tensor(self, index: int) -> np.ndarray:
        """Return the scores, float32 (1, outputs)."""
        return self._scores
