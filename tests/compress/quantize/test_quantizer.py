import numpy as np
import pytest

from edgeq_lib.compress.quantize import calibration, converter, quantizer
from edgeq_lib.compress.quantize.bias_overflow import prevent_bias_overflow
from edgeq_lib.files import EdgeqError
from edgeq_lib.models.convert import convert
from edgeq_lib.models.preprocessing import SIGNED
from edgeq_lib.models.tf import keras
from edgeq_lib.tflite.buffers import scales_of
from edgeq_lib.tflite.inspect import inspect_file
from edgeq_lib.tflite.reader import read_graph
from edgeq_lib.tflite.runtime import dequantize_array, make_interpreter, run_images


@pytest.fixture(scope="module")
def ranges(small_net, pictures):
    return calibration.calibrate(small_net[1], SIGNED(pictures[0][:32]), SIGNED.range)


def outputs(model, images):
    interpreter = make_interpreter(model)
    return dequantize_array(run_images(interpreter, images), interpreter.get_output_details()[0])


def agreement(model, other, images):
    return np.mean(outputs(model, images).argmax(-1) == outputs(other, images).argmax(-1))


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


def test_ranges_are_the_true_extremes(small_net, pictures):
    images = SIGNED(pictures[0][:16])
    ranges = calibration.calibrate(small_net[1], images, (-1.0, 1.0), "min_max")
    interpreter = make_interpreter(small_net[1])
    name = interpreter.get_output_details()[0]["name"]
    out = run_images(interpreter, images)
    assert float(ranges[name]["min"].item()) == pytest.approx(out.min(), abs=1e-4)
    assert float(ranges[name]["max"].item()) == pytest.approx(out.max(), abs=1e-4)
    shuffled = calibration.calibrate(small_net[1], images[::-1], (-1.0, 1.0), "min_max")
    assert all(np.array_equal(ranges[key]["max"], shuffled[key]["max"]) for key in ranges), (
        "order does not matter"
    )
    averaged = calibration.calibrate(small_net[1], images, (-1.0, 1.0), "moving_average")
    assert averaged[name]["max"].item() < ranges[name]["max"].item()


def test_one_freak_image_does_not_set_the_range(small_net, pictures):
    images = SIGNED(pictures[0][:60])
    with_outlier = np.concatenate([images, 40 * images[:1]])
    name = make_interpreter(small_net[1]).get_output_details()[0]["name"]
    plain, covering, extreme = (
        calibration.calibrate(small_net[1], which, (-1.0, 1.0), summary)[name]["max"].item()
        for which, summary in (
            (images, "min_max"),
            (with_outlier, "covering"),
            (with_outlier, "min_max"),
        )
    )
    assert extreme > 3 * plain and 0.5 * plain < covering <= plain


def test_zero_lies_on_a_step_of_the_input():
    for low, high in ((-1.0, 1.0), (-2.1, 2.6), (-124.0, 151.0)):
        wide = calibration.range_with_integral_zero(low, high)
        assert wide[0] <= low and wide[1] >= high and wide[1] - wide[0] < 1.01 * (high - low)
        assert abs(255 * -wide[0] / (wide[1] - wide[0])) % 1 == pytest.approx(0, abs=1e-6)
    assert calibration.range_with_integral_zero(0.0, 1.0) == (0.0, 1.0)


def test_the_input_range_is_known_not_estimated(small_net, pictures):
    dark = SIGNED(pictures[0][:16] // 4)
    model = quantizer.quantize(
        small_net[1],
        quantizer.scheme("int8"),
        calibration.calibrate(small_net[1], dark, (-1.0, 1.0)),
    )
    scale, _ = make_interpreter(model).get_input_details()[0]["quantization"]
    assert scale == pytest.approx(2 / 255, rel=0.01)


@pytest.mark.parametrize(
    ("images", "says"),
    [
        (np.zeros((0, 8, 8, 3), np.float32), "representative set is empty"),
        (np.full((3, 8, 8, 3), np.nan, np.float32), "NaN"),
    ],
)
def test_bad_calibration_sets(small_net, images, says):
    with pytest.raises(EdgeqError, match=says):
        calibration.calibrate(small_net[1], images, (-1.0, 1.0))


def test_an_unknown_scheme_lists_the_known():
    with pytest.raises(EdgeqError, match="no scheme 'int7'; take some of float16, dynamic_int8"):
        quantizer.scheme("int7")


@pytest.fixture(scope="module")
def with_dead_channel():
    """A convolution one of whose channels is all bias, and images for it."""
    layer = keras.layers.Conv2D(4, 3)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layer,
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(3),
        ]
    )
    kernel, _ = layer.get_weights()
    kernel[..., 2] = 1e-12
    layer.set_weights([kernel, np.float32([0.1, 0.2, 3.0, 0.3])])
    return convert(model), np.random.default_rng(0).uniform(-1, 1, (24, 8, 8, 3)).astype(np.float32)


def test_a_dead_channel_keeps_its_bias(with_dead_channel):
    flat, images = with_dead_channel
    ranges = calibration.calibrate(flat, images, (-1.0, 1.0), "min_max")
    exact = outputs(flat, images)
    clipped, cured = (
        np.abs(
            outputs(
                quantizer.quantize(flat, quantizer.scheme("int8"), ranges, fix_dead=cure), images
            )
            - exact
        ).max()
        for cure in (False, True)
    )
    assert cured < 0.05 * np.ptp(exact) < clipped
    mended = prevent_bias_overflow(flat, ranges)
    assert np.abs(outputs(mended, images) - exact).max() < 1e-3 and mended != flat
    assert prevent_bias_overflow(mended, ranges) == mended, "nothing is raised twice"


def test_live_channels_are_left_alone(small_net, ranges):
    assert prevent_bias_overflow(small_net[1], ranges) == small_net[1]


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
