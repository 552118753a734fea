"""Layouts: along which axis of a weight the groups of an N:M pattern run.

Methods see a weight as a matrix per convolution group, (groups, rows, columns): a row makes one
output channel, and M consecutive columns are one group of the pattern. The layout is the order
of the columns:

- ``channels``: kernel position slowest, input channel fastest. Groups are M consecutive input
  channels of one output channel at one kernel position: what sparse tensor cores execute.
- ``flattened``: input channel slowest, kernel width fastest, as the weight lies in memory.

For a linear layer the two differ in nothing but `prunable_columns`.
"""

import torch
from torch import Tensor

from sparsecnn.errors import UserError

LAYOUTS = ("channels", "flattened")


def check_layout(layout: str) -> None:
    """`UserError` unless `layout` is one of `LAYOUTS`."""
    if layout not in LAYOUTS:
        raise UserError(f"unknown layout {layout!r}: choose one of {', '.join(LAYOUTS)}")


def to_matrix(weight: Tensor, groups: int, layout: str) -> Tensor:
    """The canonical matrix of a weight.

    Parameters
    ----------
    weight
        Shape (out, in / groups, *kernel) of a convolution, or (out, in) of a linear layer.

    Returns
    -------
    Tensor
        Shape (groups, out / groups, columns); may share memory with `weight`.
    """
    if layout == "channels":
        weight = weight.movedim(1, -1)
    return weight.reshape(groups, weight.shape[0] // groups, -1)


def to_weight(matrix: Tensor, shape: torch.Size, layout: str) -> Tensor:
    """The weight of the given shape whose canonical matrix is `matrix`; undoes `to_matrix`."""
    if layout == "channels":
        out, channels, *kernel = shape
        return matrix.reshape(out, *kernel, channels).movedim(-1, 1)
    return matrix.reshape(shape)


def from_channels_order(columns: int, channels: int, layout: str) -> Tensor:
    """Where each column of `layout` stands in the order of layout ``channels``.

    Returns int64 of shape (columns,); `channels` is the number of input channels per group.
    """
    index = torch.arange(columns)
    return index if layout == "channels" else index.view(-1, channels).T.reshape(-1)


def prunable_columns(columns: int, channels: int, group: int, layout: str) -> int:
    """How many leading columns can be pruned; the rest is a tail that stays dense.

    In ``channels`` a group must not straddle two kernel positions, and hardware takes no
    shorter one: unless `group` divides `channels`, nothing is prunable. In ``flattened`` only
    the last ``columns % group`` columns stay dense.
    """
    if layout == "channels":
        return columns if channels % group == 0 else 0
    return columns - columns % group
