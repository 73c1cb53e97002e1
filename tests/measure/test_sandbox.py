"""Files that LiteRT refuses, or that bring it down, tried in a process of their own."""

import signal

import pytest
from ai_edge_litert.tools import flatbuffer_utils
from tiny_files import tiny_files

from edgeq_lib.files import EdgeqError
from edgeq_lib.measure import sandbox, standalone
from edgeq_lib.tflite.inspect import check_flatbuffer


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return tiny_files()


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
