"""Networks of Keras 3: read, exported to a flatbuffer, and rebuilt in Keras 2.

tensorflow-model-optimization trains Keras 2 only, so a Keras 3 network is written anew, node by
node, with the Keras 2 layers of the same names and with its weights. Whether the twin computes the
same is measured by who asks for it (`network.obtain_network`).
"""

from __future__ import annotations

import inspect
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edgeq_lib.files import EdgeqError
from edgeq_lib.models import plain_layers
from edgeq_lib.models.convert import convert_saved_model
from edgeq_lib.models.plain_layers import NotPlainError
from edgeq_lib.models.tf import keras as keras2
from edgeq_lib.tflite.quiet import quiet

# Activations that mean the same in both, under the name in Keras 2.
_SAME_ACTIVATIONS = {
    **{
        name: name
        for name in (
            "linear relu sigmoid tanh softmax softplus softsign elu selu exponential gelu"
        ).split()
    },
    "silu": "swish",
    "swish": "swish",
}
# Layers of Keras 3 whose arguments have other names in Keras 2.
_RENAMED = {"LeakyReLU": {"negative_slope": "alpha"}}


class NoTwinError(Exception):
    """A Keras 3 network has no counterpart in Keras 2; the message says why, as part of a
    sentence.
    """


def library() -> Any:
    """Import Keras 3, which comes with TensorFlow, on its TensorFlow backend."""
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    with quiet():
        import keras

    return keras


def load(path: Path, trusted: bool = False) -> Any:
    """Load a whole Keras 3 model.

    Args:
        path: A `.keras` or `.h5` file; its configuration holds no code unless `trusted`.
        trusted: The user trusts the file's code.

    Returns:
        The model, built.

    Raises:
        EdgeqError: For what Keras cannot load, and for a model without a fixed graph.
    """
    try:
        with quiet():
            model = library().models.load_model(path, compile=False, safe_mode=not trusted)
    except Exception as error:  # Keras raises whatever its deserialization stumbles over
        raise EdgeqError(
            f"Keras 3 cannot load {path.name} ({str(error).splitlines()[0][:160]}); save it again "
            "with custom layers replaced by built-in ones."
        ) from None
    if not model.built:
        raise EdgeqError(
            f"The model in {path.name} was never built, so its input is not known; call it once "
            "and save it again."
        )
    model = _in_float32(model)
    for weight in model.weights:
        values = np.asarray(weight)
        if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
            raise EdgeqError(
                f"{path.name} holds NaN or infinite values in {weight.path!r}; load sound weights, "
                "or train again with a lower learning rate."
            )
    return model


def _in_float32(model: Any) -> Any:
    """The same network computing in float32, where layers compute in half or double precision."""
    if _computes_in_float32(model):
        return model
    try:
        plain = type(model).from_config(_without_policies(model.get_config()))
        plain.set_weights([np.asarray(value, np.float32) for value in model.get_weights()])
    except (TypeError, ValueError) as error:
        raise EdgeqError(
            f"The model {model.name!r} computes in {model.compute_dtype} and cannot be written in "
            f"float32 ({_first_line(error)}); save it with the dtype policy float32."
        ) from None
    return plain


def without_augmentation(model: Any) -> Any:
    """Take out the layers that change images in training only, whose random numbers LiteRT lacks.

    Args:
        model: A functional or sequential Keras 3 model.

    Returns:
        A copy that computes the same in inference; the model itself where there are none.
    """
    keras3 = library()

    def plain(layer: Any) -> Any:
        if _augments(layer):
            return keras3.layers.Identity(name=layer.name)
        return layer.__class__.from_config(layer.get_config())

    if not any(_augments(layer) for layer in _all_layers(model)):
        return model
    try:
        with quiet():
            copy = keras3.models.clone_model(model, clone_function=plain, recursive=True)
        copy.set_weights(model.get_weights())
    except (TypeError, ValueError):
        return model  # its export, or its twin, says what does not work
    return copy


def _augments(layer: Any) -> bool:
    kind = type(layer).__name__
    return kind in _AUGMENTATION or (kind.startswith("Random") and kind != "RandomCrop")


_AUGMENTATION = ("AugMix", "CutMix", "MixUp", "RandAugment")


def _all_layers(layer: Any) -> list[Any]:
    """A layer and those inside it, at any depth."""
    return [layer, *(one for part in getattr(layer, "layers", []) for one in _all_layers(part))]


def _computes_in_float32(layer: Any) -> bool:
    return all(one.compute_dtype == "float32" for one in _all_layers(layer))


def _without_policies(value: Any) -> Any:
    """A configuration in which no layer, at any depth, has another dtype than float32."""
    if isinstance(value, dict):
        if str(value.get("class_name", "")).endswith("DTypePolicy"):
            return "float32"
        return {
            key: "float32" if key == "dtype" and part in _OTHER_FLOATS else _without_policies(part)
            for key, part in value.items()
        }
    if isinstance(value, list | tuple):
        return type(value)(_without_policies(part) for part in value)
    return value


_OTHER_FLOATS = ("float16", "bfloat16", "float64")


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0][:160]


def to_flatbuffer(model: Any, input_shape: tuple[int, ...]) -> bytes:
    """Convert a Keras 3 model to a float flatbuffer of batch 1, by way of a SavedModel.

    Args:
        model: The model, with one input.
        input_shape: Of an image, (height, width, channels).

    Returns:
        The flatbuffer.

    Raises:
        EdgeqError: When an op has no LiteRT counterpart.
    """
    signature = [library().InputSpec("float32", (1, *input_shape), name="image")]
    with tempfile.TemporaryDirectory() as folder:
        try:
            with quiet():
                model.export(
                    folder, format="tf_saved_model", input_signature=signature, verbose=False
                )
        except Exception as error:  # whatever a layer raises when it is traced
            raise EdgeqError(
                f"Keras 3 cannot export {model.name!r} ({_first_line(error)}); replace the layer "
                "that it names."
            ) from None
        return convert_saved_model(folder)


def predict(model: Any, images: np.ndarray, batch: int = 32) -> np.ndarray:
    """Compute a Keras 3 model's outputs.

    Args:
        model: The model.
        images: Preprocessed float32 (n, H, W, C).
        batch: Images at a time.

    Returns:
        float32 (n, classes).

    Raises:
        EdgeqError: When it cannot compute them on this machine.
    """
    try:
        parts = [
            np.asarray(model(images[start : start + batch], training=False), np.float32)
            for start in range(0, len(images), batch)
        ]
    except Exception as error:  # of the backend: channels first on a processor, for one
        raise EdgeqError(
            f"Keras 3 cannot compute {model.name!r} here ({_first_line(error)}); build it for "
            "images with channels last."
        ) from None
    return np.concatenate(parts)


def twin(model: Any, input_shape: tuple[int, ...]) -> keras2.Model:
    """Write a Keras 3 network anew in Keras 2, with its weights.

    Models inside the model are laid open, so that the twin is flat.

    Args:
        model: A functional or sequential Keras 3 model with one input, built.
        input_shape: (height, width, channels) of the study's images: for an open height and width,
            and for a model whose input has no axis of channels, or one axis only.

    Returns:
        The functional tf_keras model.

    Raises:
        NoTwinError: When a layer, an operation or the model itself has no counterpart.
    """
    try:
        return _Writer().write(model, input_shape)
    except NotPlainError as error:
        raise NoTwinError(f"{error} has no counterpart in Keras 2") from None
    except (TypeError, ValueError, AttributeError, NotImplementedError) as error:
        raise NoTwinError(f"Keras 2 cannot build it ({_first_line(error)})") from None


class _Writer:
    """Writes one network; keeps what became of each layer, so that shared ones stay shared."""

    def __init__(self) -> None:
        self.written: dict[int, Callable[..., Any]] = {}
        self.pairs: list[tuple[Any, keras2.layers.Layer]] = []  # layer of Keras 3, of Keras 2
        self.names: set[str] = set()

    def write(self, model: Any, input_shape: tuple[int, ...]) -> keras2.Model:
        graph = _graph_of(model)
        name = self._free_name(graph.inputs[0]._keras_history.operation)
        own = graph.inputs[0].shape[1:]
        image = x = keras2.Input(input_shape, name=name)
        if len(own) != len(input_shape):
            x = keras2.layers.Reshape(own, name=f"{name}_without_channels")(x)
        (scores,) = self._walk(graph, [x])
        copy = keras2.Model(image, scores, name=model.name)
        for theirs, ours in self.pairs:
            _copy_weights(theirs, ours)
        return copy

    def _walk(self, graph: Any, inputs: list[Any]) -> list[Any]:
        """Call the counterparts of a graph's nodes on `inputs`; returns the graph's outputs."""
        tensors = {
            id(old): new for old, new in zip(graph.inputs, inputs, strict=True)
        }  # tensor of Keras 3, by identity → of Keras 2

        def swap(value: Any) -> Any:
            return tensors.get(id(value), value)

        tree = library().tree
        for depth in sorted(graph._nodes_by_depth, reverse=True):
            for node in graph._nodes_by_depth[depth]:
                if node.is_input:
                    continue
                args, kwargs = tree.map_structure(
                    swap, (node.arguments.args, node.arguments.kwargs)
                )
                result = self._call(node.operation, args, kwargs)
                for old, new in zip(node.outputs, tree.flatten(result), strict=True):
                    tensors[id(old)] = new
        return [tensors[id(tensor)] for tensor in graph.outputs]

    def _call(self, operation: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        keras3 = library()
        if kwargs.get("training") and type(operation).__name__ != "Identity":
            raise NoTwinError(f"layer {operation.name!r} was called with training=True")
        # Keras 3 notes training=False where nothing was said; a twin decides at each call
        kwargs = {
            key: value for key, value in kwargs.items() if value is not None and key != "training"
        }
        if isinstance(operation, keras3.Model):
            return self._walk(_graph_of(operation), library().tree.flatten(args))
        if not isinstance(operation, keras3.layers.Layer):
            return self._call_function(operation, args, kwargs)
        if id(operation) not in self.written:
            self.written[id(operation)] = self._counterpart(operation)
        return self.written[id(operation)](*args, **kwargs)

    def _call_function(self, operation: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """A node that is a function of `keras.ops`; its settings are its attributes."""
        kind = type(operation).__name__
        settings = {
            key: getattr(operation, key)
            for key in inspect.signature(type(operation).__init__).parameters
            if key not in ("self", "name", "args", "kwargs") and hasattr(operation, key)
        }
        settings = {_FUNCTION_ARGUMENTS.get(key, key): value for key, value in settings.items()}
        return plain_layers.plain_call(
            _snake(kind), self._free_name(operation), args, {**settings, **kwargs}
        )

    def _counterpart(self, layer: Any) -> Callable[..., Any]:
        kind, name = type(layer).__name__, self._free_name(layer)
        if not type(layer).__module__.startswith("keras.src."):
            raise NoTwinError(f"layer {layer.name!r} is of a class of its own, {kind}")
        config = layer.get_config()
        activation = _activation_of(layer)
        if kind == "Activation":
            return _activated(activation, name)
        if kind == "Identity":
            return lambda x, **_: x
        cls = getattr(keras2.layers, kind, None)
        if cls is None or kind in ("Lambda", "TorchModuleWrapper", "TFSMLayer", "JaxLayer"):
            raise NoTwinError(f"layer {layer.name!r} is a {kind}, which Keras 2 does not have")
        known = _arguments(cls)
        settings = {
            _RENAMED.get(kind, {}).get(key, key): _setting(key, value)
            for key, value in config.items()
            if not key.endswith(("_initializer", "_constraint")) and key != "dtype"
        }
        settings = {key: value for key, value in settings.items() if key in known}
        tail = None
        if activation is not None and "activation" in settings:
            settings["activation"] = _SAME_ACTIVATIONS.get(activation, "linear")
            if activation not in _SAME_ACTIVATIONS:
                tail = _activated(activation, f"{name}_{activation}")
        try:
            ours = cls(**{**settings, "name": name})
        except (TypeError, ValueError) as error:
            raise NoTwinError(
                f"layer {layer.name!r} cannot be written as {kind} of Keras 2 ({error})"
            ) from None
        self.pairs.append((layer, ours))
        return ours if tail is None else lambda *args, **kwargs: tail(ours(*args, **kwargs))

    def _free_name(self, operation: Any) -> str:
        stem = name = operation.name.replace("/", "_")
        count = 0
        while name in self.names:
            count += 1
            name = f"{stem}_{count}"
        self.names.add(name)
        return name


# Attributes of functions in `keras.ops` → what `plain_layers.OPS` calls the argument.
_FUNCTION_ARGUMENTS = {
    "newshape": "shape",
    "axes": "perm",
    "pad_width": "paddings",
}


def _graph_of(model: Any) -> Any:
    graph = getattr(model, "_functional", None) or model
    if not hasattr(graph, "_nodes_by_depth"):
        raise NoTwinError(
            f"model {model.name!r} is a class of its own ({type(model).__name__}), whose graph "
            "is not in the file"
        )
    return graph


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")


def _activation_of(layer: Any) -> str | None:
    """The name of a layer's activation in Keras 3; None where it has none."""
    function = getattr(layer, "activation", None)
    if function is None:
        return None
    if not getattr(function, "__module__", "").startswith("keras.src."):
        raise NoTwinError(f"layer {layer.name!r} has an activation of its own")
    return function.__name__


def _activated(activation: str | None, name: str) -> Callable[..., Any]:
    same = _SAME_ACTIVATIONS.get(activation or "linear")
    if same is not None:
        return keras2.layers.Activation(same, name=name)
    return lambda x: plain_layers.plain_call(str(activation), name, (x,), {})


def _arguments(cls: type) -> set[str]:
    """What a Keras 2 layer's constructor takes, its base classes' included."""
    taken = {"name", "trainable"}
    for base in cls.__mro__:
        if base is not keras2.layers.Layer and "__init__" in vars(base):
            taken |= set(inspect.signature(vars(base)["__init__"]).parameters)
        if base is keras2.layers.Layer:
            break
    return taken - {"self", "args", "kwargs", "dtype"}


def _setting(key: str, value: Any) -> Any:
    """A setting of Keras 3 as Keras 2 takes it: regularizers by their names."""
    if key.endswith("_regularizer") and isinstance(value, dict):
        known = {"L1": "L1", "L2": "L2", "L1L2": "L1L2"}
        name = known.get(value.get("class_name", ""))
        return (
            keras2.regularizers.get({"class_name": name, "config": value["config"]})
            if (name)
            else None
        )
    if isinstance(value, dict) and "class_name" in value and "config" in value:
        if "value" in value["config"]:  # an array, as Keras 3 writes it
            return np.asarray(value["config"]["value"], value["config"].get("dtype", "float32"))
        raise NoTwinError(f"the setting {key!r} holds a {value['class_name']}")
    return value


def _copy_weights(theirs: Any, ours: keras2.layers.Layer) -> None:
    values = theirs.get_weights()
    shapes = [tuple(weight.shape) for weight in ours.weights]
    if [value.shape for value in values] != shapes:
        raise NoTwinError(
            f"layer {theirs.name!r} ({type(theirs).__name__}) holds its weights in another form"
        )
    ours.set_weights(values)
    if isinstance(ours, keras2.layers.Normalization):
        ours.finalize_state()
