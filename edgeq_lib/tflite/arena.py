"""Planned memory: where a micro runtime would place a network's tensors."""

from __future__ import annotations

from edgeq_lib.tflite.reader import ALIGNMENT, Graph


def plan_arena(sizes: list[int], lives: list[tuple[int, int]]) -> tuple[list[int], int]:
    """Offsets of tensors in one arena, and its size in bytes: greedy by size (Pisarchyk & Lee 2020, arXiv 2001.03288).

    `lives` holds the first and last op, both included, at which a tensor must be held. Largest first, each goes to
    the smallest gap that fits among those alive with it. Sizes are rounded up to `ALIGNMENT`.
    """
    sizes = [-(-size // ALIGNMENT) * ALIGNMENT for size in sizes]
    offsets = [0] * len(sizes)
    placed: list[int] = []
    for index in sorted(range(len(sizes)), key=lambda index: (-sizes[index], lives[index])):
        first, last = lives[index]
        end, best, gap = 0, None, None
        for other in sorted(
            (i for i in placed if lives[i][0] <= last and first <= lives[i][1]),
            key=lambda i: offsets[i],
        ):
            room = offsets[other] - end
            if room >= sizes[index] and (gap is None or room < gap):
                best, gap = end, room
            end = max(end, offsets[other] + sizes[other])
        offsets[index] = end if best is None else best
        placed.append(index)
    return offsets, max(
        (offset + size for offset, size in zip(offsets, sizes, strict=True)), default=0
    )


def tensor_lifetimes(graph: Graph) -> dict[int, tuple[int, int]]:
    """First and last op at which each tensor of the arena is held: inputs from the start, outputs to the end,
    variables throughout, and weights that an op unpacks at run time like any other tensor."""
    lives: dict[int, tuple[int, int]] = {index: (0, 0) for index in graph.inputs}
    for position, op in enumerate(graph.ops):
        for index in (*op.inputs, *op.outputs):
            if index >= 0 and not graph.tensors[index].constant:
                lives[index] = (lives.get(index, (position, position))[0], position)
    last = max(len(graph.ops) - 1, 0)
    for index in graph.outputs:
        lives[index] = (lives.get(index, (0, 0))[0], last)
    return {
        index: (0, last) if graph.tensors[index].variable else life
        for index, life in lives.items()
        if not graph.tensors[index].constant
    }
