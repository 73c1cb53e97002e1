"""Segments compute what the whole file computes, wherever it is cut and whatever fits in memory."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from pointwise import IMAGES, network
from tiny_files import tiny_files

from edgeq_lib.compress.quantize import calibration, quantizer
from edgeq_lib.models.convert import convert
from edgeq_lib.tflite.buffers import writable_buffers
from edgeq_lib.tflite.pool import chunks
from edgeq_lib.tflite.reader import read_graph
from edgeq_lib.tflite.runtime import make_interpreter, quantize_array
from edgeq_lib.tflite.segments import Frontier, cut


@pytest.fixture(scope="module")
def files():
    """Name → (file, images): chains and a residual sum, in float32 and int8."""
    tiny, residual = tiny_files(), convert(network())
    pictures = np.random.default_rng(2).normal(size=(5, 8, 8, 3)).astype(np.float32)
    ranges = calibration.calibrate(residual, IMAGES, (-3, 3))
    return {
        "float32": (tiny["float32"], pictures),
        "int8": (tiny["int8"], pictures),
        "uint8 graph input": (tiny["uint8"], pictures),
        "residual": (residual, IMAGES),
        "residual int8": (quantizer.quantize(residual, quantizer.scheme("int8"), ranges), IMAGES),
    }


def computed(model, images):
    """Tensor → its values on all images, from the whole file."""
    interpreter, graph = make_interpreter(model, keep_tensors=True), read_graph(model)
    (detail,) = interpreter.get_input_details()
    indices = [*graph.inputs, *(index for op in graph.ops for index in op.outputs)]
    values = {index: [] for index in indices}
    for image in quantize_array(images, detail):
        interpreter.set_tensor(detail["index"], image[None])
        interpreter.invoke()
        for index in indices:
            values[index].append(interpreter.get_tensor(index)[0])
    return {index: np.array(rows) for index, rows in values.items()}


def test_any_consecutive_ops_give_what_the_whole_file_gives(files):
    model, images = files["residual int8"]
    values, graph = computed(model, images), read_graph(model)
    for start in range(len(graph.ops)):
        for stop in range(start + 1, len(graph.ops) + 1):
            ops = graph.ops[start:stop]
            own = {op.outputs[0] for op in ops}
            read = {index for op in ops for index in op.inputs if index in values}
            inputs, (*_, output) = sorted(read - own), ops[-1].outputs
            part = make_interpreter(cut(model, slice(start, stop), inputs, [output]))
            for index in inputs:
                part.set_tensor(index, values[index][:1])
            part.invoke()
            (detail,) = part.get_output_details()
            assert detail["index"] == output
            np.testing.assert_array_equal(part.get_tensor(output), values[output][:1])


@pytest.mark.parametrize("memory", [0, 3000, 2**30])
@pytest.mark.parametrize("seed", range(3))
def test_a_frontier_holds_what_the_whole_file_computes(files, seed, memory):
    rng = np.random.default_rng(seed)
    for model, images in files.values():
        graph, values = read_graph(model), computed(model, images)
        stops = np.flatnonzero(rng.random(len(graph.ops)) < 0.7)
        frontier = Frontier(model, images, memory)
        with ThreadPoolExecutor(2) as threads:
            for number in stops:
                for tensor in [index for index in graph.ops[number].inputs if index in values]:
                    with frontier.segment(model, number, tensor) as read:
                        rows = list(threads.map(read, chunks(len(images), 2)))
                    np.testing.assert_array_equal(np.concatenate(rows), values[tensor])
                bytes_held = sum(array.nbytes for array in frontier.held.values())
                assert frontier.position == number or memory < 2**30
                assert bytes_held <= memory or frontier.position == 0


def test_ops_behind_the_frontier_may_change(files):
    model, images = files["residual int8"]
    graph, changed = read_graph(model), bytearray(model)
    frontier = Frontier(model, images)
    for number, op in enumerate(graph.ops):
        with frontier.segment(changed, number, op.inputs[0]) as read:
            rows = read(slice(0, len(images)))
        np.testing.assert_array_equal(rows, computed(bytes(changed), images)[op.inputs[0]])
        if len(op.inputs) > 2:
            writable_buffers(changed)[op.inputs[2]][:] += 100
    frontier.restart()
    with frontier.segment(changed, number, op.inputs[0]) as read:
        np.testing.assert_array_equal(read(slice(0, len(images))), rows)
