"""Segments of a graph, and a frontier that moves through it: no op is computed twice.

Methods that go layer after layer change an op's constants by what the ops before it give. Computing
these anew for each layer takes time that grows with the square of the depth. Instead:

1. Keep, for all images, the tensors that cross the graph just before an op (`Frontier`).
2. To reach a later op, cut out the ops between as a file of its own (`cut`) and run that.
3. What crosses the graph there takes the old tensors' place, unless it would not fit in memory:
   then the frontier stays, and the next segment is longer.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from edgeq_lib.tflite.pool import InterpreterPool, chunks
from edgeq_lib.tflite.reader import read_graph
from edgeq_lib.tflite.runtime import make_interpreter, quantize_array

# Slots of a subgraph's vectors in the schema of TensorFlow Lite.
_INPUTS_SLOT, _OUTPUTS_SLOT, _OPERATORS_SLOT = 6, 8, 10
_MEMORY = 2**30  # bytes that the tensors of all images may take at a frontier
_QUANTIZED = 32  # images that are quantized at once


def cut(
    model: bytes | bytearray, ops: slice, inputs: Sequence[int], outputs: Sequence[int]
) -> bytes:
    """Reduce a file to some consecutive ops, without packing it anew.

    The new lists of inputs and outputs are appended, which a flatbuffer's offsets allow; the list
    of ops begins later and ends earlier.

    Args:
        model: A flatbuffer.
        ops: Which ops of the main subgraph to keep, start and stop.
        inputs: Tensors that become the graph's inputs.
        outputs: Tensors that become the graph's outputs.

    Returns:
        The flatbuffer of these ops; tensors keep their indices and names.
    """
    content = bytearray(model)
    # The generated classes tell values, not where these lie; only their table knows.
    table = schema.Model.GetRootAs(content).Subgraphs(0)._tab  # noqa: SLF001
    first = table.Vector(table.Offset(_OPERATORS_SLOT)) + 4 * ops.start
    struct.pack_into("<I", content, first - 4, ops.stop - ops.start)  # the length stands before it
    _point(content, table.Pos + table.Offset(_OPERATORS_SLOT), first - 4)
    for slot, indices in ((_INPUTS_SLOT, inputs), (_OUTPUTS_SLOT, outputs)):
        content += bytes(-len(content) % 4)
        _point(content, table.Pos + table.Offset(slot), len(content))
        content += struct.pack(f"<I{len(indices)}i", len(indices), *indices)
    return bytes(content)


def _point(content: bytearray, field: int, target: int) -> None:
    """Make an offset in a flatbuffer, which counts from where it stands, point to `target`."""
    struct.pack_into("<I", content, field, target - field)


class Frontier:
    """What crosses the graph of a file just before an op, for each of some images.

    Attributes:
        position: The op, by its number.
        held: Tensor index → its values (images, ...), in the tensor's own type.
        images: How many.
    """

    def __init__(self, model: bytes | bytearray, images: np.ndarray, memory: int = _MEMORY) -> None:
        """Begin at the graph's input.

        Args:
            model: A flatbuffer of batch 1 with one input.
            images: Preprocessed float32 (n, H, W, C); quantized here as the input asks.
            memory: Bytes that the tensors may take; where they would take more, the frontier stays.
        """
        self._graph, self._memory, self.images = read_graph(bytes(model)), memory, len(images)
        detail = make_interpreter(bytes(model)).get_input_details()[0]
        parts = [quantize_array(images[part], detail) for part in chunks(len(images), _QUANTIZED)]
        self._start = {self._graph.inputs[0]: np.concatenate(parts)}
        self.restart()

    def restart(self) -> None:
        """Go back to the graph's input."""
        self.position, self.held = 0, dict(self._start)

    @contextmanager
    def segment(
        self, model: bytes | bytearray, number: int, tensor: int
    ) -> Iterator[Callable[[slice], np.ndarray]]:
        """Move to an op further on.

        Args:
            model: The file; ops from the frontier on may have got other constants meanwhile.
            number: Of the op, not before the frontier.
            tensor: Index of a computed tensor that the op reads.

        Yields:
            A function that gives the tensor's values (n, ...) for a slice of the images. Each image
            must be asked for before the context ends, in any order and from any thread.
        """
        crossing = self._crossing(number)
        bytes_per_image = sum(self._graph.tensors[index].bytes for index in crossing)
        moves = bytes_per_image * self.images <= self._memory
        computed = sorted((crossing if moves else {tensor}) - self.held.keys())
        pool = self._pool(model, number, computed) if computed else None
        results: dict[int, np.ndarray] = {}
        if pool is not None and moves:
            with pool.lend() as (interpreter,):
                results = _room(interpreter, self.images)

        def read(part: slice) -> np.ndarray:
            if pool is None:
                return self.held[tensor][part]
            with pool.lend() as (interpreter,):
                values = {index: array[part] for index, array in results.items()}
                values = values or _room(interpreter, len(range(*part.indices(self.images))))
                self._run(interpreter, part, values)
            return values[tensor] if tensor in values else self.held[tensor][part]

        yield read
        if moves:
            self.held = {index: {**self.held, **results}[index] for index in crossing}
            self.position = number

    def _crossing(self, number: int) -> set[int]:
        """The tensors that come from before an op and that it or a later one reads."""
        before = {index for op in self._graph.ops[:number] for index in op.outputs}
        after = {index for op in self._graph.ops[number:] for index in op.inputs}
        return (before | set(self._graph.inputs)) & after

    def _pool(
        self, model: bytes | bytearray, number: int, outputs: Sequence[int]
    ) -> InterpreterPool:
        ops = slice(self.position, number)
        needed = {index for op in self._graph.ops[ops] for index in op.inputs}
        return InterpreterPool([cut(model, ops, sorted(needed & self.held.keys()), outputs)])

    def _run(self, interpreter: Interpreter, part: slice, results: dict[int, np.ndarray]) -> None:
        """Run a segment on a part of the images; `results` has a row for each of these."""
        inputs = [detail["index"] for detail in interpreter.get_input_details()]
        for row, image in enumerate(range(*part.indices(self.images))):
            for index in inputs:
                interpreter.set_tensor(index, self.held[index][image : image + 1])
            interpreter.invoke()
            for index, values in results.items():
                values[row] = interpreter.tensor(index)()[0]  # a view: saves a copy


def _room(interpreter: Interpreter, images: int) -> dict[int, np.ndarray]:
    """Arrays for what a file computes on images: tensor index → (images, ...)."""
    return {
        detail["index"]: np.empty((images, *detail["shape"][1:]), detail["dtype"])
        for detail in interpreter.get_output_details()
    }
