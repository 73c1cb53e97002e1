"""From a trained model of `qat` to its file, and quantized weights from a file back to layers.

The engine is the one that also makes the int8 PTQ file: the trained float weights go through
LiteRT's converter, and `litert-quantizer` gets the ranges that training used as its calibration
result. The converter keeps no reliable names, so kernels and tensors are paired with layers by
their values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgeq_lib.compress.quantize import calibration, converter, quantizer
from edgeq_lib.compress.quantize.fake_quant import float_weights, is_wrapper, kernel_name, wrappers
from edgeq_lib.compress.quantize.kernels import Kernel, float_kernels, is_kernel_of
from edgeq_lib.compress.quantize.qat import MOVE_VALUES, check_images, source_of
from edgeq_lib.compress.quantize.quantized_weights import (
    QuantizedWeights,
    round_to_nearest,
    to_file,
)
from edgeq_lib.files import CannotTake
from edgeq_lib.models.convert import convert
from edgeq_lib.models.graph import activation_name, clone, identity, rebuild
from edgeq_lib.models.tf import keras, tf
from edgeq_lib.tflite.rewrite import as_dense
from edgeq_lib.tflite.runtime import make_interpreter

layers = keras.layers


def trained_float_model(model: keras.Model) -> keras.Model:
    """Take the float model out of a QAT model, its kernels as training rounded them.

    Training leaves many weights halfway between two codes (Nagel et al., arXiv 2203.11086), where a
    second rounding may choose the other; on the codes there is nothing left to choose.
    """

    def replace(layer: Any) -> Any:
        if not is_wrapper(layer):
            return None
        if activation_name(layer.layer) == "linear" and isinstance(layer.layer, layers.Activation):
            return identity  # the input's quantizer
        return clone(layer.layer, _computed_weights(layer))

    return rebuild(model, replace)


def _computed_weights(wrapper: Any) -> list[np.ndarray]:
    """The weights of a wrapped layer, its kernel, if it has one, as training computes with it."""
    values, rounding = (
        [variable.numpy() for variable in float_weights(wrapper)],
        wrapper.quantize_config.kernel,
    )
    return [rounding(values[0], False, {}).numpy(), *values[1:]] if rounding else values


def export_int8(model: keras.Model, calibration_images: np.ndarray, io: str = "int8") -> bytes:
    """Export the int8 file of a model of `quantize_aware`: batch 1, integer ops only.

    Made by the engine of int8 PTQ, from the trained weights and the ranges used in training; hence
    the same ops, size and speed.

    Args:
        model: The trained model.
        calibration_images: Preprocessed float32 (n, H, W, C); they give the range of tensors that
            training did not see, if any.
        io: Type of input and output, int8 or uint8.
    """
    check_images(calibration_images)
    plain = trained_float_model(model)
    flat = convert(plain)
    if any(wrapper.quantize_config.learned for wrapper in wrappers(model)):
        flat = as_dense(flat)
    low, high = float(calibration_images.min()), float(calibration_images.max())
    ranges = calibration.calibrate(flat, calibration_images[:1], (low, high))
    learned = _learned_ranges(model, plain, flat, list(ranges), calibration_images[:4])
    if ranges.keys() - learned.keys():
        ranges = calibration.calibrate(flat, calibration_images, (low, high))
    for name, bounds in learned.items():
        ranges[name] |= {
            end: np.full_like(ranges[name][end], bound)
            for end, bound in zip(("min", "max"), bounds, strict=True)
        }
    return to_file(
        flat, _learned_weights(model, flat), ranges, "int8_uint8_io" if io == "uint8" else "int8"
    )


def _learned_weights(model: keras.Model, flat: bytes) -> dict[str, QuantizedWeights]:
    """Output of an op → the quantized weights that training gave its kernel."""
    learned = {
        wrapper.layer.name: wrapper
        for wrapper in wrappers(model)
        if wrapper.quantize_config.learned
    }
    kernels = _paired(
        {name: _computed_weights(wrapper)[0] for name, wrapper in learned.items()},
        float_kernels(flat),
    )
    _check_paired(set(learned) - set(kernels))
    quantizers = {name: wrapper.quantize_config.learned for name, wrapper in learned.items()}
    return {
        kernel.name: round_to_nearest(
            kernel.weights, quantizers[name].scales(None).numpy(), quantizers[name].bits
        )
        for name, kernel in kernels.items()
    }


def kernels_by_layer(
    model: keras.Model, flat: bytes, quantized: Mapping[str, QuantizedWeights]
) -> dict[str, QuantizedWeights]:
    """Bring quantized weights of a float flatbuffer back to the Keras layers that they came from.

    Those of 8 bits are among them: layers make up for each other's errors, and with other codes in
    one of them the rest would make up for errors that do not exist.

    Args:
        model: The Keras model, batch norms folded, as `flat` was made from it.
        flat: The float flatbuffer.
        quantized: Output of an op → its quantized weights.

    Returns:
        Layer → its quantized weights, for `qat.quantize_aware`.

    Raises:
        CannotTake: When the weights of a low-bit op are those of no layer.
    """
    weights = {
        layer.name: getattr(layer, kernel).numpy()
        for layer in model.layers
        if (kernel := kernel_name(layer))
    }
    kernels = _paired(weights, float_kernels(flat))
    _check_paired(
        {name for name, rounded in quantized.items() if rounded.bits < 8}
        - {kernel.name for kernel in kernels.values()}
    )
    return {layer: quantized[kernel.name] for layer, kernel in kernels.items()}


def _paired(weights: Mapping[str, np.ndarray], candidates: list[Kernel]) -> dict[str, Kernel]:
    """Layer → the kernel of the flatbuffer that holds its weights, where there is one."""
    partners = {
        layer: next((kernel for kernel in candidates if is_kernel_of(kernel, values)), None)
        for layer, values in weights.items()
    }
    return {layer: kernel for layer, kernel in partners.items() if kernel}


def _check_paired(left: set[str]) -> None:
    if left:
        raise CannotTake(
            f"The weights of {', '.join(sorted(left))} are not the same in the Keras model and in "
            "its float file, where the converter merged a factor into them, so that training would "
            "lose their bits."
        )


def _learned_ranges(
    model: keras.Model, plain: keras.Model, flat: bytes, names: list[str], images: np.ndarray
) -> dict[str, tuple[float, float]]:
    """Flatbuffer tensor → range used in training.

    Tensors are paired with layers by their values on a few images; those without a partner are
    absent.
    """
    bounds = {
        wrapper.layer.name: tuple(map(float, wrapper.quantize_config.output.bounds()))
        for wrapper in wrappers(model)
        if wrapper.quantize_config.output
    }
    known = [
        layer for layer in plain.layers if layer.name in bounds or isinstance(layer, MOVE_VALUES)
    ]
    outputs = keras.Model(plain.inputs, [layer.output for layer in known])(images, training=False)
    partners: dict[int, list] = {}
    for layer, output in zip(known, tf.nest.flatten(outputs), strict=True):
        values = output.numpy().ravel()
        partners.setdefault(values.size, []).append((values, bounds[source_of(layer, bounds)]))
    learned = {}
    for name, values in _tensor_values(flat, names, images).items():
        errors = [float(np.abs(values - other).max()) for other, _ in partners.get(values.size, [])]
        if errors and min(errors) <= 1e-3 * float(np.abs(values).max()) + 1e-6:
            learned[name] = partners[values.size][int(np.argmin(errors))][1]
    return learned


def _tensor_values(flat: bytes, names: list[str], images: np.ndarray) -> dict[str, np.ndarray]:
    interpreter = make_interpreter(flat, keep_tensors=True)
    indices = {
        detail["name"]: detail["index"]
        for detail in interpreter.get_tensor_details()
        if detail["name"] in names
    }
    values_of: dict[str, list] = {name: [] for name in indices}
    for image in images:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image[None])
        interpreter.invoke()
        for name, number in indices.items():
            values_of[name].append(interpreter.get_tensor(number).ravel())
    return {name: np.concatenate(values) for name, values in values_of.items()}


def export_selective(model: keras.Model, calibration_images: np.ndarray) -> bytes:
    """Export the file of a model of `quantize_aware_selective` by TensorFlow's converter.

    Args:
        model: The trained model.
        calibration_images: Preprocessed float32 (n, H, W, C); they give the ranges of all that was
            not annotated.
    """
    check_images(calibration_images)
    return converter.quantize_with_converter(model, quantizer.scheme("int8"), calibration_images)
