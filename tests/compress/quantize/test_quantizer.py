"""Every scheme makes the file that it says."""

import numpy as np
import pytest
from file_outputs import agreement

from edgeq_lib.compress.quantize import quantizer
from edgeq_lib.files import EdgeqError
from edgeq_lib.models.preprocessing import SIGNED
from edgeq_lib.tflite.buffers import scales_of
from edgeq_lib.tflite.inspect import inspect_file
from edgeq_lib.tflite.reader import read_graph


@pytest.mark.parametrize("name", quantizer.SCHEMES)
def test_every_scheme_is_what_it_says(small_net, ranges, pictures, name):
    spec, (_, flat) = quantizer.scheme(name), small_net
    report = inspect_file(model := quantizer.quantize(flat, spec, ranges))
    ends = {
        "float": "float32",
        "uint8": "uint8",
        "same": {8: "int8", 16: "int16", 32: "float32"}[spec.activations],
    }[spec.io]
    assert report["input_dtype"] == report["output_dtype"] == ends
    assert report["weight_bits"] == pytest.approx(spec.weights, abs=0.5)
    assert report["integer_only"] == (spec.calibrated and spec.io != "float")
    assert report["compute"] == (
        "integer" if spec.calibrated else "hybrid" if spec.on_the_fly else "float32"
    )
    assert report["per_channel"] == (spec.per_channel and spec.weights < 16)
    assert len(model) < len(flat)
    assert agreement(flat, model, SIGNED(pictures[0][:200])) > (0.7 if spec.weights < 8 else 0.9)


def test_a_scheme_that_the_runtime_refuses_is_a_reason(small_net, ranges, monkeypatch):
    spec, (_, flat) = quantizer.scheme("int8"), small_net
    made, why = quantizer.try_quantize(flat, spec, ranges)
    assert made == quantizer.quantize(flat, spec, ranges) and why == ""

    def refuse(*_, **__):
        raise EdgeqError("LiteRT refuses the model.")

    monkeypatch.setattr(quantizer, "quantize", refuse)
    assert quantizer.try_quantize(flat, spec, ranges) == (None, "LiteRT refuses the model.")


def test_an_unknown_scheme_lists_the_known():
    with pytest.raises(EdgeqError, match="no scheme 'int7'; take some of float16, dynamic_int8"):
        quantizer.scheme("int7")


def test_weight_ranges_differ_and_may_be_given(small_net, ranges, pictures):
    flat, images = small_net[1], SIGNED(pictures[0][:100])
    files = {
        name: quantizer.quantize(flat, quantizer.scheme("int8"), ranges, weight_ranges=name)
        for name in quantizer.WEIGHT_RANGES
    }
    assert len(set(files.values())) == 3 and all(
        agreement(flat, model, images) > 0.9 for model in files.values()
    )
    op = next(op for op in read_graph(flat).ops if op.name == "FULLY_CONNECTED")
    kernel = read_graph(flat).tensors[op.inputs[1]]
    given = {
        kernel.name: {
            end: np.full((kernel.shape[0], 1), value, np.float32)
            for end, value in (("min", -9), ("max", 9))
        }
    }
    step = scales_of(quantizer.quantize(flat, quantizer.scheme("int8"), {**ranges, **given}))[
        op.inputs[1]
    ][0]
    assert step == pytest.approx(9 / 127)
