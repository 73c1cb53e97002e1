"""Flatbuffers taken apart and packed again."""

import numpy as np
from ai_edge_litert.tools import flatbuffer_utils
from pointwise import IMAGES, network, outputs

from edgeq_lib.compress.quantize import calibration, quantizer
from edgeq_lib.models.convert import convert
from edgeq_lib.tflite.buffers import scales_of
from edgeq_lib.tflite.writer import pack, unpack


def test_packing_stores_equal_scales_and_zero_points_once_and_changes_nothing():
    flat = convert(network())
    ranges = calibration.calibrate(flat, IMAGES, (-3.0, 3.0))
    small = quantizer.quantize(flat, quantizer.scheme("int8"), ranges)
    loose = unpack(small)
    large = bytes(flatbuffer_utils.convert_object_to_bytearray(loose))
    # Kernels and biases of four layers of six channels share one vector of zeros.
    assert len(large) - len(small) >= 8 * 6 * 7
    for index, (scales, zeros) in scales_of(large).items():
        np.testing.assert_array_equal(scales, scales_of(small)[index][0])
        np.testing.assert_array_equal(zeros, scales_of(small)[index][1])
    np.testing.assert_array_equal(outputs(small, IMAGES), outputs(large, IMAGES))
    assert pack(unpack(small)) == small
