"""Damped Hessians and their triangular factors, with a way out when they fail."""

import logging
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

_ESCALATION = (1.0, 10.0, 100.0)
"""Factors on the damping, tried in this order; then the same again in float64."""


@dataclass(frozen=True)
class Factor:
    """V, upper triangular with V V^T = H + damping, of each group's Hessian.

    V is the inverse of U, the upper Cholesky factor of the inverse, H^-1 = U^T U, that
    arXiv 2301.00774 works with.
    """

    reversed: Tensor
    """V with rows and columns in reverse order: lower triangular, (groups, columns, columns)."""
    damping: float
    """The damping that was needed, as a fraction of the mean diagonal."""
    notes: list[str] = field(default_factory=list)
    """The failures on the way."""

    def transposed(self, start: int, stop: int) -> Tensor:
        """Rows `start` to `stop` of V^T, up to the diagonal: (groups, stop - start, stop)."""
        size = self.reversed.shape[-1]
        block = self.reversed[:, size - stop :, size - stop : size - start]
        return block.mT.flip(-2, -1).contiguous()

    def solve(self, right: Tensor) -> Tensor:
        """Compute right (H + damping)^-1, for `right` of shape (groups, rows, columns)."""
        solution = torch.cholesky_solve(right.mT.flip(-2), self.reversed)
        return solution.flip(-2).mT

    def inverse(self) -> Tensor:
        """(H + damping)^-1, shape (groups, columns, columns)."""
        return torch.cholesky_inverse(self.reversed).flip(-2, -1)


@dataclass(frozen=True)
class Curvature:
    """The Hessian of a layer's squared output error, and its factor once somebody asks."""

    hessian: Tensor
    """Shape (groups, columns, columns), symmetric, not damped."""
    damping: float
    """Wanted damping, as a fraction of the mean diagonal."""

    @cached_property
    def factor(self) -> Factor:
        """Triangular factor of the damped Hessian, computed once."""
        return reverse_cholesky(self.hessian, self.damping)

    @property
    def factored(self) -> bool:
        """Whether anybody asked for the factor."""
        return "factor" in self.__dict__

    @property
    def dead(self) -> Tensor:
        """Columns that no input ever reached: bool, shape (groups, 1, columns)."""
        return self.hessian.diagonal(dim1=-2, dim2=-1).unsqueeze(-2) == 0


def damped(hessian: Tensor, damping: float) -> Tensor:
    """H + damping * mean(diag H) * I, with the diagonal of dead columns set to the mean.

    A column is dead when its diagonal is zero: no input ever reached it, so nothing couples it
    to the others. The mean is over the live columns, which makes the result independent of the
    scale of the inputs.

    Parameters
    ----------
    hessian
        Shape (groups, columns, columns).
    """
    return _damp_(hessian.clone(), damping)


def _damp_(hessian: Tensor, damping: float) -> Tensor:
    diagonal = hessian.diagonal(dim1=-2, dim2=-1)
    live = diagonal > 0
    mean = diagonal.sum(-1, keepdim=True) / live.sum(-1, keepdim=True).clamp(min=1)
    mean = torch.where(mean > 0, mean, 1.0)
    diagonal.copy_(torch.where(live, diagonal, mean) + damping * mean)
    return hessian


def reverse_cholesky(hessian: Tensor, damping: float) -> Factor:
    """Factor the damped Hessian H = V V^T with V upper triangular.

    That is an ordinary Cholesky factorisation from the last column to the first. One that fails
    is repeated with 10 and 100 times the damping, then all the same in float64.
    """
    notes: list[str] = []
    for dtype in dict.fromkeys((hessian.dtype, torch.float64)):
        for escalation in _ESCALATION:
            tried = damping if escalation == 1 else max(damping, 1e-8) * escalation
            matrix = _damp_(hessian.to(dtype).flip(-2, -1), tried)
            lower, info = torch.linalg.cholesky_ex(matrix)
            if not info.any() and lower.diagonal(dim1=-2, dim2=-1).isfinite().all():
                return Factor(lower.to(hessian.dtype), tried, notes)
            notes.append(f"Cholesky failed in {str(dtype)[6:]} at damping {tried:g}")
            logger.warning("%s", notes[-1])
    raise ArithmeticError("the Hessian has no Cholesky factor even at 100 times the damping")
