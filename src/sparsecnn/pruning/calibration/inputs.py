"""What a layer multiplies its weight with, as rows of a matrix, in bounded memory."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from sparsecnn.pruning.layouts import PrunableLayer


def input_rows(
    layer: PrunableLayer, inputs: Tensor, outputs: Tensor | None, max_bytes: int
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Yield the rows x for which the layer computes W x + b, a chunk at a time.

    Parameters
    ----------
    inputs
        What the layer is called with: (N, C, H, W) or (C, H, W) for a convolution,
        (..., in_features) for a linear layer. Any floating dtype.
    outputs
        What the layer returned, or another tensor of that shape to be cut up alike.
    max_bytes
        Bound on the memory of one chunk of inputs (one row of output pixels is always taken).

    Yields
    ------
    rows
        float32 (float64 for float64 inputs), shape (groups, n, columns). Columns are in the
        order of layout ``channels``: kernel position slowest, input channel fastest.
    output_rows
        Shape (groups, n, out / groups), of the same dtype; None without `outputs`.
    """
    dtype = torch.promote_types(inputs.dtype, torch.float32)
    if isinstance(layer, nn.Linear):
        rows = inputs.reshape(-1, inputs.shape[-1])
        out = None if outputs is None else outputs.reshape(len(rows), -1)
        step = max(1, max_bytes // (rows.shape[1] * dtype.itemsize))
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            yield rows[None, part].to(dtype), None if out is None else out[None, part].to(dtype)
        return
    images = inputs if inputs.dim() == 4 else inputs.unsqueeze(0)
    if outputs is not None and outputs.dim() == 3:
        outputs = outputs.unsqueeze(0)
    yield from _convolution_rows(layer, images, outputs, max_bytes, dtype)


def _convolution_rows(
    layer: nn.Conv2d,
    images: Tensor,
    outputs: Tensor | None,
    max_bytes: int,
    dtype: torch.dtype,
) -> Iterator[tuple[Tensor, Tensor | None]]:
    sides = _padding(layer)
    height, width = _output_size(layer, images.shape[2:], sides)
    area = layer.kernel_size[0] * layer.kernel_size[1]
    row_bytes = width * layer.in_channels * area * dtype.itemsize
    image_step = max(1, max_bytes // (row_bytes * height))
    row_step = min(height, max(1, max_bytes // row_bytes))
    for first in range(0, len(images), image_step):
        chunk = slice(first, first + image_step)
        windows = _windows(layer, _pad(layer, images[chunk].to(dtype), sides), height, width)
        for top in range(0, height, row_step):
            band = slice(top, top + row_step)
            part = windows[:, band]
            by_group = part.view(*part.shape[:-1], layer.groups, -1).permute(5, 0, 1, 2, 3, 4, 6)
            rows = by_group.reshape(layer.groups, -1, area * (layer.in_channels // layer.groups))
            yield (
                rows,
                None if outputs is None else _output_rows(layer, outputs[chunk, :, band], dtype),
            )


def _output_rows(layer: nn.Conv2d, outputs: Tensor, dtype: torch.dtype) -> Tensor:
    pixels = outputs.to(dtype).permute(1, 0, 2, 3).reshape(layer.groups, -1, outputs[:, 0].numel())
    return pixels.mT


def _windows(layer: nn.Conv2d, padded: Tensor, height: int, width: int) -> Tensor:
    """A view of shape (N, out height, out width, kernel height, kernel width, C)."""
    nhwc = padded.permute(0, 2, 3, 1).contiguous()
    image, row, column, channel = nhwc.stride()
    (down, right), (dilation_y, dilation_x) = layer.stride, layer.dilation
    return nhwc.as_strided(
        (len(nhwc), height, width, *layer.kernel_size, layer.in_channels),
        (image, row * down, column * right, row * dilation_y, column * dilation_x, channel),
    )


def _pad(layer: nn.Conv2d, images: Tensor, sides: list[int]) -> Tensor:
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    return functional.pad(images, sides, mode=mode)


def _padding(layer: nn.Conv2d) -> list[int]:
    """Left, right, top and bottom padding in pixels."""
    if layer.padding == "valid":
        return [0, 0, 0, 0]
    if layer.padding == "same":
        horizontal, vertical = (
            layer.dilation[axis] * (layer.kernel_size[axis] - 1) for axis in (1, 0)
        )
        left, top = horizontal // 2, vertical // 2
        return [left, horizontal - left, top, vertical - top]
    top, left = (int(p) for p in layer.padding)
    return [left, left, top, top]


def _output_size(layer: nn.Conv2d, size: torch.Size, sides: list[int]) -> tuple[int, int]:
    left, right, top, bottom = sides
    padded = (size[0] + top + bottom, size[1] + left + right)
    height, width = (
        (padded[axis] - layer.dilation[axis] * (layer.kernel_size[axis] - 1) - 1)
        // layer.stride[axis]
        + 1
        for axis in (0, 1)
    )
    return height, width
