"""How well a layer's inputs determine its weights: the spectrum of its input Hessian."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sparsecnn.float64 import in_float64

DAMPING = 0.01
"""What pruning adds to the diagonal unless told otherwise, as a fraction of its mean."""


@dataclass(frozen=True)
class Conditioning:
    """Of the matrix X X^T of a layer's inputs, which layer-wise pruning inverts."""

    columns: int
    """Its size: inputs times kernel positions of one output (of all groups together)."""
    effective_rank: float
    """Between 0 (of a zero matrix) and `columns`."""
    condition: float
    """Largest over smallest eigenvalue, both with the damping added; 1 of a zero matrix."""


def conditioning(hessian: Tensor, damping: float = DAMPING) -> Conditioning:
    """Effective rank and condition number of a positive semidefinite matrix.

    The effective rank is the exponential of the entropy of the eigenvalues as shares of their sum
    (Roy & Vetterli, EUSIPCO 2007): n for n equal eigenvalues, 1 for a single one.

    Parameters
    ----------
    hessian
        Shape (groups, columns, columns), symmetric; the groups of a convolution are taken as the
        blocks of one matrix. Its scale does not matter.
    damping
        Added to the eigenvalues for the condition number, as a fraction of their mean.
    """
    found = torch.linalg.eigvalsh(in_float64(hessian)).flatten().clamp(min=0).cpu()
    total = float(found.sum())
    if total == 0:
        return Conditioning(len(found), 0.0, 1.0)
    shares = found / total
    entropy = float(torch.special.entr(shares).sum())
    shift = damping / len(found)
    condition = float((shares.max() + shift) / (shares.min() + shift))
    return Conditioning(len(found), math.exp(entropy), condition)
