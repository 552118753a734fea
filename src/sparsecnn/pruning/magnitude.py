"""Magnitude pruning: keep the largest weights, change none."""

from dataclasses import dataclass

from sparsecnn.pruning.problem import Problem, Solution
from sparsecnn.pruning.scores import keep_best


@dataclass(frozen=True)
class Magnitude:
    """Keep the weights of largest absolute value within the pattern."""

    def solve(self, problem: Problem) -> Solution:
        """Prune one layer."""
        return keep_best(problem, problem.weight.abs())
