"""The mask by ADMM: against brute force, against SparseGPT, and where Hessians are awkward."""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from itertools import combinations, product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from sparsecnn import prune
from sparsecnn.errors import UserError
from sparsecnn.pruning.factor import Curvature, damped
from sparsecnn.pruning.leastsquares import quadratic_errors, refit
from sparsecnn.pruning.methods.admm import ADMM
from sparsecnn.pruning.methods.sparsegpt import SparseGPT
from sparsecnn.pruning.patterns import NM, Pattern, Unstructured
from sparsecnn.pruning.problem import Problem, Solution

DAMPING = 0.01


def layer(
    generator: torch.Generator,
    rows: int,
    columns: int,
    pattern: Pattern,
    *,
    groups: int = 1,
    samples: int = 100,
    dtype: torch.dtype = torch.float64,
) -> Problem:
    """Weights of correlated inputs; the pattern covers as many columns as it can."""
    mixing = torch.randn(groups, columns, columns, generator=generator, dtype=torch.float64)
    sources = torch.randn(groups, samples, columns, generator=generator, dtype=torch.float64)
    inputs = (sources @ mixing).relu()
    hessian = (2 / samples * inputs.mT @ inputs).to(dtype)
    weight = torch.randn(groups, rows, columns, generator=generator, dtype=torch.float64).to(dtype)
    covered = columns - columns % pattern.group
    return Problem(weight, Curvature(hessian, DAMPING), pattern, covered)


def masks_of_a_row(pattern: NM, columns: int) -> Iterator[Tensor]:
    kept = list(combinations(range(pattern.group), pattern.kept))
    for chosen in product(kept, repeat=columns // pattern.group):
        mask = torch.zeros(columns, dtype=torch.bool)
        for group, places in enumerate(chosen):
            mask[[group * pattern.group + place for place in places]] = True
        yield mask


def least_errors(problem: Problem) -> Tensor:
    """The lowest error of each row over all masks, by the surgeon's formula for a set."""
    assert isinstance(problem.pattern, NM)
    inverse = torch.linalg.inv(damped(problem.curvature.hessian, DAMPING))[0]
    errors = []
    for mask in masks_of_a_row(problem.pattern, problem.prunable):
        removed = problem.weight[0][:, ~mask]
        errors.append((removed @ torch.linalg.inv(inverse[~mask][:, ~mask]) * removed).sum(1))
    return torch.stack(errors).min(0).values


def errors_of(problem: Problem, solution: Solution) -> Tensor:
    return quadratic_errors(problem, refit(problem, solution).weight)


def fits(mask: Tensor, problem: Problem) -> bool:
    covered, pattern = mask[..., : problem.prunable], problem.pattern
    if isinstance(pattern, NM):
        exact = covered.unflatten(-1, (-1, pattern.group)).sum(-1) == pattern.kept
        return bool(exact.all() and mask[..., problem.prunable :].all())
    if pattern.per_row:
        return bool(((~covered).sum(-1) == pattern.removed(covered.shape[-1])).all())
    return int((~covered).sum()) == pattern.removed(covered.numel())


def test_it_is_never_worse_than_sparsegpt_and_mostly_optimal_on_tiny_layers() -> None:
    generator = torch.Generator().manual_seed(0)
    to_optimum, greedy_to_optimum = [], []
    for trial in range(200):
        pattern = (NM(2, 4), NM(1, 4), NM(1, 2), NM(3, 4))[trial % 4]
        columns = pattern.group * (2 + trial % 2)
        problem = layer(generator, 1 + trial % 5, columns, pattern, samples=3 + trial % 60)
        least = least_errors(problem)
        own, greedy = (errors_of(problem, m.solve(problem))[0] for m in (ADMM(), SparseGPT()))
        assert (own <= greedy * (1 + 1e-9)).all()
        assert (own >= least * (1 - 1e-9)).all()
        to_optimum.append(own / least)
        greedy_to_optimum.append(greedy / least)
    assert torch.cat(to_optimum).median() < 1.01
    assert torch.cat(to_optimum).log().mean() < 0.5 * torch.cat(greedy_to_optimum).log().mean()


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 10**6),
    st.sampled_from(
        [NM(2, 4), NM(1, 4), NM(4, 8), Unstructured(0.5, True), Unstructured(0.6, False)]
    ),
    st.integers(1, 3),
    st.integers(1, 8),
    st.integers(3, 40),
    st.integers(2, 80),
)
def test_the_pattern_holds_and_sparsegpt_is_never_better(
    seed: int, pattern: Pattern, groups: int, rows: int, columns: int, samples: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    problem = layer(generator, rows, columns, pattern, groups=groups, samples=samples)
    solution = ADMM().solve(problem)
    assert fits(solution.mask, problem)
    assert torch.equal(solution.weight, solution.weight * solution.mask)
    own, greedy = errors_of(problem, solution), errors_of(problem, SparseGPT().solve(problem))
    if not pattern.per_row:
        own, greedy = own.sum(), greedy.sum()
    assert (own <= greedy * (1 + 1e-9)).all()


def test_it_is_clearly_better_than_sparsegpt_on_layers_of_some_size() -> None:
    generator = torch.Generator().manual_seed(1)
    for pattern in (NM(2, 4), NM(4, 8), Unstructured(0.5, True), Unstructured(0.5, False)):
        problem = layer(generator, 16, 144, pattern, samples=1000)
        own, greedy = (errors_of(problem, m.solve(problem)).sum() for m in (ADMM(), SparseGPT()))
        assert own < 0.95 * greedy


def test_the_order_of_rows_does_not_matter() -> None:
    generator = torch.Generator().manual_seed(2)
    problem = layer(generator, 12, 32, NM(2, 4))
    order = torch.randperm(12, generator=generator)
    whole = ADMM().solve(problem)
    permuted = ADMM().solve(replace(problem, weight=problem.weight[:, order]))
    assert torch.equal(whole.mask[:, order], permuted.mask)
    torch.testing.assert_close(whole.weight[:, order], permuted.weight)


def test_groups_are_solved_as_if_alone() -> None:
    problem = layer(torch.Generator().manual_seed(3), 4, 32, NM(2, 4), groups=3)
    together = ADMM().solve(problem)
    for group in range(3):
        part = slice(group, group + 1)
        curvature = Curvature(problem.curvature.hessian[part], DAMPING)
        alone = replace(problem, weight=problem.weight[part], known=curvature)
        error = errors_of(problem, together)[part].sum()
        own = errors_of(alone, ADMM().solve(alone)).sum()
        torch.testing.assert_close(own, error, rtol=0.05, atol=0)


def test_dead_columns_get_weight_zero_and_change_nothing_else() -> None:
    problem = layer(torch.Generator().manual_seed(4), 6, 32, NM(2, 4))
    hessian = problem.curvature.hessian.clone()
    hessian[:, 8:12] = 0
    hessian[:, :, 8:12] = 0
    solution = ADMM().solve(replace(problem, known=Curvature(hessian, DAMPING)))
    assert (solution.weight[..., 8:12] == 0).all()
    alive = [c for c in range(32) if not 8 <= c < 12]
    without = Problem(
        problem.weight[..., alive], Curvature(hessian[:, alive][:, :, alive], DAMPING), NM(2, 4), 28
    )
    assert torch.equal(ADMM().solve(without).mask, solution.mask[..., alive])


def test_fewer_samples_than_columns() -> None:
    problem = layer(torch.Generator().manual_seed(5), 8, 64, NM(2, 4), samples=5)
    solution = ADMM().solve(problem)
    assert fits(solution.mask, problem)
    greedy = errors_of(problem, SparseGPT().solve(problem))
    assert (errors_of(problem, solution) <= greedy * (1 + 1e-9)).all()


def test_float32_is_as_good_as_float64() -> None:
    exact = layer(torch.Generator().manual_seed(6), 32, 144, NM(2, 4), samples=1000)
    rough = Problem(
        exact.weight.float(), Curvature(exact.curvature.hessian.float(), DAMPING), NM(2, 4), 144
    )
    fine, coarse = ADMM().solve(exact), ADMM().solve(rough)
    assert (fine.mask == coarse.mask).double().mean() > 0.99
    error = errors_of(exact, replace(coarse, weight=coarse.weight.double())).sum()
    torch.testing.assert_close(error, errors_of(exact, fine).sum(), rtol=1e-3, atol=0)


def test_a_layer_that_saw_only_zeros_still_gets_the_pattern() -> None:
    problem = Problem(torch.randn(1, 4, 8), Curvature(torch.zeros(1, 8, 8), DAMPING), NM(2, 4), 8)
    assert fits(ADMM().solve(problem).mask, problem)


def test_what_became_of_it_is_noted() -> None:
    problem = layer(torch.Generator().manual_seed(7), 4, 32, NM(2, 4))
    (note,) = ADMM().solve(problem).notes
    assert note.startswith("ADMM settled after ")
    (note,) = ADMM(penalty=1e-9, growth=1.0001, steps=1).solve(problem).notes
    assert note.startswith("ADMM did not settle: ")


def test_prune_combines_it_with_what_serves_it_best() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(4, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3))
    twin, images = deepcopy(network), torch.randn(8, 4, 8, 8)
    result = prune(network, images, method="admm")
    prune(twin, images, method="admm", calibration="sequential", target="dense", refit=True)
    assert all("ADMM settled" in layer.notes for layer in result.layers)
    for own, other in zip(network.parameters(), twin.parameters(), strict=True):
        assert torch.equal(own, other)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"penalty": 0}, "penalty must be positive, not 0"),
        ({"growth": 1.0}, "growth must be more than 1, not 1"),
        ({"steps": 0}, "steps must be at least 1, not 0"),
    ],
)
def test_bad_options(options: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ADMM(**options)  # type: ignore[arg-type]
