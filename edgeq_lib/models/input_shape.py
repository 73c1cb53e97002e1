"""What image a model file asks for, read from the file itself, without its framework."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

from edgeq_lib.files import EdgeqError
from edgeq_lib.tflite.reader import read_graph

_FOREIGN = {  # what edgeq does not read, and what its owner can do
    ".pt": "export the network with torch.export.export and torch.export.save to a .pt2 file",
    ".pth": "export the network with torch.export.export and torch.export.save to a .pt2 file",
    ".onnx": "give the Keras or PyTorch model that it was exported from, or a float .tflite file",
    ".pb": "give the folder of the SavedModel, or a float .tflite file",
}
_KEYS = ("batch_shape", "batch_input_shape", "build_input_shape")  # Keras 3; Keras 2; Sequential


def input_shape(path: Path) -> tuple[int | None, ...] | None:
    """Read the shape of the input of a model file, without the batch.

    Args:
        path: The model file.

    Returns:
        (height, width, channels), or (height, width) where there is no channel axis; None in the
        place of what is open. None where the file does not say so without its framework, as a
        SavedModel. A `.pt2` file has channels first; they are returned last.

    Raises:
        EdgeqError: The file is missing, of a kind that edgeq does not take, or cannot be read as
            what its suffix says.
    """
    if not path.exists():
        raise EdgeqError(f"There is no model {path}; correct the path.")
    if path.suffix not in (".keras", ".h5", ".hdf5", ".tflite", ".pt2") and not path.is_dir():
        cure = _FOREIGN.get(path.suffix, "give a .keras, .h5, .tflite or .pt2 file")
        raise EdgeqError(f"{path.name} is no model file that edgeq reads; {cure}.")
    try:
        if path.suffix == ".tflite":
            graph = read_graph(path.read_bytes())
            shape: Any = graph.tensors[graph.inputs[0]].shape
        elif path.suffix == ".keras":
            with zipfile.ZipFile(path) as archive:
                shape = _first_shape(json.loads(archive.read("config.json")))
        elif path.suffix in (".h5", ".hdf5"):
            shape = _first_shape(_h5_config(path))
        elif path.suffix == ".pt2":
            shape = _program_shape(path)
        else:
            return None
    except (zipfile.BadZipFile, KeyError, ValueError, OSError) as error:
        raise EdgeqError(
            f"{path.name} cannot be read as a {path.suffix} model ({error}); give the file that "
            "your framework saved."
        ) from None
    return tuple(shape[1:]) if shape else None


def _program_shape(path: Path) -> list[int | None] | None:
    """The input of a program that `torch.export.save` wrote: a ZIP archive with a JSON graph."""
    with zipfile.ZipFile(path) as archive:
        found = [name for name in archive.namelist() if name.endswith("models/model.json")]
        if not found:
            return None
        module = json.loads(archive.read(found[0]))["graph_module"]
    (given,) = [entry for entry in module["signature"]["input_specs"] if "user_input" in entry]
    tensor = given["user_input"]["arg"]["as_tensor"]["name"]
    sizes = [size.get("as_int") for size in module["graph"]["tensor_values"][tensor]["sizes"]]
    return [sizes[0], *sizes[2:], sizes[1]] if len(sizes) == 4 else None


def _h5_config(path: Path) -> Any:
    import h5py

    with h5py.File(path) as file:
        config = file.attrs["model_config"]
    return json.loads(config)


def _first_shape(config: Any) -> list[int | None] | None:
    """The first image shape in a Keras configuration, depth first: that of the input layer."""
    if isinstance(config, dict):
        for key in _KEYS:
            shape = config.get(key)
            if isinstance(shape, list) and len(shape) in (3, 4):
                return shape
    parts = config.values() if isinstance(config, dict) else config
    if isinstance(config, dict | list):
        for part in parts:
            if shape := _first_shape(part):
                return shape
    return None
