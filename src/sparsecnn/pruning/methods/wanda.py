"""Wanda (arXiv 2306.11695): weigh each weight by the norm of its input, change none."""

from dataclasses import dataclass
from typing import ClassVar

from sparsecnn.pruning.methods.scores import keep_best
from sparsecnn.pruning.problem import Problem, Solution


@dataclass(frozen=True)
class Wanda:
    """Keep the weights of largest |W_ij| ||X_j||_2 within the pattern (equation 1)."""

    needs: ClassVar = "diagonal"

    def solve(self, problem: Problem) -> Solution:
        """Prune one layer."""
        norms = problem.diagonal.sqrt().unsqueeze(-2)
        return keep_best(problem, problem.weight.abs() * norms)
