"""The question a pruning method answers, and its answer: one layer, as matrices."""

from dataclasses import dataclass, field, replace
from typing import Protocol

from torch import Tensor

from sparsecnn.pruning.factor import Curvature
from sparsecnn.pruning.patterns import Pattern

COPIES = 12
"""Of the weight's size that there are at once where a method knows the Hessian."""

MATRICES = 2.5
"""Of the Hessian's size that there are at once where a method factors it: both, and a part."""


@dataclass(frozen=True)
class Problem:
    """One layer to prune, in the canonical form of `sparsecnn.pruning.layouts`."""

    weight: Tensor
    """The weight to come close to: shape (groups, rows, columns), float32 or float64."""
    known: Curvature | None
    """Hessian of the error, of the same dtype; None unless the method needs it."""
    pattern: Pattern
    prunable: int
    """Leading columns that the pattern covers; the others stay dense."""
    own_diagonal: Tensor | None = None
    """Diagonal of the Hessian where that is all that is known, shape (groups, columns)."""

    @property
    def curvature(self) -> Curvature:
        """The Hessian, for methods that need it."""
        assert self.known is not None, "the method does not say that it needs the Hessian"
        return self.known

    @property
    def diagonal(self) -> Tensor:
        """Diagonal of the Hessian, shape (groups, columns), for methods that need it."""
        if self.own_diagonal is not None:
            return self.own_diagonal
        return self.curvature.hessian.diagonal(dim1=-2, dim2=-1)

    def permuted(self, order: Tensor) -> "Problem":
        """The same problem with its columns in another order, int64 (columns,)."""
        hessian = self.curvature.hessian[:, order][:, :, order]
        curvature = Curvature(hessian, self.curvature.damping)
        return replace(self, weight=self.weight[..., order], known=curvature)


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

    Class attributes say what differs from most: `needs`, where it is not the Hessian but
    ``nothing`` of the data, or the ``diagonal``; `matrices` and `copies`, where it takes other than
    `MATRICES` and `COPIES`; `companions`, where it is best combined with more than `Companions()`.
    """

    def solve(self, problem: Problem) -> Solution:
        """Prune one layer."""
        ...
