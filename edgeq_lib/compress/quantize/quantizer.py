"""Post-training quantization by `litert-quantizer`: one float flatbuffer, many variants.

1. A scheme, a row of `SCHEMES`, says what is rounded and how finely.
2. Static schemes take activation ranges from `calibration.calibrate`.
3. `quantize` makes the file in a second or so, loads it and invokes it once.

Method: Jacob et al., arXiv 1712.05877; Krishnamoorthi, arXiv 1806.08342. `converter` is the second
engine, TensorFlow's own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from litert_quantizer import algorithm_manager, default_policy, qtyping, quantizer

from edgeq_lib.compress.quantize.bias_overflow import prevent_bias_overflow
from edgeq_lib.compress.quantize.calibration import Ranges
from edgeq_lib.files import CannotTake, EdgeqError
from edgeq_lib.tflite.integer_ops import with_integer_ops
from edgeq_lib.tflite.quiet import quiet
from edgeq_lib.tflite.reader import read_graph
from edgeq_lib.tflite.rewrite import with_uint8_io
from edgeq_lib.tflite.runtime import make_interpreter, quantize_array
from edgeq_lib.tflite.writer import pack, unpack

Op = qtyping.TFLOperationName
WEIGHT_RANGES = {
    "min_max": "min_max_uniform_quantize",
    "mse": "MSE",
    "octav": "OCTAV",
}  # litert-quantizer's algorithms
_CAST, _NONE = "float_casting", "no_quantize"
_WITH_WEIGHTS = (Op.CONV_2D, Op.DEPTHWISE_CONV_2D, Op.FULLY_CONNECTED)
_FOUR_BIT = (Op.CONV_2D, Op.FULLY_CONNECTED)  # LiteRT has no 4-bit depthwise kernel


def _allow_two_bits() -> None:
    """Let litert-quantizer give dense layers 2-bit weights with int8 activations.

    LiteRT computes them, with the very results of the same codes in int4; only the quantizer's
    default policy leaves them out. LiteRT refuses such convolutions.
    """
    policy = json.loads(default_policy.DEFAULT_JSON_POLICY)
    four = policy["configs"]["static_wi4_ai8"]
    policy["configs"]["static_wi2_ai8"] = {
        **four,
        "weight_tensor_config": {**four["weight_tensor_config"], "num_bits": 2},
    }
    policy["ops_per_config"]["static_wi2_ai8"] = ["FULLY_CONNECTED"]
    algorithm_manager.register_config_check_policy_func(
        WEIGHT_RANGES["min_max"], default_policy.update_default_config_policy(json.dumps(policy))
    )


_allow_two_bits()


@dataclass(frozen=True)
class Scheme:
    """What is quantized, and how: a row of the table of schemes."""

    scheme: str  # the field's name for it, as in results.json
    weights: int = 32  # bits
    activations: int = 32  # bits; 32 = float
    per_channel: bool = True
    io: Literal["same", "float", "uint8"] = (
        "same"  # type of the file's input and output; same = that of the activations
    )
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
    """Look up a row of `SCHEMES`.

    Raises:
        EdgeqError: For a name that is not in the table.
    """
    if name not in SCHEMES:
        raise EdgeqError(f"There is no scheme '{name}'; take some of {', '.join(SCHEMES)}.")
    return SCHEMES[name]


def try_quantize(
    model: bytes, spec: Scheme, ranges: Ranges | None = None
) -> tuple[bytes | None, str]:
    """Quantize as `quantize` does, or say why not: LiteRT may refuse what a scheme makes.

    Args:
        model: The float flatbuffer.
        spec: See `scheme`.
        ranges: Activation ranges, for static schemes.

    Returns:
        The file and "", or None and the reason.
    """
    try:
        return quantize(model, spec, ranges), ""
    except EdgeqError as reason:
        return None, str(reason)


def quantize(
    model: bytes,
    spec: Scheme,
    ranges: Ranges | None = None,
    *,
    weight_ranges: str = "min_max",
    left_float: Collection[str] = (),
    per_tensor: Collection[str] = (),
    fix_dead: bool = True,
    bits: Mapping[str, int] | None = None,
) -> bytes:
    """Quantize a float flatbuffer by `litert-quantizer`.

    The result is loaded and invoked once: some combinations convert and then fail to run.

    Args:
        model: The float flatbuffer.
        spec: The scheme.
        ranges: Activation ranges, which static schemes need (`calibration.calibrate`). A kernel
            that they name has the range given there, unless OCTAV or MSE choose it.
        weight_ranges: How weight ranges are chosen, a row of `WEIGHT_RANGES`; static schemes only,
            as all that follows.
        left_float: Outputs of ops that stay float32.
        per_tensor: Kinds of ops whose weights have one scale.
        fix_dead: Keep biases from overflowing (`bias_overflow.prevent_bias_overflow`).
        bits: Output of an op → the width of its weights, where it differs from the scheme's.

    Returns:
        The quantized flatbuffer.

    Raises:
        CannotTake: When the quantizer refuses the network, or LiteRT the result.
    """
    if spec.calibrated and fix_dead and ranges is not None:
        model = prevent_bias_overflow(model, ranges)
    work = quantizer.Quantizer(bytearray(model))
    if spec.calibrated:
        _quantize_all(work, spec, weight_ranges, per_tensor)
        _set_widths(work, spec, model, bits or {})
        _leave_float(work, spec, left_float)
    else:
        _quantize_weights(work, spec)
    try:
        with quiet():
            result = work.quantize(
                ranges if spec.calibrated else None,
                enable_progress_bar=False,
                enable_progress_report=False,
            ).quantized_model
    except (ValueError, RuntimeError, KeyError, NotImplementedError) as error:
        raise CannotTake(f"litert-quantizer refuses the network ({_first_line(error)}).") from error
    result = pack(unpack(bytes(result)))  # smaller: equal scales and zero points are stored once
    if spec.activations == 8 and ranges is not None:
        result = with_integer_ops(result, ranges, left_float)
    return smoke_tested(with_uint8_io(result) if spec.io == "uint8" else result)


def _granularity(per_channel: bool) -> qtyping.QuantGranularity:
    granularities = qtyping.QuantGranularity
    return granularities.CHANNELWISE if per_channel else granularities.TENSORWISE


def _quantize_weights(work: quantizer.Quantizer, spec: Scheme) -> None:
    """Add the rules of schemes without activation ranges."""
    if spec.weights == 16:
        for op in _WITH_WEIGHTS:
            work.add_weight_only_config(".*", op, 16, algorithm_key=_CAST)
        return
    add = work.add_dynamic_config if spec.on_the_fly else work.add_weight_only_config
    granularity = _granularity(spec.per_channel)
    for op in _FOUR_BIT if spec.weights < 8 else _WITH_WEIGHTS:
        add(".*", op, spec.weights, granularity)
    if spec.weights < 8:
        add(".*", Op.DEPTHWISE_CONV_2D, 8, granularity)


def _quantize_all(
    work: quantizer.Quantizer, spec: Scheme, weight_ranges: str, per_tensor: Collection[str]
) -> None:
    """Add the rules of static schemes for all ops; later rules win."""
    granularity = _granularity(spec.per_channel)
    work.add_static_config(".*", Op.ALL_SUPPORTED, spec.activations, 8, granularity)
    for op in _FOUR_BIT if spec.weights < 8 else ():
        work.add_static_config(".*", op, spec.activations, spec.weights, granularity)
    for op in _WITH_WEIGHTS if weight_ranges != "min_max" or per_tensor else ():
        work.add_static_config(
            ".*",
            op,
            spec.activations,
            spec.weights if op in _FOUR_BIT else 8,
            _granularity(spec.per_channel and op.value not in per_tensor),
            WEIGHT_RANGES[weight_ranges],
        )


def _set_widths(
    work: quantizer.Quantizer, spec: Scheme, model: bytes, bits: Mapping[str, int]
) -> None:
    """Give single ops weights of another width."""
    for op, width, names in _widths(model, bits):
        work.add_static_config(
            _any_of(names), op, spec.activations, width, _granularity(spec.per_channel)
        )


def _any_of(names: Collection[str]) -> str:
    """The pattern that matches ops with these outputs, which litert-quantizer ends with a `;`."""
    return f"^({'|'.join(map(re.escape, names))});?$"


def _widths(model: bytes, bits: Mapping[str, int]) -> list[tuple[str, int, list[str]]]:
    """`bits` by kind of op and width: (kind, width, outputs)."""
    if not bits:
        return []
    graph = read_graph(model)
    kinds = {graph.tensors[op.outputs[0]].name: op.name for op in graph.ops}
    return [
        (op, width, names)
        for op in _WITH_WEIGHTS
        for width in sorted(set(bits.values()))
        if (
            names := [
                name for name, own in bits.items() if own == width and kinds[name] == op.value
            ]
        )
    ]


def _leave_float(work: quantizer.Quantizer, spec: Scheme, names: Collection[str]) -> None:
    """Exempt ops, and a scheme's float input and output.

    Later rules win, so the file's input and output are added again after the ops.
    """
    if names:
        work.update_quantization_recipe(
            _any_of(sorted(names)), Op.ALL_SUPPORTED, algorithm_key=_NONE
        )
        for side in (Op.INPUT, Op.OUTPUT):
            work.add_static_config("(.*)", side, spec.activations, 8)
    for side in (Op.INPUT, Op.OUTPUT) if spec.io == "float" else ():
        work.update_quantization_recipe("((.*))", side, algorithm_key=_NONE)


def smoke_tested(model: bytes) -> bytes:
    """Load a file and invoke it once on zeros; returns it.

    Raises:
        CannotTake: When LiteRT cannot run it.
    """
    try:
        interpreter = make_interpreter(model)
        detail = interpreter.get_input_details()[0]
        interpreter.set_tensor(
            detail["index"], quantize_array(np.zeros(detail["shape"], np.float32), detail)
        )
        interpreter.invoke()
    except (ValueError, RuntimeError) as error:
        raise CannotTake(f"LiteRT cannot run the quantized file ({_first_line(error)}).") from error
    return model


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
