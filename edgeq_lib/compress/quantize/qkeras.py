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
    """How the quantizers are set. The defaults are the careful way.

    Attributes:
        kernels: `quantized_bits` with alpha "auto", "auto_po2" or 1 ("fixed": range ±1), or
            `quantized_po2` ("po2").
        edges: Bits of first layer, depthwise kernels and last layer; None: as the others.
        biases: Round biases as the kernels are, range ±1; else they are float, as int32 in the
            file all but is.
        activations: Bits behind each activation, ranges from calibration; None: as the kernels,
            range 0 to 1.
        fold: Fold batch norms first; else they stay float beside their convolutions.
    """

    kernels: str = "auto"
    edges: int | None = 8
    biases: bool = False
    activations: int | None = 8
    fold: bool = True


RECIPES = {
    "fixed": Recipe("fixed", edges=None, biases=True, activations=None, fold=False),
    "default": Recipe("auto_po2", edges=None, biases=True, activations=None, fold=False),
    "careful": Recipe(),
    "po2": Recipe("po2"),
}


def recipe(name: str) -> Recipe:
    """Look up a row of `RECIPES`.

    Args:
        name: Its key.

    Returns:
        How the quantizers are set.

    Raises:
        EdgeqError: For a name that is not in the table.
    """
    if name not in RECIPES:
        raise EdgeqError(f"There is no QKeras recipe '{name}'; take one of {', '.join(RECIPES)}.")
    return RECIPES[name]


def load_library() -> Any:
    """Import qkeras on the Keras that edgeq uses.

    It imports `tensorflow.keras`, which is Keras 3 unless TF_USE_LEGACY_KERAS was set before
    TensorFlow was imported; here both ways in which TensorFlow decides are set to Keras 2.

    Returns:
        The module.

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


def why_not(model: keras.Model) -> str | None:
    """Say why QKeras has no layers for a network.

    Args:
        model: The Keras model.

    Returns:
        The reason, one sentence; None when it has.
    """
    unknown = [
        layer
        for layer in model.layers
        if isinstance(layer, WITH_KERNEL) and type(layer) not in _SETTINGS
    ]
    return _unknown(unknown[0]) if unknown else None


def _unknown(layer: Any) -> str:
    return (
        f"Layer {layer.name!r} is a {type(layer).__name__}, for which there is no QKeras layer "
        "here; set `qkeras: false` in the study."
    )


def quantize_network(model: keras.Model, bits: int, way: Recipe, images: np.ndarray) -> keras.Model:
    """Build a QKeras model with the weights of a float network.

    Args:
        model: Flat float tf_keras model.
        bits: Of the weights, 2 to 8.
        way: How the quantizers are set.
        images: Preprocessed float32 (n, H, W, C) of the calibration set; they tell how large
            activations become.

    Returns:
        The QKeras model, to be used as it is or trained by `training.fit`.

    Raises:
        EdgeqError: For layers with a kernel that this engine does not know, for other bits, and
            when QKeras is missing.
    """
    if not 2 <= bits <= 8:
        raise EdgeqError(f"QKeras models are made here with weights of 2 to 8 bits, not {bits}.")
    qkeras = load_library()
    plain = fold_batch_norms(model) if way.fold else model
    largest = _largest_activations(plain, images) if way.activations else {}
    edges = _edges(plain) if way.edges else set()

    def replace(layer: Any) -> Any:
        chain, activation = [], activation_name(layer)
        if isinstance(layer, WITH_KERNEL):
            is_edge = layer.name in edges
            width, own = (way.edges or bits, Recipe()) if is_edge else (bits, way)
            chain.append(_quantized_layer(qkeras, layer, width, own))
            if activation != "linear":
                name = f"{layer.name}_{activation}"
                chain.append(layers.Activation(layer.activation, name=name))
        if activation not in ("linear", "softmax"):
            width, integer = bits, 0
            if way.activations:
                width, integer = way.activations, _integer(largest[layer.name])
            rounding = _activation_quantizer(qkeras, activation, width, integer)
            rounded = qkeras.QActivation(rounding, name=f"{layer.name}_rounded")
            chain = [*(chain or [clone(layer)]), rounded]
        return _composed(chain) if chain else None

    return rebuild(plain, replace)


def _edges(model: keras.Model) -> set[str]:
    """Names of the first and the last layer with a kernel, and of the depthwise ones."""
    kernels = [layer for layer in model.layers if isinstance(layer, WITH_KERNEL)]
    depthwise = [layer for layer in kernels if _is_depthwise(layer)]
    return {layer.name for layer in (*kernels[:1], *depthwise, *kernels[-1:])}


def _activation_quantizer(qkeras: Any, activation: str, bits: int, integer: int) -> Any:
    """Unsigned behind a relu, signed behind all else; the range is ± 2 ** integer."""
    if activation in ("relu", "relu6"):
        return qkeras.quantized_relu(bits, integer)
    return qkeras.quantized_bits(bits, integer, 1, alpha=1.0)


def _composed(chain: list) -> Any:
    def call(tensor: Any) -> Any:
        for layer in chain:
            tensor = layer(tensor)
        return tensor

    return call


def _largest_activations(
    model: keras.Model, images: np.ndarray, batch: int = 32
) -> dict[str, float]:
    """Layer → the largest magnitude of its activation's outputs."""
    active = [
        layer for layer in model.layers if activation_name(layer) not in ("linear", "softmax")
    ]
    if not active:
        return {}
    watched = keras.Model(model.inputs, [layer.output for layer in active])

    @tf.function(autograph=False)
    def extremes(chunk: Any) -> Any:
        outputs = tf.nest.flatten(watched(chunk, training=False))
        return tf.stack([(-tf.reduce_min(x), tf.reduce_max(x)) for x in outputs])

    starts = range(0, len(images), batch)
    per_batch = [extremes(images[start : start + batch]).numpy() for start in starts]
    largest = np.max(per_batch, axis=(0, 2))
    return {layer.name: float(value) for layer, value in zip(active, largest, strict=True)}


def _integer(largest: float) -> int:
    """QKeras's `integer`: a range reaches to 2 to the power of it, and it cannot be negative."""
    return max(0, int(np.ceil(np.log2(max(largest, 1e-9)))))


def _quantized_layer(qkeras: Any, layer: Any, bits: int, way: Recipe) -> Any:
    if type(layer) not in _SETTINGS:
        raise EdgeqError(_unknown(layer))
    depthwise = _is_depthwise(layer)
    largest = float(np.abs(layer.get_weights()[0]).max())
    if way.kernels == "po2":
        kernel = qkeras.quantized_po2(bits, max_value=2.0 ** round(np.log2(max(largest, 1e-9))))
    elif way.kernels == "fixed":
        kernel = qkeras.quantized_bits(bits, 0, 1, alpha=1.0)
    elif way.kernels == "auto_po2":
        kernel = qkeras.quantized_bits(bits, 0, 1, alpha="auto_po2")
    else:
        # `integer` changes no scale, but training clips to ± 2 ** integer; of a depthwise kernel
        # the last axis is no channel.
        kernel = qkeras.quantized_bits(
            bits, _integer(largest), 1, alpha="auto", scale_axis=2 if depthwise else None
        )
    quantizers = {
        "depthwise_quantizer" if depthwise else "kernel_quantizer": kernel,
        "bias_quantizer": qkeras.quantized_bits(bits, 0, 1, alpha=1.0) if way.biases else None,
    }
    quantized_type = getattr(qkeras, f"Q{type(layer).__name__}")
    quantized = quantized_type(**_settings(layer, type(layer)), **quantizers)
    quantized._initial_weights = layer.get_weights()  # as `models.graph.clone` does
    return quantized


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
    kernel = layer.depthwise_kernel if _is_depthwise(layer) else layer.kernel
    return [
        (quantizer or tf.identity)(variable).numpy()
        for quantizer, variable in zip(layer.quantizers, (kernel, layer.bias), strict=True)
        if variable is not None
    ]


def _is_depthwise(layer: Any) -> bool:
    return isinstance(layer, layers.DepthwiseConv2D)


def kernel_grid(layer: Any) -> quantized_weights.QuantizedWeights:
    """Return the kernel of a QKeras layer as integer codes and a scale per channel.

    Powers of two lie on such codes as well, the scale being the smallest of the channel's.

    Args:
        layer: A layer of `quantized_layers`.

    Returns:
        The quantized weights, codes (weights, channels).

    Raises:
        EdgeqError: When the codes take more than eight bits.
    """
    kernel, quantizer = computed_weights(layer)[0].astype(np.float64), layer.quantizers[0]
    channels = kernel.shape[2:] if _is_depthwise(layer) else kernel.shape[-1:]
    values = kernel.reshape(-1, int(np.prod(channels)))
    if hasattr(quantizer, "alpha"):
        ones = (1,) * (kernel.ndim - len(channels))
        scale = np.broadcast_to(np.asarray(quantizer.scale, np.float64), (*ones, *channels))
        scales = scale.reshape(-1) * 2.0 ** (quantizer.integer + 1 - quantizer.bits)
        bits = quantizer.bits
    else:
        scales = np.abs(values).min(axis=0)
        bits = int(np.log2(np.abs(values).max(axis=0) / scales).max()) + 2
    if bits > 8:
        raise EdgeqError(
            f"The powers of two in layer {layer.name!r} reach over {bits - 1} octaves, and int8 "
            "holds 7; take fewer bits."
        )
    return quantized_weights.round_to_nearest(values, np.maximum(scales, 1e-10), bits)


def rounded_float_model(model: keras.Model) -> keras.Model:
    """Build the model in plain Keras layers with the weights that QKeras computes with.

    Args:
        model: The QKeras model.

    Returns:
        A plain tf_keras model; its activations are not rounded.
    """
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

    Returns:
        The flatbuffer.

    Raises:
        EdgeqError: When batch norms were not folded, and when the codes of a layer do not fit into
            int8.
    """
    kernels = [
        (kernel_grid(layer), computed_weights(layer)[0]) for layer in quantized_layers(model)
    ]
    flat = as_dense(convert(rounded_float_model(model)))
    ranges = calibration.calibrate(flat, images, input_range)
    least, rounded = least_scales(flat, ranges), {}
    for kernel in float_kernels(flat):
        own = next((stored for stored, values in kernels if is_kernel_of(kernel, values)), None)
        if own is None:
            raise EdgeqError(
                "The float file holds other weights than the QKeras model; take a recipe that "
                "folds batch norms."
            )
        # A dead channel is all bias, which its own scale would clip.
        scales = np.maximum(own.scales, least[kernel.name])
        rounded[kernel.name] = quantized_weights.round_to_nearest(own.values, scales, own.bits)
    return quantized_weights.to_file(flat, rounded, ranges)


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
