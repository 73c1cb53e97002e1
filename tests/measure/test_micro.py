"""Files in TensorFlow Lite Micro: what runs, what it needs, whether it computes the same."""

import importlib.util
import re

import numpy as np
import pytest

from edgeq_lib.compress.quantize import calibration, quantizer
from edgeq_lib.compress.quantize.quantizer import Scheme
from edgeq_lib.files import EdgeqError
from edgeq_lib.measure import micro
from edgeq_lib.models.convert import convert
from edgeq_lib.models.preprocessing import SIGNED
from edgeq_lib.models.tf import keras, tf
from edgeq_lib.tflite.reader import Graph, Op, Tensor
from edgeq_lib.tflite.runtime import make_interpreter, quantize_array, run_images

needs_micro = pytest.mark.skipif(
    importlib.util.find_spec("tflite_micro") is None,
    reason="TensorFlow Lite Micro is not installed (package tflite-micro)",
)
FOUR_BITS = Scheme("w4a8", weights=4, activations=8)
FOUR_BITS_ONE_SCALE = Scheme("w4a8", weights=4, activations=8, per_channel=False)


@pytest.fixture(scope="module")
def ranges(small_net, pictures):
    return calibration.calibrate(small_net[1], SIGNED(pictures[0][:32]), SIGNED.range)


@pytest.fixture(scope="module")
def int8(small_net, ranges):
    return quantizer.quantize(small_net[1], quantizer.scheme("int8"), ranges)


def codes(file, images):
    return quantize_array(SIGNED(images), make_interpreter(file).get_input_details()[0])


@needs_micro
@pytest.mark.parametrize("name", ["float32", "int8", "int8_uint8_io", "int16x8"])
def test_the_micro_runtime_computes_what_litert_computes(small_net, ranges, pictures, name):
    flat, images = small_net[1], pictures[0][100:140]
    file = flat if name == "float32" else quantizer.quantize(flat, quantizer.scheme(name), ranges)
    done = micro.run(file, codes(file, images))
    own = run_images(make_interpreter(file, xnnpack=False), SIGNED(images))
    assert done.runs and done.why is None and done.outputs.dtype == own.dtype
    difference = np.abs(done.outputs.astype(float) - own.astype(float)).max()
    assert difference <= (1e-4 if own.dtype == np.float32 and name == "float32" else 1)
    assert done.arena.total == done.arena.head + done.arena.tail <= done.arena.smallest
    assert done.arena.smallest <= 2 * done.arena.total


@needs_micro
def test_four_bit_convolutions_take_scratch_buffers(small_net, ranges, int8, pictures):
    file = quantizer.quantize(small_net[1], FOUR_BITS_ONE_SCALE, ranges)
    record = micro.compare(file, pictures[0][100:220], SIGNED)
    assert record["runs"] and record["right"] and record["images"] == 100
    assert record["largest_steps"] is not None and record["top1_agreement"] >= 99
    plain = micro.run(int8, codes(int8, pictures[0][:1])).arena
    assert record["arena"]["head"] > plain.head and record["arena_bytes"] > plain.smallest


@needs_micro
@pytest.mark.parametrize(
    ("scheme", "reason"),
    [
        (quantizer.scheme("float16"), "DEQUANTIZE .*float16"),
        (quantizer.scheme("dynamic_int8"), "CONV_2D .*hybrid.*int8 weights with float32"),
        (quantizer.scheme("w4"), "CONV_2D .*hybrid.*int4 weights"),
        (FOUR_BITS, "FULLY_CONNECTED .*must share one scale, and these have 4"),
        (Scheme("w4a16", weights=4, activations=16), "CONV_2D .*4-bit weights with int16"),
    ],
)
def test_what_the_micro_runtime_refuses_is_named(small_net, ranges, pictures, scheme, reason):
    file = quantizer.quantize(small_net[1], scheme, ranges)
    record = micro.compare(file, pictures[0], SIGNED, count=2)
    assert record["runs"] is False and record["how"] == "executed"
    assert record["error"] and "arena_bytes" not in record
    assert record["why"].endswith(".")
    assert re.search(reason, record["why"]), record["why"]


@needs_micro
def test_an_operation_that_it_lacks_is_named():
    image = keras.Input((4, 4, 1))
    file = convert(keras.Model(image, keras.layers.Lambda(tf.nn.gelu)(image)))
    done = micro.run(file, np.ones((1, 4, 4, 1), np.float32))
    assert done.runs is False and done.why == "TensorFlow Lite Micro has no operation GELU."


@needs_micro
def test_weights_unpacked_with_the_wrong_scale_are_no_success(small_net, ranges, pictures):
    per_channel = quantizer.quantize(small_net[1], quantizer.scheme("weight_only_int8"))
    record = micro.compare(per_channel, pictures[0], SIGNED, count=20)
    assert record["runs"] is False and record["right"] is False and record["arena_bytes"] > 0
    assert "first channel's scale" in record["why"]


@needs_micro
def test_shared_work_comes_back_in_order(monkeypatch, int8, pictures):
    inputs = codes(int8, pictures[0][:7])
    monkeypatch.setattr(micro, "cores", lambda: 1)
    alone = micro.run(int8, inputs)
    monkeypatch.setattr(micro, "cores", lambda: 3)
    shared = micro.run(int8, inputs)
    assert len(np.unique(alone.outputs, axis=0)) > 1
    np.testing.assert_array_equal(alone.outputs, shared.outputs)


# What follows needs no micro runtime: other programs stand in for it.
@pytest.fixture
def program(tmp_path, monkeypatch):
    """Puts a Python program in the place of the one that runs the micro runtime."""

    def put(text):
        path = tmp_path / "program.py"
        path.write_text(f"import os, sys, time\nimport numpy as np\n{text}\n")
        monkeypatch.setattr(micro, "PROGRAM", path)
        monkeypatch.setattr(micro, "unavailable", lambda: None)
        monkeypatch.setattr(micro.importlib.metadata, "version", lambda name: "0")

    return put


def test_a_crash_takes_nothing_else_down(program, int8, pictures):
    program("os.abort()")
    done = micro.run(int8, codes(int8, pictures[0][:1]))
    assert done.runs is False and "down (SIGABRT)" in done.why and done.outputs is None


def test_a_file_that_takes_too_long_is_not_known_to_fail(program, int8, pictures):
    program("time.sleep(60)")
    done = micro.run(int8, codes(int8, pictures[0][:1]), timeout=0.5)
    assert done.runs is None and "within 0.5 s" in done.why


def test_a_larger_arena_is_tried_where_one_is_too_small(program, int8, pictures):
    program(
        """folder, arena, start, stop = sys.argv[1], *map(int, sys.argv[2:])
if arena < 5100 or arena == 2**24:
    sys.exit("Failed to resize buffer. Requested: 2, available 1, missing: 1")
np.save(f"{folder}/outputs.{start}.npy", np.full((stop - start, 4), arena))
for part, size in ("total", 4800), ("head", 4000), ("tail", 800):
    print(f"Arena allocation {part} {size} bytes", file=sys.stderr)"""
    )
    done = micro.run(int8, codes(int8, pictures[0][:3]))
    assert done.arena == micro.Arena(4800, 4000, 800, 5104)
    assert (done.outputs == 5104).all()  # all images ran in the arena that is reported


def test_inputs_that_do_not_fit_are_refused(program, int8, pictures):
    program("")
    for inputs in (SIGNED(pictures[0][:1]), codes(int8, pictures[0][:1])[:, :4], np.zeros(0)):
        with pytest.raises(EdgeqError, match=r"input is int8 \(1, 8, 8, 3\)"):
            micro.run(int8, inputs)


def test_a_missing_runtime_is_said_and_nothing_else_fails(monkeypatch, int8, pictures):
    monkeypatch.setattr(micro.importlib.util, "find_spec", lambda name: None)
    record = micro.compare(int8, pictures[0], SIGNED)
    assert record["runs"] is None and record["how"] is None and "tflite-micro" in record["why"]
    with pytest.raises(EdgeqError, match="not installed"):
        micro.run(int8, codes(int8, pictures[0][:1]))


def test_images_come_from_all_over_the_split(pictures):
    images = np.arange(1000).reshape(-1, 1)
    assert micro.spread(images, 3).ravel().tolist() == [0, 500, 999]
    assert micro.spread(images[:2], 100).ravel().tolist() == [0, 1]


def graph(scales=0):
    """A graph whose weights are unpacked at run time, with so many scales."""
    weights = Tensor("w", (4, 2), "INT8", True, scales, False)
    values = Tensor("v", (4, 2), "FLOAT32", False, 0, False)
    return Graph([weights, values], [Op("DEQUANTIZE", (0,), (1,))] if scales else [], (0,), (1,))


def differences(micro_outputs, own, litert, scales=0, step=0.5):
    values = {"micro": micro_outputs, "own": own, "litert": litert}
    arrays = {name: np.array(part, np.float32) for name, part in values.items()}
    return micro._differences(arrays, step, graph(scales))


def test_one_step_is_no_difference():
    record = differences([[1.0, 0.5]], [[1.0, 0.5]], [[1.0, 1.0]])
    assert record["runs"] and record["right"] and record["difference"] is None
    assert record["largest_steps"] == 1 and record["beyond_one_step"] == 0
    assert record["ties"] == 1 and record["disagreements"] == 0


def test_what_xnnpack_rounds_in_another_way_is_explained():
    record = differences([[3.0, 0.5]], [[3.0, 0.0]], [[1.0, 0.5]])
    assert record["right"] and record["largest_steps"] == 4 and record["beyond_one_step"] == 1
    assert "from those of LiteRT without XNNPACK none does" in record["difference"]
    record = differences([[3.0, 0.5]], [[2.0, 0.5]], [[1.5, 0.5]], scales=1)
    assert not record["right"] and record["runs"]  # named the same class, but nothing explains it


def test_wrong_numbers_are_no_success():
    wrong = differences([[0.0, 9.0]], [[3.0, 0.5]], [[3.0, 0.5]])
    assert wrong["runs"] is False and wrong["why"] and wrong["top1_agreement"] == 0
    same_class = differences([[9.0, 0.0]], [[3.0, 0.5]], [[3.0, 0.5]], scales=4)
    assert same_class["runs"] is False and "first channel's scale" in same_class["why"]


def test_floats_are_compared_by_their_size():
    record = differences([[100.001, 1]], [[100.0, 1]], [[100.0, 1]], step=None)
    assert record["right"] and record["largest_steps"] is None and record["difference"] is None
    assert not differences([[100.1, 1]], [[100.0, 1]], [[100.0, 1]], step=None)["right"]
