"""Exact least squares: the best weights for wanted outputs, dense or on a given mask."""

import torch
from torch import Tensor

from sparsecnn.pruning.factor import Curvature, damped
from sparsecnn.pruning.problem import Problem


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


def refit(problem: Problem, mask: Tensor, max_bytes: int) -> Tensor:
    """The optimal weights on a mask: least (Q - W) H (Q - W)^T with the damped H, row by row.

    Dead columns get weight zero.

    Parameters
    ----------
    mask
        bool, shape (groups, rows, columns), True where a weight may differ from zero.
    max_bytes
        Bound on the memory for the systems of several rows (one is always taken).

    Returns
    -------
    Tensor
        Shape (groups, rows, columns).
    """
    curvature = problem.curvature
    mask = mask & ~curvature.dead
    result = torch.zeros_like(problem.weight)
    weight = problem.weight.masked_fill(curvature.dead, 0)
    for group, hessian in enumerate(damped(curvature.hessian, curvature.factor.damping)):
        right = weight[group] @ hessian
        size = max(1, int(mask[group].sum(-1).max()))
        step = max(1, max_bytes // (2 * size * size * hessian.itemsize))
        for start in range(0, len(right), step):
            rows = slice(start, start + step)
            result[group, rows] = _refit_rows(hessian, right[rows], mask[group, rows], size)
    return result


def _refit_rows(hessian: Tensor, right: Tensor, mask: Tensor, size: int) -> Tensor:
    """Solve one (size, size) system per row; rows that keep fewer weights are padded."""
    kept, columns = mask.to(torch.uint8).sort(dim=-1, descending=True, stable=True)
    kept, columns = kept[:, :size].bool(), columns[:, :size]
    systems = hessian[columns.unsqueeze(2), columns.unsqueeze(1)]
    systems.masked_fill_(~(kept.unsqueeze(2) & kept.unsqueeze(1)), 0)
    systems.diagonal(dim1=-2, dim2=-1).masked_fill_(~kept, 1)
    wanted = right.gather(-1, columns).masked_fill_(~kept, 0)
    factor = torch.linalg.cholesky(systems)
    solution = torch.cholesky_solve(wanted.unsqueeze(-1), factor).squeeze(-1)
    return torch.zeros_like(right).scatter_(-1, columns, solution)
