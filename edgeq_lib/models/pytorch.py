"""PyTorch: an exported program (`torch.export.save`) as a float flatbuffer, by litert-torch.

PyTorch runs in a process of its own (this file, as a script): it is large, brings its own copies of
what TensorFlow links, and is not needed again.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

INSTALL = 'pip install "edgeq[pytorch]" (or pip install "litert-torch>=0.10")'


def reason_missing() -> str:
    """Say why PyTorch files cannot be read; empty when they can."""
    names = [name for name in ("torch", "litert_torch") if importlib.util.find_spec(name) is None]
    return f"{' and '.join(names)} cannot be imported; install with {INSTALL}" if names else ""


# Sizes that PyTorch writes as expressions and reads by `eval`: symbols, numbers, a few functions.
_HARMLESS = re.compile(
    r"(?:Symbol\('[su]\d+'(?:, \w+=(?:True|False))*\)|Integer\(-?\d+\)|[su]\d+|\d+"
    r"|Add|Mul|Pow|Max|Min|Mod|FloorDiv|[-+*/(), ])*"
)


def runs_code(path: Path) -> bool:
    """Tell whether reading a program's graph could run code: it holds more than plain sizes.

    Args:
        path: A `.pt2` file; weights are read without pickled code in any case, see
            `convert_program`.
    """

    def expressions(value: Any) -> list[str]:
        if isinstance(value, dict):
            own = [value["expr_str"]] if isinstance(value.get("expr_str"), str) else []
            return own + [text for part in value.values() for text in expressions(part)]
        return (
            [text for part in value for text in expressions(part)]
            if (isinstance(value, list))
            else []
        )

    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith(".json")]
            contents = [json.loads(archive.read(name)) for name in names]
    except (OSError, ValueError, zipfile.BadZipFile):
        return False  # PyTorch will refuse it too
    return not all(_HARMLESS.fullmatch(text) for text in expressions(contents))


def convert_program(
    path: Path, images: np.ndarray, trusted: bool = False
) -> tuple[bytes, np.ndarray]:
    """Convert an exported PyTorch program to a float flatbuffer of batch 1, channels last.

    Args:
        path: A `.pt2` file.
        images: Preprocessed float32 (n, H, W, C); the program may want (n, C, H, W), which then is
            moved into the first operation.
        trusted: Allow pickled code and sizes that are code.

    Returns:
        The flatbuffer, and the program's own outputs on the images, float32 (n, classes).

    Raises:
        EdgeqError: When litert-torch is missing, the program is not one image to one row of scores,
            was exported in training mode, or cannot be converted.
    """
    from edgeq_lib.files import EdgeqError

    if missing := reason_missing():
        raise EdgeqError(f"{path.name} is a PyTorch program, and {missing}.")
    if not trusted and runs_code(path):
        raise EdgeqError(
            f"{path.name} holds sizes that PyTorch reads as code; set `trusted: true` in the "
            "section 'baseline' if you know where it comes from."
        )
    environment = {**os.environ, **({} if trusted else {"TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1"})}
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "images.npy", images)
        done = subprocess.run(
            [sys.executable, __file__, str(path), folder],
            capture_output=True,
            text=True,
            env=environment,
        )
        report = Path(folder) / "report.json"
        if not report.exists():
            last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            raise EdgeqError(
                f"PyTorch ended while converting {path.name} ({last[:200]}); export the program "
                "again with this version of PyTorch."
            )
        if refused := json.loads(report.read_text()):
            raise EdgeqError(f"{path.name} {refused}")
        return (
            (Path(folder) / "model.tflite").read_bytes(),
            np.load(Path(folder) / "outputs.npy"),
        )


class _Refused(Exception):
    """What is wrong with the program, and how to mend it, as a sentence without its subject."""


def _convert(path: Path, folder: Path) -> None:
    """In the child: load, check, compute the outputs, convert."""
    import litert_torch
    import torch

    images = torch.from_numpy(np.load(folder / "images.npy"))
    try:
        program = torch.export.load(path)
    except Exception as error:  # zipfile's, pickle's and PyTorch's own
        raise _Refused(
            f"cannot be read by PyTorch {torch.__version__} ({_first_line(error)}); save it with "
            "torch.export.save(torch.export.export(model.eval(), (image,)), 'NAME.pt2')."
        ) from None
    _check_inference(program)
    shape = _input_shape(program)
    channels_first = shape[1:] == [images.shape[3], *images.shape[1:3]]
    if not channels_first and shape[1:] != list(images.shape[1:]):
        raise _Refused(
            f"takes images of {tuple(shape[1:])} and the data are {tuple(images.shape[1:])}; set "
            "image_size (and channels) in the section 'data', or export it for these images."
        )
    if isinstance(shape[0], int) and shape[0] != 1:
        raise _Refused(f"was exported for {shape[0]} images at a time; export it for one.")
    module: Any = program.module()
    if channels_first:
        module = litert_torch.to_channel_last_io(module, args=[0])
    with torch.no_grad():
        outputs = torch.cat([module(image[None]) for image in images])
    if outputs.ndim != 2:
        raise _Refused(f"gives outputs of shape {tuple(outputs.shape)}, not a row of class scores.")
    try:
        litert_torch.convert(module, (images[:1],)).export(str(folder / "model.tflite"))
    except Exception as error:
        raise _Refused(
            f"cannot be converted by litert-torch ({_first_line(error)}); replace the operation "
            "that it names."
        ) from None
    np.save(folder / "outputs.npy", outputs.numpy().astype(np.float32))


def _input_shape(program: Any) -> list[Any]:
    """The shape of the program's one input; an open number of images is its symbol."""
    names = program.graph_signature.user_inputs
    if len(names) != 1 or len(program.graph_signature.user_outputs) != 1:
        raise _Refused("must map one image to one row of class scores.")
    node = next(node for node in program.graph.nodes if node.name == names[0])
    return [size if isinstance(size, int) else str(size) for size in node.meta["val"].shape]


def _check_inference(program: Any) -> None:
    for node in program.graph.nodes:
        name = str(node.target)
        trains = "batch_norm" in name and (
            "functional" in name or (len(node.args) > 5 and node.args[5] is True)
        )
        if trains or ("dropout" in name and len(node.args) > 2 and node.args[2] is True):
            raise _Refused("was exported in training mode; call model.eval() before the export.")


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0][:200]


if __name__ == "__main__":
    _folder = Path(sys.argv[2])
    _reason = ""
    try:
        _convert(Path(sys.argv[1]), _folder)
    except _Refused as refusal:
        _reason = str(refusal)
    (_folder / "report.json").write_text(json.dumps(_reason))
