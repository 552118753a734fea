"""The loss as a function of a network's weights: its slope, its curvature, its quadratic model.

The loss is the mean cross-entropy over given images, without weight decay, and the network stays in
the mode it is in: in eval mode (batch norm with its running statistics, no dropout) all numbers
repeat. Vectors are flat, over all parameters in the order of `model.parameters()`.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.linalg import eigh_tridiagonal
from torch import Tensor, nn
from torch.nn import functional

from sparsecnn.float64 import in_float64

Batch = tuple[Tensor, Tensor]
"""Network inputs, float (N, C, H, W), and labels, int64 (N,), on the model's device."""


@dataclass(frozen=True)
class Eigenvalues:
    """Both ends of a symmetric matrix's spectrum, as far as Lanczos's method has come."""

    largest: float
    residual: float
    """Norm of A v - `largest` v for the unit vector v found: an eigenvalue lies within it."""
    smallest: float
    """No eigenvalue estimate of its own, but an upper bound on the smallest one."""
    iterations: int
    converged: bool


@dataclass(frozen=True)
class LossChange:
    """What a change d of the weights does to the loss, and what its quadratic model says.

    The model is g d + d^T H d / 2 with the gradient g and the Hessian H before the change.
    """

    measured: float
    first_order: float
    """g d"""
    second_order: float
    """d^T H d / 2"""
    distance: float
    """Norm of d."""


def mean_loss(model: nn.Module, batches: Sequence[Batch]) -> float:
    """Mean cross-entropy in nats, summed in float64."""
    with torch.no_grad():
        return sum(float(part) for part in _parts(model, batches))


def gradient(model: nn.Module, batches: Sequence[Batch]) -> Tensor:
    """Gradient of the loss, shape (parameters,), of the parameters' dtype."""
    parameters = list(model.parameters())
    total = torch.zeros_like(flat(parameters))
    for part in _parts(model, batches):
        total += flat(torch.autograd.grad(part, parameters, materialize_grads=True))
    return total


def hessian_product(model: nn.Module, batches: Sequence[Batch], vector: Tensor) -> Tensor:
    """The loss's Hessian times `vector`, shape (parameters,), by differentiating twice.

    Pearlmutter, Neural Computation 6 (1994). Takes about as long as four forward passes; memory is
    that of one batch.
    """
    parameters = list(model.parameters())
    total = torch.zeros_like(vector)
    for part in _parts(model, batches):
        slopes = torch.autograd.grad(part, parameters, create_graph=True, materialize_grads=True)
        along = torch.dot(flat(slopes), vector)
        total += flat(torch.autograd.grad(along, parameters, materialize_grads=True))
    return total


def extreme_eigenvalues(
    product: Callable[[Tensor], Tensor],
    start: Tensor,
    *,
    tolerance: float = 0.01,
    iterations: int = 100,
) -> Eigenvalues:
    """Largest and smallest eigenvalue of a symmetric matrix, from its products with vectors.

    Lanczos's method with three vectors of memory. Without reorthogonalisation found eigenvalues
    may appear again, but no false ones (Paige, Linear Algebra Appl. 34, 1980); the residual is
    Saad, Numerical Methods for Large Eigenvalue Problems, 2011, proposition 6.8.

    Parameters
    ----------
    product
        Maps a vector to the matrix times it.
    start
        Any vector with a share of the eigenvectors sought: random, shape (n,), not zero.
    tolerance
        Residual of the largest eigenvalue, relative to it, at which to stop.
    iterations
        Products after which to stop in any case.
    """
    vector = start / norm(start)
    previous, beta = torch.zeros_like(vector), 0.0
    diagonal: list[float] = []
    beside: list[float] = []
    while True:
        image = product(vector) - beta * previous
        diagonal.append(_dot(image, vector))
        image = image - diagonal[-1] * vector
        beta = norm(image)
        values, vectors = eigh_tridiagonal(np.asarray(diagonal), np.asarray(beside))
        residual = beta * abs(float(vectors[-1, -1]))
        converged = residual <= tolerance * abs(float(values[-1]))
        if converged or len(diagonal) == iterations:
            return Eigenvalues(
                float(values[-1]), residual, float(values[0]), len(diagonal), converged
            )
        previous, vector = vector, image / beta
        beside.append(beta)


def loss_change(
    dense: nn.Module, pruned: nn.Module, batches: Sequence[Batch], slope: Tensor
) -> LossChange | None:
    """Compare the change of the loss by pruning with its quadratic model at the dense network.

    None where more than parameters differs between the two (batch-norm statistics measured anew):
    then no change of parameters leads from one loss to the other. `slope` is the `gradient` of the
    dense network.
    """
    if not all(a.equal(b) for a, b in zip(dense.buffers(), pruned.buffers(), strict=True)):
        return None
    with torch.no_grad():
        change = flat(list(pruned.parameters())) - flat(list(dense.parameters()))
    return LossChange(
        measured=mean_loss(pruned, batches) - mean_loss(dense, batches),
        first_order=_dot(slope, change),
        second_order=_dot(change, hessian_product(dense, batches, change)) / 2,
        distance=norm(change),
    )


def flat(tensors: Sequence[Tensor]) -> Tensor:
    """All elements one after another, shape (elements,)."""
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def norm(vector: Tensor) -> float:
    """Euclidean norm, in float64."""
    return math.sqrt(_dot(vector, vector))


def _parts(model: nn.Module, batches: Sequence[Batch]) -> Iterator[Any]:
    """Each batch's share of the mean loss, in float64; the shares add up to it."""
    n = sum(len(labels) for _, labels in batches)
    for inputs, labels in batches:
        losses = functional.cross_entropy(model(inputs), labels, reduction="none")
        yield in_float64(losses).sum() / n


def _dot(a: Tensor, b: Tensor) -> float:
    return float(torch.dot(in_float64(a), in_float64(b)))
