"""TensorFlow's converter as the second engine of the same schemes."""

import numpy as np
import pytest
from file_outputs import agreement

from edgeq_lib.compress.quantize import converter, quantizer
from edgeq_lib.files import EdgeqError
from edgeq_lib.models.preprocessing import SIGNED
from edgeq_lib.tflite.inspect import inspect_file
from edgeq_lib.tflite.reader import read_graph


@pytest.mark.parametrize(
    "name",
    [name for name, spec in quantizer.SCHEMES.items() if spec.converter and spec.activations != 16],
)
def test_the_converter_makes_the_same_schemes(small_net, pictures, name):
    spec, (net, flat) = quantizer.scheme(name), small_net
    model = converter.quantize_with_converter(net, spec, SIGNED(pictures[0][:32]))
    report = inspect_file(model)
    assert report["integer_only"] == (spec.calibrated and spec.io != "float")
    assert agreement(flat, model, SIGNED(pictures[0][:200])) > 0.9


def test_the_converter_refuses_what_it_cannot(small_net):
    with pytest.raises(EdgeqError, match="cannot make w4a8"):
        converter.quantize_with_converter(
            small_net[0], quantizer.scheme("w4a8"), np.zeros((2, 8, 8, 3), np.float32)
        )


def test_kernels_of_a_per_tensor_scheme_have_one_scale_and_of_others_one_per_channel(
    small_net, pictures
):
    images, scales = SIGNED(pictures[0][:8]), {}
    for name in ("int8", "int8_per_tensor"):
        file = converter.quantize_with_converter(small_net[0], quantizer.scheme(name), images)
        graph = read_graph(file)
        scales[name] = [
            graph.tensors[op.inputs[1]].scales for op in graph.ops if op.name == "CONV_2D"
        ]
    assert min(scales["int8"]) > 1 and set(scales["int8_per_tensor"]) == {1}
