"""SparseGPT (arXiv 2301.00774): prune column by column, let later columns compensate.

The published algorithm walks the columns with U, the upper Cholesky factor of the inverse
Hessian. Here the same walk uses V = U^-1, for which H = V V^T: with the deviation E = W - Q of
the pruned weight Q, the squared output error is ||E V||^2, and columns g of E V depend on the
columns up to g alone. If T_g is what earlier columns contribute, T_g = sum_{i<g} E_i V_ig, then
W_g + T_g V_gg^-1 are the weights of group g updated for all pruning before it, and V_gg^-1 is
the block U_gg of the published factor, by which the group itself is pruned. The result is the
same; it takes one Cholesky factorisation in place of two and an inverse.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from sparsecnn.pruning.problem import Problem, Solution


@dataclass(frozen=True)
class SparseGPT:
    """One pass over the columns; the mask of a group is chosen on the weights updated so far."""

    block_size: int = 128
    """Columns between two updates from all earlier columns; changes speed, not the result."""

    def solve(self, problem: Problem) -> Solution:
        """Prune one layer."""
        weight = problem.weight.masked_fill(problem.curvature.dead, 0)
        block = max(1, self.block_size // problem.pattern.group) * problem.pattern.group
        pruned, mask = _sweep(
            weight.mT.contiguous(), problem.curvature.factor.upper, problem, block
        )
        return Solution(pruned.mT.contiguous(), mask.mT.contiguous())


def _sweep(weight: Tensor, upper: Tensor, problem: Problem, block: int) -> tuple[Tensor, Tensor]:
    """Pruned weight and mask, (groups, columns, rows) as is `weight`: columns lie contiguous."""
    lower = upper.mT.contiguous()  # everything is transposed here: T' = V' E'
    inverse = _inverse_blocks(lower[:, : problem.prunable, : problem.prunable], problem)
    pruned = torch.zeros_like(weight)
    mask = torch.ones_like(weight, dtype=torch.bool)
    group = problem.pattern.group
    for start in range(0, problem.prunable, block):
        stop = min(start + block, problem.prunable)
        before = lower[:, start:stop, :start] @ (weight[:, :start] - pruned[:, :start])
        for first in range(start, stop, group):
            here, done = slice(first, first + group), slice(start, first)
            total = before[:, first - start : first - start + group]
            total = total + lower[:, here, done] @ (weight[:, done] - pruned[:, done])
            block_inverse = inverse[:, first // group]
            updated = weight[:, here] + block_inverse @ total
            scale = block_inverse.diagonal(dim1=-2, dim2=-1).unsqueeze(-1)
            mask[:, here] = problem.pattern.mask((updated / scale).square().mT).mT
            pruned[:, here] = _prune_group(updated, mask[:, here], block_inverse)
    done, tail = slice(problem.prunable), slice(problem.prunable, None)
    total = lower[:, tail, done] @ (weight[:, done] - pruned[:, done])
    shift = torch.linalg.solve_triangular(lower[:, tail, tail], total, upper=False)
    pruned[:, tail] = weight[:, tail] + shift
    return pruned, mask


def _inverse_blocks(lower: Tensor, problem: Problem) -> Tensor:
    """Transposed diagonal blocks U_gg of the published factor, (groups, blocks, M, M)."""
    count, size = lower.shape[-1] // problem.pattern.group, problem.pattern.group
    blocks = lower.reshape(len(lower), count, size, count, size)
    blocks = blocks.diagonal(dim1=1, dim2=3).permute(0, 3, 1, 2)
    identity = torch.eye(size, dtype=lower.dtype, device=lower.device)
    inverse: Tensor = torch.linalg.solve_triangular(blocks, identity.expand_as(blocks), upper=False)
    return inverse


def _prune_group(updated: Tensor, mask: Tensor, inverse: Tensor) -> Tensor:
    """Zero the pruned weights of one group in turn; those to the right compensate.

    Parameters
    ----------
    updated, mask
        Shape (groups, M, rows).
    inverse
        Transposed U_gg, shape (groups, M, M).
    """
    updated = updated.clone()
    for j in range(updated.shape[1]):
        error = updated[:, j].masked_fill(mask[:, j], 0) / inverse[:, j, j, None]
        updated[:, j + 1 :] -= inverse[:, j + 1 :, j, None] * error.unsqueeze(1)
    return updated.masked_fill(~mask, 0)
