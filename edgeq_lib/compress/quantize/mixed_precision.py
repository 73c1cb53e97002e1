"""Mixed precision: a width for each kernel under a budget, by an integer program.

1. Each kernel is tried at each width with all others at 8 bits; the noise at the network's output
   is kept (`sensitivity.noise_by_width`).
2. Rounding errors of different kernels are nearly independent, so their noise energies nearly add
   up, and the best mix for a budget is a multiple-choice knapsack (`choose`), which a solver ends
   in milliseconds (as in HAWQ-V3, Yao et al., arXiv 2011.10680, where a Hessian stands for the
   noise).
3. `build` rounds the layers in order at these widths and makes the file.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Collection, Mapping

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from edgeq_lib.compress.quantize import calibration, layerwise_rounding, quantized_weights
from edgeq_lib.compress.quantize.bias_correction import correct_if_better
from edgeq_lib.compress.quantize.kernels import float_kernels
from edgeq_lib.compress.quantize.sensitivity import Probe, most_faithful
from edgeq_lib.files import CannotTake, EdgeqError
from edgeq_lib.tflite.quiet import quiet

Widths = dict[str, int]  # output of each kernel's op → bits
Table = Mapping[str, Mapping[int, float]]  # output of each kernel's op → bits → what that costs


def candidates(
    model: bytes, dense: Collection[int], convolutions: Collection[int]
) -> dict[str, list[int]]:
    """List the widths that each kernel may have, widest first; all may have 8.

    Args:
        model: The float flatbuffer.
        dense: Widths of dense layers.
        convolutions: Widths of convolutions; the first layer and depthwise kernels keep 8 bits.

    Returns:
        Output of each kernel's op → widths.

    Raises:
        CannotTake: When no kernel has a choice.
    """
    kernels = float_kernels(model)
    if reason := layerwise_rounding.why_not(model):
        raise CannotTake(reason)
    kinds = {"FULLY_CONNECTED": dense, "CONV_2D": convolutions}
    chosen = {
        kernel.name: sorted({8, *kinds.get(kernel.kind, ())}, reverse=True) for kernel in kernels
    }
    widths = {**chosen, kernels[0].name: [8]}
    if all(allowed == [8] for allowed in widths.values()):
        raise CannotTake(
            "There is nothing to choose: the first layer, depthwise and transposed kernels keep 8 "
            "bits, and the network has no other weights."
        )
    return widths


def why_not(model: bytes) -> str | None:
    """Say why a network cannot have a mix of widths.

    Args:
        model: The float flatbuffer.

    Returns:
        The reason, one sentence; None when it can.
    """
    try:
        candidates(model, (8, 4), (8, 4))
    except CannotTake as reason:
        return str(reason)
    return None


def weight_bytes(model: bytes, widths: Mapping[str, Collection[int]]) -> dict[str, dict[int, int]]:
    """Count the bytes of each kernel's weights in a file: output of its op → width → bytes."""
    return {
        kernel.name: {
            bits: -(-kernel.weights.size * quantized_weights.storage_bits(bits, kernel.kind) // 8)
            for bits in widths[kernel.name]
        }
        for kernel in float_kernels(model)
    }


def gzip_bytes(
    model: bytes, alone: Mapping[str, Mapping[int, quantized_weights.QuantizedWeights]]
) -> dict[str, dict[int, int]]:
    """Count the bytes of each kernel's weights in a compressed file, by output and width.

    There codes of 3, 5, 6 or 7 bits, which LiteRT stores as wider ones, pay as well.
    """

    def packed(codes: np.ndarray, bits: int) -> bytes:
        per_byte = 8 // bits
        fields = np.pad(codes.T.ravel(), (0, -codes.size % per_byte)).reshape(-1, per_byte).astype(
            np.uint8
        ) & (2**bits - 1)
        return (
            (fields << (bits * np.arange(per_byte, dtype=np.uint8)))
            .sum(axis=1)
            .astype(np.uint8)
            .tobytes()
        )

    return {
        kernel.name: {
            bits: len(
                gzip.compress(
                    packed(rounded.codes, quantized_weights.storage_bits(bits, kernel.kind)), 9
                )
            )
            for bits, rounded in alone[kernel.name].items()
        }
        for kernel in float_kernels(model)
    }


SIZES: dict[str, Callable[..., dict[str, dict[int, int]]]] = {
    "bytes": weight_bytes,
    "gzip_bytes": gzip_bytes,
}


def total_cost(table: Table, widths: Mapping[str, int]) -> float:
    """Add up what a choice of widths costs."""
    return sum(table[name][bits] for name, bits in widths.items())


def choose(minimised: Table, limited: Table, limit: float) -> Widths:
    """Solve the integer program: the least cost within a limit.

    Args:
        minimised: Kernel → width → cost to be minimized.
        limited: Kernel → width → cost to be limited; the same kernels and widths.
        limit: Of the sum of the latter.

    Returns:
        Kernel → width.

    Raises:
        EdgeqError: When no choice is within the limit.
    """
    smallest = {name: min(costs, key=costs.__getitem__) for name, costs in limited.items()}
    if total_cost(limited, smallest) > limit:
        raise EdgeqError(
            f"The budget {limit:,.6g} is below {total_cost(limited, smallest):,.6g}, the least "
            "that any choice of widths takes; raise it, or allow narrower widths."
        )
    pairs = [(name, bits) for name in minimised for bits in minimised[name]]
    cost, taken = (
        np.array([float(table[name][bits]) for name, bits in pairs])
        for table in (minimised, limited)
    )
    one_each = np.array([[name == other for other, _ in pairs] for name in minimised], float)
    # The solver's tolerances are absolute: costs of any unit are brought to the same size.
    with quiet():  # HiGHS prints a line of its own now and then
        solution = milp(
            cost * 1e4 / max(cost.max(), 1e-30),
            integrality=np.ones(len(pairs)),
            bounds=Bounds(0, 1),
            constraints=[LinearConstraint(one_each, 1, 1), LinearConstraint(taken[None], ub=limit)],
            options={"mip_rel_gap": 0.0},
        )
    return {
        name: bits for (name, bits), share in zip(pairs, solution.x, strict=True) if share > 0.5
    }


def greedy(minimised: Table, limited: Table, limit: float) -> Widths:
    """Solve greedily, the baseline: again and again the change that costs least for what it frees.

    Args:
        minimised: Kernel → width → cost to be minimized.
        limited: Kernel → width → cost to be limited.
        limit: Of the sum of the latter.

    Returns:
        Kernel → width, from 8 bits everywhere down to the limit.

    Raises:
        EdgeqError: When no choice is within the limit.
    """
    widths = {name: max(costs) for name, costs in minimised.items()}
    while total_cost(limited, widths) > limit:
        changes = [
            ((minimised[name][bits] - minimised[name][now]) / freed, name, bits)
            for name, now in widths.items()
            for bits in minimised[name]
            if (freed := limited[name][now] - limited[name][bits]) > 0
        ]
        if not changes:
            raise EdgeqError(
                f"The budget {limit:,.6g} is below {total_cost(limited, widths):,.6g}, the least "
                "that any choice of widths takes; raise it, or allow narrower widths."
            )
        _, name, bits = min(changes)
        widths[name] = bits
    return widths


def build(
    model: bytes,
    widths: Mapping[str, int],
    images: np.ndarray,
    ranges: calibration.Ranges,
    probe: Probe,
    io: str = "int8",
) -> tuple[dict[str, quantized_weights.QuantizedWeights], bytes, dict[str, float]]:
    """Make the file of a mix, layers rounded in order, biases corrected where that helps.

    Args:
        model: The float flatbuffer.
        widths: Output of each kernel's op → width.
        images: Preprocessed float32 (n, H, W, C), for rounding and for the means.
        ranges: Activation ranges.
        probe: Images to compare with float32 on.
        io: A row of `quantizer.SCHEMES`: the type of input and output.

    Returns:
        The quantized weights, the file, and how it compares with float32.
    """
    rounded = layerwise_rounding.round_layers(model, images, ranges, widths)
    return rounded, *correct_if_better(
        model, quantized_weights.to_file(model, rounded, ranges, io), images, probe.compare
    )


def mix_verdict(figures: Mapping[str, Mapping[str, float]], size: str = "bytes") -> str:
    """Say in two sentences what mixes buy against uniform 4 bits.

    Args:
        figures: Label → figures of a file (agreement, snr and `size`), uniform 4 bits first.
        size: The key of the size that counts.
    """
    (name, uniform), *others = figures.items()
    as_small = {label: row for label, row in others if row[size] <= uniform[size]}
    as_good = {
        label: row for label, row in as_small.items() if row["agreement"] >= uniform["agreement"]
    }
    sentences = [
        f"**{name}** agrees with float32 on {uniform['agreement']:.1f} % at "
        f"{uniform[size] / 1000:,.1f} kB."
    ]
    if as_small:
        best = most_faithful(as_small)
        agreement = as_small[best]["agreement"]
        sentences.append(f"Of files no larger, **{best}** agrees on {agreement:.1f} %.")
    if not as_good:
        return " ".join([*sentences, "No mix of that size or below agrees as often."])
    smallest = min(as_good, key=lambda label: as_good[label][size])
    saved = 100 * (1 - as_good[smallest][size] / uniform[size])
    sentences.append(
        f"The smallest of them that agrees as often, **{smallest}**, is {saved:.1f} % smaller."
    )
    return " ".join(sentences)
