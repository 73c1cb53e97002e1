"""Rounding by output error: never worse than where it started, and better than to nearest where it
counts.
"""

import numpy as np
import pytest

from edgeq_lib.compress.quantize import gptq, quantized_weights

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


@pytest.mark.parametrize("seed", range(10))
def test_gptq_never_raises_the_output_error_against_nearest_on_correlated_inputs(seed):
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(500, 24)) @ rng.normal(size=(24, 24))
    second, weights = inputs.T @ inputs / len(inputs), rng.normal(size=(24, 16))
    for bits in (2, 3, 4):
        scales = quantized_weights.min_max_scales(weights, bits)
        nearest = quantized_weights.round_to_nearest(weights, scales, bits)
        errors = [
            gptq.output_error(weights, grid, second).sum()
            for grid in (gptq.gptq(weights, scales, bits, second), nearest)
        ]
        assert errors[0] < errors[1], (bits, errors)


def test_without_correlation_there_is_nothing_to_make_up_for():
    second = np.diag(RNG.uniform(0.5, 2, 12))
    scales = quantized_weights.min_max_scales(WEIGHTS, 4)
    nearest = quantized_weights.round_to_nearest(WEIGHTS, scales, 4)
    assert np.array_equal(gptq.gptq(WEIGHTS, scales, 4, second).codes, nearest.codes)
    assert np.array_equal(gptq.coordinate_descent(WEIGHTS, nearest, second).codes, nearest.codes)


def test_weights_on_the_grid_stay_where_they_are():
    codes = RNG.integers(-7, 8, (12, 7))
    scales = RNG.uniform(0.1, 1, 7)
    grid = gptq.gptq(codes * scales, scales, 4, SECOND)
    assert np.array_equal(grid.codes, codes) and np.array_equal(grid.scales, scales)
    assert np.allclose(gptq.output_error(codes * scales, grid, SECOND), 0)


def test_damping_makes_second_moments_invertible_and_hardly_changes_them():
    few = INPUTS[:3]
    singular = few.T @ few / 3
    assert np.linalg.matrix_rank(singular) == 3
    damped = gptq.damped(singular)
    assert np.linalg.cond(damped) < 1e4
    assert np.trace(damped - singular) == pytest.approx(0.01 * np.trace(singular))
    assert np.array_equal(gptq.damped(np.zeros((4, 4))), np.eye(4))
