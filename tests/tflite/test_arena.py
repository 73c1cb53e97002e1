"""The arena plan: no two live tensors overlap, and memory is reused."""

import numpy as np
import pytest
from tiny_files import tiny_files

from edgeq_lib.tflite.arena import plan_arena, tensor_lifetimes
from edgeq_lib.tflite.inspect import inspect_file
from edgeq_lib.tflite.reader import ALIGNMENT, Graph, Op, Tensor, read_graph


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return tiny_files()


def _overlaps(sizes, lives, offsets) -> list[tuple[int, int]]:
    return [
        (i, j)
        for i in range(len(sizes))
        for j in range(i)
        if lives[i][0] <= lives[j][1]
        and lives[j][0] <= lives[i][1]
        and offsets[i] < offsets[j] + sizes[j]
        and offsets[j] < offsets[i] + sizes[i]
    ]


@pytest.mark.parametrize("seed", range(40))
def test_plans_never_overlap_live_tensors(seed):
    noise = np.random.default_rng(seed)
    count, ops = int(noise.integers(1, 60)), int(noise.integers(1, 30))
    sizes = noise.integers(1, 5000, count).tolist()
    lives = [tuple(sorted(noise.integers(0, ops, 2).tolist())) for _ in range(count)]
    offsets, total = plan_arena(sizes, lives)
    assert not _overlaps(sizes, lives, offsets)
    assert all(offset % ALIGNMENT == 0 for offset in offsets)
    held = [
        sum(size for size, life in zip(sizes, lives, strict=True) if life[0] <= op <= life[1])
        for op in range(ops)
    ]
    assert max(held) <= total <= sum(sizes) + ALIGNMENT * count


def test_a_plan_reuses_memory():
    # A chain: only neighbours are alive together, so the two largest neighbours make the arena.
    assert plan_arena([64, 256, 128, 32], [(0, 1), (1, 2), (2, 3), (3, 4)])[1] == 256 + 128


def test_the_best_gap_is_taken():
    # At op 1 two gaps are open, of 128 bytes at the bottom and of 96 above; the last tensor goes to
    # the smaller.
    sizes, lives = [128, 112, 96, 80, 48], [(0, 0), (0, 9), (0, 0), (0, 9), (1, 1)]
    offsets, total = plan_arena(sizes, lives)
    assert not _overlaps(sizes, lives, offsets)
    assert offsets[4] == 128 + 112 and total == 128 + 112 + 96 + 80


@pytest.mark.parametrize("name", ["float32", "int8", "uint8"])
def test_the_arena_holds_what_each_op_needs(files, name):
    graph, report = read_graph(files[name]), inspect_file(files[name])
    needs = [
        sum(
            graph.tensors[index].bytes
            for index in {*op.inputs, *op.outputs}
            if index >= 0 and not graph.tensors[index].constant
        )
        for op in graph.ops
    ]
    everything = sum(tensor.bytes for tensor in graph.tensors if not tensor.constant)
    assert max(needs) <= report["arena_bytes"] <= everything + 16 * len(graph.tensors)


def test_lifetimes_of_a_chain_by_hand():
    """Input → op → op → output, with a constant kernel and a variable."""
    kinds = [(False, False), (True, False), (False, False), (False, False), (False, True)]
    tensors = [
        Tensor(str(index), (1,), "INT8", constant, 1, variable)
        for index, (constant, variable) in enumerate(kinds)
    ]
    ops = [Op("CONV_2D", (0, 1, -1), (2,)), Op("ADD", (2, 4), (3,)), Op("ADD", (3, 3), (2,))]
    lives = tensor_lifetimes(Graph(tensors, ops, (0,), (3,)))
    assert lives == {0: (0, 0), 2: (0, 2), 3: (1, 2), 4: (0, 2)}
