"""Exact greedy optimal brain surgeon (OBC, arXiv 2208.11580) under an N:M pattern.

Each row removes one weight at a time, the one of least w_p^2 / [H^-1]_pp among the groups that
still hold more than N, compensates in all weights still free, and updates the inverse Hessian of
the free weights. Far slower than one pass over the columns; what greedy removal can reach.

Memory and time: in place of each row's own (columns, columns) inverse, the code keeps the base
inverse and, per row, the scaled rows u_k that the removals so far subtract from it, so that row
p of the current inverse is [H^-1]_p - sum_k u_k u_kp.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sparsecnn.errors import UserError
from sparsecnn.pruning.patterns import NM
from sparsecnn.pruning.problem import Problem, Solution
from sparsecnn.pruning.state import one_thread


@dataclass(frozen=True)
class ExactOBS:
    """Remove the globally cheapest weight of each row until every group fits the pattern."""

    matrices: ClassVar = 5.5
    """The inverse, and what makes it, besides the Hessian and its factor."""

    workspace_mb: int = 512
    """Bound on the memory for the rows pruned at the same time, in MiB."""

    def solve(self, problem: Problem) -> Solution:
        """Prune one layer."""
        factor = problem.curvature.factor
        inverse = factor.inverse()
        weight = problem.weight.masked_fill(problem.curvature.dead, 0)
        mask = torch.ones_like(weight, dtype=torch.bool)
        pattern = _as_groups(problem)
        steps = problem.prunable // pattern.group * (pattern.group - pattern.kept)
        row_bytes = steps * weight.shape[-1] * weight.itemsize
        chunk = max(1, self.workspace_mb * 2**20 // max(1, row_bytes))
        for group in range(len(weight)):
            for start in range(0, weight.shape[1], chunk):
                rows = slice(start, start + chunk)
                part = weight[group, rows], mask[group, rows]
                with one_thread():
                    _remove_greedily(*part, inverse[group], pattern, problem.prunable, steps)
        return Solution(weight, mask, factor.damping, factor.notes)


def _as_groups(problem: Problem) -> NM:
    pattern = problem.pattern
    if isinstance(pattern, NM):
        return pattern
    if not pattern.per_row:
        raise UserError(
            f"exact_obs prunes row by row: pattern '{pattern}' has to be '{pattern} per row'"
        )
    return NM(problem.prunable - pattern.removed(problem.prunable), problem.prunable)


def _remove_greedily(
    weight: Tensor, mask: Tensor, inverse: Tensor, pattern: NM, prunable: int, steps: int
) -> None:
    """Prune rows in place: `weight` and `mask` have shape (rows, columns)."""
    rows, columns = weight.shape
    row = torch.arange(rows, device=weight.device)
    updates = weight.new_zeros(rows, steps, columns)
    diagonal = inverse.diagonal().repeat(rows, 1)
    for step in range(steps):
        scores = weight.square() / diagonal
        scores.masked_fill_(~_removable(mask, pattern, prunable), torch.inf)
        chosen = scores.min(1).indices
        past = updates[:, :step]
        share = past.gather(2, chosen.view(-1, 1, 1).expand(-1, step, 1))
        current = inverse[chosen] - (share.mT @ past).squeeze(1)
        pivot = current[row, chosen].unsqueeze(1)
        updates[:, step] = current / pivot.sqrt()
        weight -= current * (weight[row, chosen].unsqueeze(1) / pivot)
        diagonal -= updates[:, step].square()
        mask[row, chosen] = False
        weight.masked_fill_(~mask, 0)
        diagonal.masked_fill_(~mask, 1)


def _removable(mask: Tensor, pattern: NM, prunable: int) -> Tensor:
    """Weights still there in groups that hold more than the pattern allows."""
    groups = mask[:, :prunable].view(len(mask), -1, pattern.group)
    surplus = groups.sum(-1, keepdim=True) > pattern.kept
    removable = torch.zeros_like(mask)
    removable[:, :prunable] = (groups & surplus).flatten(1)
    return removable
