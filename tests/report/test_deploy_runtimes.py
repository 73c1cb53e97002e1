"""The bundles for other runtimes: predict.py, run as a program of its own, repeats the engine's
predictions, and takes no other package.
"""

import subprocess
import sys

import pytest
from PIL import Image

from edgeq_lib.measure.runtimes import onnxruntime, openvino
from edgeq_lib.measure.runtimes.engine import predict
from edgeq_lib.models.preprocessing import SIGNED
from edgeq_lib.report import deploy_runtimes

CLASSES = ["cat", "Größe", "a b", "d"]
DATA = {"classes": CLASSES, "image_size": [8, 8], "channels": 3, "aspect": "stretch"}
ENGINES = {engine.NAME: engine for engine in (openvino, onnxruntime)}
# Runs predict.py with its arguments, and fails when it took more than its three packages.
WRAPPER = """import runpy, sys
sys.argv = sys.argv[1:]
sys.path.insert(0, sys.argv[0].rsplit("/", 1)[0])
runpy.run_path(sys.argv[0])
taken = {"tensorflow", "tf_keras", "edgeq_lib", "ai_edge_litert", "onnx", "nncf"}
taken &= set(sys.modules)
sys.exit(f"predict.py imports {taken}" if taken else 0)"""


@pytest.mark.parametrize("name", ENGINES)
def test_predict_repeats_the_predictions(tmp_path, name, small_net, pictures):
    engine, model = ENGINES[name], small_net[1]
    if reason := engine.reason_missing():
        pytest.skip(reason)
    int8 = engine.quantize(engine.float_files(model), SIGNED(pictures[0][:32]))
    baseline = {"preprocessing": SIGNED.record()}
    paths = deploy_runtimes.write_bundle(tmp_path / "b", name, int8, model, DATA, baseline)
    assert {path.name for path in paths} == {path.name for path in (tmp_path / "b").iterdir()}
    photos = []
    for number, picture in enumerate(pictures[0][:12]):
        photos.append(tmp_path / f"{number}.png")
        Image.fromarray(picture).save(photos[-1])
    done = subprocess.run(
        [sys.executable, "-c", WRAPPER, tmp_path / "b" / "predict.py", *photos],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    told = [line.split("\t") for line in done.stdout.splitlines()]
    scores = predict(engine.load, int8, model, pictures[0][:12], SIGNED)
    assert [path for path, _, _ in told] == [str(photo) for photo in photos]
    assert [label for _, label, _ in told] == [CLASSES[best] for best in scores.argmax(axis=1)]
    assert [float(score) for _, _, score in told] == pytest.approx(
        scores.max(axis=1).tolist(), rel=1e-5
    )
    text = (tmp_path / "b" / "README.md").read_text()
    assert f"pip install numpy Pillow {deploy_runtimes.folder_name(name)}" in text
    assert "ai-edge-litert" not in text + (tmp_path / "b" / "predict.py").read_text()


@pytest.mark.parametrize("name", ENGINES)
def test_the_program_is_litert_s_on_another_interpreter(tmp_path, name, small_net):
    """Without the extra: the text that is written, whatever the runtime."""
    files = {"model.x": b"12345"}
    baseline = {"preprocessing": SIGNED.record()}
    deploy_runtimes.write_bundle(tmp_path, name, files, small_net[1], DATA, baseline)
    program = (tmp_path / "predict.py").read_text()
    compile(program, "predict.py", "exec")
    compile((tmp_path / "network.py").read_text(), "network.py", "exec")
    assert program.count("from network import Interpreter") == 1
    assert "litert" not in program and "model.tflite" not in program
    assert "- `model.x`: 5 bytes" in (tmp_path / "README.md").read_text()


def test_what_is_untested_is_said_to_be(tmp_path):
    paths = deploy_runtimes.write_qdq(tmp_path, {"model.onnx": b"1"})
    assert [path.name for path in paths] == ["model.onnx", "README.md"]
    text = paths[1].read_text()
    assert "untested here" in text and "trtexec --onnx=model.onnx" in text and "ExecuTorch" in text


def test_a_changed_predict_is_noticed(tmp_path, monkeypatch):
    other = tmp_path / "other.py"
    other.write_text("print('another program')\n")
    monkeypatch.setattr(deploy_runtimes.deploy, "PREDICT", other)
    with pytest.raises(ValueError, match="0 times, not once"):
        deploy_runtimes.write_bundle(
            tmp_path / "b", "OpenVINO", {}, _small(), DATA, {"preprocessing": SIGNED.record()}
        )


def _small():
    from tiny_files import tiny_files

    return tiny_files()["float32"]
