"""The question a pruning method answers, and its answer: one layer, as matrices."""

from dataclasses import dataclass, field

from torch import Tensor

from sparsecnn.pruning.patterns import NM


@dataclass(frozen=True)
class Problem:
    """One layer to prune, in the canonical form of `sparsecnn.pruning.layouts`."""

    weight: Tensor
    """Shape (groups, rows, columns), float32 or float64."""
    hessian: Tensor
    """Shape (groups, columns, columns), symmetric, of the dtype of `weight`, not damped."""
    pattern: NM
    prunable: int
    """Leading columns that the pattern covers; the others stay dense."""
    damping: float
    """Added to the Hessian's diagonal, as a fraction of its mean."""


@dataclass(frozen=True)
class Solution:
    """A pruned layer: zero wherever the mask is False."""

    weight: Tensor
    """Shape (groups, rows, columns)."""
    mask: Tensor
    """bool, shape (groups, rows, columns), True where a weight is kept."""
    damping: float | None = None
    """The damping used in the end; None if the method uses none."""
    notes: list[str] = field(default_factory=list)
    """What had to be done to keep the numbers sound, in words."""
