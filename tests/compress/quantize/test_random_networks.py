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


@pytest.fixture(scope="module", params=(0, 1, 2, 4, 5, 7, 10), ids=lambda seed: f"draw {seed}")
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


def allowed(file):
    """The error that an int8 file may have, in units of its outputs: each op rounds once, more or
    less independently, and is off by some steps of the output's scale.
    """
    scale = make_interpreter(file).get_output_details()[0]["quantization"][0]
    return 3 * scale * len(read_graph(file).ops) ** 0.5


def test_int8_files_compute_in_integers_within_what_their_scales_allow(drawn):
    file = quantizer.quantize(drawn.file, quantizer.scheme("int8"), drawn.ranges)
    assert inspect_file(file)["integer_only"] and not float_ops(file)
    assert np.abs(outputs_of(file) - drawn.outputs).max() <= allowed(file)
    corrected = correct_biases(drawn.file, file, IMAGES)
    assert np.abs(outputs_of(corrected) - drawn.outputs).max() <= allowed(file)


def test_a_broken_fold_is_no_rounding_error():
    """The bound of the test above would not let it pass."""
    drawn = Drawn(0)
    folded = fold_batch_norms(drawn.model)
    for layer in folded.layers:
        if type(layer).__name__ == "Conv2D":
            kernel, *bias = layer.get_weights()
            layer.set_weights([np.roll(kernel, 1, axis=-1), *bias])
            break
    file = convert(folded)
    ranges = calibration.calibrate(file, IMAGES, RANGE, "min_max")
    file = quantizer.quantize(file, quantizer.scheme("int8"), ranges)
    assert np.abs(outputs_of(file) - drawn.outputs).max() > allowed(file)


def test_rounding_to_few_bits_takes_every_kernel_and_beats_rounding_to_nearest(drawn):
    file = as_dense(convert(fold_batch_norms(drawn.model)))
    ranges = calibration.calibrate(file, IMAGES, RANGE, "min_max")
    widths = layerwise_rounding.default_widths(file)
    rounded = layerwise_rounding.round_layers(file, IMAGES, ranges, widths)
    nearest = quantized_weights.round_all_to_nearest(file, ranges, widths)

    def energy(codes):
        outputs = outputs_of(quantized_weights.with_quantized_weights(file, codes))
        return np.square(outputs - drawn.outputs).mean()

    assert energy(rounded) < energy(nearest)
    small = quantized_weights.to_file(file, rounded, ranges)
    assert inspect_file(small)["integer_only"]
    assert errors(correct_biases(file, small, IMAGES), drawn) < 0.15


def by_data_free(drawn):
    norms = bn_statistics.batch_norm_statistics(drawn.model, drawn.file)
    equal, equal_norms = data_free.equalize(drawn.file, norms)
    assert errors(equal, drawn) < 1e-3, "equalization changes nothing in float"
    absorbed, _ = data_free.absorb_high_biases(equal, equal_norms)
    assert errors(absorbed, drawn) < 0.1
    data_free.int8_per_tensor(equal, equal_norms, RANGE, equal)
    file = data_free.files_by_rounding(drawn.file, norms, RANGE, 8, "squant")["int8 activations"]
    assert errors(file, drawn) < 0.25
    return file


def by_training(drawn):
    aware = qat.quantize_aware(drawn.model, IMAGES)
    file = qat_export.export_int8(aware, IMAGES)
    step = make_interpreter(file).get_output_details()[0]["quantization"][0]
    assert np.abs(outputs_of(file) - aware(IMAGES, training=False).numpy()).max() <= 3.01 * step
    return file


def by_mix(drawn):
    widths = mixed_precision.candidates(as_dense(drawn.file), (8, 4, 2), (8, 4))
    return drawn.file if any(len(allowed) > 1 for allowed in widths.values()) else b""


TECHNIQUES = {
    by_data_free: lambda drawn: bn_statistics.why_not(drawn.model, drawn.file),
    by_training: lambda drawn: qat.why_not(drawn.model),
    by_mix: lambda drawn: mixed_precision.why_not(as_dense(drawn.file)),
}


@pytest.mark.parametrize("technique", TECHNIQUES, ids=lambda technique: technique.__name__)
def test_every_technique_ends_in_a_file_or_in_the_reason_that_was_foretold(drawn, technique):
    foretold = TECHNIQUES[technique](drawn)
    try:
        file = technique(drawn)
    except CannotTake as reason:
        assert foretold == str(reason)
    else:
        assert foretold is None and read_graph(file)


def test_qkeras_refuses_kernels_that_it_has_no_layer_for(drawn):
    kinds = {type(layer).__name__ for layer in fold_batch_norms(drawn.model).layers}
    refused = bool(kinds & {"MultiHeadAttention", "Conv2DTranspose"})
    assert (qkeras.why_not(drawn.model) is not None) == refused
