"""Graph rewrites: uint8 inputs and outputs, dense layers for 1 × 1 convolutions."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from pointwise import IMAGES, network, outputs
from tiny_files import tiny_files

from edgeq_lib.files import EdgeqError
from edgeq_lib.models.convert import convert
from edgeq_lib.tflite.reader import read_graph
from edgeq_lib.tflite.rewrite import as_dense, with_io_type, with_uint8_io
from edgeq_lib.tflite.runtime import make_interpreter


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return tiny_files()


def test_uint8_inputs_and_outputs_give_the_int8_results_plus_128(files):
    old, new = make_interpreter(files["int8"]), make_interpreter(files["uint8"])
    image = np.random.default_rng(1).integers(-128, 128, (16, 1, 8, 8, 3))
    for data in image:
        results = []
        for interpreter, shift in ((old, 0), (new, 128)):
            detail = interpreter.get_input_details()[0]
            interpreter.set_tensor(detail["index"], (data + shift).astype(detail["dtype"]))
            interpreter.invoke()
            results.append(
                interpreter.get_tensor(interpreter.get_output_details()[0]["index"]).astype(int)
            )
        np.testing.assert_array_equal(results[0] + 128, results[1])
    for side in ("get_input_details", "get_output_details"):
        before, after = getattr(old, side)()[0], getattr(new, side)()[0]
        assert after["dtype"] == np.uint8
        assert after["quantization"] == (before["quantization"][0], before["quantization"][1] + 128)


def test_uint8_inputs_and_outputs_keep_the_signature(files):
    runner = make_interpreter(files["uint8"]).get_signature_runner("serving_default")
    output = runner(image=np.full((1, 8, 8, 3), 128, np.uint8))["output"]
    assert output.dtype == np.uint8 and output.shape == (1, 5)


def test_uint8_inputs_and_outputs_keep_buffers_aligned(files):
    root = schema.Model.GetRootAs(files["uint8"])
    tables = [root.Buffers(index)._tab for index in range(root.BuffersLength())]
    starts = [table.Vector(table.Offset(4)) for table in tables if table.Offset(4)]
    assert len(starts) > 4 and all(start % 16 == 0 for start in starts)


def test_uint8_inputs_and_outputs_need_int8(files):
    with pytest.raises(EdgeqError, match="float32, not int8"):
        with_uint8_io(files["float32"])


def test_the_type_of_inputs_and_outputs_by_name(files):
    assert with_io_type(files["int8"], "int8") is files["int8"]
    assert with_io_type(files["int8"], "uint8") == files["uint8"]


def test_pointwise_convolutions_become_dense_layers_and_nothing_else_does():
    flat = convert(network())
    dense = as_dense(flat)
    kinds = [op.name for op in read_graph(dense).ops]
    assert kinds == ["FULLY_CONNECTED"] * 3 + ["ADD", "CONV_2D", "CONV_2D"]
    assert np.abs(outputs(dense, IMAGES) - outputs(flat, IMAGES)).max() <= 1e-5
    assert as_dense(dense) == dense
