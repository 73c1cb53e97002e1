"""Bundles for other runtimes: the runtime's own file, predict.py on it, and what TensorRT needs.

`predict.py` is the one of LiteRT's bundle; its interpreter comes from `network.py`, a few lines on
the other runtime.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeq_lib.files import write_bytes
from edgeq_lib.measure import standalone
from edgeq_lib.report import deploy

_HERE = Path(__file__).parent
ENGINES = {
    # name: module for network.py, package that it imports, the file that it loads
    "OpenVINO": ("deploy_openvino.py", "openvino", "model.xml"),
    "ONNX Runtime": ("deploy_onnxruntime.py", "onnxruntime", "model.onnx"),
}
_LITERT = "from ai_edge_litert.interpreter import Interpreter\n"


def folder_name(engine: str) -> str:
    """Name a bundle's folder: the package of its engine."""
    return ENGINES[engine][1]


def write_bundle(
    folder: Path,
    engine: str,
    files: Mapping[str, bytes],
    model: bytes,
    data: Mapping[str, Any],
    baseline: Mapping[str, Any],
) -> list[Path]:
    """Write what another runtime needs to name what photos show.

    Args:
        folder: Where it goes.
        engine: A key of `ENGINES`.
        files: The runtime's own files.
        model: The float flatbuffer that they were made from: same input, same output.
        data: The study's record of its data.
        baseline: The study's record of its float model.

    Returns:
        The files: the runtime's own, labels.txt, preprocess.json, predict.py, network.py and
        README.md.
    """
    module, package, file = ENGINES[engine]
    how = deploy.preprocessing(data, baseline, model)
    contents = {
        **files,
        "labels.txt": "\n".join(data["classes"]).encode(),
        "preprocess.json": (json.dumps(how, indent=1) + "\n").encode(),
        "predict.py": _predict(package, file).encode(),
        "network.py": (_HERE / module).read_bytes(),
        "README.md": _readme(engine, package, files).encode(),
    }
    paths = [folder / name for name in contents]
    for path, content in zip(paths, contents.values(), strict=True):
        write_bytes(path, content)
    return paths


def _predict(package: str, file: str) -> str:
    """The program of LiteRT's bundle, on another interpreter."""
    text = deploy.PREDICT.read_text()
    for old, new in (
        (_LITERT, ""),
        ("import numpy as np\n", "import numpy as np\nfrom network import Interpreter\n"),
        ("model.tflite", file),
        ("ai-edge-litert;", f"{package};"),
    ):
        if text.count(old) != 1:
            raise ValueError(f"deploy_predict.py holds {old!r} {text.count(old)} times, not once")
        text = text.replace(old, new)
    return text


def _readme(engine: str, package: str, files: Mapping[str, bytes]) -> str:
    version = standalone.versions([package]).get(package)
    listed = "\n".join(f"- `{name}`: {len(content):,} bytes" for name, content in files.items())
    return f"""# The network for {engine}

```sh
pip install numpy Pillow {package}
python predict.py photo.jpg another.png
```

`predict.py` prints one line per photo: its path, the label and the score, at one thread{
        f" (measured with {package} {version})" if version else ""
    }.

{listed}
"""


def write_qdq(folder: Path, files: Mapping[str, bytes]) -> list[Path]:
    """Write an ONNX file with explicit QDQ for TensorRT, and how it is built there.

    Args:
        folder: Where it goes.
        files: model.onnx, quantized with `symmetric`.

    Returns:
        The files: model.onnx and README.md.
    """
    contents = {**files, "README.md": QDQ_README.encode()}
    paths = [folder / name for name in contents]
    for path, content in zip(paths, contents.values(), strict=True):
        write_bytes(path, content)
    return paths


QDQ_README = """# For TensorRT and ExecuTorch: untested here

`model.onnx` holds explicit QuantizeLinear and DequantizeLinear nodes: int8 with zero point 0,
weights per channel, biases in float. ONNX Runtime executes it, with the predictions that the
study's record `runtimes` compares. Nothing below was run: it needs hardware and programs that the
machine of this study does not have.

TensorRT, on the machine with the NVIDIA GPU (the precisions come from the file's own nodes):

```sh
trtexec --onnx=model.onnx --stronglyTyped --saveEngine=model.plan
```

ExecuTorch reads no ONNX. It takes a network that PyTorch exports; for one that came into the study
as `.pt2`, quantized there by its own tools:

```python
import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import to_edge_transform_and_lower

program = to_edge_transform_and_lower(
    torch.export.load("network.pt2"), partitioner=[XnnpackPartitioner()]
).to_executorch()
open("model.pte", "wb").write(program.buffer)
```
"""
