"""Damped Hessians and their triangular factors, with a way out when they fail."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from sparsecnn.float64 import in_float64

logger = logging.getLogger(__name__)

_ESCALATION = (1.0, 10.0, 100.0)
"""Factors on the damping, tried in this order; then the same again in float64."""

_BLOCK = 192
"""Columns factored at once: few enough that a Cholesky factor of them costs little."""


class NoFactorError(ArithmeticError):
    """A Hessian that is not positive definite even with far more damping than asked for."""


@dataclass(frozen=True)
class Factor:
    """V, upper triangular with V V^T = H + damping, of each group's Hessian.

    V is the inverse of U, the upper Cholesky factor of the inverse, H^-1 = U^T U, that
    arXiv 2301.00774 works with.
    """

    upper: Tensor
    """V: (groups, columns, columns). Below the diagonal lies anything."""
    damping: float
    """The damping that was needed, as a fraction of the mean diagonal."""
    notes: list[str] = field(default_factory=list)
    """The failures on the way."""

    def solve(self, right: Tensor) -> Tensor:
        """Compute right (H + damping)^-1, for `right` of shape (groups, rows, columns)."""
        half = torch.linalg.solve_triangular(self.upper.mT, right, upper=False, left=False)
        solution: Tensor = torch.linalg.solve_triangular(self.upper, half, upper=True, left=False)
        return solution

    def inverse(self) -> Tensor:
        """(H + damping)^-1, shape (groups, columns, columns)."""
        identity = torch.eye(self.upper.shape[-1], dtype=self.upper.dtype, device=self.upper.device)
        inverse: Tensor = torch.linalg.solve_triangular(self.upper, identity, upper=True)
        return inverse.mT @ inverse


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
    def added(self) -> Tensor:
        """What the damping that was needed adds to the diagonal, shape (groups, columns)."""
        return added_by_damping(self.hessian, self.factor.damping)

    def times(self, left: Tensor) -> Tensor:
        """Its product with the damped H, (groups, rows, columns), which is never made: a matrix."""
        return torch.addcmul(left @ self.hessian, left, self.added.unsqueeze(-2))

    @property
    def factored(self) -> bool:
        """Whether anybody asked for the factor."""
        return "factor" in self.__dict__

    @property
    def dead(self) -> Tensor:
        """Columns that no input ever reached: bool, shape (groups, 1, columns)."""
        return self.hessian.diagonal(dim1=-2, dim2=-1).unsqueeze(-2) == 0


def damped(hessian: Tensor, damping: float) -> Tensor:
    """H + D, a new matrix, with D as `added_by_damping` has it; H of shape (groups, n, n)."""
    return _with_diagonal(hessian, added_by_damping(hessian, damping))


def _with_diagonal(hessian: Tensor, added: Tensor) -> Tensor:
    result = hessian.clone()
    result.diagonal(dim1=-2, dim2=-1).add_(added)
    return result


def added_by_damping(hessian: Tensor, damping: float) -> Tensor:
    """Diagonal of D = damping * mean(diag H) * I, with that mean besides for dead columns.

    A column is dead when its diagonal is zero: no input ever reached it, so nothing couples it
    to the others. The mean is over the live columns, which makes the result independent of the
    scale of the inputs.

    Parameters
    ----------
    hessian
        Shape (groups, columns, columns).

    Returns
    -------
    Tensor
        Shape (groups, columns).
    """
    diagonal = hessian.diagonal(dim1=-2, dim2=-1)
    live = diagonal > 0
    mean = diagonal.sum(-1, keepdim=True) / live.sum(-1, keepdim=True).clamp(min=1)
    mean = torch.where(mean > 0, mean, 1.0)
    return torch.where(live, 0.0, mean) + damping * mean


def reverse_cholesky(hessian: Tensor, damping: float) -> Factor:
    """Factor the damped Hessian H = V V^T with V upper triangular.

    A factorisation that fails is repeated with 10 and 100 times the damping, then all the same
    in float64. Raises `NoFactorError` after that.
    """
    notes: list[str] = []
    for matrix in _with_float64(hessian):
        for escalation in _ESCALATION:
            tried = damping if escalation == 1 else max(damping, 1e-8) * escalation
            upper = damped(matrix, tried)
            if _factor_(upper):
                return Factor(upper.to(hessian), tried, notes)
            notes.append(f"Cholesky failed in {str(matrix.dtype)[6:]} at damping {tried:g}")
            logger.warning("%s", notes[-1])
    raise NoFactorError(
        f"the Hessian is not positive definite, not even at damping {tried:g} in float64"
    )


def with_penalty(curvature: Curvature, penalty: float) -> Factor:
    """Factor H + penalty * diag(H) = V V^T, H being damped.

    In float64 if need be; raises `NoFactorError` if that fails too.
    """
    hessian, added = curvature.hessian, curvature.added
    total = added + penalty * (hessian.diagonal(dim1=-2, dim2=-1) + added)
    for matrix in _with_float64(hessian):
        upper = _with_diagonal(matrix, total.to(matrix))
        if _factor_(upper):
            return Factor(upper.to(hessian), penalty)
    raise NoFactorError(f"the Hessian is not positive definite at a penalty of {penalty:g}")


def _with_float64(hessian: Tensor) -> Iterator[Tensor]:
    yield hessian
    if hessian.dtype != torch.float64:
        yield in_float64(hessian)


def _factor_(matrix: Tensor) -> bool:
    """Replace the upper triangle of H by V, block of columns by block, the last block first.

    Each block of columns takes one product with the blocks already done, so that nearly all
    work is matrix products on the upper triangle. Returns whether H is positive definite.
    """
    for stop in range(matrix.shape[-1], 0, -_BLOCK):
        start = max(0, stop - _BLOCK)
        columns, done = matrix[:, :stop, start:stop], matrix[:, :stop, stop:]
        columns.baddbmm_(done, done[:, start:].mT, alpha=-1)
        lower, info = torch.linalg.cholesky_ex(columns[:, start:].flip(-2, -1))
        if info.any() or not lower.diagonal(dim1=-2, dim2=-1).isfinite().all():
            return False
        corner = lower.flip(-2, -1)
        columns[:, start:] = corner
        columns[:, :start] = torch.linalg.solve_triangular(
            corner.mT, columns[:, :start], upper=False, left=False
        )
    return True
