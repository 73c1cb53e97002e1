import json
import zipfile

import numpy as np
import pytest

from edgeq_lib.compress.quantize import calibration, quantizer
from edgeq_lib.files import EdgeqError
from edgeq_lib.models import pytorch
from edgeq_lib.tflite.inspect import inspect_file
from edgeq_lib.tflite.reader import read_graph
from edgeq_lib.tflite.runtime import dequantize_array, make_interpreter, run_images
from edgeq_lib.tflite.tidy import tidy

needs_torch = pytest.mark.skipif(
    bool(pytorch.reason_missing()), reason=f"PyTorch: {pytorch.reason_missing()}"
)


def _images(size=32, channels=3):
    shape = (4, size, size, channels)
    return np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)


def test_without_litert_torch_one_sentence_says_how_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(pytorch.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EdgeqError, match=r"net.pt2 is a PyTorch program, .*pip install"):
        pytorch.convert_program(tmp_path / "net.pt2", _images())


@pytest.mark.parametrize(
    ("expression", "runs"),
    [
        ("s0", False),
        ("2*s77 + 1", False),
        ("Max(1, u0)", False),
        ("Symbol('s77', positive=True, integer=True)", False),
        ("Mul(Integer(2), Symbol('s0', integer=True))", False),
        ("__import__('os')", True),
        ("Symbol(open('x').read())", True),
        ("exec(chr(105))", True),
    ],
)
def test_sizes_that_are_code_are_seen_before_pytorch_reads_them(expression, runs, tmp_path):
    with zipfile.ZipFile(tmp_path / "net.pt2", "w") as archive:
        graph = {"nodes": [{"sizes": [{"as_expr": {"expr_str": expression}}]}]}
        archive.writestr("models/model.json", json.dumps(graph))
    assert pytorch.runs_code(tmp_path / "net.pt2") == runs


@needs_torch
@pytest.mark.parametrize("name", ["mobilenetv2_like", "resnet18_like"])
def test_a_network_becomes_a_file_of_channels_last_that_computes_the_same(name, tmp_path):
    import torch
    import torch_networks

    torch.manual_seed(0)
    torch_networks.save(getattr(torch_networks, name)(), tmp_path / "net.pt2")
    file, outputs = pytorch.convert_program(tmp_path / "net.pt2", _images())
    file = tidy(file)
    assert "TRANSPOSE" not in inspect_file(file)["ops"]
    assert np.abs(run_images(make_interpreter(file), _images()) - outputs).max() <= 1e-5
    assert max(len(tensor.name) for tensor in read_graph(file).tensors) <= 48
    ranges = calibration.calibrate(file, _images(), (-1.0, 1.0))
    reach = max(float(np.abs(bounds["min"]).max()) for bounds in ranges.values())
    assert reach < 1e3, "no range reaches to the number that pads a maximum"
    for scheme, bits in (("int8", "8"), ("w4a8", "4")):
        small = quantizer.quantize(file, quantizer.scheme(scheme), ranges)
        report = inspect_file(small)
        assert report["integer_only"] and report["weight_bits_share"][bits] > 0.5
        interpreter = make_interpreter(small)
        ours = dequantize_array(
            run_images(interpreter, _images()), interpreter.get_output_details()[0]
        )
        assert np.abs(ours - outputs).max() <= 0.5 * np.ptp(outputs)


@needs_torch
def test_what_does_not_fit_is_one_sentence(tmp_path):
    import torch_networks

    path = tmp_path / "net.pt2"
    for model, settings, says in (
        (torch_networks.mobilenetv2_like().train(), {}, "training mode"),
        (torch_networks.mobilenetv2_like(), {"batch": 4}, "4 images at a time"),
        (torch_networks.mobilenetv2_like(), {"size": 40}, "set image_size"),
    ):
        torch_networks.save(model, path, **settings)
        with pytest.raises(EdgeqError, match=says):
            pytorch.convert_program(path, _images())
    path.write_bytes(b"rubbish")
    with pytest.raises(EdgeqError, match="cannot be read by PyTorch"):
        pytorch.convert_program(path, _images())


@needs_torch
def test_an_open_number_of_images_becomes_one(tmp_path):
    import torch
    import torch_networks

    sizes = ({0: torch.export.Dim("batch")},)
    image = torch.zeros(2, 3, 32, 32)
    program = torch.export.export(torch_networks.resnet18_like(), (image,), dynamic_shapes=sizes)
    torch.export.save(program, str(tmp_path / "net.pt2"))
    file, outputs = pytorch.convert_program(tmp_path / "net.pt2", _images())
    ours = run_images(make_interpreter(tidy(file)), _images())
    assert np.abs(ours - outputs).max() <= 1e-5
