"""The mask by ADMM (ALPS, arXiv 2406.07831), the weights by least squares on it.

Minimise the squared output error (W - X) H (W - X)^T over weights X that fit the pattern. The
alternating direction method of multipliers splits X from a copy D that fits it, with a penalty on
their distance in the metric of the Hessian's diagonal and the scaled dual variable U:

    X = argmin (W - X) H (W - X)^T + rho |X - D + U|^2    one linear system for all rows
    Z = X + U;  D = Z on the mask of the largest, else 0    the projection on the pattern
    U = Z - D                                             so that Z and the mask are all there is

While rho is small the masks of all weights are weighed against each other; as it grows they settle.
Where SparseGPT decides group after group, here no weight is decided before the others.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from sparsecnn.errors import UserError
from sparsecnn.pruning.factor import added_by_damping, with_penalty
from sparsecnn.pruning.leastsquares import quadratic_errors, refit
from sparsecnn.pruning.methods.sparsegpt import SparseGPT
from sparsecnn.pruning.problem import Companions, Problem, Solution

_COMPARED = 32
"""Rows that are compared with SparseGPT's; only if one of them is worse are all the others."""

_SETTLED = 5e-3
"""Part of the kept weights that changed in a stage, below which the mask has settled."""

_MAX_STAGES = 50


@dataclass(frozen=True)
class ADMM:
    """ADMM and SparseGPT choose a mask each; a row takes the one that serves it better.

    Where some dozens of rows of a layer are all better with ADMM's, the others are taken to be.
    """

    companions: ClassVar = Companions(calibration="sequential", target="dense", refit=True)
    matrices: ClassVar = 3.5
    """The Hessian, its factor, and the one with the penalty."""

    penalty: float = 0.03
    """rho at the start, as a fraction of the Hessian's diagonal."""
    growth: float = 1.5
    """Factor on rho from one stage to the next; each takes a factorisation."""
    steps: int = 5
    """Steps of a stage; each takes two products with a triangle of the Hessian's size."""

    def __post_init__(self) -> None:
        if not self.penalty > 0:
            raise UserError(f"penalty must be positive, not {self.penalty:g}")
        if not self.growth > 1:
            raise UserError(f"growth must be more than 1, not {self.growth:g}")
        if self.steps < 1:
            raise UserError(f"steps must be at least 1, not {self.steps}")

    def solve(self, problem: Problem) -> Solution:
        """Prune one layer; its weights are the best for the mask, to the refit's tolerance."""
        greedy = SparseGPT().solve(problem)
        start, note = self.settled(problem)
        own = refit(problem, start)
        some = slice(None, None, 1 + (problem.weight.shape[1] - 1) // _COMPARED)
        if not (problem.pattern.per_row and _better(problem, own, greedy, some).all()):
            greedy = refit(problem, greedy)
            better = _better(problem, own, greedy, slice(None))
            own = replace(
                own,
                weight=torch.where(better, own.weight, greedy.weight),
                mask=torch.where(better, own.mask, greedy.mask),
            )
            note += f", its mask is better in {float(better.float().mean()):.0%} of rows"
        return replace(own, damping=greedy.damping, notes=[*greedy.notes, note])

    def settled(self, problem: Problem) -> tuple[Solution, str]:
        """What ADMM by itself ends with, before any refit, and how it came to an end."""
        splitting = _splitting(problem)
        point, mask = splitting.weight, torch.ones_like(splitting.weight, dtype=torch.bool)
        rho = self.penalty
        for stage in range(1, _MAX_STAGES + 1):
            before = mask
            point, mask = splitting.stage(point, mask, rho, self.steps)
            changed = float((mask != before).sum() / (2 * mask.sum()))
            if changed <= _SETTLED:
                return _ended(point, mask, f"ADMM settled after {stage * self.steps} steps")
            point = torch.where(mask, point, point / self.growth)  # U is the multiplier over rho
            rho *= self.growth
        return _ended(
            point, mask, f"ADMM did not settle: {changed:.1%} of its mask changed at the end"
        )


@dataclass(frozen=True)
class _Splitting:
    """What the steps have in common."""

    problem: Problem
    weight: Tensor
    """W, (groups, rows, columns), zero in dead columns."""
    added: Tensor
    """By damping to the Hessian's diagonal, (groups, columns)."""
    diagonal: Tensor
    """Of the damped Hessian, (groups, 1, columns)."""
    gradient: Tensor
    """W H."""

    def stage(self, point: Tensor, mask: Tensor, rho: float, steps: int) -> tuple[Tensor, Tensor]:
        """Z and the mask, both (groups, rows, columns), after so many steps at one penalty."""
        factor = with_penalty(self.problem.curvature.hessian, self.added, rho)
        for _ in range(steps):
            wanted = torch.where(mask, point, -point)  # D - U
            free = factor.solve(torch.addcmul(self.gradient, wanted, self.diagonal, value=rho))
            point = torch.where(mask, free, free + point)
            mask = self._largest(point)
        return point, mask

    def _largest(self, point: Tensor) -> Tensor:
        mask, covered = torch.ones_like(point, dtype=torch.bool), self.problem.prunable
        scores = (point.square() * self.diagonal)[..., :covered]
        mask[..., :covered] = self.problem.pattern.mask(scores)
        return mask


def _splitting(problem: Problem) -> _Splitting:
    curvature = problem.curvature
    weight = problem.weight.masked_fill(curvature.dead, 0)
    added = added_by_damping(curvature.hessian, curvature.factor.damping)
    diagonal = (curvature.hessian.diagonal(dim1=-2, dim2=-1) + added).unsqueeze(-2)
    gradient = torch.addcmul(weight @ curvature.hessian, weight, added.unsqueeze(-2))
    return _Splitting(problem, weight, added, diagonal, gradient)


def _ended(point: Tensor, mask: Tensor, note: str) -> tuple[Solution, str]:
    return Solution(point.masked_fill(~mask, 0), mask), note


def _better(problem: Problem, own: Solution, greedy: Solution, rows: slice) -> Tensor:
    """Where the first has the lower error once both are refitted, of these rows.

    bool, (groups, rows, 1); one value for all where rows share a pattern.
    """
    part = replace(problem, weight=problem.weight[:, rows])
    errors = []
    for solution in (own, greedy):
        here = replace(solution, weight=solution.weight[:, rows], mask=solution.mask[:, rows])
        errors.append(quadratic_errors(part, refit(part, here).weight))
    if not problem.pattern.per_row:
        errors = [error.sum((0, 1), keepdim=True) for error in errors]
    return (errors[0] < errors[1]).unsqueeze(-1)
