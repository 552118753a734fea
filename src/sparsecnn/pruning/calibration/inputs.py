"""What a weight is multiplied with, as rows of a matrix, in bounded memory."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor
from torch.nn import functional

from sparsecnn.pruning.calibration.calls import Call, Convolution, pad_sides

CHUNK = 512 * 2**20
"""Bytes of unfolded inputs at a time: more is no faster."""

_R2 = (0.7548776662466927, 0.5698402909980532)
"""1/g and 1/g^2, with g^3 = g + 1."""


@dataclass(frozen=True)
class Sampled:
    """Some positions of each image, others in each: they say nearly what all of them say."""

    positions: int
    """Of an image, at most."""
    first: int
    """Number of the first image, counted through all calls."""

    def indices(self, images: int, of: int) -> Tensor:
        """Positions of each image, one in each of as many equal stretches of all of them.

        Where in its stretch is told by the additive recurrence R2 (Roberts 2018), which fills the
        square of images and stretches evenly.

        Returns
        -------
        Tensor
            int64, shape (images, positions).
        """
        image = torch.arange(self.first, self.first + images, dtype=torch.float64).unsqueeze(1)
        stretch = torch.arange(self.positions, dtype=torch.float64)
        within = (image * _R2[0] + stretch * _R2[1]) % 1
        return ((stretch + within) * (of / self.positions)).long().clamp(max=of - 1)


def input_rows(
    call: Call, outputs: Tensor | None, max_bytes: int, sampled: Sampled | None = None
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Yield the rows x for which the operation computes W x + b, a chunk at a time.

    Parameters
    ----------
    call
        Its inputs are of any floating dtype.
    outputs
        What it returned, or another tensor of that shape to be cut up alike.
    max_bytes
        Bound on the memory of one chunk of inputs (one row of output pixels is always taken).
    sampled
        The positions of a convolution to take; all without it, or if there are no more.

    Yields
    ------
    rows
        float32 (float64 for float64 inputs), shape (groups, n, columns). Columns are in the
        order of layout ``channels``: kernel position slowest, input channel fastest.
    output_rows
        Shape (groups, n, out / groups), of the same dtype; None without `outputs`.
    """
    inputs, convolution = call.inputs, call.convolution
    dtype = torch.promote_types(inputs.dtype, torch.float32)
    if convolution is None:
        rows = inputs.reshape(-1, inputs.shape[-1])
        out = None if outputs is None else outputs.reshape(len(rows), -1)
        step = max(1, max_bytes // (rows.shape[1] * dtype.itemsize))
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            yield rows[None, part].to(dtype), None if out is None else out[None, part].to(dtype)
        return
    if inputs.dim() == len(convolution.kernel) + 1:
        inputs, outputs = inputs[None], None if outputs is None else outputs[None]
    size = _output_size(convolution, inputs.shape[2:])
    if sampled is None or sampled.positions >= prod(size):
        yield from _convolution_rows(convolution, inputs, outputs, max_bytes, dtype)
    else:
        yield from _sampled_rows(convolution, inputs, outputs, max_bytes, dtype, sampled)


def input_sums(call: Call, dtype: torch.dtype) -> tuple[Tensor, Tensor, int]:
    """Sum of all rows of `input_rows`, that of their squares, and their number, unfolding none.

    Both sums have shape (groups, columns); they are computed in `dtype` or the inputs' own, if that
    is wider.
    """
    inputs, convolution = call.inputs, call.convolution
    values = inputs.to(torch.promote_types(inputs.dtype, dtype))
    if convolution is None:
        rows = values.reshape(-1, values.shape[-1])
        return rows.sum(0, keepdim=True), rows.square().sum(0, keepdim=True), len(rows)
    if inputs.dim() == len(convolution.kernel) + 1:
        values = values[None]
    padded = functional.pad(values, pad_sides(convolution))
    size = _output_size(convolution, values.shape[2:])
    # A sum over windows is one of sums over images.
    sums = torch.stack([padded.sum(0), padded.square().sum(0)])
    windows = _windows(convolution, sums, size).flatten(1, len(size)).sum(1)
    by_group = windows.unflatten(-1, (convolution.groups, -1)).movedim(-2, 1)
    total, squares = by_group.reshape(2, convolution.groups, -1)
    return total, squares, len(values) * prod(size)


def _convolution_rows(
    convolution: Convolution,
    images: Tensor,
    outputs: Tensor | None,
    max_bytes: int,
    dtype: torch.dtype,
) -> Iterator[tuple[Tensor, Tensor | None]]:
    size = _output_size(convolution, images.shape[2:])
    groups, columns = convolution.groups, images.shape[1] * prod(convolution.kernel)
    row_bytes = prod(size[1:]) * columns * dtype.itemsize
    image_step = max(1, max_bytes // (row_bytes * size[0]))
    row_step = min(size[0], max(1, max_bytes // row_bytes))
    for first in range(0, len(images), image_step):
        chunk = slice(first, first + image_step)
        padded = functional.pad(images[chunk].to(dtype), pad_sides(convolution))
        windows = _windows(convolution, padded, size)
        for top in range(0, size[0], row_step):
            band = slice(top, top + row_step)
            rows = _window_rows(windows[:, band], groups, columns)
            part = None if outputs is None else outputs[chunk, :, band].to(dtype)
            yield rows, None if part is None else _output_rows(part, groups)


def _sampled_rows(
    convolution: Convolution,
    images: Tensor,
    outputs: Tensor | None,
    max_bytes: int,
    dtype: torch.dtype,
    sampled: Sampled,
) -> Iterator[tuple[Tensor, Tensor | None]]:
    size = _output_size(convolution, images.shape[2:])
    groups, columns = convolution.groups, images.shape[1] * prod(convolution.kernel)
    step = max(1, max_bytes // (sampled.positions * columns * dtype.itemsize))
    chosen = sampled.indices(len(images), prod(size)).to(images.device)
    for first in range(0, len(images), step):
        chunk = slice(first, first + step)
        padded = functional.pad(images[chunk].to(dtype), pad_sides(convolution))
        image = torch.arange(len(padded), device=images.device).unsqueeze(1)
        place = (image, *torch.unravel_index(chosen[chunk], size))
        windows = _windows(convolution, padded, size)[place]
        rows = _window_rows(windows, groups, columns)
        part = None if outputs is None else outputs[chunk].movedim(1, -1)[place].to(dtype)
        yield rows, None if part is None else _output_rows(part.movedim(-1, 1), groups)


def _window_rows(windows: Tensor, groups: int, columns: int) -> Tensor:
    """Of windows (images, positions, *kernel, C), rows (groups, n, columns of a group)."""
    by_group = windows.unflatten(-1, (groups, -1)).movedim(-2, 0)
    rows: Tensor = by_group.reshape(groups, -1, columns // groups)
    return rows


def _output_rows(outputs: Tensor, groups: int) -> Tensor:
    return outputs.movedim(1, 0).reshape(groups, -1, outputs[:, 0].numel()).mT


def _windows(convolution: Convolution, padded: Tensor, size: tuple[int, ...]) -> Tensor:
    """A view of shape (N, *output size, *kernel, C)."""
    last = padded.movedim(1, -1).contiguous()
    image, *steps, channel = last.stride()
    return last.as_strided(
        (len(last), *size, *convolution.kernel, last.shape[-1]),
        (
            image,
            *(step * by for step, by in zip(steps, convolution.stride, strict=True)),
            *(step * by for step, by in zip(steps, convolution.dilation, strict=True)),
            channel,
        ),
    )


def _output_size(convolution: Convolution, size: torch.Size) -> tuple[int, ...]:
    return tuple(
        (length + sum(sides) - by * (kernel - 1) - 1) // stride + 1
        for length, sides, by, kernel, stride in zip(
            size,
            convolution.padding,
            convolution.dilation,
            convolution.kernel,
            convolution.stride,
            strict=True,
        )
    )
