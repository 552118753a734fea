"""Prune one group of an N:M pattern given its block of the factor, as SparseGPT needs it.

A group has few admissible masks: 6 for 2:4. For each, what is left of the group's weights w is
linear in w, and the cost is a sum of squares of linear forms. Both matrices are made for all
groups at once, so that pruning a group is one product, an argmin and a gather.
"""

from itertools import combinations
from math import comb
from typing import Protocol

import torch
from torch import Tensor

from sparsecnn.errors import UserError
from sparsecnn.pruning.patterns import NM, Pattern, Unstructured

MAX_MASKS = 70
"""Up to this many admissible masks (4:8 has 70) are enumerated."""

_BLOCK = 128
"""Columns whose mask is chosen at once for an unstructured pattern, as published."""


class GroupPruner(Protocol):
    """Prunes the groups of one layer in turn and remembers their masks."""

    width: int
    """Columns that are pruned together, M."""

    def enter_block(self, inverse: Tensor) -> None:
        """Get ready for the next columns.

        Parameters
        ----------
        inverse
            Transposed U_gg of each group on the diagonal, zero elsewhere: (groups, B, B).
        """
        ...

    def prune(self, weight: Tensor) -> Tensor:
        """What remains of the next group's weights, updated so far: (groups, M, rows)."""
        ...

    def mask(self, columns: int) -> Tensor:
        """The mask of all columns, those behind the last group kept: (groups, columns, rows)."""
        ...


def group_pruner(pattern: Pattern, *, joint: bool) -> GroupPruner:
    """The pruner that fits the pattern; `UserError` if joint selection has too many masks."""
    if isinstance(pattern, NM) and comb(pattern.group, pattern.kept) <= MAX_MASKS:
        return _EnumeratedPruner(pattern, joint=joint)
    if joint:
        raise UserError(
            f"selection 'joint' tries every mask of a group, and pattern {pattern} has more than "
            f"{MAX_MASKS}: use selection 'diagonal'"
        )
    return _ColumnwisePruner(pattern)


class _EnumeratedPruner:
    def __init__(self, pattern: NM, *, joint: bool) -> None:
        self.width = pattern.group
        self._masks = _all_masks(pattern)
        self._joint = joint
        self._products: list[Tensor] = []
        self._choices: list[Tensor] = []

    def enter_block(self, inverse: Tensor) -> None:
        self._masks = self._masks.to(inverse.device)
        count = inverse.shape[-1] // self.width
        tiles = inverse.view(len(inverse), count, self.width, count, self.width)
        blocks = tiles.diagonal(dim1=1, dim2=3).permute(0, 3, 1, 2)
        remains, forms = (_joint if self._joint else _diagonal)(blocks, self._masks)
        products = torch.cat([remains.flatten(2, 3), forms.flatten(2, 3)], dim=2)
        self._products = list(products.unbind(1))[::-1]

    def prune(self, weight: Tensor) -> Tensor:
        groups, size, rows = weight.shape
        count = len(self._masks)
        products = self._products.pop() @ weight
        remains, forms = products.split_with_sizes(
            [count * size, products.shape[1] - count * size], dim=1
        )
        costs = forms.square().view(groups, count, -1, rows).sum(2)
        choice = costs.min(1).indices  # argmin over a strided axis is ten times slower
        self._choices.append(choice)
        wanted = choice.view(groups, 1, 1, rows).expand(groups, 1, size, rows)
        return remains.view(groups, count, size, rows).gather(1, wanted).squeeze(1)

    def mask(self, columns: int) -> Tensor:
        choices = torch.stack(self._choices, dim=1)
        return _with_tail(self._masks[choices].mT.flatten(1, 2), columns)


class _ColumnwisePruner:
    def __init__(self, pattern: Pattern) -> None:
        self.width = _BLOCK if isinstance(pattern, Unstructured) else pattern.group
        self._pattern = pattern
        self._inverse: Tensor
        self._first = 0
        self._masks: list[Tensor] = []

    def enter_block(self, inverse: Tensor) -> None:
        self._inverse, self._first = inverse, 0

    def prune(self, weight: Tensor) -> Tensor:
        here = slice(self._first, self._first + weight.shape[1])
        self._first = here.stop
        inverse = self._inverse[:, here, here]
        scores = (weight / inverse.diagonal(dim1=-2, dim2=-1).unsqueeze(-1)).square()
        mask = self._pattern.mask(scores.mT).mT
        self._masks.append(mask)
        return _eliminate(weight, mask, inverse)

    def mask(self, columns: int) -> Tensor:
        return _with_tail(torch.cat(self._masks, dim=1), columns)


def _with_tail(mask: Tensor, columns: int) -> Tensor:
    tail = mask.new_ones(len(mask), columns - mask.shape[1], mask.shape[2])
    return torch.cat([mask, tail], dim=1)


def _all_masks(pattern: NM) -> Tensor:
    """Every mask of a group, bool (masks, M); the first of equal cost keeps earlier columns."""
    masks = torch.zeros(comb(pattern.group, pattern.kept), pattern.group, dtype=torch.bool)
    for row, kept in zip(masks, combinations(range(pattern.group), pattern.kept), strict=True):
        row[list(kept)] = True
    return masks


def _eliminate(updated: Tensor, mask: Tensor, inverse: Tensor) -> Tensor:
    """Zero the pruned weights of groups in turn; those to the right compensate.

    Parameters
    ----------
    updated, mask
        Shape (..., M, rows).
    inverse
        Transposed U_gg, shape (..., M, M).
    """
    updated = updated.clone()
    for j in range(updated.shape[-2]):
        error = updated[..., j, :].masked_fill(mask[..., j, :], 0) / inverse[..., j, j, None]
        updated[..., j + 1 :, :] -= inverse[..., j + 1 :, j, None] * error.unsqueeze(-2)
    return updated.masked_fill(~mask, 0)


def _diagonal(inverse: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """What remains of a group, and its published cost, as products with the group's weights.

    Parameters
    ----------
    inverse
        Transposed U_gg, shape (groups, blocks, M, M).
    masks
        bool, shape (masks, M).

    Returns
    -------
    remains
        Shape (groups, blocks, masks, M, M).
    forms
        Shape (groups, blocks, masks, M - N, M); the cost is the sum of squares of the products.
    """
    groups, blocks, size, _ = inverse.shape
    identity = torch.eye(size, dtype=inverse.dtype, device=inverse.device)
    start = identity.expand(groups, blocks, len(masks), size, size)
    remains = _eliminate(start, masks.unsqueeze(-1).expand_as(start), inverse.unsqueeze(2))
    scale = inverse.diagonal(dim1=-2, dim2=-1)[:, :, None, None]
    return remains, identity[_removed(masks)] / scale


def _joint(inverse: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """As `_diagonal`, for removing the weights S of a group together.

    Optimal brain surgeon for several weights: with B = U_gg^T U_gg, the inverse Hessian of the
    group given that all later columns adapt, the cost is w_S B_SS^-1 w_S and what remains is
    w - B_:S B_SS^-1 w_S.
    """
    removed = _removed(masks)
    curvature = inverse @ inverse.mT
    within = curvature[:, :, removed.unsqueeze(2), removed.unsqueeze(1)]
    identity = torch.eye(inverse.shape[-1], dtype=inverse.dtype, device=inverse.device)
    lower = torch.linalg.cholesky(within)
    chosen = identity[removed].expand(*within.shape[:-1], -1)
    forms = torch.linalg.solve_triangular(lower, chosen, upper=False)
    across = curvature[:, :, removed].mT
    step = across @ torch.linalg.solve_triangular(lower.mT, forms, upper=True)
    return (identity - step).masked_fill(~masks.unsqueeze(-1), 0), forms


def _removed(masks: Tensor) -> Tensor:
    """Indices of the weights that each mask removes, (masks, M - N)."""
    return (~masks).nonzero()[:, 1].view(len(masks), -1)
