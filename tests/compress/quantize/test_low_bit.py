"""Rounding by output error: never worse than where it started, and better than to nearest where it
counts.
"""

import numpy as np
import pytest

from edgeq_lib.compress.quantize import calibration, gptq, layerwise_rounding, quantized_weights
from edgeq_lib.compress.quantize.kernels import float_kernels
from edgeq_lib.measure.accuracy import predict_file
from edgeq_lib.models.preprocessing import SIGNED

RNG = np.random.default_rng(1)
INPUTS = RNG.normal(size=(400, 12)) @ RNG.normal(size=(12, 12))  # correlated, as features are
SECOND = INPUTS.T @ INPUTS / len(INPUTS)
WEIGHTS = RNG.normal(size=(12, 7))


def error_of(rounded):
    return gptq.output_error(WEIGHTS, rounded, SECOND).sum()


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_the_error_is_that_of_the_outputs(bits):
    rounded = quantized_weights.round_to_nearest(
        WEIGHTS, quantized_weights.min_max_scales(WEIGHTS, bits), bits
    )
    off = INPUTS @ (WEIGHTS - rounded.values)
    assert np.allclose(gptq.output_error(WEIGHTS, rounded, SECOND), np.square(off).mean(0))


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_descent_never_raises_the_error_and_every_method_beats_nearest(bits):
    steps = quantized_weights.min_max_scales(WEIGHTS, bits)
    near = quantized_weights.round_to_nearest(WEIGHTS, steps, bits)
    compensated = gptq.gptq(WEIGHTS, steps, bits, SECOND)
    for start in (near, compensated):
        before, after = (
            gptq.output_error(WEIGHTS, each, SECOND)
            for each in (start, gptq.coordinate_descent(WEIGHTS, start, SECOND))
        )
        assert (after <= before * (1 + 1e-9)).all()
    assert error_of(gptq.coordinate_descent(WEIGHTS, compensated, SECOND)) < 0.9 * error_of(near)
    assert np.abs(compensated.codes).max() <= quantized_weights.qmax(bits)


def test_steps_are_never_below_the_least_and_clip_where_that_pays():
    weights = RNG.normal(size=(400, 3))
    weights[0] = 30  # one outlier: covering it costs all others
    second, least = np.eye(400), np.array([0.0, 0.0, 99.0])
    steps = gptq.scales_by_output_error(weights, second, 4, least)
    assert steps[2] == 99 and (steps[:2] < quantized_weights.min_max_scales(weights, 4)[:2]).all()


def test_powers_of_two_are_the_better_neighbour_and_a_dead_channel_keeps_its_step():
    weights = np.column_stack([WEIGHTS, np.full(12, 1e-12)])
    steps = np.append(quantized_weights.min_max_scales(WEIGHTS, 4), 0.3)
    found = gptq.powers_of_two(weights, steps, 4, SECOND)
    assert (
        (np.frexp(found)[0] == 0.5).all()
        and (found < 2 * steps).all()
        and (found > steps / 2).all()
        and found[-1] == 0.5
    )
    errors = [
        gptq.output_error(weights, quantized_weights.round_to_nearest(weights, each, 4), SECOND)
        for each in (2.0 ** np.floor(np.log2(steps)), 2.0 ** np.ceil(np.log2(steps)))
    ]
    assert np.allclose(
        gptq.output_error(weights, quantized_weights.round_to_nearest(weights, found, 4), SECOND),
        np.minimum(*errors),
    )


def test_the_target_makes_up_for_inputs_that_are_off():
    off = INPUTS * 0.8 + 0.05 * RNG.normal(size=INPUTS.shape)
    second, cross = off.T @ off / len(off), off.T @ INPUTS / len(off)
    wanted = INPUTS @ WEIGHTS
    better = np.square(off @ gptq.target(WEIGHTS, second, cross) - wanted).mean()
    assert better < 0.2 * np.square(off @ WEIGHTS - wanted).mean()


def test_a_dead_input_stays_defined():
    dead = SECOND.copy()
    dead[3] = dead[:, 3] = 0
    for second in (dead, np.zeros_like(SECOND)):
        steps = gptq.scales_by_output_error(WEIGHTS, second, 4, np.zeros(7))
        assert np.isfinite(gptq.gptq(WEIGHTS, steps, 4, second).values).all()
        assert np.isfinite(gptq.target(WEIGHTS, second, second)).all()


def test_layers_are_rounded_in_order_and_the_output_suffers_less(small_net, pictures):
    float32 = small_net[1]
    images = SIGNED(pictures[0][:64])
    ranges = calibration.calibrate(float32, images, SIGNED.range)
    bits = layerwise_rounding.default_widths(float32)
    assert list(bits.values())[0] == 8 and list(bits.values())[-1] == 4
    sizes = {kernel.name: kernel.weights.size for kernel in float_kernels(float32)}
    spared = [sizes[name] for name, width in list(bits.items())[1:] if width == 8]
    assert 4 in bits.values() and sum(spared) <= 0.05 * sum(sizes.values())
    assert max(spared, default=0) <= min(
        sizes[name] for name, width in list(bits.items())[:-1] if width == 4
    )
    exact = predict_file(float32, pictures[0][64:164], SIGNED)
    off = {}
    for method in layerwise_rounding.METHODS:
        grids = layerwise_rounding.round_layers(float32, images, ranges, bits, method)
        assert {name: each.bits for name, each in grids.items()} == bits
        outputs = predict_file(
            quantized_weights.with_quantized_weights(float32, grids), pictures[0][64:164], SIGNED
        )
        off[method] = float(np.square(outputs - exact).mean())
    naive = predict_file(
        quantized_weights.with_quantized_weights(
            float32, quantized_weights.round_all_to_nearest(float32, ranges, bits)
        ),
        pictures[0][64:164],
        SIGNED,
    )
    assert off["gptq_descent"] < 0.5 * float(np.square(naive - exact).mean()), off
