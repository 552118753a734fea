"""Prune a block of columns of one layer, group by group, as SparseGPT needs it.

A group of an N:M pattern has few admissible masks: 6 for 2:4. For each, what is left of the
group's weights w is linear in w, and the cost is a sum of squares of linear forms. All matrices
are made for a whole block at once, so that pruning a group takes six operations of torch.
"""

import logging
from functools import cache
from itertools import combinations
from math import comb

import torch
from torch import Tensor

from sparsecnn.errors import UserError
from sparsecnn.pruning.methods.blocks import Block, BlockPruner
from sparsecnn.pruning.patterns import NM, Pattern, Unstructured

logger = logging.getLogger(__name__)

MAX_MASKS = 70
"""Up to this many admissible masks (4:8 has 70) are enumerated."""

_COLUMNS = 128
"""Columns whose mask is chosen at once for an unstructured pattern, as published."""


def block_pruner(pattern: Pattern, device: torch.device, *, joint: bool) -> BlockPruner:
    """The pruner that fits the pattern; `UserError` if joint selection has too many masks."""
    if isinstance(pattern, NM) and pattern.group == 4 and not joint and _has_triton(device):
        from sparsecnn.pruning.methods.block_kernel import FusedPruner

        return FusedPruner(pattern)
    if isinstance(pattern, NM) and comb(pattern.group, pattern.kept) <= MAX_MASKS:
        return _EnumeratedPruner(pattern, joint=joint)
    if joint:
        raise UserError(
            f"selection 'joint' tries every mask of a group, and pattern {pattern} has more than "
            f"{MAX_MASKS}: use selection 'diagonal'"
        )
    return _ColumnwisePruner(pattern)


def _has_triton(device: torch.device) -> bool:
    return (
        device.type == "cuda"
        and torch.version.cuda is not None
        and torch.cuda.get_device_capability(device) >= (7, 0)
        and _triton_works()
    )


@cache
def _triton_works() -> bool:
    """Whether Triton can launch kernels: it compiles its launcher on this machine."""
    try:
        import triton

        triton.runtime.driver.active.get_current_device()
    except Exception as error:  # no compiler, no headers of Python, no Triton
        logger.warning("SparseGPT takes its slower path, for Triton does not work: %s", error)
        return False
    return True


class _EnumeratedPruner:
    def __init__(self, pattern: NM, *, joint: bool) -> None:
        self.width = pattern.group
        self._masks = _all_masks(pattern)
        self._joint = joint

    def prune(self, block: Block, pruned: Tensor, mask: Tensor) -> None:
        groups, columns, rows = block.base.shape
        size, count = self.width, columns // self.width
        masks = self._masks.to(block.base.device)
        cost_of = _joint if self._joint else _diagonal
        remains, forms, pool = cost_of(block.group_inverses(size), masks)
        maps = torch.cat([remains.flatten(2, 3), forms], dim=2)
        choices = block.base.new_empty(groups, count, rows, dtype=torch.int64)
        wanted = choices.view(groups, count, 1, 1, rows).expand(-1, -1, 1, size, -1)

        # Buffers and views are made before the loop: their making would take most of its time.
        image = block.base.new_empty(groups, maps.shape[2], rows)
        split = len(masks) * size
        candidates = image[:, :split].view(groups, len(masks), size, rows)
        scores, squares = image[:, split:], torch.empty_like(image[:, split:])
        pool = pool.expand(groups, -1, -1)
        costs = block.base.new_empty(groups, len(masks), rows)
        lowest = block.base.new_empty(groups, rows)
        walk = zip(
            _grouped(block.base, size).unbind(1),
            _grouped(block.reaction, size).unbind(1),
            maps.unbind(1),
            choices.unbind(1),
            wanted.unbind(1),
            _grouped(pruned, size).unsqueeze(2).unbind(1),
            strict=True,
        )
        for group, (weight, reaction, map_, choice, index, kept) in enumerate(walk):
            first = group * size
            weight.baddbmm_(reaction[:, :, :first], pruned[:, :first], alpha=-1)
            torch.bmm(map_, weight, out=image)
            torch.square(scores, out=squares)
            torch.bmm(pool, squares, out=costs)
            torch.min(costs, 1, out=(lowest, choice))
            torch.gather(candidates, 1, index, out=kept)
        _grouped(mask, size).copy_(masks[choices].mT)


class _ColumnwisePruner:
    def __init__(self, pattern: Pattern) -> None:
        self.width = _COLUMNS if isinstance(pattern, Unstructured) else pattern.group
        self._pattern = pattern

    def prune(self, block: Block, pruned: Tensor, mask: Tensor) -> None:
        for first in range(0, block.base.shape[1], self.width):
            here = slice(first, first + self.width)
            weight = torch.baddbmm(
                block.base[:, here], block.reaction[:, here, :first], pruned[:, :first], alpha=-1
            )
            inverse = block.inverse[:, here, here]
            scores = (weight / inverse.diagonal(dim1=-2, dim2=-1).unsqueeze(-1)).square()
            mask[:, here] = self._pattern.mask(scores.mT).mT
            pruned[:, here] = _eliminate(weight, mask[:, here], inverse)


def _grouped(matrix: Tensor, size: int) -> Tensor:
    """View (groups, B, any) as (groups, B / size, size, any)."""
    view: Tensor = matrix.unflatten(1, (-1, size))
    return view


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


def _diagonal(inverse: Tensor, masks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
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
        Shape (groups, blocks, F, M).
    pool
        Shape (masks, F): 1 where the square of a form is part of the mask's cost.
    """
    groups, blocks, size, _ = inverse.shape
    identity = torch.eye(size, dtype=inverse.dtype, device=inverse.device)
    start = identity.expand(groups, blocks, len(masks), size, size)
    remains = _eliminate(start, masks.unsqueeze(-1).expand_as(start), inverse.unsqueeze(2))
    forms = torch.diag_embed(1 / inverse.diagonal(dim1=-2, dim2=-1))
    return remains, forms, (~masks).to(inverse.dtype)


def _joint(inverse: Tensor, masks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """As `_diagonal`, for removing the weights S of a group together.

    Optimal brain surgeon for several weights: with B = U_gg^T U_gg, the inverse Hessian of the
    group given that all later columns adapt, the cost is w_S B_SS^-1 w_S and what remains is
    w - B_:S B_SS^-1 w_S.
    """
    removed = (~masks).nonzero()[:, 1].view(len(masks), -1)
    curvature = inverse @ inverse.mT
    within = curvature[:, :, removed.unsqueeze(2), removed.unsqueeze(1)]
    identity = torch.eye(inverse.shape[-1], dtype=inverse.dtype, device=inverse.device)
    lower = torch.linalg.cholesky(within)
    chosen = identity[removed].expand(*within.shape[:-1], -1)
    forms = torch.linalg.solve_triangular(lower, chosen, upper=False)
    across = curvature[:, :, removed].mT
    step = across @ torch.linalg.solve_triangular(lower.mT, forms, upper=True)
    pool = torch.eye(len(masks), dtype=inverse.dtype, device=inverse.device)
    remains = (identity - step).masked_fill(~masks.unsqueeze(-1), 0)
    return remains, forms.flatten(2, 3), pool.repeat_interleave(removed.shape[1], dim=1)
