"""Ops that the quantizer has no rule for compute in int8 what they would compute in float."""

import numpy as np
import pytest
import tf_keras as keras

from edgeq_lib.compress.quantize import calibration, quantizer
from edgeq_lib.models.convert import convert
from edgeq_lib.tflite.inspect import float_ops, inspect_file
from edgeq_lib.tflite.reader import read_graph
from edgeq_lib.tflite.runtime import dequantize_array, make_interpreter, run_images

L = keras.layers
IMAGES = np.random.default_rng(0).normal(size=(16, 8, 8, 3)).astype(np.float32)
BODIES = {
    "PRELU": L.PReLU(shared_axes=[1, 2], alpha_initializer="normal"),
    "PRELU, a slope per pixel": L.PReLU(alpha_initializer="normal"),
    "LEAKY_RELU": L.LeakyReLU(0.1),
    "RELU with a slope": L.ReLU(negative_slope=0.2),
    "ELU": L.ELU(),
    "REDUCE_MAX": L.GlobalMaxPooling2D(keepdims=True),
    "MINIMUM": L.Activation("hard_sigmoid"),
    "MINIMUM, a ceiling": L.ReLU(3.0),
    "EXP and LOG": L.Activation("softplus"),
    "L2_NORMALIZATION": L.UnitNormalization(),
    "NEG and RELU6": L.ReLU(6.0, negative_slope=0.2),
    "SQUARE": L.GroupNormalization(4),
    "two in a row": lambda x: L.GlobalMaxPooling2D(keepdims=True)(L.ELU()(x)),
    "two readers": lambda x: L.Concatenate()([L.PReLU(shared_axes=[1, 2])(x), L.ELU()(x)]),
}


def network(body):
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3))
    x = body(L.Conv2D(8, 3, padding="same")(image))
    return convert(keras.Model(image, L.Dense(4)(L.Flatten()(x))))


def outputs_of(file):
    interpreter = make_interpreter(file)
    return dequantize_array(run_images(interpreter, IMAGES), interpreter.get_output_details()[0])


@pytest.mark.parametrize("name", BODIES)
def test_no_float_op_is_left_and_the_function_stays(name, monkeypatch):
    model = network(BODIES[name])
    ranges = calibration.calibrate(model, IMAGES, (-4, 4), "min_max")
    file = quantizer.quantize(model, quantizer.scheme("int8"), ranges)
    assert inspect_file(file)["integer_only"] and float_ops(file) == []
    monkeypatch.setattr(quantizer, "with_integer_ops", lambda model, *_: model)
    islands = quantizer.quantize(model, quantizer.scheme("int8"), ranges)
    assert float_ops(islands), "or the test says nothing"
    exact = outputs_of(model)
    bound = 1.5 * np.abs(outputs_of(islands) - exact).max() + 0.02 * np.ptp(exact)
    assert np.abs(outputs_of(file) - exact).max() <= bound


def test_what_is_to_stay_float_stays():
    model = network(BODIES["PRELU"])
    graph = read_graph(model)
    name = next(graph.tensors[op.outputs[0]].name for op in graph.ops if op.name == "PRELU")
    ranges = calibration.calibrate(model, IMAGES, (-4, 4), "min_max")
    file = quantizer.quantize(model, quantizer.scheme("int8"), ranges, left_float=(name,))
    assert [(left.op, left.tensor) for left in float_ops(file)] == [("PRELU", name.split(";")[0])]


def test_an_op_that_stays_float_is_named_with_what_to_do():
    """A threshold becomes a comparison and a CAST, which LiteRT has in float only."""
    model = network(L.ReLU(threshold=0.5))
    ranges = calibration.calibrate(model, IMAGES, (-4, 4), "min_max")
    file = quantizer.quantize(model, quantizer.scheme("int8"), ranges)
    (left,) = float_ops(file)
    assert left.op == "CAST" and left.tensor and "condition" in left.advice
    assert inspect_file(file)["left_in_float"] == [left._asdict()]
    whole = quantizer.quantize(model, quantizer.scheme("dynamic_int8"))
    assert float_ops(model) == float_ops(whole) == [], "they are float throughout"
    plain = network(L.ReLU())
    ranges = calibration.calibrate(plain, IMAGES, (-4, 4), "min_max")
    assert not float_ops(quantizer.quantize(plain, quantizer.scheme("int8_float_io"), ranges))
