"""What image a model file asks for, read from the file itself, without its framework."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

from edgeq_lib.files import EdgeqError
from edgeq_lib.tflite.reader import read_graph

_KEYS = ("batch_shape", "batch_input_shape", "build_input_shape")  # Keras 3; Keras 2; Sequential


def input_shape(path: Path) -> tuple[int | None, ...] | None:
    """Read the shape of the input of a `.keras`, `.h5` or `.tflite` file, without the batch.

    Args:
        path: The model file.

    Returns:
        (height, width, channels), or (height, width) where there is no channel axis; None in the
        place of what is open. None where the file's kind does not say so without its framework.

    Raises:
        EdgeqError: The file is missing or cannot be read as what its suffix says.
    """
    if not path.exists():
        raise EdgeqError(f"There is no model {path}; correct the path.")
    try:
        if path.suffix == ".tflite":
            graph = read_graph(path.read_bytes())
            shape: Any = graph.tensors[graph.inputs[0]].shape
        elif path.suffix == ".keras":
            with zipfile.ZipFile(path) as archive:
                shape = _first_shape(json.loads(archive.read("config.json")))
        elif path.suffix in (".h5", ".hdf5"):
            shape = _first_shape(_h5_config(path))
        else:
            return None
    except (zipfile.BadZipFile, KeyError, ValueError, OSError) as error:
        raise EdgeqError(
            f"{path.name} cannot be read as a {path.suffix} model ({error}); give the file that "
            "your framework saved."
        ) from None
    return tuple(shape[1:]) if shape else None


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
