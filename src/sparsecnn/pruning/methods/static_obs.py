"""The update of the reference study, kept for the ablation that explains its numbers.

It compensates every pruned weight with the rows of one static inverse Hessian. The optimal
brain surgeon asks for the inverse over the columns that are still free, which changes with each
column done: what `sparsecnn.pruning.methods.sparsegpt` takes from the Cholesky factor. The static
rows spend compensation on columns that are already settled, where it is lost, so the rest of it is
wrong, the more so the longer the row.
"""

from dataclasses import dataclass

import torch

from sparsecnn.errors import UserError
from sparsecnn.pruning.factor import Curvature
from sparsecnn.pruning.patterns import NM
from sparsecnn.pruning.problem import Problem, Solution
from sparsecnn.pruning.state import one_thread

_SCORED = 128
"""Columns that an unstructured mask is chosen for at once."""


@dataclass(frozen=True)
class StaticOBS:
    """Column by column; scores w^2 / [H^-1]_jj and updates from the static inverse H^-1."""

    block_size: int = 128
    """Columns between two updates of all later columns; changes speed, not the result."""
    ridge: float = 0.0
    """Added to the diagonal of the mean of x x^T over a layer's inputs x, besides the damping,
    which is a fraction of that diagonal. Columns that no input reached are then as all others.
    (kbhcyj/cnn_sparsegpt, `compute_hessian`: `lambd`, 0.01 or 0.0001; its damping is 0.01.)"""

    def __post_init__(self) -> None:
        if self.ridge < 0:
            raise UserError(f"ridge must not be negative: {self.ridge}")

    @property
    def matrices(self) -> float:
        """The inverse, and what makes it, besides the Hessian and its factor."""
        return 6.5 if self.ridge else 5.5

    def solve(self, problem: Problem) -> Solution:
        """Prune one layer."""
        curvature, pattern = self._ridged(problem.curvature), problem.pattern
        factor = curvature.factor
        size = pattern.group if isinstance(pattern, NM) else _SCORED
        inverse = factor.inverse()
        diagonal = inverse.diagonal(dim1=-2, dim2=-1)
        weight = problem.weight.masked_fill(curvature.dead, 0).mT.contiguous()
        mask = torch.ones_like(weight, dtype=torch.bool)
        block = max(1, self.block_size // size) * size
        with one_thread():
            for start in range(0, problem.prunable, block):
                stop = min(start + block, problem.prunable)
                error = torch.zeros_like(weight[:, start:stop])
                for j in range(start, stop):
                    if j % size == 0:
                        group = slice(j, min(j + size, problem.prunable))
                        scores = weight[:, group].square() / diagonal[:, group, None]
                        mask[:, group] = pattern.mask(scores.mT).mT
                    removed = weight[:, j].masked_fill(mask[:, j], 0) / diagonal[:, j, None]
                    weight[:, j:stop] -= inverse[:, j:stop, j, None] * removed.unsqueeze(1)
                    error[:, j - start] = removed
                weight[:, stop:] -= inverse[:, stop:, start:stop] @ error
        pruned = weight.masked_fill(~mask, 0).mT.contiguous()
        return Solution(pruned, mask.mT.contiguous(), factor.damping, factor.notes)

    def _ridged(self, curvature: Curvature) -> Curvature:
        """The curvature with the ridge, of which the damping then adds no fraction."""
        if not self.ridge:
            return curvature
        hessian = curvature.hessian.clone()  # the mean of 2 x x^T
        hessian.diagonal(dim1=-2, dim2=-1).add_(2 * self.ridge / (1 + curvature.damping))
        return Curvature(hessian, curvature.damping)
