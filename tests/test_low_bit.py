"""Rounding by output error: never worse than where it started, and better than to nearest where it counts."""

import numpy as np
import pytest

from edgeq_lib import evaluate, zoo
from edgeq_lib.compress import grid, low_bit, ptq, rounding

RNG = np.random.default_rng(1)
INPUTS = RNG.normal(size=(400, 12)) @ RNG.normal(size=(12, 12))  # correlated, as features are
SECOND = INPUTS.T @ INPUTS / len(INPUTS)
WEIGHTS = RNG.normal(size=(12, 7))


def error_of(rounded):
    return rounding.output_error(WEIGHTS, rounded, SECOND).sum()


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_the_error_is_that_of_the_outputs(bits):
    rounded = grid.nearest(WEIGHTS, grid.min_max_steps(WEIGHTS, bits), bits)
    off = INPUTS @ (WEIGHTS - rounded.values)
    assert np.allclose(rounding.output_error(WEIGHTS, rounded, SECOND), np.square(off).mean(0))


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_descent_never_raises_the_error_and_every_method_beats_nearest(bits):
    steps = grid.min_max_steps(WEIGHTS, bits)
    near = grid.nearest(WEIGHTS, steps, bits)
    compensated = rounding.gptq(WEIGHTS, steps, bits, SECOND)
    for start in (near, compensated):
        before, after = (rounding.output_error(WEIGHTS, each, SECOND) for each in (
            start, rounding.descend(WEIGHTS, start, SECOND)))
        assert (after <= before * (1 + 1e-9)).all()
    assert error_of(rounding.descend(WEIGHTS, compensated, SECOND)) < 0.9 * error_of(near)
    assert np.abs(compensated.codes).max() <= grid.largest(bits)


def test_steps_are_never_below_the_least_and_clip_where_that_pays():
    weights = RNG.normal(size=(400, 3))
    weights[0] = 30  # one outlier: covering it costs all others
    second, least = np.eye(400), np.array([0.0, 0.0, 99.0])
    steps = rounding.steps_by_error(weights, second, 4, least)
    assert steps[2] == 99 and (steps[:2] < grid.min_max_steps(weights, 4)[:2]).all()


def test_powers_of_two_are_the_better_neighbour_and_a_dead_channel_keeps_its_step():
    weights = np.column_stack([WEIGHTS, np.full(12, 1e-12)])
    steps = np.append(grid.min_max_steps(WEIGHTS, 4), 0.3)
    found = rounding.powers_of_two(weights, steps, 4, SECOND)
    assert (np.frexp(found)[0] == 0.5).all() and (found < 2 * steps).all() and (found > steps / 2).all() and found[-1] == 0.5
    errors = [rounding.output_error(weights, grid.nearest(weights, each, 4), SECOND) for each in (
        2.0 ** np.floor(np.log2(steps)), 2.0 ** np.ceil(np.log2(steps)))]
    assert np.allclose(rounding.output_error(weights, grid.nearest(weights, found, 4), SECOND), np.minimum(*errors))


def test_the_target_makes_up_for_inputs_that_are_off():
    off = INPUTS * 0.8 + 0.05 * RNG.normal(size=INPUTS.shape)
    second, cross = off.T @ off / len(off), off.T @ INPUTS / len(off)
    wanted = INPUTS @ WEIGHTS
    better = np.square(off @ rounding.target(WEIGHTS, second, cross) - wanted).mean()
    assert better < 0.2 * np.square(off @ WEIGHTS - wanted).mean()


def test_a_dead_input_stays_defined():
    dead = SECOND.copy()
    dead[3] = dead[:, 3] = 0
    for second in (dead, np.zeros_like(SECOND)):
        steps = rounding.steps_by_error(WEIGHTS, second, 4, np.zeros(7))
        assert np.isfinite(rounding.gptq(WEIGHTS, steps, 4, second).values).all()
        assert np.isfinite(rounding.target(WEIGHTS, second, second)).all()


def test_layers_are_rounded_in_order_and_the_output_suffers_less(small_net, pictures):
    float32 = small_net[1]
    images = zoo.SIGNED(pictures[0][:64])
    ranges = ptq.calibrate(float32, images, zoo.SIGNED.range)
    bits = low_bit.widths(float32)
    assert list(bits.values())[0] == 8 and list(bits.values())[-1] == 4
    sizes = {kernel.name: kernel.weights.size for kernel in grid.kernels(float32)}
    spared = [sizes[name] for name, width in list(bits.items())[1:] if width == 8]
    assert 4 in bits.values() and sum(spared) <= 0.05 * sum(sizes.values())
    assert max(spared, default=0) <= min(sizes[name] for name, width in list(bits.items())[:-1] if width == 4)
    exact = evaluate.predict(float32, pictures[0][64:164], zoo.SIGNED)
    off = {}
    for method in low_bit.METHODS:
        grids = low_bit.round_layers(float32, images, ranges, bits, method)
        assert {name: each.bits for name, each in grids.items()} == bits
        outputs = evaluate.predict(grid.with_grids(float32, grids), pictures[0][64:164], zoo.SIGNED)
        off[method] = float(np.square(outputs - exact).mean())
    naive = evaluate.predict(grid.with_grids(float32, grid.rounded(float32, ranges, bits)), pictures[0][64:164], zoo.SIGNED)
    assert off["gptq_descent"] < 0.5 * float(np.square(naive - exact).mean()), off
