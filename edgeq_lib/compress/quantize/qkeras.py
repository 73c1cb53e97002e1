"""QKeras as a second engine: its quantizers around trained weights, and a file with them.

QKeras (Coelho et al., arXiv 2006.10159) is an optional extra.

1. A `Recipe` says how its quantizers are set, which is what decides.
2. `quantize_network` builds the QKeras model, to be used as it is or trained.
3. `exports` writes the integer-only file with the very weights that it computes with.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeq_lib.compress.quantize import calibration, quantized_weights
from edgeq_lib.compress.quantize.bias_overflow import least_scales
from edgeq_lib.compress.quantize.fake_quant import kernel_name
from edgeq_lib.compress.quantize.kernels import float_kernels, is_kernel_of
from edgeq_lib.files import EdgeqError
from edgeq_lib.models.convert import convert
from edgeq_lib.models.graph import (
    WITH_KERNEL,
    activation_name,
    clone,
    fold_batch_norms,
    identity,
    rebuild,
)
from edgeq_lib.models.tf import keras, tf
from edgeq_lib.tflite.quiet import quiet
from edgeq_lib.tflite.rewrite import as_dense

layers = keras.layers
INSTALL = "`pip install 'edgeq[qkeras]'`, in a checkout `.venv/bin/pip install -e '.[qkeras]'`"
_SETTINGS = {
    layers.Conv2D: ("filters", "kernel_size", "strides", "padding", "dilation_rate", "groups"),
    layers.DepthwiseConv2D: (
        "kernel_size",
        "strides",
        "padding",
        "dilation_rate",
        "depth_multiplier",
    ),
    layers.Dense: ("units",),
}


@dataclass(frozen=True)
class Recipe:
    """How the quantizers are set. The defaults are the careful way."""

    # Quantized_bits with alpha = "auto", "auto_po2" or 1 ("fixed": range ±1), or quantized_po2
    # ("po2")
    kernels: str = "auto"
    edges: int | None = (
        8  # bits of first layer, depthwise kernels and last layer; None: as the others
    )
    biases: bool = (
        False  # rounded as the kernels are, range ±1; else float, as int32 in the file all but is
    )
    activations: int | None = (
        # Bits behind each activation, ranges from calibration; None: as the kernels, range 0 to 1
        8
    )
    fold: bool = (
        True  # batch norms are folded first; else they stay float beside their convolutions
    )


RECIPES = {
    "fixed": Recipe("fixed", edges=None, biases=True, activations=None, fold=False),
    "default": Recipe("auto_po2", edges=None, biases=True, activations=None, fold=False),
    "careful": Recipe(),
    "po2": Recipe("po2"),
}


def recipe(name: str) -> Recipe:
    """Look up a row of `RECIPES`.

    Raises:
        EdgeqError: For a name that is not in the table.
    """
    if name not in RECIPES:
        raise EdgeqError(f"There is no QKeras recipe '{name}'; take some of {', '.join(RECIPES)}.")
    return RECIPES[name]


def load_library() -> Any:
    """Import qkeras on the Keras that edgeq uses.

    It imports `tensorflow.keras`, which is Keras 3 unless TF_USE_LEGACY_KERAS was set before
    TensorFlow was imported; here both ways in which TensorFlow decides are set to Keras 2.

    Raises:
        EdgeqError: When it is not installed, or on another Keras.
    """
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    legacy = str(Path(keras.__file__).parent / "api" / "_v2")
    if legacy not in tf.__path__:
        tf.__path__.insert(0, legacy)
    try:
        with quiet():
            import qkeras
    except ImportError as error:
        raise EdgeqError(
            f"QKeras cannot be imported ({error}); install it with {INSTALL}."
        ) from None
    if not issubclass(qkeras.QDense, layers.Dense) or tf.keras.layers.Dense is not layers.Dense:
        raise EdgeqError(
            "QKeras was loaded upon Keras 3 in this process; set TF_USE_LEGACY_KERAS=1 and start "
            "Python again."
        )
    return qkeras


def reason_missing() -> str:
    """Say why QKeras cannot be used; empty when it can."""
    try:
        load_library()
    except EdgeqError as error:
        return str(error)
    return ""


def quantize_network(model: keras.Model, bits: int, way: Recipe, images: np.ndarray) -> keras.Model:
    """Build a QKeras model with the weights of a float network.

    Args:
        model: Flat float tf_keras model.
        bits: Of the weights, 2 to 8.
        way: How the quantizers are set.
        images: Preprocessed float32 (n, H, W, C) of the calibration set; they tell how large
            activations become.

    Raises:
        EdgeqError: For layers with a kernel that this engine does not know, for other bits, and
            when QKeras is missing.
    """
    if not 2 <= bits <= 8:
        raise EdgeqError(f"QKeras models are made here with weights of 2 to 8 bits, not {bits}.")
    qkeras = load_library()
    plain = fold_batch_norms(model) if way.fold else model
    kernels = [layer for layer in plain.layers if isinstance(layer, WITH_KERNEL)]
    largest = _largest(plain, images) if way.activations else {}

    def replace(layer: Any) -> Any:
        steps, activation = [], activation_name(layer)
        if layer in kernels:
            low = not way.edges or not (
                isinstance(layer, layers.DepthwiseConv2D) or layer in (kernels[0], kernels[-1])
            )
            steps.append(
                _quantized_layer(
                    qkeras,
                    layer,
                    bits if low or not way.edges else way.edges,
                    way if low else Recipe(),
                )
            )
            steps += (
                [layers.Activation(layer.activation, name=f"{layer.name}_{activation}")]
                if activation != "linear"
                else []
            )
        if activation not in ("linear", "softmax"):
            width, integer = (
                (way.activations, _integer(largest[layer.name])) if way.activations else (bits, 0)
            )
            rounding = (
                qkeras.quantized_relu(width, integer)
                if activation in ("relu", "relu6")
                else qkeras.quantized_bits(width, integer, 1, alpha=1.0)
            )
            steps = [
                *(steps or [clone(layer)]),
                qkeras.QActivation(rounding, name=f"{layer.name}_rounded"),
            ]
        return _chain(steps) if steps else None

    return rebuild(plain, replace)


def _chain(steps: list) -> Any:
    def call(tensor: Any) -> Any:
        for step in steps:
            tensor = step(tensor)
        return tensor

    return call


def _largest(model: keras.Model, images: np.ndarray, batch: int = 32) -> dict[str, float]:
    """Layer → the largest magnitude that its activation gives out."""
    active = [
        layer for layer in model.layers if activation_name(layer) not in ("linear", "softmax")
    ]
    if not active:
        return {}
    watched = keras.Model(model.inputs, [layer.output for layer in active])

    @tf.function(autograph=False)
    def extremes(chunk: Any) -> Any:
        return tf.stack(
            [
                (-tf.reduce_min(x), tf.reduce_max(x))
                for x in tf.nest.flatten(watched(chunk, training=False))
            ]
        )

    found = [
        extremes(images[start : start + batch]).numpy() for start in range(0, len(images), batch)
    ]
    return dict(
        zip((layer.name for layer in active), map(float, np.max(found, axis=(0, 2))), strict=True)
    )


def _integer(largest: float) -> int:
    """QKeras's `integer`: a range reaches to 2 to the power of it, and it cannot be negative."""
    return max(0, int(np.ceil(np.log2(max(largest, 1e-9)))))


def _quantized_layer(qkeras: Any, layer: Any, bits: int, way: Recipe) -> Any:
    if type(layer) not in _SETTINGS:
        raise EdgeqError(
            f"Layer {layer.name!r} is a {type(layer).__name__}, for which there is no QKeras "
            "layer here; set `qkeras: false` in the study."
        )
    depthwise = isinstance(layer, layers.DepthwiseConv2D)
    largest = float(np.abs(layer.get_weights()[0]).max())
    if way.kernels == "po2":
        kernel = qkeras.quantized_po2(bits, max_value=2.0 ** round(np.log2(max(largest, 1e-9))))
    elif way.kernels == "fixed":
        kernel = qkeras.quantized_bits(bits, 0, 1, alpha=1.0)
    elif way.kernels == "auto_po2":
        kernel = qkeras.quantized_bits(bits, 0, 1, alpha="auto_po2")
    # `integer` changes no step, but training clips to ± 2 ** integer; of a depthwise kernel the
    # last axis is no channel
    else:
        kernel = qkeras.quantized_bits(
            bits, _integer(largest), 1, alpha="auto", scale_axis=2 if depthwise else None
        )
    quantizers = {
        "depthwise_quantizer" if depthwise else "kernel_quantizer": kernel,
        "bias_quantizer": qkeras.quantized_bits(bits, 0, 1, alpha=1.0) if way.biases else None,
    }
    twin = getattr(qkeras, f"Q{type(layer).__name__}")(
        **_settings(layer, type(layer)), **quantizers
    )
    twin._initial_weights = layer.get_weights()  # as `keras_graph.clone` does
    return twin


def _settings(layer: Any, kind: Any) -> dict[str, Any]:
    return {key: getattr(layer, key) for key in (*_SETTINGS[kind], "use_bias", "name")}


def quantized_layers(model: keras.Model) -> list:
    """List the QKeras layers of a model that have a kernel, in the order of the graph."""
    return [
        layer
        for layer in model.layers
        if isinstance(layer, WITH_KERNEL) and hasattr(layer, "quantizers")
    ]


def computed_weights(layer: Any) -> list[np.ndarray]:
    """Return kernel and bias, if any, as a QKeras layer computes with them."""
    return [
        (quantizer or tf.identity)(variable).numpy()
        for quantizer, variable in zip(
            layer.quantizers, (getattr(layer, kernel_name(layer) or ""), layer.bias), strict=True
        )
        if variable is not None
    ]


def kernel_grid(layer: Any) -> quantized_weights.QuantizedWeights:
    """Return the kernel of a QKeras layer as integer codes and a scale per channel.

    Powers of two lie on such codes as well, the scale being the smallest of the channel's.

    Raises:
        EdgeqError: When the codes take more than eight bits.
    """
    values, quantizer = computed_weights(layer)[0].astype(np.float64), layer.quantizers[0]
    shape = values.shape[2:] if kernel_name(layer) == "depthwise_kernel" else values.shape[-1:]
    ones, values = (1,) * (values.ndim - len(shape)), values.reshape(-1, int(np.prod(shape)))
    if hasattr(quantizer, "alpha"):
        scale = np.broadcast_to(np.asarray(quantizer.scale, np.float64), (*ones, *shape)).reshape(
            -1
        )
        steps, bits = scale * 2.0 ** (quantizer.integer + 1 - quantizer.bits), quantizer.bits
    else:
        steps = np.abs(values).min(axis=0)
        bits = int(np.log2(np.abs(values).max(axis=0) / steps).max()) + 2
    if bits > 8:
        raise EdgeqError(
            f"The powers of two in layer {layer.name!r} reach over {bits - 1} octaves, and int8 "
            "holds 7; take fewer bits."
        )
    return quantized_weights.round_to_nearest(values, np.maximum(steps, 1e-10), bits)


def rounded_float_model(model: keras.Model) -> keras.Model:
    """Build the model in plain Keras layers with the weights that QKeras computes with."""
    own = {id(layer) for layer in quantized_layers(model)}

    def replace(layer: Any) -> Any:
        if type(layer).__name__ == "QActivation":
            return identity
        if id(layer) not in own:
            return None
        kind = next(
            kind
            for kind in _SETTINGS
            if isinstance(layer, kind) and type(layer).__name__ == f"Q{kind.__name__}"
        )
        plain = kind(**_settings(layer, kind))
        plain._initial_weights = computed_weights(layer)
        return plain

    return rebuild(model, replace)


def export_file(model: keras.Model, images: np.ndarray, input_range: tuple[float, float]) -> bytes:
    """Write the integer-only file of a QKeras model whose batch norms were folded.

    Activations have int8 in calibrated ranges: LiteRT knows finer ones than powers of two.

    Args:
        model: The QKeras model.
        images: Preprocessed float32 (n, H, W, C), the calibration set.
        input_range: The range of the network's input.

    Raises:
        EdgeqError: When the codes of a layer do not fit into int8.
    """
    grids = {
        layer.name: (kernel_grid(layer), computed_weights(layer)[0])
        for layer in quantized_layers(model)
    }
    flat = as_dense(convert(rounded_float_model(model)))
    ranges = calibration.calibrate(flat, images, input_range)
    least, found = least_scales(flat, ranges), {}
    for kernel in float_kernels(flat):
        own = next((each for each, values in grids.values() if is_kernel_of(kernel, values)), None)
        if own is None:
            raise EdgeqError(
                "The float file holds other weights than the QKeras model; take a recipe that "
                "folds batch norms."
            )
        # a dead channel is all bias, which its own steps would clip
        found[kernel.name] = quantized_weights.round_to_nearest(
            own.values, np.maximum(own.scales, least[kernel.name]), own.bits
        )
    return quantized_weights.to_file(flat, found, ranges)


def exports(
    models: Mapping[str, keras.Model], images: np.ndarray, input_range: tuple[float, float]
) -> tuple[dict[str, bytes], dict[str, str]]:
    """Write the files of those models that have one.

    Args:
        models: Name → QKeras model.
        images: Preprocessed float32 (n, H, W, C), the calibration set.
        input_range: The range of the network's input.

    Returns:
        Name → file, and name → the reason why the others have none.
    """
    files, reasons = {}, {}
    for name, model in models.items():
        try:
            files[name] = export_file(model, images, input_range)
        except EdgeqError as error:
            reasons[name] = str(error)
    return files, reasons
