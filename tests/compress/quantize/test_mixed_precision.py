"""Mixed precision: the programme keeps its budget and is never beaten by greed; what it chooses is
what the file holds.
"""

import itertools

import numpy as np
import pytest

from edgeq_lib.compress.quantize import layerwise_rounding, mixed_precision, quantized_weights
from edgeq_lib.compress.quantize.kernels import KERNEL_OPS, float_kernels
from edgeq_lib.compress.quantize.sensitivity import noise_by_width
from edgeq_lib.files import EdgeqError
from edgeq_lib.tflite.inspect import inspect_file
from edgeq_lib.tflite.reader import read_graph

BITS = (8, 4, 2)


def random_tables(seed):
    """(noise, bytes) of up to nine kernels: sizes from a handful of bytes to a megabyte, noise over
    six decades.
    """
    rng = np.random.default_rng(seed)
    sizes = (10 ** rng.uniform(1, 6, rng.integers(1, 10))).astype(int)
    weigh = {
        f"k{i}": {bits: -(-int(size) * bits // 8) for bits in BITS} for i, size in enumerate(sizes)
    }
    noise = {
        name: {8: 0.0, 4: (low := 10 ** rng.uniform(-7, -2)), 2: low * 10 ** rng.uniform(0, 2)}
        for name in weigh
    }
    return noise, weigh


@pytest.mark.parametrize("seed", range(16))
def test_the_programme_keeps_its_budget_and_is_at_least_as_good_as_greed(seed):
    noise, weigh = random_tables(seed)
    ends = [mixed_precision.total_cost(weigh, dict.fromkeys(weigh, bits)) for bits in (2, 8)]
    achievable = [mixed_precision.total_cost(weigh, dict(zip(weigh, BITS * 3, strict=False)))]
    for budget in (*np.linspace(*ends, 4), *achievable):
        best = mixed_precision.choose(noise, weigh, budget)
        naive = mixed_precision.greedy(noise, weigh, budget)
        assert best.keys() == weigh.keys()
        assert max(mixed_precision.total_cost(weigh, each) for each in (best, naive)) <= budget
        assert mixed_precision.total_cost(noise, best) <= mixed_precision.total_cost(
            noise, naive
        ) * (1 + 1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_the_programme_finds_what_trying_everything_finds(seed):
    noise, weigh = random_tables(100 + seed)
    names = list(weigh)[:5]
    noise, weigh = ({name: table[name] for name in names} for table in (noise, weigh))
    every = [
        dict(zip(names, widths, strict=True))
        for widths in itertools.product(BITS, repeat=len(names))
    ]
    for budget in np.quantile(
        [mixed_precision.total_cost(weigh, each) for each in every], (0, 0.2, 0.5, 0.9)
    ):
        least = min(
            mixed_precision.total_cost(noise, each)
            for each in every
            if mixed_precision.total_cost(weigh, each) <= budget
        )
        assert mixed_precision.total_cost(
            noise, mixed_precision.choose(noise, weigh, budget)
        ) == pytest.approx(least, rel=1e-6)


def test_the_same_programme_keeps_a_limit_on_noise_and_saves_bytes():
    noise, weigh = random_tables(7)
    four = dict.fromkeys(weigh, 4)
    smaller = mixed_precision.choose(weigh, noise, mixed_precision.total_cost(noise, four))
    assert mixed_precision.total_cost(noise, smaller) <= mixed_precision.total_cost(noise, four) * (
        1 + 1e-9
    )
    assert mixed_precision.total_cost(weigh, smaller) <= mixed_precision.total_cost(weigh, four)


def test_where_greed_errs_the_programme_does_not():
    weigh = {"small": {8: 100, 4: 50}, "large": {8: 1000, 4: 500}}
    noise = {
        "small": {8: 0.0, 4: 1.0},
        "large": {8: 0.0, 4: 11.0},
    }  # per byte the small one is cheaper, and does not suffice
    assert mixed_precision.greedy(noise, weigh, 600) == {"small": 4, "large": 4}
    assert mixed_precision.choose(noise, weigh, 600) == {"small": 8, "large": 4}


@pytest.mark.parametrize("way", [mixed_precision.choose, mixed_precision.greedy])
def test_a_budget_that_nothing_meets_is_refused(way):
    noise, weigh = random_tables(1)
    least = mixed_precision.total_cost(weigh, dict.fromkeys(weigh, 2))
    with pytest.raises(EdgeqError, match=r"below .* raise it"):
        way(noise, weigh, least - 1)
    assert way(noise, weigh, least) == dict.fromkeys(weigh, 2)


def test_candidates_spare_the_first_layer_and_weights_are_counted_as_stored(rounded_alone):
    widths = mixed_precision.candidates(rounded_alone[0], dense=[4, 2], convolutions=[4, 2])
    first, *others, last = widths
    assert (
        widths[first] == [8]
        and widths[last] == [8, 4, 2]
        and all(widths[name] == [8, 4, 2] for name in others)
    )
    weigh = mixed_precision.weight_bytes(rounded_alone[0], widths)
    assert weigh[last][2] * 4 == weigh[last][4] * 2 == weigh[last][8]
    assert weigh[others[0]][2] == weigh[others[0]][4] == weigh[others[0]][8] / 2, (
        "LiteRT has no 2-bit convolution"
    )
    with pytest.raises(EdgeqError, match="take 2 to 8"):
        mixed_precision.weight_bytes(
            rounded_alone[0],
            mixed_precision.candidates(rounded_alone[0], dense=[1], convolutions=[]),
        )


def test_the_file_weighs_what_the_budget_counts_and_holds_the_chosen_widths(rounded_alone):
    float32, ranges, images, probe, alone = rounded_alone
    weigh = mixed_precision.weight_bytes(float32, alone)
    wide = len(
        quantized_weights.to_file(float32, {name: each[8] for name, each in alone.items()}, ranges)
    )
    rest = wide - mixed_precision.total_cost(weigh, dict.fromkeys(alone, 8))
    narrow = mixed_precision.total_cost(weigh, {name: min(each) for name, each in alone.items()})
    widths = mixed_precision.choose(noise_by_width(float32, alone, probe), weigh, 1.3 * narrow)
    file = quantized_weights.to_file(
        float32, layerwise_rounding.round_layers(float32, images, ranges, widths), ranges
    )
    assert len(file) == pytest.approx(
        rest + mixed_precision.total_cost(weigh, widths), abs=32 * len(widths)
    )
    graph = read_graph(file)
    held = {
        graph.tensors[op.outputs[0]].name: graph.tensors[op.inputs[1]].dtype
        for op in graph.ops
        if op.name in KERNEL_OPS
    }
    assert {name: held[name] for name in widths} == {
        name: f"INT{bits}" for name, bits in widths.items()
    }
    assert len(set(held.values())) > 1 and inspect_file(file)["integer_only"]


def test_a_built_file_is_at_least_as_near_to_float32_as_without_corrected_biases(rounded_alone):
    float32, ranges, images, probe, alone = rounded_alone
    widths = {name: 4 if 4 in each else 8 for name, each in alone.items()}
    plain = quantized_weights.to_file(
        float32, layerwise_rounding.round_layers(float32, images, ranges, widths), ranges
    )
    grids, file, found = mixed_precision.build(float32, widths, images, ranges, probe)
    assert {name: each.bits for name, each in grids.items()} == widths
    assert len(file) == len(plain) and (file == plain) is not found["corrected"]
    assert found["agreement"] >= probe.compare(plain)["agreement"] > 80


def test_compressed_codes_of_fewer_bits_weigh_less_in_the_same_storage(rounded_alone):
    float32, ranges, images, *_ = rounded_alone
    name = max(float_kernels(float32), key=lambda kernel: kernel.weights.size).name
    alone = layerwise_rounding.round_each(float32, images, ranges, {name: [8, 6, 4, 3]})
    raw, packed = (
        mixed_precision.SIZES[size](float32, alone)[name] for size in ("bytes", "gzip_bytes")
    )
    assert raw[8] == raw[6] and raw[4] == raw[3]
    assert packed[6] < packed[8] and packed[3] < packed[4]


def test_the_verdict_names_the_best_of_no_more_bytes_and_the_smallest_that_agrees_as_often():
    def file(agreement, size):
        return {"agreement": agreement, "snr": 10.0, "bytes": size}

    found = {
        "4 bits": file(90.0, 1000),
        "large": file(99.0, 1200),
        "small": file(91.0, 800),
        "tiny": file(60.0, 400),
    }
    said = mixed_precision.mix_verdict(found)
    assert "**small** agrees on 91.0 %" in said and "**small**, is 20.0 % smaller" in said
    found = {"4 bits": file(90.0, 1000), "tiny": file(60.0, 400), "large": file(99.0, 2000)}
    assert "No mix" in mixed_precision.mix_verdict(found)
