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
from sparsecnn.pruning.factor import with_penalty
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
    copies: ClassVar = 19

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
        if problem.pattern.per_row:
            some = slice(None, None, 1 + (problem.weight.shape[1] - 1) // _COMPARED)
            part = replace(problem, weight=problem.weight[:, some])
            rival = refit(part, _rows(greedy, some))
            if _better(part, _rows(own, some), rival).all():
                return replace(own, damping=greedy.damping, notes=[*greedy.notes, note])
        greedy = refit(problem, greedy)
        better = _better(problem, own, greedy)
        note += f", its mask is better in {float(better.float().mean()):.0%} of rows"
        return replace(
            greedy,
            weight=torch.where(better, own.weight, greedy.weight),
            mask=torch.where(better, own.mask, greedy.mask),
            notes=[*greedy.notes, note],
        )

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
                note = f"ADMM settled after {stage * self.steps} steps"
                break
            point = torch.where(mask, point, point / self.growth)  # U is the multiplier over rho
            rho *= self.growth
        else:
            note = f"ADMM did not settle: {changed:.1%} of its mask changed at the end"
        return Solution(point.masked_fill(~mask, 0), mask), note


@dataclass(frozen=True)
class _Splitting:
    """What the steps have in common."""

    problem: Problem
    weight: Tensor
    """W, (groups, rows, columns), zero in dead columns."""
    diagonal: Tensor
    """Of the damped Hessian, (groups, 1, columns)."""
    gradient: Tensor
    """W H with the damped H."""

    def stage(self, point: Tensor, mask: Tensor, rho: float, steps: int) -> tuple[Tensor, Tensor]:
        """Z and the mask, both (groups, rows, columns), after so many steps at one penalty."""
        factor = with_penalty(self.problem.curvature, rho)
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
    diagonal = curvature.hessian.diagonal(dim1=-2, dim2=-1) + curvature.added
    return _Splitting(problem, weight, diagonal.unsqueeze(-2), curvature.times(weight))


def _rows(solution: Solution, rows: slice) -> Solution:
    return replace(solution, weight=solution.weight[:, rows], mask=solution.mask[:, rows])


def _better(problem: Problem, one: Solution, other: Solution) -> Tensor:
    """Where the first has the lower error: bool, (groups, rows, 1), or one value for all rows."""
    errors = [quadratic_errors(problem, solution.weight) for solution in (one, other)]
    if not problem.pattern.per_row:
        errors = [error.sum((0, 1), keepdim=True) for error in errors]
    return (errors[0] < errors[1]).unsqueeze(-1)
