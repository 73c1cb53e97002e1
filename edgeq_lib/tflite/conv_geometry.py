"""What a convolution's window sees: its geometry as the flatbuffer states it, and its patches.

A convolution is a matrix product over patches of its input (im2col):

1. Read padding, strides and dilation of the op (`window`).
2. Pad the image with zeros and take, for each cell of the window, the pixels that this cell sees
   as the window moves (`_cells`).
3. Average these over positions (`mean_patch`), or stack them, one row per position (`patches`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgeq_lib.files import CannotTake


class Geometry(TypedDict):
    """How a convolution's window moves; all pairs are (vertical, horizontal)."""

    same: bool  # padding SAME; False: VALID
    size: Sequence[int]
    stride: Sequence[int]
    dilation: Sequence[int]


Window = Geometry | None  # None for a dense layer, which has no window


def window(model: bytes, number: int, kernel: tuple[int, ...]) -> Window:
    """Read padding, strides and dilation of a convolution.

    Args:
        model: A flatbuffer.
        number: Position of the op in the main subgraph.
        kernel: Shape of its kernel, (output channels, height, width, input channels).

    Returns:
        The window's geometry; None for a dense layer.

    Raises:
        CannotTake: For a grouped convolution, whose kernel holds the channels of one group only.
    """
    graph = schema.Model.GetRootAs(model).Subgraphs(0)
    op = graph.Operators(number)
    if op.BuiltinOptionsType() == schema.BuiltinOptions.Conv2DOptions:
        channels = graph.Tensors(op.Inputs(0)).Shape(3)
        if channels != kernel[3]:
            name = graph.Tensors(op.Outputs(0)).Name().decode(errors="replace").split(";")[0]
            raise CannotTake(
                f"The convolution '{name}' is grouped ({channels} channels in groups of "
                f"{kernel[3]}), and what rounds by a layer's output takes no groups yet."
            )
    reader = {
        schema.BuiltinOptions.Conv2DOptions: schema.Conv2DOptions,
        schema.BuiltinOptions.DepthwiseConv2DOptions: schema.DepthwiseConv2DOptions,
    }.get(op.BuiltinOptionsType())
    if reader is None:
        return None
    options = reader()
    options.Init(op.BuiltinOptions().Bytes, op.BuiltinOptions().Pos)
    return {
        "same": options.Padding() == schema.Padding.SAME,
        "size": kernel[1:3],
        "stride": (options.StrideH(), options.StrideW()),
        "dilation": (options.DilationHFactor(), options.DilationWFactor()),
    }


def _cells(
    image: np.ndarray,
    same: bool,
    size: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
) -> list[list[np.ndarray]]:
    """For each cell of the window the pixels (rows, columns, C) that it sees, one per position."""
    counts, before, after = [], [], []
    for length, cells, step, gap in zip(image.shape, size, stride, dilation, strict=False):
        reach = (cells - 1) * gap + 1
        count = -(-length // step) if same else (length - reach) // step + 1
        padding = max((count - 1) * step + reach - length, 0)
        counts.append(count)
        before.append(padding // 2)
        after.append(padding - padding // 2)
    padded = np.pad(image, [(before[0], after[0]), (before[1], after[1]), (0, 0)])
    rows, columns = (
        slice(0, (count - 1) * step + 1, step) for count, step in zip(counts, stride, strict=True)
    )
    return [
        [padded[y * dilation[0] :, x * dilation[1] :][rows, columns] for x in range(size[1])]
        for y in range(size[0])
    ]


def mean_patch(
    image: np.ndarray,
    same: bool,
    size: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
) -> np.ndarray:
    """Average what a window holds over its positions on an image, zeros of padding included.

    Args:
        image: (H, W, C).
        same: Whether the padding is SAME; VALID otherwise.
        size: Cells of the window, (h, w).
        stride: Of the window, (vertical, horizontal).
        dilation: Of the window, (vertical, horizontal).

    Returns:
        The mean patch, (h, w, C).
    """
    cells = _cells(image, same, size, stride, dilation)
    return np.array([[cell.mean((0, 1)) for cell in row] for row in cells])


def patches(image: np.ndarray, geometry: Window) -> np.ndarray:
    """Lay out the inputs of a layer as a matrix, one row per position.

    Args:
        image: The layer's input, (H, W, C), or (..., C) for a dense layer.
        geometry: The layer's window; None for a dense layer.

    Returns:
        (positions, h * w * C) for a convolution, (positions, C) for a dense layer.
    """
    if geometry is None:
        return image.reshape(-1, image.shape[-1])
    cells = [cell for row in _cells(image, **geometry) for cell in row]
    height, width = geometry["size"]
    return np.stack(cells, axis=2).reshape(-1, height * width * image.shape[-1])
