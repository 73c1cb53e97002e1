"""Activation ranges from images: the summaries, the input, and the images of no use."""

import numpy as np
import pytest

from edgeq_lib.compress.quantize import calibration, quantizer
from edgeq_lib.files import EdgeqError
from edgeq_lib.models.preprocessing import SIGNED
from edgeq_lib.tflite.runtime import make_interpreter, run_images


def observed(values):
    """One image a row of `values`, as if a network had a single tensor."""
    values = np.asarray(values, np.float32)
    counts = np.bincount(
        values.ravel().view(np.uint32) >> calibration._SHIFT, minlength=calibration._BINS
    )[None]
    return calibration.ActivationStatistics(
        ["x"], [2], values.min(axis=1)[:, None], values.max(axis=1)[:, None], counts
    )


def ends(name, values):
    low, high = calibration.SUMMARIES[name](observed(values))
    return float(low[0]), float(high[0])


def test_each_summary_on_numbers_done_by_hand():
    ramp = np.arange(101.0)[:, None] * [[-1.0, 1.0]]
    assert ends("min_max", ramp) == (-100, 100)
    assert ends("covering_90", ramp) == pytest.approx((-90, 90))
    assert ends("moving_average", [[0, 1], [0, 2], [0, 2]]) == pytest.approx((0, 1.0975))


def test_percentiles_are_those_of_the_values():
    values = np.random.default_rng(0).normal(0, 1, (10, 10_000))
    low, high = ends("percentile_99.9", values)
    assert (low, high) == pytest.approx(tuple(np.quantile(values, (0.001, 0.999))), rel=0.02)
    low, high = ends("percentile_99.999", np.maximum(values, 0))
    assert low == 0 and high <= values.max()


def test_the_least_squared_error_is_found():
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(0, 1, 200_000), [9.0, -2.0]]).astype(np.float32)[None]

    def error(low, high):
        step = (high - low) / 255
        rounded = np.clip(np.rint((values - low) / step), 0, 255) * step + low
        return float(np.square(rounded - values).mean())

    found = ends("mse", values)
    assert found[1] < 7, "one value in 200,000 does not set the steps"
    tried = [error(low, high) for low in np.linspace(-5, -2, 13) for high in np.linspace(2, 9, 29)]
    assert error(*found) < 1.05 * min(tried)


def test_deviations_and_parts():
    values = np.random.default_rng(0).normal(3, 2, (50, 1000))
    seen = observed(values)
    assert calibration.deviations(seen)[0] == pytest.approx(2, rel=0.03)
    part = seen.spread(5)
    assert part.low[0] == seen.low[0] and part.low[-1] == seen.low[-1] and len(part.high) == 5


def test_the_pass_sees_every_tensor_and_threads_change_nothing(small_net, pictures):
    images = SIGNED(pictures[0][:20])
    seen = calibration.observe(small_net[1], images)
    assert seen.low.shape == (20, len(seen.names)) and (seen.counts.sum(axis=1) > 0).all()
    interpreter = make_interpreter(small_net[1])
    name, out = interpreter.get_output_details()[0]["name"], run_images(interpreter, images)
    assert np.allclose(seen.high[:, seen.names.index(name)], out.max(axis=1), atol=1e-5)
    assert seen.names[0] == interpreter.get_input_details()[0]["name"]
    plain = calibration.observe(small_net[1], images, histogram=False)
    assert np.array_equal(plain.low, seen.low) and plain.counts.size == 0


def test_outlier_images_are_left_out_of_a_drawn_calibration_set():
    values = np.random.default_rng(0).normal(0, 1, (100, 50))
    values[[7, 30]] *= 40
    kept = calibration.drop_outlier_images(observed(values), 100)
    assert len(kept) == 98 and not {7, 30} & set(kept)
    few = calibration.drop_outlier_images(observed(values), 10)
    assert len(few) == 10 and set(few) <= set(kept) and (np.diff(few) > 0).all()


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


def test_one_outlier_image_does_not_set_the_range(small_net, pictures):
    images = SIGNED(pictures[0][:60])
    with_outlier = np.concatenate([images, 40 * images[:1]])
    name = make_interpreter(small_net[1]).get_output_details()[0]["name"]
    plain, covering, extreme = (
        calibration.range_width(
            calibration.calibrate(small_net[1], which, (-1.0, 1.0), summary)[name]
        )
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
