"""Prune by a score per weight, without changing what is kept."""

import torch
from torch import Tensor

from sparsecnn.pruning.problem import Problem, Solution


def keep_best(problem: Problem, scores: Tensor) -> Solution:
    """Keep the weights of highest score within the pattern; columns it does not cover stay.

    Parameters
    ----------
    scores
        The shape of the problem's weight.
    """
    mask = torch.ones_like(problem.weight, dtype=torch.bool)
    mask[..., : problem.prunable] = problem.pattern.mask(scores[..., : problem.prunable])
    return Solution(problem.weight.masked_fill(~mask, 0), mask)
