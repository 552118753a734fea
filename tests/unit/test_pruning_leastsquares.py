import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sparsecnn.pruning import leastsquares, triangular
from sparsecnn.pruning.factor import Curvature, damped
from sparsecnn.pruning.leastsquares import refit, retargeted
from sparsecnn.pruning.patterns import NM
from sparsecnn.pruning.problem import Problem, Solution


@st.composite
def cases(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Inputs (groups, n, columns), wanted outputs, weight and a mask."""
    groups, rows = draw(st.integers(1, 2)), draw(st.integers(1, 5))
    columns, count = draw(st.integers(2, 12)), draw(st.integers(1, 30))
    torch.manual_seed(draw(st.integers(0, 10**6)))
    inputs = torch.randn(groups, count, columns, dtype=torch.float64)
    outputs = torch.randn(groups, count, rows, dtype=torch.float64)
    weight = torch.randn(groups, rows, columns, dtype=torch.float64)
    mask = torch.rand(groups, rows, columns) < draw(st.sampled_from([0.3, 0.5, 0.9]))
    return inputs, outputs, weight, mask


def penalty(hessian: Tensor) -> float:
    """Square root of what the damping adds to the diagonal, for augmented least squares."""
    return float((0.01 * hessian.diagonal().mean()).sqrt())


@settings(deadline=None, max_examples=30)
@given(
    cases(),
    st.sampled_from([(0, 300), (300, 0), (0, 0)]),
    st.sampled_from([1, 5, 32]),
    st.sampled_from([0, 5]),
)
def test_refit_is_the_least_squares_optimum(
    case: tuple[Tensor, Tensor, Tensor, Tensor], how: tuple[int, int], block: int, terms: int
) -> None:
    worth, steps = how
    inputs, _, weight, mask = case
    hessian = 2 / inputs.shape[1] * inputs.mT @ inputs
    problem = Problem(weight, Curvature(hessian, 0.01), NM(2, 4), weight.shape[-1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(leastsquares, "_MAX_STEPS", steps)
        patch.setattr(leastsquares, "_WORTH_FACTORING", worth)
        patch.setattr(leastsquares, "_WORKSPACE", 100)
        patch.setattr(triangular, "_BLOCK", block)
        patch.setattr(triangular, "_TERMS", terms)
        result = refit(problem, Solution(weight * mask, mask)).weight
    columns = weight.shape[-1]
    for g, row in torch.cartesian_prod(torch.arange(len(weight)), torch.arange(weight.shape[1])):
        ridge = penalty(hessian[g]) * torch.eye(columns, dtype=torch.float64)
        design = torch.cat([(2 / inputs.shape[1]) ** 0.5 * inputs[g], ridge])
        kept = mask[g, row]
        expected = torch.zeros(columns, dtype=torch.float64)
        best = torch.linalg.lstsq(design[:, kept], (design @ weight[g, row])[:, None])
        expected[kept] = best.solution[:, 0]
        torch.testing.assert_close(result[g, row], expected, rtol=1e-8, atol=1e-8)


@settings(deadline=None, max_examples=20)
@given(cases())
def test_retargeted_weight_is_the_damped_regression_on_the_wanted_outputs(
    case: tuple[Tensor, Tensor, Tensor, Tensor],
) -> None:
    inputs, outputs, weight, _ = case
    scale = 2 / inputs.shape[1]
    hessian, cross = scale * inputs.mT @ inputs, scale * outputs.mT @ inputs
    result = retargeted(weight, cross, Curvature(hessian, 0.01))
    for g in range(len(weight)):
        ridge = penalty(hessian[g]) * torch.eye(weight.shape[-1], dtype=torch.float64)
        design = torch.cat([scale**0.5 * inputs[g], ridge])
        wanted = torch.cat([scale**0.5 * outputs[g], ridge @ weight[g].T])
        expected = torch.linalg.lstsq(design, wanted).solution.T
        torch.testing.assert_close(result[g], expected, rtol=1e-7, atol=1e-7)


def test_refit_of_a_full_mask_changes_nothing_and_dead_columns_become_zero() -> None:
    inputs = torch.randn(1, 20, 6, dtype=torch.float64)
    inputs[..., 2] = 0
    hessian = inputs.mT @ inputs / 10
    weight = torch.randn(1, 3, 6, dtype=torch.float64)
    problem = Problem(weight, Curvature(hessian, 0.01), NM(2, 4), 6)
    mask = torch.ones_like(weight, dtype=torch.bool)
    result = refit(problem, Solution(torch.zeros_like(weight), mask)).weight
    expected = weight.clone()
    expected[..., 2] = 0
    torch.testing.assert_close(result, expected)


@settings(deadline=None, max_examples=15)
@given(
    st.integers(0, 10**6),
    st.sampled_from([0, 300]),
    st.sampled_from([20, 400]),
    st.sampled_from(["2:4", "unstructured", "dense tail"]),
    st.sampled_from([leastsquares._EXCESS[torch.float32], 1e-6]),
)
def test_float32_comes_as_near_to_the_least_error_as_it_says(
    seed: int, worth: int, count: int, kind: str, excess: float
) -> None:
    torch.manual_seed(seed)
    sources = torch.randn(2, count, 12, dtype=torch.float64) @ torch.randn(2, 12, 80).double()
    inputs = (sources + torch.randn_like(sources)).relu()  # correlated and of a mean, as in CNNs
    inputs[..., 7] = 0
    hessian = (2 / count * inputs.mT @ inputs).float()
    weight, scores = torch.randn(2, 9, 80), torch.rand(2, 9, 20, 4)
    mask = (scores.argsort(-1).argsort(-1) < 2).flatten(-2)
    if kind == "unstructured":
        mask = scores.flatten(-2) < torch.rand(2, 9, 1)
    mask[..., 60:] |= kind == "dense tail"
    mask[:, 3] = False
    problem = Problem(weight, Curvature(hessian, 0.01), NM(2, 4), 80)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(leastsquares, "_WORTH_FACTORING", worth)
        patch.setitem(leastsquares._EXCESS, torch.float32, excess)
        result = refit(problem, Solution(weight * mask, mask)).weight
    assert not result[~mask].any()
    assert not result[..., 7].any()
    exact = damped(hessian.double(), 0.01)
    weight[..., 7] = 0
    wide = Problem(weight.double(), Curvature(hessian.double(), 0.01), NM(2, 4), 80)
    best = refit(wide, Solution(wide.weight * mask, mask)).weight  # a factorisation of each row

    def error(of: Tensor) -> float:
        deviation = of.double() - wide.weight
        return float((deviation @ exact * deviation).sum())

    assert error(result) <= (1 + 2 * excess) * error(best)


def test_blocks_as_large_as_on_a_gpu_take_hardly_more_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sources = torch.randn(1, 900, 60) @ torch.randn(1, 60, 600)
    inputs = (sources + torch.randn_like(sources)).relu()
    weight, mask = torch.randn(1, 8, 600), torch.rand(1, 8, 600) < 0.5
    problem = Problem(weight, Curvature(inputs.mT @ inputs / 450, 0.01), NM(2, 4), 600)
    steps, step = [0, 0], triangular.MaskedFactor.backward
    for number, block in enumerate([triangular._BLOCK, triangular._PANEL]):

        def counted(self: triangular.MaskedFactor, outputs: Tensor, number: int = number) -> Tensor:
            steps[number] += 1
            return step(self, outputs)

        monkeypatch.setattr(triangular.MaskedFactor, "backward", counted)
        monkeypatch.setattr(triangular, "_BLOCK", block)
        refit(problem, Solution(weight * mask, mask))
    assert 2 < steps[1] <= 1.2 * steps[0]


def test_damping_is_relative_to_the_mean_of_the_live_diagonal() -> None:
    hessian = torch.diag(torch.tensor([2.0, 0.0, 4.0]))[None]
    assert damped(hessian, 0.5).diagonal(dim1=-2, dim2=-1).tolist() == [[3.5, 4.5, 5.5]]
    assert torch.equal(damped(hessian * 0, 0.5), 1.5 * torch.eye(3)[None])
