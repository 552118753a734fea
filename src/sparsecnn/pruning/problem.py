"""The question a pruning method answers, and its answer: one layer, as matrices."""

from dataclasses import dataclass, field, replace
from typing import Protocol

from torch import Tensor

from sparsecnn.pruning.factor import Curvature
from sparsecnn.pruning.patterns import Pattern


@dataclass(frozen=True)
class Problem:
    """One layer to prune, in the canonical form of `sparsecnn.pruning.layouts`."""

    weight: Tensor
    """The weight to come close to: shape (groups, rows, columns), float32 or float64."""
    curvature: Curvature
    """Hessian of the error, of the same dtype."""
    pattern: Pattern
    prunable: int
    """Leading columns that the pattern covers; the others stay dense."""

    def permuted(self, order: Tensor) -> "Problem":
        """The same problem with its columns in another order, int64 (columns,)."""
        hessian = self.curvature.hessian[:, order][:, :, order]
        curvature = Curvature(hessian, self.curvature.damping)
        return replace(self, weight=self.weight[..., order], curvature=curvature)


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


@dataclass(frozen=True)
class Companions:
    """What a method is combined with unless the caller of `prune` says otherwise."""

    calibration: str = "independent"
    target: str = "own"
    refit: bool = False


class Method(Protocol):
    """A pruning method: a frozen dataclass whose fields are its options.

    One that is best combined with more than it says in `Companions()` has a class attribute
    `companions`.
    """

    def solve(self, problem: Problem) -> Solution:
        """Prune one layer."""
        ...
