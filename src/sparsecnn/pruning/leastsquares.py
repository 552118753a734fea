"""Exact least squares: the best weights for wanted outputs, dense or on a given mask."""

from dataclasses import replace

import torch
from torch import Tensor

from sparsecnn.pruning.factor import Curvature, added_by_damping
from sparsecnn.pruning.problem import Problem, Solution

_MAX_STEPS = 300

_WORTH_DROPPING = 0.8
"""Go on with the rows still active when they are at most this part of those at hand."""

_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-12}
"""Residual, relative to the right side, both in the norm of the inverse diagonal. The error that
pruning leaves comes within about the square of it of the least; float64 gives exact weights."""


def retargeted(weight: Tensor, cross: Tensor, curvature: Curvature) -> Tensor:
    """The dense weight whose outputs come closest to the wanted ones.

    With inputs X and wanted outputs Y it minimises ||Y - W* X||^2 plus the damping times
    ||W* - W||^2. The distance of any other weight from the minimum is (W* - Q) H (W* - Q)^T
    with the same damped H, so that pruning W* with this Hessian is pruning for the outputs Y.

    Parameters
    ----------
    weight, cross
        W and 2/n Y X^T, shape (groups, rows, columns).
    """
    gradient = cross - weight @ curvature.hessian
    return weight + curvature.factor.solve(gradient)


def refit(problem: Problem, solution: Solution) -> Solution:
    """Give the solution the optimal weights on its mask, all rows at once.

    They minimise (Q - W) H (Q - W)^T with the damped H over the weights Q on the mask. Conjugate
    gradients, preconditioned by the diagonal, start from the solution's weights; a row that has
    not converged after `_MAX_STEPS` steps is solved by Cholesky factorisation. Dead columns get
    weight zero.

    Returns
    -------
    Solution
        Exact to a relative residual of `_TOLERANCE`.
    """
    curvature = problem.curvature
    hessian = curvature.hessian
    added = added_by_damping(hessian, curvature.factor.damping)
    mask = solution.mask & ~curvature.dead
    weight = problem.weight.masked_fill(curvature.dead, 0)
    right = _times(weight, hessian, added).mul_(mask)
    result, residual = _conjugate_gradients(hessian, added, right, solution.weight * mask, mask)
    for group, row in (residual > _TOLERANCE[hessian.dtype]).nonzero().tolist():
        kept = mask[group, row]
        system, wanted = hessian[group][kept][:, kept], right[group, row, kept]
        system.diagonal().add_(added[group, kept])
        best = torch.cholesky_solve(wanted.unsqueeze(-1), torch.linalg.cholesky(system))
        result[group, row, kept] = best.squeeze(-1)
    return replace(solution, weight=result)


def quadratic_errors(problem: Problem, weight: Tensor) -> Tensor:
    """(Q - W) H (Q - W)^T with the damped H, of each row of Q: shape (groups, rows)."""
    curvature, change = problem.curvature, weight - problem.weight
    added = added_by_damping(curvature.hessian, curvature.factor.damping)
    return _times(change, curvature.hessian, added).mul_(change).sum(-1)


def _times(left: Tensor, hessian: Tensor, added: Tensor) -> Tensor:
    """The product with H + D, D a diagonal: a damped H would be one more matrix."""
    return torch.addcmul(left @ hessian, left, added.unsqueeze(-2))


def _conjugate_gradients(
    hessian: Tensor, added: Tensor, right: Tensor, start: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor]:
    """Solve x (H + D) = right within the mask of each row; x and the relative residual per row.

    Hestenes and Stiefel (1952). D is diagonal, `added` its entries, (groups, columns); all but that
    and H of shape (groups, rows, columns), zero outside the mask. Rows that have converged drop
    out, a fifth of the rest at a time.
    """
    inverse = 1 / (hessian.diagonal(dim1=-2, dim2=-1) + added).unsqueeze(-2)
    tolerance, tiny = _TOLERANCE[right.dtype], torch.finfo(right.dtype).tiny
    result, reached = start.clone(), torch.zeros_like(right[..., 0])
    rows = torch.arange(right.shape[1], device=right.device)
    solution, residual = start, right - _times(start, hessian, added).mul_(mask)
    direction = residual * inverse
    product = (residual * direction).sum(-1, keepdim=True)
    scale = (right.square() * inverse).sum(-1, keepdim=True).clamp(min=tiny)
    for _ in range(_MAX_STEPS):
        relative = (product / scale).sqrt()
        active = (relative > tolerance).any(0).squeeze(-1)
        if active.sum() <= _WORTH_DROPPING * len(rows):
            result[:, rows], reached[:, rows] = solution, relative.squeeze(-1)
            if not active.any():
                return result, reached
            rows = rows[active]
            solution, residual, direction, product, scale, mask = (
                part[:, active] for part in (solution, residual, direction, product, scale, mask)
            )
        image = _times(direction, hessian, added).mul_(mask)
        length = _ratio(product, (direction * image).sum(-1, keepdim=True))
        solution = solution + length * direction
        residual = residual - length * image
        before, product = product, (residual.square() * inverse).sum(-1, keepdim=True)
        direction = residual * inverse + _ratio(product, before) * direction
    result[:, rows], reached[:, rows] = solution, (product / scale).sqrt().squeeze(-1)
    return result, reached


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Quotient; 0 for a row that is solved exactly, whose denominator is 0."""
    return torch.where(denominator > 0, numerator / denominator, 0)
