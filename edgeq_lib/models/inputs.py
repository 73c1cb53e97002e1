"""Make a user's network take the study's images: (n, height, width, channels) in float32."""

from __future__ import annotations

from math import prod
from typing import Any

from edgeq_lib.models.graph import (
    Replacement,
    check_flat,
    clone,
    consumers,
    identity,
    only_consumer,
    rebuild,
)
from edgeq_lib.models.tf import keras, tf

_OTHER_FLOATS = ("float16", "bfloat16", "float64", "mixed_float16", "mixed_bfloat16")
_SMALL = 20.0  # black and white pixels, scaled in any usual way, are below


def fit_to_images(model: keras.Model, input_shape: tuple[int, int, int]) -> keras.Model:
    """Give a network an input of the images' shape, in float32, and one row of scores.

    Exact but for rounding: an open height and width are fixed, an input without channel axis (or a
    flat one) gets a reshape in front, layers that compute in half or double precision compute in
    float32 with the same weights, and scores of shape (1, 1, classes) lose their empty axes.

    Args:
        model: A flat network with one input.
        input_shape: (height, width, channels) of the study's images.

    Returns:
        The network itself where nothing is to be done, else a copy; an input that cannot take such
        images stays as it is.

    Raises:
        EdgeqError: See `graph.check_flat`.
    """
    check_flat(model)
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        return model
    own = tuple(model.input_shape[1:])
    is_open = len(own) == 3 and all(
        side in (None, wanted) for side, wanted in zip(own, input_shape, strict=True)
    )
    is_flat = len(own) in (1, 2) and None not in own and own in _without_axes(input_shape)
    if not is_open and not is_flat:
        return model
    halves = [layer for layer in model.layers if _in_float32(layer) is not None]
    rank = len(model.output_shape)
    scores_last = rank > 2 and all(size in (None, 1) for size in model.output_shape[1:-1])
    floats = all(tensor.dtype == "float32" for tensor in (*model.inputs, *model.outputs))
    if own == tuple(input_shape) and not halves and not scores_last and floats:
        return model
    image_layer = model.inputs[0]._keras_history.layer
    needless = _reshapes_to(model, image_layer, input_shape) if is_flat else []

    def replace(layer: keras.layers.Layer) -> Replacement:
        if layer is image_layer:
            return None if is_open or needless else keras.layers.Reshape(own, name="image_rows")
        if layer in needless:
            return identity
        config = _in_float32(layer)
        return None if config is None else clone(layer, **config)

    fitted = rebuild(model, replace, tuple(input_shape))
    if scores_last:
        flat = keras.layers.Flatten(name="scores")(fitted.outputs[0])
        fitted = keras.Model(fitted.inputs, flat, name=model.name)
    return fitted


def scales_inside(model: keras.Model) -> bool:
    """Tell whether a network takes pixels 0 … 255 and scales them itself.

    Args:
        model: A flat network with one image as input.

    Returns:
        Whether it begins with Rescaling or Normalization layers, augmentation aside, that bring
        such pixels to small numbers. A normalization that was fitted on scaled pixels does not.
    """
    layer = model.inputs[0]._keras_history.layer
    values = tf.constant([0.0, 255.0])[:, None, None, None] * tf.ones((1, *model.input_shape[1:]))
    scaled = False
    while (layer := only_consumer(model, layer)) is not None:
        if isinstance(layer, keras.layers.Rescaling | keras.layers.Normalization):
            values, scaled = layer(values), True
        elif not type(layer).__name__.startswith("Random"):
            break
    return scaled and float(tf.reduce_max(tf.abs(values))) <= _SMALL


def _without_axes(shape: tuple[int, int, int]) -> tuple[tuple[int, ...], ...]:
    """The shapes in which an image's numbers have the same order: rows of pixels, and one row."""
    height, width, channels = shape
    return (*(((height, width),) if channels == 1 else ()), (prod(shape),))


def _reshapes_to(
    model: keras.Model, image_layer: keras.layers.Layer, shape: tuple[int, int, int]
) -> list[keras.layers.Layer]:
    """The reshapes that give an image its axes back, when nothing else reads the input."""
    readers = consumers(model, image_layer)
    useless = all(
        isinstance(reader, keras.layers.Reshape)
        and reader.output_shape[1:] == tuple(shape)
        and len(reader._inbound_nodes) == 1
        for reader in readers
    )
    return readers if useless else []


def _in_float32(layer: keras.layers.Layer) -> dict[str, Any] | None:
    """The changes of a layer's configuration that make it compute in float32; None for none."""
    config = layer.get_config()
    changed = {key: _without_policies(value, key) for key, value in config.items()}
    return {key: value for key, value in changed.items() if value != config[key]} or None


def _without_policies(value: Any, key: str = "") -> Any:
    """A configuration in which no layer, at any depth, has a dtype policy of its own."""
    if isinstance(value, dict):
        if value.get("class_name") in ("Policy", "PolicyV1"):
            return "float32" if value["config"].get("name") in _OTHER_FLOATS else value
        return {name: _without_policies(part, name) for name, part in value.items()}
    if isinstance(value, list | tuple):
        parts = [_without_policies(part) for part in value]
        return value if parts == list(value) else parts
    return "float32" if key == "dtype" and value in _OTHER_FLOATS else value
