"""Rewrite a Keras graph: check it, count its layers, replace layers, fold batch norms.

Everything rests on `rebuild`, which walks the graph once and asks for each layer what shall stand
in its place. It reads tf_keras's node records (`_nodes_by_depth`), the only place where tf_keras
keeps the order of calls; tf_keras is pinned and no longer changes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from edgeq_lib.files import EdgeqError
from edgeq_lib.models.tf import keras, tf

Replacement = Callable[..., Any] | None
WITH_KERNEL = (
    keras.layers.Conv2D,
    keras.layers.Conv2DTranspose,
    keras.layers.DepthwiseConv2D,
    keras.layers.Dense,
)
# Layers that give back what they get in inference. (RandomCrop is none of them: it cuts then too.)
TRAINING_ONLY = (
    keras.layers.Dropout,
    keras.layers.SpatialDropout1D,
    keras.layers.SpatialDropout2D,
    keras.layers.SpatialDropout3D,
    keras.layers.AlphaDropout,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.ActivityRegularization,
    keras.layers.RandomBrightness,
    keras.layers.RandomContrast,
    keras.layers.RandomFlip,
    keras.layers.RandomHeight,
    keras.layers.RandomRotation,
    keras.layers.RandomTranslation,
    keras.layers.RandomWidth,
    keras.layers.RandomZoom,
)


def has_kernel(layer: keras.layers.Layer) -> bool:
    """Tell whether a layer is one of `WITH_KERNEL`, and no subclass that computes something else.

    Keras derives layers from each other that lay out their kernels in other ways: `Conv2DTranspose`
    is a `Conv2D` whose kernel is (h, w, out, in).

    Args:
        layer: The layer.
    """
    return type(layer) in WITH_KERNEL


def is_training_only(layer: keras.layers.Layer) -> bool:
    """Tell whether a layer does nothing in inference: dropout, noise, augmentation.

    Args:
        layer: The layer; called with `training=True` it acts in inference too.
    """
    return type(layer) in TRAINING_ONLY and not any(
        node.call_kwargs.get("training") for node in layer._inbound_nodes
    )


def check_flat(model: Any) -> None:
    """Check that edgeq can read a model's graph.

    Args:
        model: Should be a flat functional (or built sequential) tf_keras model with finite weights.

    Raises:
        EdgeqError: When it is not.
    """
    module = type(model).__module__
    if not isinstance(model, keras.Model):
        if any(base.__module__.split(".")[0] == "keras" for base in type(model).__mro__):
            raise EdgeqError(
                "This is a Keras 3 model, which TensorFlow's quantization tools do not take; "
                "build it again with `import tf_keras as keras` and load its weights from an .h5 "
                "weights file."
            )
        raise EdgeqError(
            f"{module}.{type(model).__name__} is not a Keras model; hand in a functional "
            "tf_keras model."
        )
    if not getattr(model, "_is_graph_network", False):
        kind = "not built yet" if isinstance(model, keras.Sequential) else "a subclassed model"
        raise EdgeqError(
            f"Model {model.name!r} is {kind}, so its graph cannot be read; give its input shape, "
            "or write it as a functional model, keras.Model(inputs, outputs)."
        )
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            raise EdgeqError(
                f"Model {model.name!r} contains the model {layer.name!r} as a layer; make it "
                f"flat: go on from {layer.name}.output instead of calling {layer.name}(x), with "
                "its input as yours."
            )
        for weight in layer.weights:
            if (
                np.issubdtype(weight.dtype.as_numpy_dtype, np.floating)
                and not np.isfinite(weight.numpy()).all()
            ):
                raise EdgeqError(
                    f"Layer {layer.name!r} holds NaN or infinite values in {weight.name!r}; load "
                    "sound weights, or train again with a lower learning rate."
                )


def layer_census(model: keras.Model) -> dict[str, int]:
    """Count a model's layers.

    Args:
        model: The model.

    Returns:
        Class of layer → how many, most frequent first.
    """
    return dict(Counter(type(layer).__name__ for layer in model.layers).most_common())


def clone(
    layer: keras.layers.Layer, weights: list[np.ndarray] | None = None, **changes: Any
) -> keras.layers.Layer:
    """Make a fresh layer with the configuration of another.

    Args:
        layer: The other layer.
        weights: What it starts with when first called; None for those of `layer`.
        **changes: Changes of its configuration.
    """
    config = {**layer.get_config(), **changes}
    twin = type(layer).from_config(config)
    # What the `weights=` argument of a Keras layer sets; by attribute because not every from_config
    # passes it on.
    if weights is not None or not _is_composite(layer):
        twin._initial_weights = layer.get_weights() if weights is None else weights
    return twin


def _is_composite(layer: keras.layers.Layer) -> bool:
    """Whether a layer holds others, such as attention its projections.

    These may be made when it is first called, so that it has no weights to set before.
    """
    return bool(layer.submodules)


def rebuild(
    model: keras.Model, replace: Callable[[keras.layers.Layer], Replacement]
) -> keras.Model:
    """Copy a flat functional model, deciding for each layer what becomes of it.

    Args:
        model: The model.
        replace: Called once per layer, also when the layer is shared. It returns None (copy the
            layer with its weights) or a callable on tensors: a new layer, a function that calls
            several (expansion), or `identity` (removal). For an input layer the callable is applied
            to the new input. Functions do not get the arguments `training` and `mask` of the call.

    Returns:
        The copy; its batch size is open, and it is not compiled.

    Raises:
        EdgeqError: See `check_flat`.
    """
    check_flat(model)
    tensors: dict[int, Any] = {}  # by identity: old tensor → new tensor

    def swap(value: Any) -> Any:
        return tensors.get(id(value), value)

    inputs = []
    for tensor in model.inputs:
        layer = tensor._keras_history.layer
        inputs.append(keras.Input(tensor.shape[1:], dtype=tensor.dtype, name=layer.name))
        tensors[id(tensor)] = (replace(layer) or identity)(inputs[-1])
    chosen: dict[int, Callable[..., Any]] = {}
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in model._nodes_by_depth[depth]:
            if node.is_input:
                continue
            new: Any = chosen.get(id(node.layer)) or replace(node.layer)
            is_first_copy, new = new is None, new or clone(node.layer)
            chosen[id(node.layer)] = new
            args, kwargs = tf.nest.map_structure(swap, (node.call_args, node.call_kwargs))
            if not isinstance(new, keras.layers.Layer):
                kwargs = {key: kwargs[key] for key in kwargs.keys() - {"training", "mask"}}
            outputs = new(*args, **kwargs)
            if is_first_copy and _is_composite(node.layer):
                new.set_weights(node.layer.get_weights())
            for old, output in zip(
                tf.nest.flatten(node.outputs), tf.nest.flatten(outputs), strict=True
            ):
                tensors[id(old)] = output
    outputs = [tensors[id(tensor)] for tensor in model.outputs]
    copy = keras.Model(
        inputs if len(inputs) > 1 else inputs[0],
        outputs if len(outputs) > 1 else outputs[0],
        name=model.name,
    )
    for layer in copy.layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()  # it computes with constants derived from its weights
    return copy


def identity(tensor: Any) -> Any:
    """Return a tensor as it is: what `rebuild` puts in the place of a layer that goes.

    Args:
        tensor: The tensor.
    """
    return tensor


def consumers(model: keras.Model, layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """List the layers that read a layer's output.

    Args:
        model: The model.
        layer: One of its layers.

    Returns:
        The readers, one entry per use.
    """
    own = {id(node) for nodes in model._nodes_by_depth.values() for node in nodes}
    return [node.layer for node in layer._outbound_nodes if id(node) in own]


def only_consumer(model: keras.Model, layer: keras.layers.Layer) -> keras.layers.Layer | None:
    """Find the one layer that reads a layer's output.

    Args:
        model: The model.
        layer: One of its layers.

    Returns:
        The reader; None when there are several, when the output is one of the model's, or when one
        of the two layers is shared.
    """
    readers = consumers(model, layer)
    if len(readers) != 1 or any(tensor._keras_history.layer is layer for tensor in model.outputs):
        return None
    own = {id(node) for nodes in model._nodes_by_depth.values() for node in nodes}
    calls = [sum(id(node) in own for node in each._inbound_nodes) for each in (layer, readers[0])]
    return readers[0] if calls == [1, 1] else None


def activation_name(layer: keras.layers.Layer) -> str:
    """Name the activation that a layer ends with.

    Args:
        layer: The layer.

    Returns:
        Such as "linear", "relu", "relu6" or "swish"; "other" when it has no name.
    """
    if isinstance(layer, keras.layers.ReLU):
        plain = not layer.threshold and not layer.negative_slope
        ceiling = None if layer.max_value is None else float(layer.max_value)
        return {None: "relu", 6.0: "relu6"}.get(ceiling, "other") if plain else "other"
    if isinstance(layer, keras.layers.Softmax):
        return "softmax"
    function = getattr(layer, "activation", None)
    if function is None:
        return "linear"
    name = getattr(function, "__name__", "other")
    return {"silu": "swish", "<lambda>": "other"}.get(name, name)


def plain_layers(model: keras.Model) -> keras.Model:
    """Write a network with the layers that its flatbuffer has.

    A SeparableConv2D becomes a DepthwiseConv2D, `NAME_depthwise`, and a 1 × 1 Conv2D of its own
    name; layers that do nothing in inference go.

    Args:
        model: A flat model.

    Returns:
        A copy that computes the same function in inference.

    Raises:
        EdgeqError: See `check_flat`.
    """

    def replace(layer: keras.layers.Layer) -> Replacement:
        if is_training_only(layer):
            return identity
        return _separated(layer) if type(layer) is keras.layers.SeparableConv2D else None

    return rebuild(model, replace)


def _separated(layer: keras.layers.SeparableConv2D) -> Callable[[Any], Any]:
    depthwise, *pointwise = layer.get_weights()
    geometry = ("kernel_size", "strides", "padding", "data_format", "depth_multiplier")
    first = keras.layers.DepthwiseConv2D(
        **{key: getattr(layer, key) for key in (*geometry, "dilation_rate")},
        use_bias=False,
        name=f"{layer.name}_depthwise",
    )
    second = keras.layers.Conv2D(
        layer.filters,
        1,
        data_format=layer.data_format,
        activation=layer.activation,
        use_bias=layer.use_bias,
        name=layer.name,
    )
    first._initial_weights, second._initial_weights = [depthwise], pointwise
    return lambda tensor: second(first(tensor))


def fold_batch_norms(model: keras.Model) -> keras.Model:
    """Fold each BatchNormalization into the layer with a kernel that it alone follows.

    Exact in inference: w' = w * g, b' = (b - mean) * g + beta with g = gamma / sqrt(variance +
    epsilon) (Jacob et al., arXiv 1712.05877, section 3.2), computed in float64.

    Args:
        model: A flat model.

    Returns:
        A copy, of `plain_layers`. Norms that follow something else stay: `layer_census` shows them.

    Raises:
        EdgeqError: See `check_flat`.
    """
    plain = plain_layers(model)
    followed = norms_to_fold(plain)
    norms = {norm.name for norm in followed.values()}

    def replace(layer: keras.layers.Layer) -> Replacement:
        if layer.name in norms:
            return identity
        return _fold(layer, followed[layer.name]) if layer.name in followed else None

    return rebuild(plain, replace)


def norms_to_fold(model: keras.Model) -> dict[str, keras.layers.BatchNormalization]:
    """Find the batch norms that `fold_batch_norms` folds.

    Args:
        model: What `plain_layers` returned.

    Returns:
        Layer with a kernel → the batch norm behind it, in the order of the graph.
    """
    followed = {}
    for layer in model.layers:
        norm: Any = only_consumer(model, layer)
        if (
            has_kernel(layer)
            and type(norm) is keras.layers.BatchNormalization
            and activation_name(layer) == "linear"
            and getattr(layer, "data_format", None) != "channels_first"
            and [axis % len(norm.input_shape) for axis in norm.axis] == [len(norm.input_shape) - 1]
        ):
            followed[layer.name] = norm
    return followed


def _fold(layer: keras.layers.Layer, norm: keras.layers.BatchNormalization) -> keras.layers.Layer:
    kernel, *bias = (weight.astype(np.float64) for weight in layer.get_weights())
    mean, variance = (
        variable.numpy().astype(np.float64) for variable in (norm.moving_mean, norm.moving_variance)
    )
    gain = (norm.gamma.numpy() if norm.scale else 1.0) / np.sqrt(variance + norm.epsilon)
    offset = norm.beta.numpy() if norm.center else 0.0
    per_channel = gain
    if type(layer) is keras.layers.DepthwiseConv2D:
        per_channel = gain.reshape(kernel.shape[2:])
    elif type(layer) is keras.layers.Conv2DTranspose:
        per_channel = gain[:, None]  # its kernel is (h, w, out, in)
    weights = [kernel * per_channel, ((bias[0] if bias else 0.0) - mean) * gain + offset]
    return clone(layer, [weight.astype(np.float32) for weight in weights], use_bias=True)


def expand_activations(model: keras.Model) -> keras.Model:
    """Make each activation that LiteRT does not fuse a layer of its own.

    `activation="sigmoid"` inside a convolution becomes a layer behind it; swish becomes
    Activation("sigmoid") and Multiply; a linear Activation disappears; relu and relu6 stay.

    Args:
        model: A flat model.

    Returns:
        A copy that computes the same function.
    """

    def replace(layer: keras.layers.Layer) -> Replacement:
        name = activation_name(layer)
        if isinstance(layer, keras.layers.Activation):
            return {"linear": identity, "swish": _swish(layer.name)}.get(name)
        if not has_kernel(layer) or name in ("linear", "relu", "relu6"):
            return None
        own = 2 if layer.use_bias else 1  # of its weights; the rest are its activation's
        body = clone(layer, layer.get_weights()[:own], activation="linear")
        tail = (
            _swish(f"{layer.name}_swish")
            if name == "swish"
            else _as_layer(layer.activation, f"{layer.name}_{name}")
        )
        return lambda tensor: tail(body(tensor))

    return rebuild(model, replace)


def _as_layer(activation: Any, name: str) -> keras.layers.Layer:
    """An activation, which may be a layer already, as a layer of its own."""
    if isinstance(activation, keras.layers.Layer):
        return clone(activation, activation.get_weights(), name=name)
    return keras.layers.Activation(activation, name=name)


def _swish(name: str) -> Callable[[Any], Any]:
    def call(tensor: Any) -> Any:
        gate = keras.layers.Activation("sigmoid", name=f"{name}_sigmoid")(tensor)
        return keras.layers.Multiply(name=name)([tensor, gate])

    return call
