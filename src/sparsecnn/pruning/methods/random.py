"""Random pruning: the floor that any method has to beat."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from sparsecnn.pruning.methods.scores import keep_best
from sparsecnn.pruning.problem import Problem, Solution


@dataclass(frozen=True)
class Random:
    """Keep weights drawn at random within the pattern, change none."""

    needs: ClassVar = "nothing"

    seed: int = 0

    def solve(self, problem: Problem) -> Solution:
        """Prune one layer; layers of equal shape get equal masks."""
        generator = torch.Generator().manual_seed(self.seed)
        scores = torch.rand(problem.weight.shape, generator=generator)
        return keep_best(problem, scores.to(problem.weight.device))
