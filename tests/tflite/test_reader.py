"""Reading flatbuffers that are truncated, garbled, or none."""

import numpy as np
import pytest
from tiny_files import tiny_files

from edgeq_lib.files import EdgeqError
from edgeq_lib.tflite.inspect import check_flatbuffer
from edgeq_lib.tflite.reader import KERNELS, read_graph


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return tiny_files()


def test_a_graph_is_read_in_its_order(files):
    graph = read_graph(files["int8"])
    assert [op.name for op in graph.ops if op.name in KERNELS] == [
        "CONV_2D",
        "DEPTHWISE_CONV_2D",
        "TRANSPOSE_CONV",
        "FULLY_CONNECTED",
    ]
    (image,) = (graph.tensors[index] for index in graph.inputs)
    assert (image.shape, image.dtype, image.bytes) == ((1, 8, 8, 3), "INT8", 8 * 8 * 3)
    assert not (image.constant or image.variable or image.is_float) and image.scales == 1
    kernel = graph.tensors[graph.ops[0].inputs[1]]
    assert kernel.constant and kernel.scales == kernel.shape[0] == 4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"TFL3", "identifier"),
        (b"PK\x03\x04" + bytes(100), "identifier"),
        (b"\x08\0\0\0TFL3", "garbled"),
        (b"\xff\xff\xff\x7fTFL3" + bytes(50), "garbled"),
    ],
)
def test_files_that_are_no_flatbuffer_are_refused(content, message):
    with pytest.raises(EdgeqError, match=message):
        check_flatbuffer(content)


@pytest.mark.parametrize("name", ["float32", "int8", "int4", "uint8"])
def test_truncated_files_are_refused(files, name):
    check_flatbuffer(files[name])
    for length in range(0, len(files[name]) - 16, 13):
        with pytest.raises(EdgeqError):
            check_flatbuffer(files[name][:length])


@pytest.mark.parametrize("name", ["float32", "int8", "int4"])
def test_garbled_files_raise_nothing_but_our_error(files, name):
    noise, refused = np.random.default_rng(0), 0
    for _ in range(600):
        content = bytearray(files[name])
        for position in noise.integers(0, len(content), noise.integers(1, 30)):
            content[position] = noise.integers(256)
        try:
            check_flatbuffer(bytes(content))
        except EdgeqError:
            refused += 1
    assert refused > 300  # the rest is flipped bits in weights and names
