"""Quantization-aware training: training sees what LiteRT will compute.

1. Fold batch norms into their convolutions, before training (Krishnamoorthi, arXiv 1806.08342).
2. Round weights per output channel, and every activation that is a tensor in the flatbuffer to its
   calibrated range; nothing between an operation and the relu that LiteRT fuses into it (Jacob et
   al., arXiv 1712.05877).
3. Train with the straight-through gradient (`models.training.fit`); `qat_export` makes the file.

tfmot supplies wrapper, configs and quantizers. Its layout transforms (`quantize_apply`) are not
used: they know neither multiplications nor squeeze-and-excite branches, and nothing is left to
fold.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgeq_lib.compress.quantize import calibration
from edgeq_lib.compress.quantize.bias_overflow import fix_dead_channels
from edgeq_lib.compress.quantize.fake_quant import (
    CalibratedRange,
    FixedRange,
    LayerConfig,
    NoRounding,
    PooledRange,
    float_weights,
    kernel_name,
    wrappers,
)
from edgeq_lib.compress.quantize.quantized_weights import QuantizedWeights
from edgeq_lib.files import EdgeqError
from edgeq_lib.models.graph import (
    WITH_KERNEL,
    activation_name,
    check_flat,
    expand_activations,
    fold_batch_norms,
    identity,
    only_consumer,
    rebuild,
)
from edgeq_lib.models.tf import keras, tf
from edgeq_lib.tflite.quiet import quiet

with quiet():
    from tensorflow_model_optimization.quantization import keras as tfmot
layers = keras.layers
# Output ranges that LiteRT's kernels fix: steps of 1/256 from 0, and of 1/128 from -1.
FIXED_RANGES = {"sigmoid": (0.0, 255 / 256), "softmax": (0.0, 255 / 256), "tanh": (-1.0, 127 / 128)}
FUSE_RELU = (*WITH_KERNEL, layers.Add, layers.Subtract, layers.Multiply)
SAME_RANGE = (layers.AveragePooling2D,)  # LiteRT rounds to the steps of the input
MOVE_VALUES = (
    layers.InputLayer,
    layers.MaxPooling2D,
    layers.Reshape,
    layers.Flatten,
    layers.ZeroPadding2D,
    layers.Cropping2D,
    layers.Dropout,
    layers.SpatialDropout2D,
)  # nothing to round
OWN_RANGE = (
    *FUSE_RELU,
    layers.ReLU,
    layers.Softmax,
    layers.Activation,
    layers.Concatenate,
    layers.GlobalAveragePooling2D,
    layers.Rescaling,
    layers.Normalization,
)


def quantize_aware(
    model: keras.Model,
    calibration_images: np.ndarray,
    quantized: Mapping[str, QuantizedWeights] | None = None,
) -> keras.Model:
    """Build a model that computes in float what the int8 file will compute.

    It is trained with plain compile and fit, and gives logits if `model` does. Built again from the
    same arguments it has the same variables in the same order: `save_weights` and `load_weights`
    resume it.

    Args:
        model: Flat float tf_keras model; its weights are taken, batch norms folded.
        calibration_images: Preprocessed float32 (n, H, W, C), from the training set.
        quantized: Layer → quantized weights that its kernel starts from, with scales that are
            trained; all other kernels have 8 bits.

    Raises:
        EdgeqError: For layers that cannot be trained this way.
    """
    check_flat(model)
    check_images(calibration_images)
    plain = expand_activations(fold_batch_norms(model))
    _check_layers(plain)
    quantizers, quantized = _output_quantizers(plain, calibration_images), quantized or {}

    def replace(layer: Any) -> Any:
        output = quantizers.get(layer.name)
        if isinstance(layer, layers.Dropout | layers.SpatialDropout2D):
            return identity  # a network that is to keep its answers needs no noise
        if isinstance(layer, layers.InputLayer):
            return tfmot.QuantizeWrapperV2(
                layers.Activation("linear", name=layer.name), LayerConfig(output)
            )
        if output is None and kernel_name(layer) is None:
            return None
        source = (
            quantizers[source_of(layer.input._keras_history.layer, quantizers)]
            if kernel_name(layer)
            else None
        )
        return tfmot.QuantizeWrapperV2(
            type(layer).from_config(layer.get_config()),
            LayerConfig(output, source, quantized.get(layer.name)),
        )

    trainable = rebuild(plain, replace)
    for wrapper in wrappers(trainable):
        values = plain.get_layer(wrapper.layer.name).get_weights()
        source = wrapper.quantize_config.source
        if wrapper.layer.name in quantized:
            values[0] = _near(values[0], quantized[wrapper.layer.name])
        _copy_weights(
            _fitting(*values, *source.bounds()) if source and len(values) == 2 else values, wrapper
        )
    return trainable


def why_not(model: keras.Model) -> str | None:
    """Say why a network cannot be trained quantization-aware.

    Args:
        model: The Keras model.

    Returns:
        The reason, one sentence; None when it can.
    """
    try:
        _check_layers(expand_activations(fold_batch_norms(model)))
    except EdgeqError as reason:
        return str(reason)
    return None


def _near(kernel: np.ndarray, rounded: QuantizedWeights) -> np.ndarray:
    """The float kernel, moved only as far as it takes to be rounded to these codes.

    Where it lies between two codes is what training starts from.
    """
    return (
        np.clip(
            kernel.reshape(rounded.codes.shape),
            *(rounded.values + side * 0.49 * rounded.scales for side in (-1, 1)),
        )
        .reshape(kernel.shape)
        .astype(np.float32)
    )


def _fitting(kernel: np.ndarray, bias: np.ndarray, low: Any, high: Any) -> list[np.ndarray]:
    """Kernel and bias such that each bias fits into int32 (see `bias_overflow`)."""
    mended = kernel.reshape(-1, bias.size).copy()
    fix_dead_channels(mended, bias, float(high - low))
    return [mended.reshape(kernel.shape), bias]


def _copy_weights(values: list[np.ndarray], wrapper: Any) -> None:
    for variable, value in zip(float_weights(wrapper), values, strict=True):
        variable.assign(value)
    if isinstance(wrapper.layer, layers.Normalization):
        wrapper.layer.finalize_state()


def check_images(images: np.ndarray) -> None:
    """Raise EdgeqError without calibration images."""
    if len(images) == 0:
        raise EdgeqError(
            "There are no calibration images; set `calibration` in the section 'data' to 16 or "
            "more."
        )
    if not np.isfinite(images).all():
        raise EdgeqError(
            "A calibration image holds NaN or infinite values; remove it from the training set."
        )


def _check_layers(model: keras.Model) -> None:
    if len(model.inputs) != 1:
        raise EdgeqError(
            f"Model {model.name!r} has {len(model.inputs)} inputs; quantization-aware training "
            "here takes models of one image."
        )
    known = (*OWN_RANGE, *SAME_RANGE, *MOVE_VALUES)
    for layer in model.layers:
        name, kind = activation_name(layer), type(layer).__name__
        if isinstance(layer, layers.BatchNormalization):
            why = "a batch norm that follows no convolution cannot be folded"
        elif type(layer) not in known or type(layer) is layers.Conv2DTranspose:
            why = f"a {kind} layer has no place to put a quantizer"
        elif name not in ("linear", "relu", "relu6", *FIXED_RANGES):
            why = f"the activation {name!r} of a {kind} layer has no known int8 form"
        elif len(layer._inbound_nodes) > 1:
            why = "it is called more than once, and each call needs ranges of its own"
        else:
            continue
        raise EdgeqError(
            f"Layer {layer.name!r} cannot be trained quantization-aware ({why}); write the "
            "network with plain Keras layers, or set `qat: false` in the study and take int8 "
            "post-training quantization."
        )


def _fused(model: keras.Model, layer: Any) -> bool:
    """Whether LiteRT fuses the following relu into this layer: its own output is no tensor then."""
    reader = only_consumer(model, layer) if isinstance(layer, FUSE_RELU) else None
    return (
        isinstance(reader, layers.ReLU | layers.Activation)
        and activation_name(layer) == "linear"
        and activation_name(reader) in ("relu", "relu6")
    )


def _output_quantizers(model: keras.Model, images: np.ndarray) -> dict[str, Any]:
    """Layer name → quantizer of its output; layers whose output is not rounded are absent."""
    rounded = [
        layer
        for layer in model.layers
        if isinstance(layer, (layers.InputLayer, *OWN_RANGE)) and not _fused(model, layer)
    ]
    measured = [layer for layer in rounded if activation_name(layer) not in FIXED_RANGES]
    ranges = _ranges(keras.Model(model.inputs, [layer.output for layer in measured]), images)
    quantizers = {
        layer.name: CalibratedRange(
            *(
                calibration.range_with_integral_zero(low, high)
                if isinstance(layer, layers.InputLayer)
                else (low, high)
            )
        )
        for layer, (low, high) in zip(measured, ranges, strict=True)
    }
    for layer in rounded:
        if layer not in measured:
            quantizers[layer.name] = FixedRange(*FIXED_RANGES[activation_name(layer)])
    for (
        layer
    ) in model.layers:  # in the order of the graph, so that a chain of poolings finds its source
        if isinstance(layer, SAME_RANGE):
            quantizers[layer.name] = PooledRange(quantizers[source_of(layer, quantizers)])
    return quantizers


def source_of(layer: Any, rounded: dict[str, Any]) -> str:
    """Name the layer that rounded a layer's output: itself, or where the values came from."""
    while layer.name not in rounded:
        layer = layer.input._keras_history.layer
    return layer.name


def _ranges(model: keras.Model, images: np.ndarray, batch: int = 8) -> np.ndarray:
    """(low, high) of each output, (outputs, 2), covering `calibration.COVERED` of the images.

    Each image has one vote. Percentiles of values clip the rare large values that
    squeeze-and-excite branches live on; the true extremes may belong to one outlier image.
    """

    @tf.function(autograph=False)
    def extremes(chunk: Any) -> Any:
        flat = [
            tf.reshape(x, (tf.shape(x)[0], -1))
            for x in tf.nest.flatten(model(chunk, training=False))
        ]
        return tf.stack([(tf.reduce_min(x, axis=1), tf.reduce_max(x, axis=1)) for x in flat])

    lows_and_highs = np.concatenate(
        [extremes(images[start : start + batch]).numpy() for start in range(0, len(images), batch)],
        axis=2,
    )
    return np.stack(
        [
            np.quantile(lows_and_highs[:, 0], 1 - calibration.COVERED, axis=1),
            np.quantile(lows_and_highs[:, 1], calibration.COVERED, axis=1),
        ],
        axis=1,
    )


def quantize_aware_selective(model: keras.Model) -> keras.Model:
    """Build the recipe of tutorials: tfmot's defaults for Conv2D and Dense, no-ops else.

    For comparison. tfmot recognises a batch norm only behind annotated neighbours, so here norms
    stay beside their convolutions and most tensors get no range: `export_selective` shows what that
    costs.

    Raises:
        EdgeqError: As `quantize_aware` does.
    """
    check_flat(model)

    def annotate(layer: Any) -> Any:
        rounds = type(layer) in (layers.Conv2D, layers.Dense)
        return tfmot.quantize_annotate_layer(layer, None if rounds else NoRounding())

    try:
        with keras.utils.custom_object_scope({"NoRounding": NoRounding}):
            copy = rebuild(model, lambda layer: None)
            return tfmot.quantize_apply(keras.models.clone_model(copy, clone_function=annotate))
    except (ValueError, RuntimeError, TypeError) as error:
        raise EdgeqError(
            f"tfmot refuses model {model.name!r} ({_reason(error)}); set `qat.selective: false`, "
            "the full recipe does without."
        ) from None


def _reason(error: Exception) -> str:
    return " ".join(line.strip() for line in str(error).splitlines() if line.strip())[:300]
