"""SparseGPT (arXiv 2301.00774): prune column by column, let later columns compensate.

The published algorithm walks the columns with U, the upper Cholesky factor of the inverse
Hessian. Here the same walk uses V = U^-1, for which H = V V^T: with the deviation E = W - Q of
the pruned weight Q, the squared output error is ||E V||^2, and column j of E V depends on the
columns up to j alone. Hence a kept weight cancels its column of E V exactly, E_j = -S_j with
S_j = sum_{i<j} E_i V_ij / V_jj, and a pruned one costs (W_j + S_j)^2 V_jj^2, the published
w^2 / U_jj^2. This takes one Cholesky factorisation in place of two and an inverse.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from sparsecnn.pruning.factor import reverse_cholesky
from sparsecnn.pruning.problem import Problem, Solution


@dataclass(frozen=True)
class SparseGPT:
    """One pass over the columns; the mask of a group is chosen on the weights updated so far."""

    block_size: int = 128
    """Columns between two updates from all earlier columns; changes speed, not the result."""

    def solve(self, problem: Problem) -> Solution:
        """Prune one layer."""
        factor = reverse_cholesky(problem.hessian, problem.damping)
        dead = problem.hessian.diagonal(dim1=-2, dim2=-1) == 0
        weight = problem.weight.masked_fill(dead.unsqueeze(-2), 0)
        block = max(1, self.block_size // problem.pattern.group) * problem.pattern.group
        error, mask = _sweep(weight.mT.contiguous(), factor.upper, problem, block)
        pruned = (weight - error.mT).masked_fill_(~mask.mT, 0)
        return Solution(pruned, mask.mT.contiguous(), factor.damping, factor.notes)


def _sweep(weight: Tensor, upper: Tensor, problem: Problem, block: int) -> tuple[Tensor, Tensor]:
    """Deviations and mask, (groups, columns, rows) as is `weight`: columns lie contiguous."""
    scale = upper.diagonal(dim1=-2, dim2=-1)
    feedback = (upper / scale.unsqueeze(-2)).triu(1).mT  # S = feedback @ E
    importance = scale.square().unsqueeze(-1)
    error = torch.zeros_like(weight)
    mask = torch.ones_like(weight, dtype=torch.bool)
    columns, group = weight.shape[-2], problem.pattern.group
    for start in range(0, columns, block):
        stop = min(start + block, columns)
        shift = feedback[:, start:stop, :start] @ error[:, :start]
        for first in range(start, stop, group):
            last = min(first + group, stop)
            shift[:, first - start : last - start] += (
                feedback[:, first:last, start:first] @ error[:, start:first]
            )
            updated = weight[:, first:last] + shift[:, first - start : last - start]
            if last <= problem.prunable:
                scores = (updated.square() * importance[:, first:last]).mT
                mask[:, first:last] = problem.pattern.mask(scores).mT
            _settle(error, updated, shift, mask, feedback, first, last, start)
    return error, mask


def _settle(
    error: Tensor,
    updated: Tensor,
    shift: Tensor,
    mask: Tensor,
    feedback: Tensor,
    first: int,
    last: int,
    start: int,
) -> None:
    """Fill in the deviations of the columns of one group, each reacting to those before it."""
    for j in range(first, last):
        inside = (feedback[:, j, first:j].unsqueeze(1) @ error[:, first:j]).squeeze(1)
        pruned = updated[:, j - first] + inside
        kept = -(shift[:, j - start] + inside)
        error[:, j] = torch.where(mask[:, j], kept, pruned)
