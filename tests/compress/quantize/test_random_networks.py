"""Whatever layers a network has: its files compute what it computes, within what their scales
allow, and every technique ends in a file or in a reason.
"""

import numpy as np
import pytest
from random_networks import draw, pictures

from edgeq_lib.compress.quantize import (
    bn_statistics,
    calibration,
    data_free,
    layerwise_rounding,
    mixed_precision,
    qat,
    qat_export,
    qkeras,
    quantized_weights,
    quantizer,
)
from edgeq_lib.compress.quantize.bias_correction import correct_biases
from edgeq_lib.files import CannotTake
from edgeq_lib.models.convert import convert
from edgeq_lib.models.graph import fold_batch_norms, is_training_only
from edgeq_lib.tflite.inspect import float_ops, inspect_file
from edgeq_lib.tflite.reader import read_graph
from edgeq_lib.tflite.rewrite import as_dense
from edgeq_lib.tflite.runtime import dequantize_array, make_interpreter, run_images

RANGE = (-4.5, 4.5)
IMAGES = pictures()


class Drawn:
    """A network with what tests need of it, made once."""

    def __init__(self, seed):
        self.model = draw(seed)
        self.outputs = self.model(IMAGES, training=False).numpy()
        self.file = convert(self.model)
        self.ranges = calibration.calibrate(self.file, IMAGES, RANGE, "min_max")


@pytest.fixture(scope="module", params=range(12), ids=lambda seed: f"draw {seed}")
def drawn(request):
    return Drawn(request.param)


def outputs_of(file):
    interpreter = make_interpreter(file)
    return dequantize_array(run_images(interpreter, IMAGES), interpreter.get_output_details()[0])


def errors(file, drawn):
    """A file's largest error, in units of what the outputs spread over."""
    return np.abs(outputs_of(file) - drawn.outputs).max() / np.ptp(drawn.outputs)


def test_float_files_and_folded_networks_compute_the_same(drawn):
    largest = np.abs(drawn.outputs).max()
    assert np.abs(outputs_of(drawn.file) - drawn.outputs).max() <= 1e-4 * largest
    folded = fold_batch_norms(drawn.model)
    assert np.abs(folded(IMAGES, training=False) - drawn.outputs).max() <= 1e-4 * largest
    assert not any(is_training_only(layer) for layer in folded.layers)
    dense = as_dense(convert(folded))
    assert np.abs(outputs_of(dense) - drawn.outputs).max() <= 1e-4 * largest
