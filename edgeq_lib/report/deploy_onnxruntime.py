"""ONNX Runtime behind the few calls of LiteRT's interpreter that predict.py makes: one thread."""

import numpy as np
import onnxruntime


class Interpreter:
    """A session on the processor."""

    def __init__(self, path: str, num_threads: int = 1) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads
        self._session = onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"]
        )

    def allocate_tensors(self) -> None:
        """Do nothing: ONNX Runtime has done it."""

    def get_input_details(self) -> list[dict]:
        """Describe the input."""
        return [{"index": 0, "dtype": np.float32}]

    get_output_details = get_input_details

    def set_tensor(self, index: int, values: np.ndarray) -> None:
        """Take the image, float32 (1, height, width, channels)."""
        self._image = values

    def invoke(self) -> None:
        """Compute once."""
        self._scores = self._session.run(None, {self._session.get_inputs()[0].name: self._image})[0]

    def get_tensor(self, index: int) -> np.ndarray:
        """Return the scores, float32 (1, outputs)."""
        return self._scores
