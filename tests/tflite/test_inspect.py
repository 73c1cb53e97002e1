"""What a file says about itself: a tiny network in many schemes, and published models."""

import os
from pathlib import Path

import pytest
from tiny_files import KERNELS, MACS, tiny_files

from edgeq_lib.tflite.inspect import inspect_file

# Input 8 × 8 × 3 → Conv2D 4, 3 × 3 → DepthwiseConv2D 3 × 3 → Conv2DTranspose 2, 2 × 2, stride 2 →
# mean → Dense 5


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return tiny_files()


@pytest.mark.parametrize(
    ("name", "compute", "integer_only", "input_dtype", "weight_bits", "activation_bits"),
    [
        ("float32", "float32", False, "float32", 32, 32),
        ("dynamic", "hybrid", False, "float32", 8, 32),
        ("weight_only", "float32", False, "float32", 8, 32),
        ("int8", "integer", True, "int8", 8, 8),
        ("uint8", "integer", True, "uint8", 8, 8),
        ("int16x8", "integer", True, "int16", 8, 16),
    ],
)
def test_report_tells_schemes_apart(
    files, name, compute, integer_only, input_dtype, weight_bits, activation_bits
):
    report = inspect_file(files[name])
    assert report["compute"] == compute
    assert report["integer_only"] == integer_only
    assert report["input_dtype"] == input_dtype
    assert (report["weight_bits"], report["activation_bits"]) == (weight_bits, activation_bits)
    assert report["weight_bits_share"] == {str(weight_bits): 1.0}
    assert report["per_channel"] == (weight_bits == 8)
    assert bool(report["float_ops"]) != integer_only
    assert report["macs"] == MACS
    assert report["weights"] == sum(KERNELS.values())


def test_float_inputs_and_outputs_make_a_file_not_integer_only(files):
    report = inspect_file(files["int8_float_io"])
    assert report["compute"] == "integer" and not report["integer_only"]
    assert report["float_ops"] == ["DEQUANTIZE", "QUANTIZE"]
    assert report["input_dtype"] == report["output_dtype"] == "float32"
    assert 8 < report["activation_bits"] < 32


def test_four_bit_kernels_are_counted_by_element(files):
    report = inspect_file(files["int4"])
    four = KERNELS["conv"] / sum(KERNELS.values())
    assert report["weight_bits_share"] == pytest.approx({"8": 1 - four, "4": four})
    assert report["weight_bits"] == pytest.approx(8 - 4 * four)
    assert report["integer_only"]


@pytest.mark.skipif(not os.environ.get("EDGEQ_ASSETS"), reason="needs the published models")
def test_published_models_read_as_published():
    peers = Path(os.environ["EDGEQ_ASSETS"]) / "peers"
    mobilenet = inspect_file((peers / "tf2_mobilenet_v2_1.0_224_ptq.tflite").read_bytes())
    assert mobilenet["integer_only"] and mobilenet["per_channel"]
    assert mobilenet["input_dtype"] == "uint8"
    assert round(mobilenet["macs"] / 1e6) == 301  # "300 million multiply-adds", arXiv 1801.04381
    older = inspect_file((peers / "mobilenet_v1_0.75_192_quant.tflite").read_bytes())
    assert older["integer_only"] and not older["per_channel"]
