"""Magnitude pruning: keep the largest weights, change none."""

from dataclasses import dataclass
from typing import ClassVar

from sparsecnn.pruning.methods.scores import keep_best
from sparsecnn.pruning.problem import Problem, Solution


@dataclass(frozen=True)
class Magnitude:
    """Keep the weights of largest absolute value within the pattern."""

    needs: ClassVar = "nothing"

    def solve(self, problem: Problem) -> Solution:
        """Prune one layer."""
        return keep_best(problem, problem.weight.abs())
