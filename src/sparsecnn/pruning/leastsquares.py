"""Exact least squares: the best weights for wanted outputs, dense or on a given mask."""

from dataclasses import replace

import torch
from torch import Tensor

from sparsecnn.pruning.factor import Curvature, added_by_damping
from sparsecnn.pruning.problem import Problem, Solution
from sparsecnn.pruning.triangular import MaskedFactor

_MAX_STEPS = 300

_EXCESS = {torch.float32: 1e-6, torch.float64: 1e-22}
"""Of a layer's error, how much of it may be more than the least; float64 gives exact weights."""


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
    gradients start from the solution's weights; rows that leave too large a residual after
    `_MAX_STEPS` steps are solved by Cholesky factorisation. Dead columns get weight zero.

    Returns
    -------
    Solution
        Its error exceeds the least by about `_EXCESS` of it, all rows together.
    """
    curvature = problem.curvature
    mask = solution.mask & ~curvature.dead
    weight = problem.weight.masked_fill(curvature.dead, 0)
    result = (solution.weight * mask).mT.contiguous()
    factor = MaskedFactor(curvature.factor.upper, mask.mT.to(weight.dtype).contiguous())
    unsolved = _conjugate_gradients_(factor, result, weight.mT)
    result = result.mT
    for group, row in unsolved.nonzero().tolist():
        kept = mask[group, row]
        result[group, row, kept] = _solved_row(curvature, group, weight[group, row], kept)
    return replace(solution, weight=result)


def _solved_row(curvature: Curvature, group: int, weight: Tensor, kept: Tensor) -> Tensor:
    """The optimal weights on the mask of one row, by a factorisation of its own."""
    hessian = curvature.hessian[group]
    added = added_by_damping(curvature.hessian, curvature.factor.damping)[group]
    right = torch.addcmul(weight @ hessian, weight, added)[kept]
    system = hessian[kept][:, kept]
    system.diagonal().add_(added[kept])
    best = torch.cholesky_solve(right.unsqueeze(-1), torch.linalg.cholesky(system))
    return best.squeeze(-1)


def _conjugate_gradients_(factor: MaskedFactor, result: Tensor, weight: Tensor) -> Tensor:
    """Move the result to the least error; which rows it left unsolved, bool (groups, rows).

    Hestenes and Stiefel (1952), in the variable v of Q = Q_0 + K v, whose matrix is K^T H_SS K
    (`MaskedFactor`). As hardly an eigenvalue of that is less than 1, the squares of the residual
    bound the excess of the error; a closer estimate is twice what the last step gained.

    Parameters
    ----------
    result, weight
        Q_0, zero outside the mask, and W: (groups, columns, rows).
    """
    outputs = factor.outputs(weight - result)
    error = _squares(outputs)
    residual = factor.backward(outputs)
    direction, product = residual.clone(), _squares(residual)
    # What rounding leaves of the error that there was at first is no excess.
    tolerance = _EXCESS[result.dtype]
    floor = (32 * torch.finfo(result.dtype).eps) ** 2 * error.sum()
    allowed, gained = tolerance * error.sum() + floor, error
    for _ in range(_MAX_STEPS):
        if torch.minimum(product.sum(), 2 * gained.sum()) <= allowed:
            return torch.zeros_like(product[:, 0], dtype=torch.bool)
        step, outputs = factor.forward(direction)
        length = _ratio(product, _squares(outputs))
        gained = length * product
        error = error - gained
        allowed = tolerance * error.sum().clamp(min=0) + floor
        result.addcmul_(length, step)
        residual.addcmul_(length, factor.backward(outputs), value=-1)
        before, product = product, _squares(residual)
        direction.mul_(_ratio(product, before)).add_(residual)
    return (product > allowed / product.numel()).squeeze(1)


def _squares(matrix: Tensor) -> Tensor:
    """The sum of squares of each row, (groups, 1, rows), of what is (groups, columns, rows)."""
    return torch.linalg.vector_norm(matrix, dim=-2, keepdim=True).square()


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Quotient; 0 for a row that is solved exactly, whose denominator is 0."""
    return torch.where(denominator > 0, numerator / denominator, 0)
