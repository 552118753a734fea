"""Exact least squares: the best weights for wanted outputs, dense or on a given mask."""

from dataclasses import replace

import torch
from torch import Tensor

from sparsecnn.float64 import in_float64
from sparsecnn.pruning.factor import Curvature
from sparsecnn.pruning.problem import Problem, Solution
from sparsecnn.pruning.triangular import MaskedFactor

_MAX_STEPS = 300

_WORTH_FACTORING = 40
"""Rows are factored where the cube of their kept weights is at most this times the columns squared:
a third of that cube, in small factorisations, against some ten steps of two large products."""

_WORKSPACE = 2**22
"""Numbers in the systems that are factored at once."""

_EXCESS = {torch.float32: 1e-2, torch.float64: 1e-22}
"""Of a layer's error, how much of it may be more than the least, by a bound that is mostly ten
times what is left; float64 gives exact weights."""


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
    """Give the solution the optimal weights on its mask.

    They minimise (Q - W) H (Q - W)^T with the damped H over the weights Q on the mask. Narrow
    layers take a Cholesky factorisation for each row, many rows at once; others conjugate gradients
    for all rows together, and a factorisation for what these have not solved after `_MAX_STEPS`
    steps. Dead columns get weight zero.

    Returns
    -------
    Solution
        Its error exceeds the least by about `_EXCESS` of it at most, all rows together.
    """
    curvature = problem.curvature
    mask = solution.mask & ~curvature.dead
    weight = problem.weight.masked_fill(curvature.dead, 0)
    result = solution.weight * mask
    unsolved = torch.ones_like(mask[..., 0])
    most, columns = int(mask.sum(-1).max()), mask.shape[-1]
    if not worth_factoring(most, columns):
        factor = MaskedFactor(curvature.factor.upper, mask.mT.to(weight.dtype).contiguous())
        result = result.mT.contiguous()
        unsolved = _conjugate_gradients_(factor, result, weight.mT)
        result = result.mT
    if unsolved.any():
        _factor_rows_(curvature, result, weight, mask, unsolved)
    return replace(solution, weight=result)


def worth_factoring(kept: int, columns: int) -> bool:
    """Whether rows that keep at most so many weights are factored one by one: a narrow layer."""
    return kept**3 <= _WORTH_FACTORING * columns**2


def quadratic_errors(problem: Problem, weight: Tensor) -> Tensor:
    """(Q - W) H (Q - W)^T with the damped H, of each row of Q: shape (groups, rows)."""
    change = weight - problem.weight
    return problem.curvature.times(change).mul_(change).sum(-1)


def _factor_rows_(
    curvature: Curvature, result: Tensor, weight: Tensor, mask: Tensor, unsolved: Tensor
) -> None:
    """Move the unsolved rows of the result, bool (groups, rows), to the optimum.

    Supports are padded to the largest one, by an identity in the system.
    """
    added, gradient = curvature.added, curvature.times(weight - result)
    most = int(mask.sum(-1).max())
    for index in unsolved.nonzero().split(max(1, _WORKSPACE // max(1, most) ** 2)):
        group, row = index.T
        order = mask[group, row].to(torch.uint8).argsort(dim=-1, descending=True, stable=True)
        order = order[:, :most]
        kept = mask[group, row].gather(-1, order)
        right = gradient[group, row].gather(-1, order).mul_(kept).unsqueeze(-1)
        system = _submatrices(curvature.hessian, group, order)
        if not kept.all():
            system.mul_(kept.unsqueeze(-1)).mul_(kept.unsqueeze(-2))
        diagonal = system.diagonal(dim1=-2, dim2=-1)
        diagonal.add_(torch.where(kept, added[group].gather(-1, order), 1))
        change = torch.cholesky_solve(right, _cholesky(system)).squeeze(-1)
        result[group, row] += torch.zeros_like(result[group, row]).scatter_(-1, order, change)


def _submatrices(matrix: Tensor, group: Tensor, order: Tensor) -> Tensor:
    """Rows and columns of the matrix of a group in an order, (count, size) with a group for each.

    Flat indices are five times as fast as indexing in three dimensions.
    """
    count, size = order.shape
    row = (group * matrix.shape[-1]).unsqueeze(-1) + order
    flat = (row * matrix.shape[-1]).unsqueeze(-1) + order.unsqueeze(-2)
    return matrix.reshape(-1).index_select(0, flat.flatten()).view(count, size, size)


def _cholesky(system: Tensor) -> Tensor:
    """The lower Cholesky factor, by way of float64 where it needs that."""
    lower, failed = torch.linalg.cholesky_ex(system)
    if failed.any():
        lower = torch.linalg.cholesky(in_float64(system)).to(system)
    result: Tensor = lower
    return result


def _conjugate_gradients_(factor: MaskedFactor, result: Tensor, weight: Tensor) -> Tensor:
    """Move the result to the least error; which rows it left unsolved, bool (groups, rows).

    Hestenes and Stiefel (1952), in the variable v of Q = Q_0 + K v, whose matrix is K^T H_SS K
    (`MaskedFactor`). As hardly an eigenvalue of that is less than 1, the squares of the residual
    bound the excess of the error, and end the steps. (What a step gained would end them two or
    three earlier, but misjudges layers of few rows.)

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
    for _ in range(_MAX_STEPS):
        allowed = tolerance * error.sum().clamp(min=0) + floor
        if product.sum() <= allowed:
            return torch.zeros_like(product[:, 0], dtype=torch.bool)
        step, outputs = factor.forward(direction)
        length = _ratio(product, _squares(outputs))
        error = error - length * product
        result.addcmul_(length, step)
        residual.addcmul_(length, factor.backward(outputs), value=-1)
        before, product = product, _squares(residual)
        direction.mul_(_ratio(product, before)).add_(residual)
    allowed = tolerance * error.sum().clamp(min=0) + floor
    unsolved: Tensor = product > allowed / product.numel()
    return unsolved.squeeze(1)


def _squares(matrix: Tensor) -> Tensor:
    """The sum of squares of each row, (groups, 1, rows), of what is (groups, columns, rows)."""
    norm: Tensor = torch.linalg.vector_norm(matrix, dim=-2, keepdim=True)
    return norm.square()


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Quotient; 0 for a row that is solved exactly, whose denominator is 0."""
    return torch.where(denominator > 0, numerator / denominator, 0)
