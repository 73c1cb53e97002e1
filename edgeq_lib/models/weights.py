"""Keras files: weights copied by layer name; whole models read without running code."""

from __future__ import annotations

import json
import os
import re
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from edgeq_lib.data.download import fetch
from edgeq_lib.files import EdgeqError, guard_disk, home
from edgeq_lib.study import Study

_KERAS = "https://storage.googleapis.com/tensorflow/keras-applications"
_EFFICIENTNET = "https://storage.googleapis.com/keras-applications"
# Name → (address, MD5 as tf_keras 2.19 states it). MobileNet and MobileNetV2 have none there: the
# file that comes first is
# trusted, and its SHA-256 kept beside it.
IMAGENET = {
    "mobilenet": (_KERAS + "/mobilenet/mobilenet_{width}_{size}_tf.h5", None),
    "mobilenetv2": (
        _KERAS + "/mobilenet_v2/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{alpha}_{size}.h5",
        None,
    ),
    "mobilenetv3small": (
        _KERAS + "/mobilenet_v3/weights_mobilenet_v3_small_224_{alpha}_float.h5",
        {1.0: "8768d4c2e7dee89b9d02b2d03d65d862", 0.75: "cb65d4e5be93758266aa0a7f2c6708b7"},
    ),
    "efficientnetb0": (
        _EFFICIENTNET + "/efficientnetb0.h5",
        {1.0: "902e53a9f72be733fc0bcb005b3ebbac"},
    ),
    "efficientnetv2b0": (
        _KERAS + "/efficientnet_v2/efficientnetv2-b0.h5",
        {1.0: "21ecbf6da12460d5c40bb2f29ceb2188"},
    ),
    "resnet50": (
        _KERAS + "/resnet/resnet50_weights_tf_dim_ordering_tf_kernels.h5",
        {1.0: "2cb95161c43110f7111970584f804107"},
    ),
    "inceptionv3": (
        _KERAS + "/inception_v3/inception_v3_weights_tf_dim_ordering_tf_kernels.h5",
        {1.0: "9a0d58056eeedaa3f26cb7ebd46da564"},
    ),
}


def imagenet_weights(name: str, image_size: int, alpha: float = 1.0) -> Path:
    """Fetch the official ImageNet weights (1,000 classes) of a zoo model into `data/weights`.

    Args:
        name: The zoo model.
        image_size: Pixels of the study; the weights of the nearest published size are taken.
        alpha: The network's width.

    Returns:
        The file's path.

    Raises:
        EdgeqError: When there are none for this model or width, or when they cannot be had.
    """
    address, hashes = IMAGENET.get(name, ("", None))
    if not address or (hashes and alpha not in hashes):
        raise EdgeqError(
            f"There are no official ImageNet weights for {name} at alpha {alpha}; use weights: "
            "none, or a path."
        )
    size = image_size if image_size in (128, 160, 192, 224) else 224
    width = {1.0: "1_0", 0.75: "7_5", 0.5: "5_0", 0.25: "2_5"}.get(
        alpha, alpha
    )  # MobileNet's way to write alpha
    url = address.format(alpha=alpha, size=size, width=width)
    return fetch(
        url.rsplit("/", 1)[1], url, hashes[alpha] if hashes else None, home() / "data" / "weights"
    )


def copy_weights(model: Any, path: Path, complete: bool = False) -> list[str]:
    """Copy weights from a file into a model.

    Layers are paired by name, and a layer is loaded when all of its arrays have the shapes that the
    model wants. A file of the older layout whose names differ (Keras once counted `conv2d` from 1)
    is paired in the order of its layers, as Keras itself does, when all shapes but the head's
    agree. A head for another number of classes is not loaded.

    Args:
        model: The Keras model; changed in place.
        path: A `.h5` or `.weights.h5` file.
        complete: Every layer must be loaded.

    Returns:
        A line for each layer that was not loaded.

    Raises:
        EdgeqError: When fewer than half of the layers with weights were found, for then the file
            belongs to another network; with `complete`, when any was not.
    """
    stored = _stored_weights(model, path)
    wanted = [layer for layer in model.layers if layer.get_weights()]
    stored = _in_order(stored, wanted) or stored
    missing = []
    for layer in wanted:
        have, want = stored.get(layer.name), [array.shape for array in layer.get_weights()]
        if have is None:
            missing.append(f"{layer.name}: not in the file")
        elif [array.shape for array in have] != want:
            missing.append(
                f"{layer.name}: the file has {[a.shape for a in have]}, the model wants {want}"
            )
        else:
            layer.set_weights(have)
    if len(missing) * 2 > len(wanted) or (complete and missing):
        raise EdgeqError(
            f"The weights in {path.name} are not this network's: {len(missing)} of {len(wanted)} "
            f"layers do not fit (first, {missing[0]}); check model, alpha and the path."
        )
    for layer in wanted:
        if not all(np.isfinite(array).all() for array in layer.get_weights()):
            raise EdgeqError(
                f"Layer '{layer.name}' has weights that are NaN or infinite in {path.name}; take "
                "another checkpoint."
            )
    return missing


def _in_order(
    stored: dict[str, list[np.ndarray]], wanted: list[Any]
) -> dict[str, list[np.ndarray]] | None:
    """Put the stored arrays under the model's names, paired in order.

    None when names decide or the shapes speak against it. The model's last layer is its head: in
    the file it may have another shape or another name (`probs`), or be missing.
    """
    *body, head = wanted
    names = {layer.name for layer in body}
    if names <= stored.keys():
        last = next(reversed(stored))
        return (
            {**stored, head.name: stored[last]}
            if head.name not in stored and last not in names
            else None
        )
    if len(stored) not in (len(wanted), len(body)):
        return None
    pairs = list(zip(wanted, stored.values(), strict=False))
    fits = all(
        [array.shape for array in have] == [array.shape for array in layer.get_weights()]
        for layer, have in pairs[: len(body)]
    )
    return {layer.name: have for layer, have in pairs} if fits else None


def _stored_weights(model: Any, path: Path) -> dict[str, list[np.ndarray]]:
    """Layer name → arrays, in the file's order, from either of Keras's two HDF5 layouts."""
    try:
        with h5py.File(path) as file:
            if "layers" not in file:  # the older layout names its layers
                root = file["model_weights"] if "model_weights" in file else file
                names = [os.fsdecode(name) for name in root.attrs.get("layer_names", list(root))]
                return {
                    name: [
                        np.asarray(root[name][weight])
                        for weight in root[name].attrs["weight_names"]
                    ]
                    for name in names
                    if len(root[name].attrs.get("weight_names", ()))
                }
            # The newer one counts layers of a class in the order of the model: conv2d, conv2d_1, …
            found: dict[str, list[np.ndarray]] = {}
            seen: dict[str, int] = {}
            for layer in model.layers:
                kind = _snake(type(layer).__name__)
                key = kind if kind not in seen else f"{kind}_{seen[kind]}"
                seen[kind] = seen.get(kind, 0) + 1
                arrays = file["layers"][key]["vars"] if key in file["layers"] else {}
                if len(arrays):
                    found[layer.name] = [
                        np.asarray(arrays[str(index)]) for index in range(len(arrays))
                    ]
            return found
    except (OSError, KeyError) as error:
        raise EdgeqError(
            f"{path.name} cannot be read as Keras weights ({str(error)[:80]}); save them again "
            "with `model.save_weights('NAME.weights.h5')`."
        ) from None


def checkpoint_bytes(model: Any) -> int:
    """Measure the file that `model.save()` writes of a model in training, with Adam's state.

    Published ratios are often taken to this file, which holds three numbers per weight.

    Args:
        model: The Keras model; it is not changed.

    Returns:
        The file's size in bytes.
    """
    from edgeq_lib.models.tf import keras

    twin = keras.models.clone_model(model)
    twin.set_weights(model.get_weights())
    twin.compile(optimizer=keras.optimizers.Adam())
    twin.optimizer.build(twin.trainable_variables)
    with (
        tempfile.TemporaryDirectory() as folder,
        guard_disk("a training checkpoint, to be weighed,"),
    ):
        path = Path(folder) / "checkpoint.keras"
        twin.save(path)
        return path.stat().st_size


def _snake(name: str) -> str:
    return re.sub(
        "([a-z])([A-Z])",
        r"\1_\2",
        re.sub("(.)([A-Z][a-z0-9]+)", r"\1_\2", re.sub(r"\W+", "", name)),
    ).lower()


def load_own_model(path: Path, trusted: bool = False) -> Any:
    """Load a whole Keras 2 model.

    The configuration is read before anything is loaded: a Lambda layer carries Python code and a
    SavedModel is a program, so both need `trusted`.

    Args:
        path: A `.keras` or `.h5` file, or a SavedModel folder.
        trusted: The user trusts the file's code.

    Returns:
        The Keras model.

    Raises:
        EdgeqError: For code that is not trusted, for files of Keras 3 (see `models.network`), and
            for what cannot be read.
    """
    if not path.exists():
        raise EdgeqError(
            f"There is no model file {path}; correct `model` in the section 'baseline'."
        )
    if path.is_dir():
        if not trusted:
            raise EdgeqError(
                f"{path.name} is a SavedModel, a program that can run anything; set `trusted: "
                "true` if you know where it comes from, or save the model as .keras."
            )
    else:
        _, version = _configuration(path)
        if version.startswith("3"):
            raise EdgeqError(
                f"{path.name} was saved by Keras {version}, and tensorflow-model-optimization "
                "takes Keras 2 only; name it as `model` in the section 'baseline', which builds it "
                "anew in Keras 2."
            )
        check_code(path, trusted)
    from edgeq_lib.models.tf import keras

    try:
        return keras.models.load_model(path, compile=False, safe_mode=not trusted)
    except Exception as error:  # Keras raises whatever its deserialization stumbles over
        raise EdgeqError(
            f"Keras cannot load {path.name} ({str(error).splitlines()[0][:120]}); save it again "
            "with tf_keras as .keras, custom layers replaced by built-in ones."
        ) from None


def saved_by_keras3(path: Path) -> bool:
    """Tell whether a file holds a model of Keras 3; nothing is executed.

    Args:
        path: A `.keras` or `.h5` file.

    Raises:
        EdgeqError: When it is no readable Keras file, or holds weights only.
    """
    return _configuration(path)[1].startswith("3")


def check_code(path: Path, trusted: bool) -> None:
    """Refuse a file whose model holds Python code, unless it is trusted.

    Args:
        path: A `.keras` or `.h5` file.
        trusted: The user trusts the file's code.

    Raises:
        EdgeqError: For a Lambda layer that is not trusted.
    """
    if '"Lambda"' in json.dumps(_configuration(path)[0]) and not trusted:
        raise EdgeqError(
            f"{path.name} holds a Lambda layer, which is Python code that runs on loading; "
            "replace it by a "
            "built-in layer, or set `trusted: true` if you know where the file comes from."
        )


def _configuration(path: Path) -> tuple[Any, str]:
    """(model configuration, Keras version) as the file states them, nothing executed."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                metadata = json.loads(archive.read("metadata.json"))
                return json.loads(archive.read("config.json")), str(
                    metadata.get("keras_version", "?")
                )
        with h5py.File(path) as file:
            if "model_config" not in file.attrs:
                raise EdgeqError(
                    f"{path.name} holds weights but no model; name a zoo model and give the file "
                    "as `weights`."
                )
            return json.loads(file.attrs["model_config"]), str(file.attrs.get("keras_version", "?"))
    except (OSError, KeyError, ValueError) as error:
        raise EdgeqError(
            f"{path.name} is no readable Keras file ({str(error)[:80]}); save the model again."
        ) from None


def save_float_model(study: Study, model: Any) -> None:
    """Keep the float Keras model of a study, for stages that train it further.

    Args:
        study: The study.
        model: The model; None where there is only a flatbuffer.
    """
    path = study.folder / "model" / "float.keras"
    path.parent.mkdir(parents=True, exist_ok=True)
    study.note_write(path)
    if model is None:
        path.unlink(missing_ok=True)
        return
    temporary = path.with_name(".float.keras")
    model.save(temporary)
    os.replace(temporary, path)


def load_float_model(study: Study) -> Any:
    """Load the float Keras model of a study.

    Args:
        study: The study.

    Returns:
        The model.

    Raises:
        EdgeqError: When the baseline has not been made.
    """
    path = study.folder / "model" / "float.keras"
    study.note_read(path)
    return load_own_model(path, trusted=True)
