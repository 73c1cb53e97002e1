"""What a convolution's window sees: its geometry as the flatbuffer states it, and the patches of an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

Window = dict[str, Any] | None


def window(model: bytes, number: int, kernel: tuple[int, ...]) -> Window:
    """Padding, strides and dilation of the convolution that is op `number`, whose kernel has shape `kernel`; None for a
    dense layer."""
    op = schema.Model.GetRootAs(model).Subgraphs(0).Operators(number)
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
    """For each cell of the window, the pixels (rows, columns, C) that it sees, one a position; padding is zeros."""
    counts, before, after = [], [], []
    for length, cells, step, gap in zip(image.shape, size, stride, dilation, strict=False):
        reach = (cells - 1) * gap + 1
        count = -(-length // step) if same else (length - reach) // step + 1
        padding = max((count - 1) * step + reach - length, 0)
        counts.append(count)
        before.append(padding // 2)
        after.append(padding - padding // 2)
    padded = np.pad(image, [(before[0], after[0]), (before[1], after[1]), (0, 0)])
    return [
        [
            padded[y * dilation[0] :, x * dilation[1] :][
                : (counts[0] - 1) * stride[0] + 1 : stride[0],
                : (counts[1] - 1) * stride[1] + 1 : stride[1],
            ]
            for x in range(size[1])
        ]
        for y in range(size[0])
    ]


def mean_patch(
    image: np.ndarray,
    same: bool,
    size: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
) -> np.ndarray:
    """What the window (h, w, C) holds on average over its positions on an image (H, W, C), zeros of padding included."""
    return np.array(
        [[cell.mean((0, 1)) for cell in row] for row in _cells(image, same, size, stride, dilation)]
    )


def patches(image: np.ndarray, place: Window) -> np.ndarray:
    """The inputs of a layer, a row a position: (positions, h * w * C) of a convolution, (positions, C) of a dense layer."""
    if place is None:
        return image.reshape(-1, image.shape[-1])
    return np.stack([cell for row in _cells(image, **place) for cell in row], axis=2).reshape(
        -1, place["size"][0] * place["size"][1] * image.shape[-1]
    )
