"""Interpreters, and values as tensors hold them."""

import numpy as np
import pytest
from tiny_files import tiny_files

from edgeq_lib.files import EdgeqError
from edgeq_lib.tflite.runtime import (
    dequantize_array,
    make_interpreter,
    quantize_array,
    run_images,
)


def test_quantization_of_values_by_hand():
    detail = {"dtype": np.int8, "quantization": (0.5, 3)}
    assert quantize_array(np.array([-100.0, -1.5, 0.0, 0.25, 100.0]), detail).tolist() == [
        -128,
        0,
        3,
        3,
        127,
    ]
    assert dequantize_array(np.array([-128, 3], np.int8), detail).tolist() == [-65.5, 0.0]
    assert quantize_array(np.array([0.3]), {"dtype": np.float32}).dtype == np.float32


def test_a_file_that_the_runtime_refuses_is_one_sentence():
    with pytest.raises(EdgeqError, match="LiteRT refuses the model"):
        make_interpreter(b"no flatbuffer at all")


def test_outputs_are_in_the_files_own_type_whether_from_memory_or_from_a_path(tmp_path):
    model, path = tiny_files()["int8"], tmp_path / "model.tflite"
    path.write_bytes(model)
    images = np.random.default_rng(0).normal(size=(3, 8, 8, 3)).astype(np.float32)
    outputs = run_images(make_interpreter(model), images)
    assert outputs.shape == (3, 5) and outputs.dtype == np.int8
    np.testing.assert_array_equal(outputs, run_images(make_interpreter(path), images))
