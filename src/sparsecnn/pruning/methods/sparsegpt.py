"""SparseGPT (arXiv 2301.00774): prune column by column, let later columns compensate.

The published algorithm walks the columns with U, the upper Cholesky factor of the inverse
Hessian. Here the same walk uses V = U^-1, for which H = V V^T: with the deviation E = W - Q of
the pruned weight Q, the squared output error is ||E V||^2, and columns g of E V depend on the
columns up to g alone. If T_g is what earlier columns contribute, T_g = sum_{i<g} E_i V_ig, then
W_g + T_g V_gg^-1 are the weights of group g updated for all pruning before it, and V_gg^-1 is
the block U_gg of the published factor, by which the group itself is pruned. The result is the
same; it takes one Cholesky factorisation in place of two and an inverse.

The code holds everything transposed, (groups, columns, rows), so that columns lie contiguous.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from sparsecnn.errors import UserError
from sparsecnn.pruning.methods.block_pruners import block_pruner
from sparsecnn.pruning.methods.blocks import Block, BlockPruner
from sparsecnn.pruning.problem import MATRICES, Companions, Problem, Solution
from sparsecnn.pruning.state import one_thread

SELECTIONS = ("diagonal", "joint")
COLUMN_ORDERS = ("natural", "importance")


@dataclass(frozen=True)
class SparseGPT:
    """One pass over the columns; the mask of a group is chosen on the weights updated so far."""

    companions: ClassVar = Companions(calibration="sequential", target="dense", refit=True)
    """Together these lost 0.4 points of accuracy, mean of three networks, where the published
    algorithm - independent, its own outputs, no refit - lost 4.1, and no other combination less
    than 1.3: docs/results/2026-11-27-holdout-ablation-cpu."""

    selection: str = "diagonal"
    """``diagonal``: the published score w^2 / U_jj^2 of each weight. ``joint``: the exact cost
    of removing a set of weights together, the others in the group compensating too."""
    column_order: str = "natural"
    """``importance``: groups in the order of descending Hessian diagonal, each kept whole."""
    block_size: int = 128
    """Columns between two updates from all earlier columns; changes speed, not the result."""

    def __post_init__(self) -> None:
        for name, allowed in (("selection", SELECTIONS), ("column_order", COLUMN_ORDERS)):
            if getattr(self, name) not in allowed:
                raise UserError(
                    f"sparsegpt has no {name} {getattr(self, name)!r}: choose one of "
                    f"{', '.join(allowed)}"
                )
        if self.block_size < 1:
            raise UserError(f"block_size must be at least 1, not {self.block_size}")

    @property
    def matrices(self) -> float:
        """Of the Hessian's size that there are at once."""
        return MATRICES + (2 if self.column_order == "importance" else 0)

    def solve(self, problem: Problem) -> Solution:
        """Prune one layer."""
        if self.column_order == "natural":
            return self._solve(problem)
        order = _order_by_importance(problem)
        solution = self._solve(problem.permuted(order))
        back = order.argsort()
        weight, mask = solution.weight[..., back], solution.mask[..., back]
        return replace(solution, weight=weight, mask=mask)

    def _solve(self, problem: Problem) -> Solution:
        weight = problem.weight.masked_fill(problem.curvature.dead, 0).mT.contiguous()
        pruner = block_pruner(problem.pattern, weight.device, joint=self.selection == "joint")
        pruned, mask = _sweep(weight, problem, pruner, self.block_size)
        factor = problem.curvature.factor
        return Solution(pruned.mT, mask.mT, factor.damping, factor.notes)


def _sweep(
    weight: Tensor, problem: Problem, pruner: BlockPruner, block_size: int
) -> tuple[Tensor, Tensor]:
    """Pruned weight and mask, (groups, columns, rows) as is `weight`."""
    upper = problem.curvature.factor.upper
    columns, covered = weight.shape[1], problem.prunable
    step = max(1, block_size // pruner.width) * pruner.width
    pruned, error = torch.empty_like(weight), torch.empty_like(weight)
    mask = torch.ones_like(weight, dtype=torch.bool)
    for start in range(0, covered, step):
        here = slice(start, min(start + step, covered))
        dense, local = weight[:, here], upper[:, here, here].mT.tril()
        earlier = upper[:, :start, here].mT @ error[:, :start]
        inverse = _inverse_within_groups(local, pruner.width)
        block = Block(inverse @ earlier.baddbmm_(local, dense), inverse @ local, inverse)
        with one_thread():
            pruner.prune(block, pruned[:, here], mask[:, here])
        torch.sub(dense, pruned[:, here], out=error[:, here])
    if covered < columns:
        earlier = upper[:, :covered, covered:].mT @ error[:, :covered]
        rest = upper[:, covered:, covered:].mT
        change = torch.linalg.solve_triangular(rest, earlier, upper=False)
        pruned[:, covered:] = weight[:, covered:] + change
    return pruned, mask


def _inverse_within_groups(local: Tensor, size: int) -> Tensor:
    """Transposed U_gg of each group on the diagonal, zero elsewhere: the shape of `local`."""
    group = torch.arange(local.shape[-1], device=local.device) // size
    blocks = local * (group.unsqueeze(1) == group)
    identity = torch.eye(local.shape[-1], dtype=local.dtype, device=local.device)
    inverse: Tensor = torch.linalg.solve_triangular(blocks, identity, upper=False)
    return inverse


def _order_by_importance(problem: Problem) -> Tensor:
    """Columns with whole groups in descending order of their Hessian diagonal; the tail last."""
    diagonal = problem.curvature.hessian.diagonal(dim1=-2, dim2=-1).sum(0)
    columns = torch.arange(len(diagonal), device=diagonal.device)
    covered, size = problem.prunable, problem.pattern.group
    groups = diagonal[:covered].view(-1, size).sum(-1).argsort(descending=True, stable=True)
    return torch.cat([columns[:covered].view(-1, size)[groups].flatten(), columns[covered:]])
