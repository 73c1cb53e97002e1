import numpy as np
import pytest

from edgeq_lib.compress.quantize import bn_statistics, quantized_weights, squant
from edgeq_lib.compress.quantize.kernels import KERNEL_OPS, by_channel, float_kernels
from edgeq_lib.files import EdgeqError

SHAPES = [
    (9, 1, 24),
    (72, 8, 6),
    (64, 64, 10),
    (1, 1, 3),
]  # depthwise, 3 × 3 convolution, dense, and a single weight


@pytest.mark.parametrize("bits", [8, 6, 4, 3, 2])
@pytest.mark.parametrize(("weights", "number", "channels"), SHAPES)
def test_the_objective_never_rises_and_weights_keep_to_their_neighbours(
    weights, number, channels, bits
):
    values = np.random.default_rng(bits).normal(0, 1, (weights, channels)) * np.logspace(
        -3, 2, channels
    )
    for steps in (
        quantized_weights.min_max_scales(values, bits),
        squant.least_squares_scales(values, bits),
    ):
        start = quantized_weights.round_to_nearest(values, steps, bits)
        for only_kernels in (True, False):
            found = squant.squant(values, bits, number, steps, channels=not only_kernels)
            assert (
                squant.objective(values, found, number) <= squant.objective(values, start, number)
            ).all()
            exact, most = values / steps, quantized_weights.qmax(bits)
            assert np.isin(found.codes, np.arange(-most, most + 1)).all()
            inside = np.abs(exact) <= most
            assert (np.abs(found.codes - exact)[inside] < 1).all(), "one of the two neighbours"
            assert (found.codes[~inside] == start.codes[~inside]).all(), (
                "what is clipped stays at the end"
            )


def test_sums_over_kernels_and_channels_shrink():
    values = np.random.default_rng(0).normal(0, 1, (9 * 16, 32))
    steps = quantized_weights.min_max_scales(values, 4)
    start, found = (
        quantized_weights.round_to_nearest(values, steps, 4),
        squant.squant(values, 4, 16, steps),
    )

    def sums(each):
        return np.abs((each.codes - values / steps).sum(axis=0))

    def of_kernels(each):
        return np.abs((each.codes - values / steps).reshape(9, 16, 32).sum(axis=0))

    assert sums(found).mean() < 0.4 * sums(start).mean()
    assert of_kernels(found).mean() < 0.7 * of_kernels(start).mean()


def test_flips_within_a_kernel_are_the_best_possible():
    """Against all choices of neighbours that change roundings to one side, as flipping does."""
    rng = np.random.default_rng(1)
    for _ in range(30):
        values = rng.normal(0, 1, (6, 1))
        steps = quantized_weights.min_max_scales(values, 4)
        exact = values / steps
        found = squant.objective(values, squant.squant(values, 4, 1, steps), 1)[0]
        best = min(
            squant.objective(
                values,
                quantized_weights.QuantizedWeights(np.array(codes, np.int8)[:, None], steps, 4),
                1,
            )[0]
            for codes in np.array(np.meshgrid(*[(np.floor(x), np.ceil(x)) for x in exact[:, 0]]))
            .reshape(6, -1)
            .T
        )
        assert found == pytest.approx(best)


def test_by_hand():
    """Errors 0.4, 0.4, 0.4 (codes 1 of 0.6 each): the sum 1.2 falls to 0.2 when one is flipped, at
    0.2 of squared error.
    """
    values = np.array([[0.6], [0.6], [0.6], [7.0]])
    found = squant.squant(values, 4, 1)
    assert sorted(found.codes[:3, 0]) == [0, 1, 1] and found.codes[3, 0] == 7
    assert squant.objective(values, found, 1)[0] == pytest.approx(2 * 0.16 + 0.36 + 0.2**2)


@pytest.mark.parametrize("channel", [0.0, 0.3, -1e-320, 1e-40, 3e38])
def test_constant_zero_denormal_and_huge_channels(channel):
    values = np.full((9, 2), channel)
    values[:, 1] = np.linspace(-1, 1, 9)
    for steps in (None, squant.least_squares_scales(values, 4)):
        found = squant.squant(values, 4, 1, steps)
        assert (
            np.isfinite(found.values).all()
            and (np.abs(found.values - values) <= found.scales * 1.01).all()
        )


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers_are_refused(broken):
    values = np.ones((9, 2))
    values[3, 1] = broken
    with pytest.raises(EdgeqError, match="NaN or infinite"):
        squant.squant(values, 4, 1)


def test_least_squares_steps_beat_the_extremes():
    values = np.random.default_rng(0).standard_t(3, (64, 20))

    def error(steps):
        return np.square(quantized_weights.round_to_nearest(values, steps, 3).values - values).sum(
            axis=0
        )

    assert (
        error(squant.least_squares_scales(values, 3))
        <= error(quantized_weights.min_max_scales(values, 3))
    ).all()


def test_a_layer_of_a_million_weights_takes_a_second_or_so():
    import time

    values, started = np.random.default_rng(0).normal(0, 1, (768, 1000)), time.process_time()
    squant.squant(values, 4, 768)
    assert time.process_time() - started < 3


def test_file_weights_are_the_grids_codes(small_net, pictures):
    from edgeq_lib.models.preprocessing import SIGNED
    from edgeq_lib.tflite.buffers import writable_buffers
    from edgeq_lib.tflite.reader import read_graph

    model, float32 = small_net
    ranges = bn_statistics.ranges_from_moments(
        float32, bn_statistics.batch_norm_statistics(model, float32), SIGNED.range
    )
    grids = squant.round_network(float32, ranges, {float_kernels(float32)[0].name: 8}, 4)
    file = quantized_weights.to_file(float32, grids, ranges)
    graph, constants = read_graph(file), writable_buffers(bytearray(file))
    ops = [op for op in graph.ops if op.name in KERNEL_OPS]
    assert len(ops) == len(grids)
    for op in ops:
        codes = grids[graph.tensors[op.outputs[0]].name].codes
        assert np.array_equal(by_channel(op.name, constants[op.inputs[1]]), codes)
    with pytest.raises(EdgeqError, match="no way of rounding"):
        squant.round_network(float32, ranges, {}, method="dice")
