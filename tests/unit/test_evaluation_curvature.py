"""Against the whole Hessian, by torch's own functional.hessian, of networks of a few weights."""

import copy
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from sparsecnn.evaluation.curvature import (
    Batch,
    extreme_eigenvalues,
    flat,
    gradient,
    hessian_product,
    loss_change,
    mean_loss,
)


def network(channels: int, classes: int) -> nn.Module:
    """Convolution, batch norm with statistics of its own, linear layer; float64, eval mode."""
    model = nn.Sequential(
        nn.Conv2d(1, channels, 2),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(4 * channels, classes),
    )
    model.unused = nn.Parameter(torch.ones(2))
    with torch.no_grad():
        model[1].running_mean.normal_()
        model[1].running_var.uniform_(0.5, 2)
    return model.double().eval()


@st.composite
def cases(draw: st.DrawFn) -> tuple[nn.Module, list[Batch]]:
    torch.manual_seed(draw(st.integers(0, 10**6)))
    model = network(draw(st.integers(1, 3)), classes := draw(st.integers(2, 4)))
    sizes = draw(st.lists(st.integers(1, 5), min_size=1, max_size=3))
    return model, [
        (torch.randn(n, 1, 3, 3, dtype=torch.float64), torch.randint(classes, (n,))) for n in sizes
    ]


def whole(model: nn.Module, batches: Sequence[Batch]) -> tuple[Tensor, Tensor, Tensor]:
    """Loss, gradient and Hessian over a flat vector of weights, all images at once."""
    named = dict(model.named_parameters())
    images = torch.cat([images for images, _ in batches])
    labels = torch.cat([labels for _, labels in batches])

    def loss(vector: Tensor) -> Tensor:
        parts = vector.split([p.numel() for p in named.values()])
        weights = {k: part.view_as(p) for (k, p), part in zip(named.items(), parts, strict=True)}
        return functional.cross_entropy(functional_call(model, weights, (images,)), labels)

    at = flat(list(named.values())).detach()
    hessian = torch.autograd.functional.hessian(loss, at)
    return loss(at), torch.autograd.functional.jacobian(loss, at), hessian


@settings(deadline=None, max_examples=25)
@given(cases())
def test_loss_gradient_and_products_are_those_of_the_whole_hessian(
    case: tuple[nn.Module, list[Batch]],
) -> None:
    model, batches = case
    loss, slope, hessian = whole(model, batches)
    vector = torch.randn(len(slope), dtype=torch.float64)
    assert mean_loss(model, batches) == pytest.approx(float(loss))
    torch.testing.assert_close(gradient(model, batches), slope)
    torch.testing.assert_close(hessian_product(model, batches, vector), hessian @ vector)
    assert all(parameter.grad is None for parameter in model.parameters())


@settings(deadline=None, max_examples=25)
@given(cases())
def test_the_quadratic_model_of_a_change_is_the_plain_one(
    case: tuple[nn.Module, list[Batch]],
) -> None:
    model, batches = case
    loss, slope, hessian = whole(model, batches)
    pruned = copy.deepcopy(model)
    with torch.no_grad():
        pruned[0].weight[:, :, 0] = 0
        pruned[5].weight += 0.1
    change = (flat(list(pruned.parameters())) - flat(list(model.parameters()))).detach()
    found = loss_change(model, pruned, batches, gradient(model, batches))
    assert found is not None
    assert found.measured == pytest.approx(float(whole(pruned, batches)[0] - loss), abs=1e-12)
    assert found.first_order == pytest.approx(float(slope @ change), abs=1e-12)
    assert found.second_order == pytest.approx(float(change @ hessian @ change) / 2, abs=1e-12)
    assert found.distance == pytest.approx(float(change.norm()))


def test_a_small_change_is_predicted_exactly_and_other_statistics_not_at_all() -> None:
    torch.manual_seed(0)
    model = network(2, 3)
    batches = [(torch.randn(6, 1, 3, 3, dtype=torch.float64), torch.arange(6) % 3)]
    near = copy.deepcopy(model)
    with torch.no_grad():
        near[5].weight += 1e-3
    found = loss_change(model, near, batches, gradient(model, batches))
    assert found is not None
    assert found.measured == pytest.approx(found.first_order + found.second_order, rel=1e-4)
    near[1].running_mean += 1
    assert loss_change(model, near, batches, gradient(model, batches)) is None


@settings(deadline=None, max_examples=50)
@given(
    n=st.integers(1, 40),
    rank=st.integers(0, 40),
    seed=st.integers(0, 10**6),
    sign=st.sampled_from([-1, 1]),
)
def test_eigenvalues_are_those_of_the_matrix(n: int, rank: int, seed: int, sign: int) -> None:
    """Also of matrices of low rank, of none, and of negative ones."""
    torch.manual_seed(seed)
    factor = torch.randn(n, min(rank, n), dtype=torch.float64)
    matrix = sign * factor @ factor.T
    exact = torch.linalg.eigvalsh(matrix)
    start = torch.randn(n, dtype=torch.float64)
    found = extreme_eigenvalues(lambda v: matrix @ v, start, tolerance=1e-6, iterations=200)
    size = float(exact.abs().max())
    near = (exact - found.largest).abs().min()
    assert near <= found.residual + 1e-9 * (1 + size)
    assert found.smallest >= float(exact[0]) - 1e-9 * (1 + size)
    if sign > 0:
        assert found.converged
        assert found.largest == pytest.approx(float(exact[-1]), rel=1e-5, abs=1e-9)


def test_without_convergence_the_residual_says_so() -> None:
    matrix = torch.diag(torch.linspace(-3, 1, 400, dtype=torch.float64))
    start = torch.ones(400, dtype=torch.float64)
    found = extreme_eigenvalues(lambda v: matrix @ v, start, tolerance=1e-9, iterations=5)
    assert (found.iterations, found.converged) == (5, False)
    assert found.residual > 1e-3
    more = extreme_eigenvalues(lambda v: matrix @ v, start, tolerance=1e-3, iterations=400)
    assert more.converged
    assert more.residual <= 1e-3
    assert more.largest == pytest.approx(1, abs=1e-3)
    assert np.isclose(more.smallest, -3, atol=0.05)


def test_the_hessian_of_a_network_has_the_eigenvalue_found() -> None:
    torch.manual_seed(3)
    model = network(3, 4)
    batches = [(torch.randn(8, 1, 3, 3, dtype=torch.float64), torch.arange(8) % 4)]
    _, slope, hessian = whole(model, batches)
    found = extreme_eigenvalues(
        lambda v: hessian_product(model, batches, v), torch.randn_like(slope), tolerance=1e-6
    )
    exact = torch.linalg.eigvalsh(hessian)
    assert found.largest == pytest.approx(float(exact[-1]), rel=1e-6)
    assert found.smallest >= float(exact[0]) - 1e-9
