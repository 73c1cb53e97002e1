"""The float network of a study, whatever framework it comes from.

Every network has a float flatbuffer of batch 1, and what works on flatbuffers runs for all. What
trains needs a Keras 2 network besides: zoo names and Keras 2 files have one, Keras 3 files get one
that is written anew, and it is kept only when it computes the same on real images.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from edgeq_lib.files import EdgeqError
from edgeq_lib.models import keras3, plain_layers, pytorch, zoo
from edgeq_lib.models.convert import convert, convert_saved_model
from edgeq_lib.models.float_files import read_float_file, with_batch_one
from edgeq_lib.models.graph import check_flat, layer_census
from edgeq_lib.models.preprocessing import SIGNED, Preprocessing, preprocessing_of
from edgeq_lib.models.training import predict_keras
from edgeq_lib.models.weights import check_code, copy_weights, load_float_model, saved_by_keras3
from edgeq_lib.study import Study
from edgeq_lib.tflite.reader import read_graph
from edgeq_lib.tflite.runtime import make_interpreter, run_images
from edgeq_lib.tflite.tidy import tidy

TOLERANCE = 1e-4  # largest difference of outputs at which a rewritten network counts as the same
EXAMPLES = 32  # real images that it is tried on
_CURES = {
    ".pt": "holds weights or pickled code, not a graph; write one with "
    "torch.export.save(torch.export.export(model.eval(), (image,)), 'NAME.pt2')",
    ".pth": "holds weights or pickled code, not a graph; write one with "
    "torch.export.save(torch.export.export(model.eval(), (image,)), 'NAME.pt2')",
    ".onnx": "is an ONNX file, which nothing here reads; give the PyTorch (.pt2) or Keras network "
    "that it was exported from",
    ".pb": "is a part of a SavedModel; give its folder",
}


@dataclass
class FloatNetwork:
    """A float network.

    Attributes:
        name: What it is called.
        keras: The Keras 2 network, with real layers; None where there is none.
        reason: Why there is none, as one sentence; "" where there is one.
        preprocessing: How pixels become its input.
        loaded: What was loaded how, a sentence each.
        not_loaded: A line for each layer whose weights were not loaded.
        flatbuffer: The float flatbuffer of batch 1, once it has been made (see `to_file`).
        parity: The original network against the flatbuffer on real images, as
            `measure.accuracy.check_parity` has it; {} where there is a Keras network, or nothing
            to compare.
    """

    name: str
    keras: Any | None
    preprocessing: Preprocessing
    reason: str = ""
    loaded: list[str] = field(default_factory=list)
    not_loaded: list[str] = field(default_factory=list)
    flatbuffer: bytes = b""
    parity: dict[str, float] = field(default_factory=dict)

    def to_file(self, anew: bool = False) -> bytes:
        """Return the float flatbuffer of batch 1: as it came, or made of the Keras network, once.

        Args:
            anew: Make it again, since the Keras network was trained.
        """
        if not self.flatbuffer or (anew and self.keras is not None):
            self.flatbuffer = convert(self.keras)
        return self.flatbuffer

    def predict(self, images: np.ndarray, preprocess: Preprocessing) -> np.ndarray:
        """Compute the network's outputs.

        Args:
            images: uint8 (n, H, W, C).
            preprocess: uint8 images → float32 images.

        Returns:
            float32 outputs (n, classes).
        """
        if self.keras is not None:
            return predict_keras(self.keras, images, preprocess)
        return run_images(make_interpreter(self.flatbuffer), preprocess(np.asarray(images)))

    def parameters(self) -> int:
        """Count the parameters: of the Keras network, else the file's float constants."""
        if self.keras is not None:
            return self.keras.count_params()
        tensors = read_graph(self.flatbuffer).tensors
        return sum(tensor.elements for tensor in tensors if tensor.constant and tensor.is_float)

    def census(self) -> dict[str, int]:
        """Count the layers by class; without a Keras network, the file's ops by kind."""
        if self.keras is not None:
            return layer_census(self.keras)
        return dict(Counter(op.name for op in read_graph(self.flatbuffer).ops).most_common())


def obtain_network(
    name: str,
    weights: str,
    images: np.ndarray,
    classes: int,
    *,
    alpha: float = 1.0,
    preprocessing: str | dict | None = None,
    trusted: bool = False,
    seed: int = 0,
    trained: str | None = None,
) -> FloatNetwork:
    """Obtain the float network of a study.

    Args:
        name: A zoo name; or a file: Keras 2 or 3 (`.keras`, `.h5`), a SavedModel folder, a float
            `.tflite`, a PyTorch program (`.pt2`).
        weights: "imagenet", "none" or a weights file; for zoo names only.
        images: Real images of the study, uint8 (n, H, W, C), on which a rewritten network is proven
            to be the same.
        classes: Number of the study's classes.
        alpha: The network's width, for zoo names only.
        preprocessing: See `preprocessing_of`; None for the zoo's own.
        trusted: Allow files that are code: Lambda layers, SavedModels, pickled PyTorch objects.
        seed: Decides the initial weights.
        trained: A weights file that an earlier training of this network gave.

    Returns:
        The network.

    Raises:
        EdgeqError: When the file cannot be taken, or does not fit the images or the classes.
    """
    path, shape = Path(name), tuple(images.shape[1:])
    examples = np.asarray(images[:EXAMPLES])
    if name in zoo.ZOO or _is_keras2(path):
        model, scaling, missing = zoo.obtain(
            name, weights, shape, classes, alpha=alpha, preprocessing=preprocessing,
            trusted=trusted, seed=seed, trained=trained,
        )  # fmt: skip
        network = FloatNetwork(model.name, model, scaling, not_loaded=missing)
        _make_plain(network, (scaling or SIGNED)(examples))
        return network
    scaling = preprocessing_of(preprocessing) or SIGNED
    network = FloatNetwork(path.stem, None, scaling)
    _load_file(network, path, scaling(examples), trusted)
    _check_fits(network, shape, classes)
    if trained:
        _load_trained(network, Path(trained))
    return network


def open_network(study: Study) -> FloatNetwork:
    """Open the float network that 02_baseline left, for a later stage.

    Args:
        study: The study.

    Returns:
        The network.

    Raises:
        EdgeqError: When the baseline has not been made.
    """
    baseline, file = study.read("baseline"), study.variant("float32").model()
    reason = baseline.get("no_keras", "")
    return FloatNetwork(
        baseline["model"],
        None if reason else load_float_model(study),
        Preprocessing(**baseline["preprocessing"]),
        reason,
        flatbuffer=file,
    )


def _is_keras2(path: Path) -> bool:
    """Whether the zoo's own loader takes a path: a name it refuses, a folder, a Keras 2 file."""
    if path.suffix in _CURES and path.is_file():
        raise EdgeqError(f"{path.name} {_CURES[path.suffix]}.")
    if not path.exists():
        return True  # its sentence says that there is no such name or file
    if path.is_dir():
        return (path / "keras_metadata.pb").exists() or not (path / "saved_model.pb").exists()
    return path.suffix not in (".tflite", ".pt2") and not saved_by_keras3(path)


def _load_file(network: FloatNetwork, path: Path, examples: np.ndarray, trusted: bool) -> None:
    """Fill in what a file of another framework than Keras 2 holds."""
    if path.suffix == ".tflite":
        network.flatbuffer = read_float_file(path)
        network.reason = f"{path.name} is a flatbuffer, which cannot be trained"
        network.loaded.append(f"{path.name}: a float flatbuffer, its batch fixed to one.")
    elif path.suffix == ".pt2":
        file, outputs = pytorch.convert_program(path, examples, trusted)
        network.reason = f"{path.name} is a PyTorch program"
        _take_file(network, file, outputs, examples, f"{path.name}: converted by litert-torch")
    elif path.is_dir():
        if not trusted:
            raise EdgeqError(
                f"{path.name} is a SavedModel, a program that can run anything; set `trusted: "
                "true` in the section 'baseline' if you know where it comes from."
            )
        network.flatbuffer = tidy(with_batch_one(convert_saved_model(str(path)), path.name))
        network.reason = f"{path.name} is a SavedModel without Keras layers"
        network.loaded.append(f"{path.name}: a SavedModel, converted as it is.")
    else:
        _load_keras3(network, path, examples, trusted)


def _load_keras3(network: FloatNetwork, path: Path, examples: np.ndarray, trusted: bool) -> None:
    check_code(path, trusted)
    model = keras3.load(path, trusted)
    network.name, shape = model.name, tuple(examples.shape[1:])
    own = _check_input(path.name, model, shape)
    outputs = keras3.predict(model, examples.reshape(-1, *own))
    model = keras3.without_augmentation(model)
    try:
        twin = keras3.twin(model, shape)
        check_flat(twin)
        difference = _difference(twin(examples, training=False).numpy(), outputs)
        if difference > TOLERANCE * _size(outputs):
            raise keras3.NoTwinError(
                f"the network written in Keras 2 differs by {difference:.1e} on "
                f"{len(examples)} real images"
            )
    except keras3.NoTwinError as error:
        network.reason = f"{path.name} is a Keras 3 network with no twin in Keras 2: {error}"
        file = keras3.to_flatbuffer(model, own)
        _take_file(network, file, outputs, examples, f"{path.name}: exported by Keras 3")
        return
    network.keras = twin
    network.loaded.append(
        f"{path.name}: a Keras 3 network, written anew in Keras 2; largest difference of outputs "
        f"on {len(examples)} real images {difference:.1e}."
    )


def _take_file(
    network: FloatNetwork, file: bytes, outputs: np.ndarray, examples: np.ndarray, how: str
) -> None:
    """Take a converted file, after comparing it with what the original network computes."""
    network.flatbuffer = tidy(with_batch_one(file, network.name))
    ours = run_images(make_interpreter(network.flatbuffer), examples)
    difference = _difference(ours, outputs)
    if difference > TOLERANCE * _size(outputs):
        raise EdgeqError(
            f"The flatbuffer of {network.name} differs from the network by {difference:.1e} on "
            f"{len(examples)} real images, so its conversion is wrong; export the network anew."
        )
    differ = int((ours.argmax(-1) != outputs.argmax(-1)).sum())
    network.parity = {
        "images": len(examples),
        "top-1 agreement %": 100 * (1 - differ / len(examples)),
        "disagreements": differ,
        "within one step": 0,
        "largest difference": difference,
        "output step": 0.0,
    }
    network.loaded.append(
        f"{how}; largest difference of outputs on {len(examples)} real images {difference:.1e}."
    )


def _make_plain(network: FloatNetwork, examples: np.ndarray) -> None:
    """Write TensorFlow functions in a Keras network as plain layers, where that is the same."""
    model: Any = network.keras
    if not plain_layers.op_layers(model):
        return
    plain = plain_layers.with_plain_layers(model)
    theirs, ours = (net(examples, training=False).numpy() for net in (model, plain))
    left = len(plain_layers.op_layers(plain))
    count, difference = len(plain_layers.op_layers(model)) - left, _difference(ours, theirs)
    if difference > TOLERANCE * _size(theirs):
        network.loaded.append(
            f"{count} TensorFlow functions were left as they are: written as plain layers the "
            f"outputs differ by {difference:.1e}."
        )
        return
    network.keras = plain
    rest = f", {left} left as they are" if left else ""
    network.loaded.append(
        f"{count} TensorFlow functions were written as plain layers{rest}; largest difference of "
        f"outputs on {len(examples)} real images {difference:.1e}."
    )


def _difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The largest difference; infinite where shapes differ or something is not a number."""
    if ours.shape != theirs.shape or not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        return float("inf")
    return float(np.abs(ours - theirs).max())


def _size(outputs: np.ndarray) -> float:
    """What differences are measured in: 1, or the largest output of a network of larger ones."""
    return max(1.0, float(np.abs(outputs).max()))


def _check_input(name: str, model: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape in which a Keras 3 model takes the study's images; one input, one output."""
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise EdgeqError(
            f"{name} has {len(model.inputs)} inputs and {len(model.outputs)} outputs; the model "
            "must map one image to one row of class scores."
        )
    wanted = tuple(model.inputs[0].shape[1:])
    fits = len(wanted) == len(shape) and all(
        side in (None, have) for side, have in zip(wanted, shape, strict=True)
    )
    if fits:
        return shape
    if wanted in ((prod(shape),), shape[:2] if shape[2] == 1 else None):
        return wanted
    raise EdgeqError(
        f"The model wants images of {wanted} and the data have {shape}; set image_size (and "
        "channels) in the section 'data' accordingly."
    )


def _check_fits(network: FloatNetwork, shape: tuple[int, ...], classes: int) -> None:
    """Raise unless the network takes the study's images and has an output per class."""
    if network.keras is not None:
        wanted, scores = network.keras.input_shape[1:], network.keras.output_shape
    else:
        graph = read_graph(network.flatbuffer)
        wanted = graph.tensors[graph.inputs[0]].shape[1:]
        scores = graph.tensors[graph.outputs[0]].shape
    if len(scores) != 2:
        raise EdgeqError(
            f"The network gives outputs of shape {scores}; it must be one row of class scores."
        )
    if tuple(wanted) != shape:
        first = (
            " (channels first: convert it with channels last)"
            if (len(wanted) == 3 and (*wanted[1:], wanted[0]) == shape)
            else ""
        )
        raise EdgeqError(
            f"The model wants images of {tuple(wanted)}{first} and the data have {shape}; set "
            "image_size (and channels) in the section 'data' accordingly."
        )
    if scores[-1] != classes and (scores[-1], classes) != (1, 2):
        raise EdgeqError(
            f"The model has {scores[-1]} outputs and the data have {classes} classes; take a model "
            "with as many, or correct the class folders."
        )


def _load_trained(network: FloatNetwork, path: Path) -> None:
    if network.keras is None:
        raise EdgeqError(f"`trained` cannot be loaded: {network.reason}; leave it out.")
    network.not_loaded = copy_weights(network.keras, path, complete=True)
