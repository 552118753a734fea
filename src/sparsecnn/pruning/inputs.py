"""What a layer multiplies its weight with, as rows of a matrix, in bounded memory."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

PrunableLayer = nn.Conv2d | nn.Linear


def input_rows(layer: PrunableLayer, inputs: Tensor, max_bytes: int) -> Iterator[Tensor]:
    """Yield the rows x for which the layer computes W x + b, a chunk at a time.

    Parameters
    ----------
    inputs
        What the layer is called with: (N, C, H, W) or (C, H, W) for a convolution,
        (..., in_features) for a linear layer. Any floating dtype.
    max_bytes
        Bound on the memory of one chunk (at least one row of output pixels is taken).

    Yields
    ------
    Tensor
        float32 (float64 for float64 inputs), shape (groups, n, columns). Columns are in the
        order of layout ``channels``: kernel position slowest, input channel fastest.
    """
    dtype = torch.promote_types(inputs.dtype, torch.float32)
    if isinstance(layer, nn.Linear):
        rows = inputs.reshape(-1, inputs.shape[-1])
        step = max(1, max_bytes // (rows.shape[1] * dtype.itemsize))
        yield from (chunk.to(dtype).unsqueeze(0) for chunk in rows.split(step))
        return
    images = inputs if inputs.dim() == 4 else inputs.unsqueeze(0)
    yield from _convolution_rows(layer, images, max_bytes, dtype)


def _convolution_rows(
    layer: nn.Conv2d, images: Tensor, max_bytes: int, dtype: torch.dtype
) -> Iterator[Tensor]:
    sides = _padding(layer)
    height, width = _output_size(layer, images.shape[2:], sides)
    row_bytes = width * layer.in_channels * _area(layer) * dtype.itemsize
    image_step = max(1, max_bytes // (row_bytes * height))
    row_step = min(height, max(1, max_bytes // row_bytes))
    for chunk in images.split(image_step):
        windows = _windows(layer, _pad(layer, chunk.to(dtype), sides), height, width)
        for part in windows.split(row_step, dim=1):
            by_group = part.unflatten(-1, (layer.groups, -1)).permute(5, 0, 1, 2, 3, 4, 6)
            yield by_group.reshape(layer.groups, -1, _area(layer) * _channels(layer))


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
        sides = []
        for size, dilation in zip(reversed(layer.kernel_size), reversed(layer.dilation), strict=True):
            total = dilation * (size - 1)
            sides += [total // 2, total - total // 2]
        return sides
    vertical, horizontal = (int(p) for p in layer.padding)
    return [horizontal, horizontal, vertical, vertical]


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


def _area(layer: nn.Conv2d) -> int:
    return layer.kernel_size[0] * layer.kernel_size[1]


def _channels(layer: nn.Conv2d) -> int:
    return layer.in_channels // layer.groups
