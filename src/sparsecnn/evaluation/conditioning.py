"""How well a layer's inputs determine its weights: the spectrum of its input Hessian."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sparsecnn.float64 import in_float64

DAMPING = 0.01
"""What pruning adds to the diagonal unless told otherwise, as a fraction of its mean."""

MATRICES = 6
"""Of the size of a float32 matrix that there are at once while it is measured: itself, the same in
float64, and as much again for its eigenvalues."""


@dataclass(frozen=True)
class Conditioning:
    """Of the matrix X X^T of a layer's inputs, which layer-wise pruning inverts."""

    columns: int
    """Its size: inputs times kernel positions of one output (of all groups together)."""
    effective_rank: float
    """Between 0 (of a zero matrix) and `columns`."""
    condition: float
    """Largest over smallest eigenvalue of the damped matrix, which is what is factored; of the
    groups of a convolution, which are factored one by one, the worst. 1 of a zero matrix."""


def conditioning(hessian: Tensor, damping: float = DAMPING) -> Conditioning:
    """Effective rank and condition number of a positive semidefinite matrix.

    The effective rank is the exponential of the entropy of the eigenvalues as shares of their sum
    (Roy & Vetterli, EUSIPCO 2007): n for n equal eigenvalues, 1 for a single one.

    Parameters
    ----------
    hessian
        Shape (groups, columns, columns), symmetric; for the effective rank the groups of a
        convolution are taken as the blocks of one matrix. Its scale does not matter.
    damping
        Added to the diagonal for the condition number, as a fraction of its mean over live columns
        (those that some input reached), group by group. The diagonal of the others is set to the
        mean.
    """
    eigenvalues = torch.linalg.eigvalsh(in_float64(hessian)).clamp(min=0).cpu()
    total = float(eigenvalues.sum())
    columns = eigenvalues.numel()
    if total == 0:
        return Conditioning(columns, 0.0, 1.0)
    entropy = float(torch.special.entr(eigenvalues / total).sum())
    live = (hessian.diagonal(dim1=-2, dim2=-1) > 0).sum(-1, keepdim=True).cpu()
    reached = live.squeeze(-1) > 0
    eigenvalues, live = eigenvalues[reached], live[reached]
    added = damping * eigenvalues.sum(-1, keepdim=True) / live
    # Each dead column has an eigenvalue of 0, sorted first, which the damped matrix has not.
    least = eigenvalues.gather(-1, eigenvalues.shape[-1] - live)
    condition = float(((eigenvalues[:, -1:] + added) / (least + added)).max())
    return Conditioning(columns, math.exp(entropy), condition)
