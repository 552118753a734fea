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
from sparsecnn.pruning.problem import Problem

MAX_MASKS = 70
"""Up to this many admissible masks (4:8 has 70) are enumerated."""

_BLOCK = 128
"""Columns whose mask is chosen at once for an unstructured pattern, as published."""


class GroupPruner(Protocol):
    """Prunes the groups of one layer in turn and remembers their masks."""

    width: int
    """Columns that are pruned together, M."""

    def prune(self, index: int, diagonal: Tensor, weight: Tensor, contribution: Tensor) -> Tensor:
        """The pruned weights of group `index`, shape (groups, M, rows).

        Parameters
        ----------
        diagonal
            Transposed V_gg, (groups, M, M).
        weight
            Dense weights of the group, (groups, M, rows).
        contribution
            What the deviations of earlier columns contribute to this group's columns of E V,
            transposed as all else: (groups, M, rows).
        """
        ...

    def mask(self, columns: int) -> Tensor:
        """The mask of all columns, those behind the last group kept: (groups, columns, rows)."""
        ...


def group_pruner(problem: Problem, *, joint: bool) -> GroupPruner:
    """The pruner that fits the pattern; `UserError` if joint selection has too many masks."""
    pattern = problem.pattern
    if isinstance(pattern, NM) and comb(pattern.group, pattern.kept) <= MAX_MASKS:
        return _EnumeratedPruner(pattern, _inverse_blocks(problem), joint=joint)
    if joint:
        raise UserError(
            f"selection 'joint' tries every mask of a group, and pattern {pattern} has more than "
            f"{MAX_MASKS}: use selection 'diagonal'"
        )
    return _ColumnwisePruner(
        pattern, _BLOCK if isinstance(pattern, Unstructured) else pattern.group
    )


def _inverse_blocks(problem: Problem) -> Tensor:
    """Transposed blocks U_gg of the published factor, (groups, blocks, M, M)."""
    size, factor = problem.pattern.group, problem.curvature.factor
    step = size * max(1, 1024 // size)
    blocks = []
    for start in range(0, problem.prunable, step):
        stop = min(start + step, problem.prunable)
        rows = factor.transposed(start, stop)[:, :, start:]
        tiles = rows.reshape(len(rows), -1, size, (stop - start) // size, size)
        blocks.append(tiles.diagonal(dim1=1, dim2=3).permute(0, 3, 1, 2))
    joined = torch.cat(blocks, dim=1)
    identity = torch.eye(size, dtype=joined.dtype, device=joined.device)
    inverse: Tensor = torch.linalg.solve_triangular(joined, identity.expand_as(joined), upper=False)
    return inverse


class _EnumeratedPruner:
    def __init__(self, pattern: NM, inverse: Tensor, *, joint: bool) -> None:
        self.width = pattern.group
        self._inverse = inverse
        self._masks = _all_masks(pattern).to(inverse.device)
        self._choices: list[Tensor] = []
        remains, forms = (_joint if joint else _diagonal)(inverse, self._masks)
        self._shape = remains.shape[2:4]
        """Number of masks, M."""
        self._products = torch.cat([remains.flatten(2, 3), forms.flatten(2, 3)], dim=2)

    def prune(self, index: int, diagonal: Tensor, weight: Tensor, contribution: Tensor) -> Tensor:
        updated = weight.baddbmm(self._inverse[:, index], contribution)
        products = self._products[:, index] @ updated
        count, size = self._shape
        groups, _, rows = weight.shape
        remains, forms = products[:, : count * size], products[:, count * size :]
        costs = forms.square().view(groups, count, -1, rows).sum(2)
        choice = costs.min(1).indices  # argmin over a strided axis is ten times slower
        self._choices.append(choice)
        wanted = choice.view(groups, 1, 1, rows).expand(groups, 1, size, rows)
        return remains.view(groups, count, size, rows).gather(1, wanted).squeeze(1)

    def mask(self, columns: int) -> Tensor:
        choices = torch.stack(self._choices, dim=1)
        mask = self._masks[choices].mT.flatten(1, 2)
        tail = mask.new_ones(len(mask), columns - mask.shape[1], mask.shape[2])
        return torch.cat([mask, tail], dim=1)


class _ColumnwisePruner:
    def __init__(self, pattern: Pattern, width: int) -> None:
        self.width = width
        self._pattern = pattern
        self._masks: list[Tensor] = []

    def prune(self, index: int, diagonal: Tensor, weight: Tensor, contribution: Tensor) -> Tensor:
        identity = torch.eye(diagonal.shape[-1], dtype=weight.dtype, device=weight.device)
        inverse = torch.linalg.solve_triangular(diagonal, identity.expand_as(diagonal), upper=False)
        updated = weight.baddbmm(inverse, contribution)
        scores = (updated / inverse.diagonal(dim1=-2, dim2=-1).unsqueeze(-1)).square()
        mask = self._pattern.mask(scores.mT).mT
        self._masks.append(mask)
        return _eliminate(updated, mask, inverse)

    def mask(self, columns: int) -> Tensor:
        mask = torch.cat(self._masks, dim=1)
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
