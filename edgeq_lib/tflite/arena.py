"""Plan memory as a micro runtime would: where in one arena each tensor of a network lies.

Greedy by size (Pisarchyk & Lee 2020, "Efficient Memory Management for Deep Neural Net Inference",
arXiv 2001.03288), which TensorFlow Lite Micro uses too:

1. Find the first and the last op at which each tensor must be held (`tensor_lifetimes`).
2. Take the tensors from the largest to the smallest.
3. Put each into the smallest gap that holds it among those already placed and alive with it, or
   behind all of these when there is no such gap (`plan_arena`).
"""

from __future__ import annotations

from edgeq_lib.tflite.reader import ALIGNMENT, Graph

Lifetime = tuple[int, int]  # the first and the last op, both included, at which a tensor is held


def plan_arena(sizes: list[int], lives: list[Lifetime]) -> tuple[list[int], int]:
    """Place tensors in one arena, greedily by size (Pisarchyk & Lee 2020, arXiv 2001.03288).

    Args:
        sizes: Bytes of each tensor; rounded up to `ALIGNMENT` here.
        lives: First and last op, both included, at which each tensor must be held.

    Returns:
        The offset of each tensor in bytes, in the order of `sizes`, and the arena's size in bytes.
    """
    sizes = [-(-size // ALIGNMENT) * ALIGNMENT for size in sizes]
    offsets = [0] * len(sizes)
    placed: list[int] = []
    for index in sorted(range(len(sizes)), key=lambda index: (-sizes[index], lives[index])):
        first, last = lives[index]
        alive = [other for other in placed if lives[other][0] <= last and first <= lives[other][1]]
        taken = sorted((offsets[other], offsets[other] + sizes[other]) for other in alive)
        offsets[index] = _best_offset(taken, sizes[index])
        placed.append(index)
    ends = (offset + size for offset, size in zip(offsets, sizes, strict=True))
    return offsets, max(ends, default=0)


def _best_offset(taken: list[tuple[int, int]], size: int) -> int:
    """The start of the smallest gap in `taken` (sorted) that holds `size` bytes, or its end."""
    end, best, smallest = 0, None, None
    for start, stop in taken:
        gap = start - end
        if gap >= size and (smallest is None or gap < smallest):
            best, smallest = end, gap
        end = max(end, stop)
    return end if best is None else best


def tensor_lifetimes(graph: Graph) -> dict[int, Lifetime]:
    """Find the first and the last op at which each tensor of the arena is held.

    Inputs are held from the start, outputs to the end, variables throughout; weights that an op
    unpacks at run time are held like any other tensor.

    Args:
        graph: The main subgraph of a file.

    Returns:
        Tensor index → (first op, last op), both included; constants are not in it.
    """
    lives: dict[int, Lifetime] = {index: (0, 0) for index in graph.inputs}
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
