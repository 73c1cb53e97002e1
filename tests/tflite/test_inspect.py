"""Reading flatbuffers: a tiny network in many schemes, broken files, and the arena plan."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils
from tiny_files import KERNELS, MACS, tiny_files

from edgeq_lib.files import EdgeqError
from edgeq_lib.measure import sandbox, standalone
from edgeq_lib.tflite.arena import plan_arena
from edgeq_lib.tflite.inspect import check_flatbuffer, inspect_file
from edgeq_lib.tflite.reader import ALIGNMENT, read_graph
from edgeq_lib.tflite.rewrite import with_uint8_io
from edgeq_lib.tflite.runtime import make_interpreter

# Input 8 × 8 × 3 → Conv2D 4, 3 × 3 → DepthwiseConv2D 3 × 3 → Conv2DTranspose 2, 2 × 2, stride 2 → mean → Dense 5


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return tiny_files()


@pytest.mark.parametrize(
    ("name", "compute", "integer_only", "input_dtype", "weight_bits", "activation_bits"),
    [
        ("float32", "float32", False, "float32", 32, 32),
        ("dynamic", "hybrid", False, "float32", 8, 32),
        ("weight_only", "float32", False, "float32", 8, 32),
        ("int8", "integer", True, "int8", 8, 8),
        ("uint8", "integer", True, "uint8", 8, 8),
        ("int16x8", "integer", True, "int16", 8, 16),
    ],
)
def test_report_tells_schemes_apart(
    files, name, compute, integer_only, input_dtype, weight_bits, activation_bits
):
    report = inspect_file(files[name])
    assert (report["compute"], report["integer_only"], report["input_dtype"]) == (
        compute,
        integer_only,
        input_dtype,
    )
    assert (report["weight_bits"], report["activation_bits"]) == (weight_bits, activation_bits)
    assert report["weight_bits_share"] == {str(weight_bits): 1.0}
    assert report["per_channel"] == (weight_bits == 8)
    assert bool(report["float_ops"]) != integer_only
    assert report["macs"] == MACS
    assert report["weights"] == sum(KERNELS.values())


def test_float_doors_make_a_file_not_integer_only(files):
    report = inspect_file(files["int8_float_io"])
    assert report["compute"] == "integer" and not report["integer_only"]
    assert report["float_ops"] == ["DEQUANTIZE", "QUANTIZE"]
    assert report["input_dtype"] == report["output_dtype"] == "float32"
    assert 8 < report["activation_bits"] < 32


def test_four_bit_kernels_are_counted_by_element(files):
    report = inspect_file(files["int4"])
    four = KERNELS["conv"] / sum(KERNELS.values())
    assert report["weight_bits_share"] == pytest.approx({"8": 1 - four, "4": four})
    assert report["weight_bits"] == pytest.approx(8 - 4 * four)
    assert report["integer_only"]


def test_uint8_doors_give_the_int8_results_plus_128(files):
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


def test_uint8_doors_keep_the_signature(files):
    runner = make_interpreter(files["uint8"]).get_signature_runner("serving_default")
    output = runner(image=np.full((1, 8, 8, 3), 128, np.uint8))["output"]
    assert output.dtype == np.uint8 and output.shape == (1, 5)


def test_uint8_doors_keep_buffers_aligned(files):
    root = schema.Model.GetRootAs(files["uint8"])
    tables = [root.Buffers(index)._tab for index in range(root.BuffersLength())]
    starts = [table.Vector(table.Offset(4)) for table in tables if table.Offset(4)]
    assert len(starts) > 4 and all(start % 16 == 0 for start in starts)


def test_uint8_doors_need_int8(files):
    with pytest.raises(EdgeqError, match="float32, not int8"):
        with_uint8_io(files["float32"])


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
        for place in noise.integers(0, len(content), noise.integers(1, 30)):
            content[place] = noise.integers(256)
        try:
            check_flatbuffer(bytes(content))
        except EdgeqError:
            refused += 1
    assert refused > 300  # the rest is flipped bits in weights and names


def test_a_file_that_litert_refuses_is_named(tmp_path, files):
    path = tmp_path / "some_variant" / "model.tflite"
    path.parent.mkdir()
    path.write_bytes(files["int8"])
    sandbox.check_loads(path)
    path.write_bytes(files["int8"][:1000])
    with pytest.raises(EdgeqError, match="some_variant/model.tflite") as error:
        sandbox.check_loads(path)
    assert str(tmp_path) not in str(error.value)


def test_a_zero_point_out_of_range_is_refused_and_does_no_harm(tmp_path, files):
    """LiteRT 2.3 dies of this file with a segmentation fault while it allocates."""
    content = flatbuffer_utils.read_model_from_bytearray(bytearray(files["uint8"]))
    graph = content.subgraphs[0]
    graph.tensors[graph.inputs[0]].quantization.zeroPoint = [-5]
    path = tmp_path / "model.tflite"
    path.write_bytes(flatbuffer_utils.convert_object_to_bytearray(content))
    with pytest.raises(EdgeqError, match="zero point"):
        check_flatbuffer(path.read_bytes())
    with pytest.raises(EdgeqError, match="model.tflite"):
        sandbox.check_loads(path)


def test_a_crash_of_the_child_becomes_our_error(tmp_path, files, monkeypatch):
    path = tmp_path / "model.tflite"
    path.write_bytes(files["int8"])
    script = tmp_path / "alone.py"
    monkeypatch.setattr(standalone, "__file__", str(script))
    script.write_text(f"import os; os.kill(os.getpid(), {int(signal.SIGSEGV)})")
    with pytest.raises(EdgeqError, match="SIGSEGV"):
        sandbox.check_loads(path)
    script.write_text("import time; time.sleep(60)")
    with pytest.raises(EdgeqError, match="within 0.2 s"):
        sandbox.check_loads(path, timeout=0.2)


def _overlaps(sizes, lives, offsets) -> list[tuple[int, int]]:
    return [
        (i, j)
        for i in range(len(sizes))
        for j in range(i)
        if lives[i][0] <= lives[j][1]
        and lives[j][0] <= lives[i][1]
        and offsets[i] < offsets[j] + sizes[j]
        and offsets[j] < offsets[i] + sizes[i]
    ]


@pytest.mark.parametrize("seed", range(40))
def test_plans_never_overlap_live_tensors(seed):
    noise = np.random.default_rng(seed)
    count, steps = int(noise.integers(1, 60)), int(noise.integers(1, 30))
    sizes = noise.integers(1, 5000, count).tolist()
    lives = [tuple(sorted(noise.integers(0, steps, 2).tolist())) for _ in range(count)]
    offsets, total = plan_arena(sizes, lives)
    assert not _overlaps(sizes, lives, offsets)
    assert all(offset % ALIGNMENT == 0 for offset in offsets)
    held = [
        sum(size for size, life in zip(sizes, lives, strict=True) if life[0] <= step <= life[1])
        for step in range(steps)
    ]
    assert max(held) <= total <= sum(sizes) + ALIGNMENT * count


def test_a_plan_reuses_memory():
    # A chain: only neighbours are alive together, so the two largest neighbours make the arena.
    assert plan_arena([64, 256, 128, 32], [(0, 1), (1, 2), (2, 3), (3, 4)])[1] == 256 + 128


def test_the_best_gap_is_taken():
    # At op 1 two holes are open, of 128 bytes at the bottom and of 96 above; the last tensor goes to the smaller.
    sizes, lives = [128, 112, 96, 80, 48], [(0, 0), (0, 9), (0, 0), (0, 9), (1, 1)]
    offsets, total = plan_arena(sizes, lives)
    assert not _overlaps(sizes, lives, offsets)
    assert offsets[4] == 128 + 112 and total == 128 + 112 + 96 + 80


@pytest.mark.parametrize("name", ["float32", "int8", "uint8"])
def test_the_arena_holds_what_each_op_needs(files, name):
    graph, report = read_graph(files[name]), inspect_file(files[name])
    needs = [
        sum(
            graph.tensors[index].bytes
            for index in {*op.inputs, *op.outputs}
            if index >= 0 and not graph.tensors[index].constant
        )
        for op in graph.ops
    ]
    everything = sum(tensor.bytes for tensor in graph.tensors if not tensor.constant)
    assert max(needs) <= report["arena_bytes"] <= everything + 16 * len(graph.tensors)


@pytest.mark.skipif(not os.environ.get("EDGEQ_ASSETS"), reason="needs the published models")
def test_published_models_read_as_published():
    peers = Path(os.environ["EDGEQ_ASSETS"]) / "peers"
    mobilenet = inspect_file((peers / "tf2_mobilenet_v2_1.0_224_ptq.tflite").read_bytes())
    assert (
        mobilenet["integer_only"]
        and mobilenet["per_channel"]
        and mobilenet["input_dtype"] == "uint8"
    )
    assert round(mobilenet["macs"] / 1e6) == 301  # "300 million multiply-adds", arXiv 1801.04381
    older = inspect_file((peers / "mobilenet_v1_0.75_192_quant.tflite").read_bytes())
    assert older["integer_only"] and not older["per_channel"]
