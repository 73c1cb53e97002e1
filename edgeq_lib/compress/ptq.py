"""Post-training quantization: one float flatbuffer, many variants.

Schemes are rows of a table. `litert-quantizer` makes all of them from one float flatbuffer in a second or so each;
TensorFlow's converter, what the published recipes used, makes those that it can from the Keras model.
Method: Jacob et al., arXiv 1712.05877; Krishnamoorthi, arXiv 1806.08342.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from litert_quantizer import calibrator, qtyping, quantizer, recipe_manager
from litert_quantizer.utils import qsv_utils

from edgeq_lib import uint8_io
from edgeq_lib.litert import convert, make_interpreter, quantized, quiet
from edgeq_lib.progress import progress
from edgeq_lib.study import EdgeqError

Op = qtyping.TFLOperationName
Ranges = dict[str, dict[str, np.ndarray]]
_CAST, _NONE = "float_casting", "no_quantize"
_WITH_WEIGHTS = (Op.CONV_2D, Op.DEPTHWISE_CONV_2D, Op.FULLY_CONNECTED)
_FOUR_BIT = (Op.CONV_2D, Op.FULLY_CONNECTED)  # LiteRT has no 4-bit depthwise kernel


@dataclass(frozen=True)
class Scheme:
    """What is quantized, and how: a row of the table of schemes."""

    scheme: str  # the field's name for it, as in results.json
    weights: int = 32  # bits
    activations: int = 32  # bits; 32 = float
    per_channel: bool = True
    io: Literal["same", "float", "uint8"] = "same"  # type of the file's input and output; same = that of the activations
    on_the_fly: bool = False  # activations are quantized at run time (dynamic range)
    converter: bool = True  # TensorFlow's converter can make it too

    @property
    def calibrated(self) -> bool:
        """Whether it needs ranges from a representative set."""
        return self.activations < 32


SCHEMES = {
    "float16": Scheme("float16", weights=16),
    "dynamic_int8": Scheme("dynamic_int8", weights=8, on_the_fly=True),
    "weight_only_int8": Scheme("weight_only_int8", weights=8, converter=False),
    "int8": Scheme("int8", weights=8, activations=8),
    "int8_uint8_io": Scheme("int8", weights=8, activations=8, io="uint8"),
    "int8_float_io": Scheme("int8", weights=8, activations=8, io="float"),
    "int16x8": Scheme("int16x8", weights=8, activations=16),
    "int8_per_tensor": Scheme("int8", weights=8, activations=8, per_channel=False),
    "w4": Scheme("w4", weights=4, on_the_fly=True, converter=False),
    "w4a8": Scheme("w4a8", weights=4, activations=8, converter=False),
}


def scheme(name: str) -> Scheme:
    """A row of the table. Raises EdgeqError for a name that is not there."""
    if name not in SCHEMES:
        raise EdgeqError(f"There is no scheme '{name}'; take some of {', '.join(SCHEMES)}.")
    return SCHEMES[name]


COVERED = 0.98  # share of the calibration images that a covering range holds in full


def _covering(past: Any, new: Any) -> Any:
    """Keep what each image showed; `calibrate` takes the quantiles at the end."""
    return {end: np.concatenate([past[end], new[end]]) if past else new[end] for end in ("min", "max")}


SUMMARIES = {"covering": _covering, "min_max": qsv_utils.min_max_update, "moving_average": qsv_utils.moving_average_update}


def calibrate(model: bytes, images: Iterable[np.ndarray], input_range: tuple[float, float],
              summary: str = "covering") -> Ranges:
    """Activation ranges {tensor: {"min", "max"}} of a float flatbuffer over preprocessed images (H, W, C).

    `summary` says how the images' own minima and maxima become one range. `covering` holds `COVERED` of the images in
    full: each has one vote, so that one freak image does not coarsen a tensor's steps for all others. `min_max` holds them
    all. `moving_average` (factor 0.95, so dependent on the order) is the quantizer's own default and clips rare large
    values, on which networks with squeeze-and-excite live. The input's range is known (`input_range`), not estimated. One
    set of ranges serves every scheme. Raises EdgeqError for an empty set and for NaN images.
    """
    signature, name = _signature(model)
    update = SUMMARIES[summary]
    manager = recipe_manager.RecipeManager()
    manager.add_static_config(".*", Op.ALL_SUPPORTED, 8, 8)
    with quiet():
        calibration = calibrator.Calibrator(bytes(model), num_threads=1, qsv_update_func=update)
    for image in progress(images, "calibration"):
        if not np.isfinite(image).all():
            raise EdgeqError("A calibration image holds NaN or infinite values; remove it from the training set.")
        with quiet():
            calibration.calibrate({signature: [{name: image[None]}]}, manager)
    ranges = calibration.get_model_qsvs()
    if not ranges:
        raise EdgeqError("The representative set is empty; set `calibration` in the section 'data' to 16 images or more.")
    if summary == "covering":
        ranges = {tensor: {"min": np.quantile(seen["min"], 1 - COVERED, axis=0, keepdims=True).astype(np.float32),
                           "max": np.quantile(seen["max"], COVERED, axis=0, keepdims=True).astype(np.float32)}
                  for tensor, seen in ranges.items()}
    (detail,) = make_interpreter(model).get_input_details()
    low, high = (np.full_like(ranges[detail["name"]]["min"], end) for end in integral_zero(*input_range))
    return {**ranges, detail["name"]: {"min": low, "max": high}}


def integral_zero(low: float, high: float) -> tuple[float, float]:
    """The range widened until 0 lies on a step of its own accord.

    Pixels lie on a grid: with -1…1 each of the 256 levels falls half way between two steps, and training and LiteRT,
    which round halves differently, would see different images.
    """
    if not low < 0 < high:
        return low, high
    below = int(255 * -low / (high - low))
    step = max(-low / max(below, 1), high / (255 - below))
    return -below * step, (255 - below) * step


def _signature(model: bytes) -> tuple[str, str]:
    (signature, tensors), = make_interpreter(model).get_signature_list().items()
    return signature, tensors["inputs"][0]


def quantize(model: bytes, spec: Scheme, ranges: Ranges | None = None) -> bytes:
    """Quantize a float flatbuffer by `litert-quantizer`; static schemes need `ranges` from `calibrate`.

    The result is loaded and invoked once: some combinations convert and then fail to run.
    """
    work = quantizer.Quantizer(bytearray(model))
    granularity = qtyping.QuantGranularity.CHANNELWISE if spec.per_channel else qtyping.QuantGranularity.TENSORWISE
    if spec.weights == 16:
        for op in _WITH_WEIGHTS:
            work.add_weight_only_config(".*", op, 16, algorithm_key=_CAST)
    elif not spec.calibrated:
        add = work.add_dynamic_config if spec.on_the_fly else work.add_weight_only_config
        for op in _FOUR_BIT if spec.weights < 8 else _WITH_WEIGHTS:
            add(".*", op, spec.weights, granularity)
        if spec.weights < 8:
            add(".*", Op.DEPTHWISE_CONV_2D, 8, granularity)
    else:
        work.add_static_config(".*", Op.ALL_SUPPORTED, spec.activations, 8, granularity)
        for op in _FOUR_BIT if spec.weights < 8 else ():
            work.add_static_config(".*", op, spec.activations, spec.weights, granularity)
        for end in (Op.INPUT, Op.OUTPUT) if spec.io == "float" else ():
            work.update_quantization_recipe(".*", end, algorithm_key=_NONE)
    with quiet():
        result = work.quantize(ranges if spec.calibrated else None, enable_progress_bar=False,
                               enable_progress_report=False).quantized_model
    result = bytes(result)
    return _proven(uint8_io.with_uint8_io(result) if spec.io == "uint8" else result)


def convert_quantized(model: Any, spec: Scheme, images: np.ndarray) -> bytes:
    """Quantize a Keras model by TensorFlow's converter; `images` are preprocessed, float32 (n, H, W, C).

    Raises EdgeqError for a scheme that the converter cannot make.
    """
    from edgeq_lib.quiet_tensorflow import tf
    if not spec.converter:
        raise EdgeqError(f"TensorFlow's converter cannot make {spec.scheme} so; take it out of converter_schemes.")

    def configure(converter: Any) -> None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter._experimental_disable_per_channel = not spec.per_channel
        if spec.weights == 16:
            converter.target_spec.supported_types = [tf.float16]
        if spec.calibrated:
            converter.representative_dataset = lambda: ([image[None]] for image in images)
            int8, int16 = tf.lite.OpsSet.TFLITE_BUILTINS_INT8, \
                tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
            converter.target_spec.supported_ops = [int8 if spec.activations == 8 else int16]
            io = {"float": tf.float32, "uint8": tf.uint8}.get(spec.io, tf.int8 if spec.activations == 8 else tf.int16)
            converter.inference_input_type = converter.inference_output_type = io

    return _proven(convert(model, configure))


def _proven(model: bytes) -> bytes:
    interpreter = make_interpreter(model)
    detail = interpreter.get_input_details()[0]
    interpreter.set_tensor(detail["index"], quantized(np.zeros(detail["shape"], np.float32), detail))
    interpreter.invoke()
    return model
