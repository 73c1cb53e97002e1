"""The constants of a file as writable arrays, and its scales."""

import numpy as np
import pytest
from tiny_files import KERNELS, tiny_files

from edgeq_lib.tflite.buffers import scales_of, unpacked, writable_buffers
from edgeq_lib.tflite.reader import read_graph


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return tiny_files()


def test_packed_integers_come_out_as_they_went_in():
    four = unpacked(np.array([0x8F, 0x07], np.uint8), 4, np.array([3]))
    two = unpacked(np.array([0b11100100], np.uint8), 2, np.array([2, 2]))
    assert four.tolist() == [-1, -8, 7] and two.tolist() == [[0, 1], [-2, -1]]
    assert four.dtype == two.dtype == np.int8


@pytest.mark.parametrize(("name", "dtype"), [("float32", np.float32), ("int8", np.int8)])
def test_what_is_written_is_in_the_file(files, name, dtype):
    model = bytearray(files[name])
    index = read_graph(model).ops[0].inputs[1]
    kernel = writable_buffers(model)[index]
    assert kernel.size == KERNELS["conv"] and kernel.dtype == dtype
    kernel[:] = 3
    assert len(model) == len(files[name]) and (writable_buffers(model)[index] == 3).all()


def test_four_bits_are_an_unpacked_copy(files):
    model = bytearray(files["int4"])
    kernel = writable_buffers(model)[read_graph(model).ops[0].inputs[1]]
    assert kernel.dtype == np.int8 and kernel.shape == (4, 3, 3, 3)
    assert -8 <= kernel.min() < 0 < kernel.max() <= 7


def test_scales_are_those_of_quantized_tensors(files):
    assert scales_of(files["float32"]) == {}
    graph, scales = read_graph(files["int8"]), scales_of(files["int8"])
    assert {index for index, tensor in enumerate(graph.tensors) if tensor.scales} == set(scales)
    kernel, zeros = scales[graph.ops[0].inputs[1]]
    assert kernel.shape == zeros.shape == (4,) and (kernel > 0).all() and not zeros.any()
