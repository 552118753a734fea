"""Magnitude pruning: keep the largest weights, change none."""

from dataclasses import dataclass

import torch

from sparsecnn.pruning.problem import Problem, Solution


@dataclass(frozen=True)
class Magnitude:
    """Keep the weights of largest absolute value within the pattern."""

    def solve(self, problem: Problem) -> Solution:
        """Prune one layer."""
        mask = torch.ones_like(problem.weight, dtype=torch.bool)
        covered = problem.weight[..., : problem.prunable]
        mask[..., : problem.prunable] = problem.pattern.mask(covered.abs())
        return Solution(problem.weight.masked_fill(~mask, 0), mask)
