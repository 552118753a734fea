from collections.abc import Callable
from dataclasses import replace
from math import comb
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pruning_oracles import (
    greedy_obs,
    group_masks,
    joint_sparsegpt,
    static_obs,
    textbook_sparsegpt,
)
from torch import Tensor

from sparsecnn.errors import UserError
from sparsecnn.pruning.factor import Curvature, NoFactorError, damped, reverse_cholesky
from sparsecnn.pruning.leastsquares import refit
from sparsecnn.pruning.methods.exact_obs import ExactOBS
from sparsecnn.pruning.methods.magnitude import Magnitude
from sparsecnn.pruning.methods.random import Random
from sparsecnn.pruning.methods.sparsegpt import SparseGPT
from sparsecnn.pruning.methods.static_obs import StaticOBS
from sparsecnn.pruning.methods.wanda import Wanda
from sparsecnn.pruning.patterns import NM, Pattern, Unstructured, parse_pattern
from sparsecnn.pruning.problem import Method, Problem, Solution


def problem_of(
    weight: Tensor, hessian: Tensor, pattern: Pattern, prunable: int, damping: float = 0.01
) -> Problem:
    return Problem(weight, Curvature(hessian, damping), pattern, prunable)


@st.composite
def problems(draw: st.DrawFn, *, dead: bool = True) -> Problem:
    group = draw(st.sampled_from([2, 4, 8]))
    kept = draw(st.integers(1, group - 1))
    columns = group * draw(st.integers(1, 6)) + draw(st.integers(0, group - 1))
    groups, rows = draw(st.integers(1, 3)), draw(st.integers(1, 6))
    torch.manual_seed(draw(st.integers(0, 10**6)))
    mixing = torch.randn(groups, columns, columns, dtype=torch.float64)
    inputs = torch.randn(groups, draw(st.integers(2, 80)), columns, dtype=torch.float64) @ mixing
    if dead and draw(st.booleans()):
        inputs[..., draw(st.integers(0, columns - 1))] = 0
    hessian = 2 / inputs.shape[1] * inputs.mT @ inputs
    weight = torch.randn(groups, rows, columns, dtype=torch.float64)
    prunable = columns - columns % group
    return problem_of(weight, hessian, NM(kept, group), prunable)


def squared_error(problem: Problem, solution: Solution) -> float:
    deviation = problem.weight - solution.weight
    return (
        (deviation @ damped(problem.curvature.hessian, problem.curvature.damping) * deviation)
        .sum()
        .item()
    )


@pytest.mark.parametrize(("text", "name"), [("2:4", "2:4"), ("50%", "50%"), ("33.3% per row",) * 2])
def test_patterns_are_written_as_they_are_read(text: str, name: str) -> None:
    assert str(parse_pattern(text)) == name


def test_unstructured_patterns_remove_the_lowest_of_the_layer_or_of_each_row() -> None:
    scores = torch.tensor([[[1.0, 2, 3, 4], [5, 6, 7, 8]]])
    assert parse_pattern("50%").mask(scores).int().tolist() == [[[0, 0, 0, 0], [1, 1, 1, 1]]]
    per_row = parse_pattern("60% per row").mask(scores)
    assert per_row.int().tolist() == [[[0, 0, 1, 1], [0, 0, 1, 1]]]


@settings(deadline=None, max_examples=25)
@given(problems(dead=False), st.sampled_from([0.1, 0.5, 0.75]))
def test_unstructured_sparsegpt_is_the_textbook_loop(problem: Problem, rate: float) -> None:
    columns = problem.weight.shape[-1]
    assume(columns <= 128)
    pattern = Unstructured(rate, per_row=True)
    kept = columns - int(rate * columns)
    solution = SparseGPT().solve(replace(problem, pattern=pattern, prunable=columns))
    exact = ExactOBS().solve(replace(problem, pattern=pattern, prunable=columns))
    for i in range(len(problem.weight)):
        arguments = (problem.weight[i], problem.curvature.hessian[i], kept, columns, columns, 0.01)
        weight, mask = textbook_sparsegpt(*arguments)
        assert torch.equal(solution.mask[i], mask)
        torch.testing.assert_close(solution.weight[i], weight, rtol=1e-7, atol=1e-7)
        torch.testing.assert_close(exact.weight[i], greedy_obs(*arguments), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("method", [Magnitude(), Wanda(), SparseGPT(), StaticOBS()])
@pytest.mark.parametrize("pattern", ["30%", "30% per row"])
def test_unstructured_rates_hold_beyond_one_block(method: Method, pattern: str) -> None:
    torch.manual_seed(0)
    inputs = torch.randn(400, 300)
    problem = problem_of(
        torch.randn(1, 8, 300), (inputs.T @ inputs)[None], parse_pattern(pattern), 300
    )
    zeros = (~method.solve(problem).mask).sum(-1)
    if "row" in pattern:
        assert 90 - 3 <= int(zeros.min()) <= int(zeros.max()) <= 90
    assert 8 * 90 - 24 <= int(zeros.sum()) <= 8 * 90


@pytest.mark.parametrize("percent", range(1, 100))
def test_a_rate_in_percent_of_a_hundred_weights_is_met_exactly(percent: int) -> None:
    """0.29 * 100 is less than 29 in binary."""
    pattern = parse_pattern(f"{percent}% per row")
    assert int((~pattern.mask(torch.rand(1, 100))).sum()) == percent
    weight = torch.rand(1, 1, 100)
    solution = ExactOBS().solve(problem_of(weight, torch.eye(100)[None], pattern, 100))
    assert int((~solution.mask).sum()) == percent


@pytest.mark.parametrize("block_size", [9, 50, 128, 400])
def test_the_block_size_of_static_obs_changes_no_mask(block_size: int) -> None:
    torch.manual_seed(0)
    inputs = torch.randn(400, 300, dtype=torch.float64)
    problem = problem_of(
        torch.randn(1, 8, 300, dtype=torch.float64),
        (inputs.T @ inputs)[None],
        parse_pattern("50% per row"),
        300,
    )
    expected, found = StaticOBS().solve(problem), StaticOBS(block_size).solve(problem)
    assert torch.equal(found.mask, expected.mask)
    torch.testing.assert_close(found.weight, expected.weight)


def test_exact_obs_goes_row_by_row() -> None:
    problem = problem_of(torch.ones(1, 2, 4), torch.eye(4)[None], parse_pattern("50%"), 4)
    with pytest.raises(UserError, match="has to be '50% per row'"):
        ExactOBS().solve(problem)


@pytest.mark.parametrize(
    "text",
    ["5:4", "4:4", "2:0", "0:4", "a:b", "2", "2:4:8", "", "-1:4", "2.0:4", "0%", "100%", "%", "50"],
)
def test_bad_patterns_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="write N:M"):
        parse_pattern(text)


def test_pattern_keeps_the_highest_and_the_earlier_of_equals() -> None:
    scores = torch.tensor([[1.0, 3, 2, 4, 0, 0, 0, 0], [5.0, 5, 5, 5, 1, 2, 1, 2]])
    expected = [[0, 1, 0, 1, 1, 1, 0, 0], [1, 1, 0, 0, 0, 1, 0, 1]]
    assert parse_pattern("2:4").mask(scores).int().tolist() == expected


@given(st.integers(0, 10**6), st.integers(2, 12), st.data())
def test_patterns_compare_few_weights_as_they_sort_many(
    seed: int, group: int, data: st.DataObject
) -> None:
    kept = data.draw(st.integers(1, group - 1))
    scores = torch.randint(4, (3, 5 * group), generator=torch.Generator().manual_seed(seed))
    order = scores.view(3, 5, group).argsort(dim=-1, descending=True, stable=True)
    expected = order.argsort(-1) < kept
    assert torch.equal(NM(kept, group).mask(scores), expected.view(3, -1))


@settings(deadline=None, max_examples=20)
@given(problems())
def test_magnitude_loses_the_least_magnitude_of_all_masks(problem: Problem) -> None:
    solution = Magnitude().solve(problem)
    kept, group = problem.pattern.kept, problem.pattern.group
    covered = problem.weight[..., : problem.prunable].abs()
    groups = covered.reshape(*covered.shape[:-1], -1, 1, group)
    best = (groups * group_masks(kept, group)).sum(-1).amax(-1).sum()
    torch.testing.assert_close(solution.weight[..., : problem.prunable].abs().sum(), best)
    tail = slice(problem.prunable, None)
    assert torch.equal(solution.weight[..., tail], problem.weight[..., tail])
    assert torch.equal(solution.weight, problem.weight * solution.mask)


@settings(deadline=None, max_examples=20)
@given(problems(), st.sampled_from([1, 8, 128]))
def test_sparsegpt_is_the_textbook_loop(problem: Problem, block_size: int) -> None:
    solution = SparseGPT(block_size=block_size).solve(problem)
    for i in range(len(problem.weight)):
        weight, mask = textbook_sparsegpt(
            problem.weight[i],
            problem.curvature.hessian[i],
            problem.pattern.kept,
            problem.pattern.group,
            problem.prunable,
            problem.curvature.damping,
        )
        assert torch.equal(solution.mask[i], mask)
        torch.testing.assert_close(solution.weight[i], weight, rtol=1e-7, atol=1e-7)


LIVE = problems(dead=False)


@settings(deadline=None, max_examples=25)
@given(
    LIVE,
    st.sampled_from(
        [
            (SparseGPT(selection="joint"), joint_sparsegpt),
            (SparseGPT(selection="joint", block_size=4), joint_sparsegpt),
            (ExactOBS(), greedy_obs),
            (ExactOBS(workspace_mb=0), greedy_obs),
            (StaticOBS(), static_obs),
            (StaticOBS(block_size=4), static_obs),
        ]
    ),
)
def test_methods_against_oracles(
    problem: Problem, pair: tuple[Method, Callable[..., Tensor]]
) -> None:
    method, oracle = pair
    assume(comb(problem.pattern.group, problem.pattern.kept) <= 28)
    solution = method.solve(problem)
    for i in range(len(problem.weight)):
        expected = oracle(
            problem.weight[i],
            problem.curvature.hessian[i],
            problem.pattern.kept,
            problem.pattern.group,
            problem.prunable,
            problem.curvature.damping,
        )
        torch.testing.assert_close(solution.weight[i], expected, rtol=1e-6, atol=1e-6)


@settings(deadline=None, max_examples=25)
@given(problems())
def test_joint_selection_is_optimal_for_a_single_group(problem: Problem) -> None:
    size = problem.pattern.group
    hessian = problem.curvature.hessian[..., :size, :size]
    small = problem_of(problem.weight[..., :size], hessian, problem.pattern, size)
    solution = SparseGPT(selection="joint").solve(small)
    costs = []
    for mask in group_masks(problem.pattern.kept, size):
        chosen = mask.expand_as(small.weight)
        best = refit(small, Solution(small.weight * chosen, chosen)).weight
        deviation = small.weight.masked_fill(small.curvature.dead, 0) - best
        costs.append((deviation @ damped(hessian, 0.01) * deviation).sum(-1))
    deviation = small.weight.masked_fill(small.curvature.dead, 0) - solution.weight
    cost = (deviation @ damped(hessian, 0.01) * deviation).sum(-1)
    torch.testing.assert_close(cost, torch.stack(costs).amin(0), rtol=1e-7, atol=1e-9)


@settings(deadline=None, max_examples=20)
@given(problems(), st.sampled_from(["diagonal", "joint"]))
def test_column_order_is_that_of_the_permuted_problem(problem: Problem, selection: str) -> None:
    method = SparseGPT(selection=selection, column_order="importance")
    size, covered = problem.pattern.group, problem.prunable
    sums = problem.curvature.hessian.diagonal(dim1=-2, dim2=-1).sum(0)[:covered]
    groups = sorted(range(covered // size), key=lambda g: -sums[g * size : (g + 1) * size].sum())
    order = [g * size + i for g in groups for i in range(size)]
    order += range(covered, problem.weight.shape[-1])
    natural = SparseGPT(selection=selection).solve(problem.permuted(torch.tensor(order)))
    solution = method.solve(problem)
    assert torch.equal(solution.mask[..., order], natural.mask)
    torch.testing.assert_close(solution.weight[..., order], natural.weight)


def test_patterns_with_too_many_masks_go_column_by_column() -> None:
    torch.manual_seed(0)
    inputs = torch.randn(100, 48, dtype=torch.float64)
    weight, hessian = torch.randn(5, 48, dtype=torch.float64), inputs.T @ inputs / 50
    problem = problem_of(weight[None], hessian[None], NM(8, 16), 48)
    solution = SparseGPT().solve(problem)
    expected, mask = textbook_sparsegpt(weight, hessian, 8, 16, 48, 0.01)
    assert torch.equal(solution.mask[0], mask)
    torch.testing.assert_close(solution.weight[0], expected)
    with pytest.raises(UserError, match="8:16 has more than 70"):
        SparseGPT(selection="joint").solve(problem)


@settings(deadline=None, max_examples=20)
@given(problems())
def test_wanda_is_magnitude_on_weights_scaled_by_input_norms(problem: Problem) -> None:
    norms = problem.curvature.hessian.diagonal(dim1=-2, dim2=-1).sqrt().unsqueeze(-2)
    scaled = replace(problem, weight=problem.weight * norms)
    solution = Wanda().solve(problem)
    assert torch.equal(solution.mask, Magnitude().solve(scaled).mask)
    assert torch.equal(solution.weight, problem.weight * solution.mask)


def test_random_masks_follow_the_seed() -> None:
    problem = problem_of(torch.ones(1, 50, 8), torch.eye(8)[None], NM(2, 4), 8)
    masks = [Random(seed=seed).solve(problem).mask for seed in (0, 0, 1)]
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])
    assert torch.equal(masks[0].view(-1, 4).sum(-1), torch.full((100,), 2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"selection": "pairs"}, "no selection 'pairs'"),
        ({"column_order": "random"}, "no column_order 'random'"),
        ({"block_size": 0}, "block_size must be at least 1"),
    ],
)
def test_bad_options_of_sparsegpt(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        SparseGPT(**options)


def test_sparsegpt_in_float32_gives_the_masks_of_float64_and_weights_to_1e_5() -> None:
    torch.manual_seed(0)
    inputs = torch.randn(2000, 144).relu() @ (torch.eye(144) + 0.05 * torch.randn(144, 144))
    weight, hessian = torch.randn(32, 144) / 12, 2 / 2000 * inputs.T @ inputs
    solution = SparseGPT().solve(problem_of(weight[None], hessian[None], NM(2, 4), 144))
    expected, mask = textbook_sparsegpt(weight, hessian, 2, 4, 144, 0.01)
    assert torch.equal(solution.mask[0], mask)
    torch.testing.assert_close(solution.weight[0].double(), expected, rtol=0, atol=1e-5)


@settings(deadline=None, max_examples=20)
@given(problems())
def test_sparsegpt_keeps_the_pattern_and_is_never_far_from_magnitude(problem: Problem) -> None:
    solution = SparseGPT().solve(problem)
    covered = solution.weight[..., : problem.prunable] != 0
    counts = covered.reshape(*covered.shape[:-1], -1, problem.pattern.group).sum(-1)
    assert counts.numel() == 0 or int(counts.max()) <= problem.pattern.kept
    assert torch.equal(solution.weight, solution.weight * solution.mask)
    assert problem.curvature.factor.notes == []


def test_output_rows_are_independent() -> None:
    torch.manual_seed(0)
    inputs = torch.randn(100, 16)
    weight, hessian = torch.randn(1, 6, 16), (inputs.T @ inputs)[None]
    order = torch.randperm(6)
    whole = SparseGPT().solve(problem_of(weight, hessian, NM(2, 4), 16))
    permuted = SparseGPT().solve(problem_of(weight[:, order], hessian, NM(2, 4), 16))
    assert torch.equal(whole.mask[:, order], permuted.mask)
    torch.testing.assert_close(whole.weight[:, order], permuted.weight)


def test_sparsegpt_beats_magnitude_on_correlated_inputs() -> None:
    torch.manual_seed(0)
    inputs = torch.randn(400, 32) @ torch.randn(32, 32)
    problem = problem_of(torch.randn(1, 8, 32), (inputs.T @ inputs)[None] / 200, NM(2, 4), 32)
    sparsegpt, magnitude = SparseGPT().solve(problem), Magnitude().solve(problem)
    assert squared_error(problem, sparsegpt) < 0.6 * squared_error(problem, magnitude)


def test_error_is_never_above_that_of_magnitude_on_layers_of_some_size() -> None:
    generator = torch.Generator().manual_seed(0)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high, (1,), generator=generator))

    for trial in range(150):
        group = (2, 4, 8)[trial % 3]
        rows, columns, count = draw(8, 17), group * draw(8, 17), draw(2, 400)
        inputs = torch.randn(count, columns, generator=generator, dtype=torch.float64)
        if trial % 2:
            inputs = inputs @ torch.randn(columns, columns, generator=generator).double()
        weight = torch.randn(1, rows, columns, generator=generator).double()
        hessian = 2 / count * inputs.T @ inputs
        problem = problem_of(weight, hessian[None], NM(draw(1, group), group), columns)
        bound = squared_error(problem, Magnitude().solve(problem))
        for selection in ("diagonal", "joint"):
            solution = SparseGPT(selection=selection).solve(problem)
            refitted = refit(problem, solution)
            assert squared_error(problem, refitted) <= squared_error(problem, solution) <= bound


@pytest.mark.parametrize("columns", [10, 192, 500])
def test_reverse_cholesky_is_the_inverse_of_the_published_factor(columns: int) -> None:
    inputs = torch.randn(2, 2 * columns, columns, dtype=torch.float64)
    hessian = inputs.mT @ inputs
    factor = reverse_cholesky(hessian, 0.01)
    inverse = torch.linalg.inv(damped(hessian, 0.01))
    published = torch.linalg.cholesky(inverse, upper=True)
    torch.testing.assert_close(factor.upper.triu(), torch.linalg.inv(published))
    torch.testing.assert_close(factor.inverse(), inverse)
    right = torch.randn(2, 4, columns, dtype=torch.float64)
    torch.testing.assert_close(factor.solve(right), right @ inverse)


def test_indefinite_hessian_escalates_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    hessian = torch.eye(4)[None] + 0.05
    hessian[0, 0, 1] = hessian[0, 1, 0] = 1.07
    factor = reverse_cholesky(hessian, 0.01)
    assert factor.damping == pytest.approx(0.1)
    assert factor.notes == ["Cholesky failed in float32 at damping 0.01"]
    assert "Cholesky failed in float32" in caplog.text


def test_hopeless_hessian_is_an_error() -> None:
    with pytest.raises(NoFactorError, match="not positive definite"):
        reverse_cholesky(torch.tensor([[[1.0, 9], [9, 1]]]), 0.01)


def test_rank_deficient_hessian_works() -> None:
    torch.manual_seed(0)
    inputs = torch.randn(16, 256)
    problem = problem_of(torch.randn(1, 4, 256), (inputs.T @ inputs)[None] / 8, NM(2, 4), 256)
    solution = SparseGPT().solve(problem)
    assert solution.weight.isfinite().all()
    assert squared_error(problem, solution) < squared_error(problem, Magnitude().solve(problem))


def test_layer_that_only_saw_zeros_still_gets_the_pattern() -> None:
    problem = problem_of(torch.randn(1, 4, 8), torch.zeros(1, 8, 8), NM(2, 4), 8)
    solution = SparseGPT().solve(problem)
    assert int(solution.mask.sum()) == 16
    assert not solution.weight.any()
