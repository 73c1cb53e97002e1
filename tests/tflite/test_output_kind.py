"""A single output becomes two columns that decide and dequantize as the output does."""

import numpy as np
import pytest

from edgeq_lib.tflite.output_kind import two_columns
from edgeq_lib.tflite.runtime import dequantize_array


@pytest.mark.parametrize("seed", range(20))
def test_the_columns_decide_as_the_real_value_does(seed):
    rng = np.random.default_rng(seed)
    kind = ("sigmoid", "logits")[seed % 2]
    dtype = (np.int8, np.uint8, np.int16)[seed % 3]
    bounds = np.iinfo(dtype)
    zero_point = int(rng.integers(bounds.min, bounds.max)) if seed % 5 else bounds.min
    scale = float(rng.choice([1 / 256, rng.uniform(0.001, 0.1)]))
    detail = {"dtype": dtype, "quantization": (scale, zero_point)}
    codes = rng.integers(bounds.min, bounds.max, (200, 1), endpoint=True).astype(dtype)
    columns = two_columns(codes, kind, detail)
    value = (codes[:, 0].astype(float) - zero_point) * scale
    even = 0.5 if kind == "sigmoid" else 0.0
    certain = np.abs(value - even) > 1e-9
    assert np.array_equal(columns.argmax(-1)[certain], (value > even)[certain].astype(int))
    assert np.allclose(dequantize_array(columns, detail)[:, 0], even, atol=1e-3 * scale + 1e-4)
    assert np.array_equal(
        dequantize_array(columns, detail)[:, 1], dequantize_array(codes, detail)[:, 0]
    )


def test_litert_s_own_sigmoid_keeps_its_type_and_several_outputs_stay():
    detail = {"dtype": np.int8, "quantization": (1 / 256, -128)}
    columns = two_columns(np.array([[-128], [0], [127]], np.int8), "sigmoid", detail)
    assert columns.dtype == np.int8 and columns.tolist() == [[0, -128], [0, 0], [0, 127]]
    several = np.zeros((3, 4))
    assert two_columns(several, "logits") is several
