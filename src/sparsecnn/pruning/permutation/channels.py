"""Which channels of a network may change places, from what is seen of each.

A *channel* is a number given to what one output of a layer holds. Wherever two must be at the
same place (in a sum, in a batch norm and its input) they are joined, and are then one. An `Axis`
says which channels lie along a dimension of a tensor. Two channels may change places if every axis
has both, in the same parts, or neither.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Axis:
    """The channels along one dimension of a tensor; along all others it does not matter."""

    dim: int
    channels: IntArray
    """Shape (size,)."""
    parts: IntArray
    """Shape (size,): which of the entries of its channel each is, as when (C, H, W) is flattened
    to one dimension. Equal numbers mean the same of each channel."""

    def __len__(self) -> int:
        return len(self.channels)

    def along(self, dim: int) -> "Axis":
        """The same along another dimension."""
        return Axis(dim, self.channels, self.parts)


@dataclass
class Ledger:
    """What is known of the channels of a network."""

    _count: int = 0
    _joined: list[tuple[IntArray, IntArray]] = field(default_factory=list)
    _axes: list[Axis] = field(default_factory=list)
    _fixed: list[tuple[Axis, str]] = field(default_factory=list)

    def new(self, dim: int, size: int) -> Axis:
        """An axis of channels not seen before, not yet noted."""
        channels = np.arange(self._count, self._count + size)
        self._count += size
        return Axis(dim, channels, np.zeros_like(channels))

    def noted(self, axis: Axis) -> Axis:
        """The same axis; from now on only what is alike in it may change places."""
        self._axes.append(axis)
        return axis

    def fix(self, axis: Axis, reason: str) -> None:
        """Keep the channels of an axis where they are."""
        self._fixed.append((axis, reason))

    def merged(self, first: Axis, second: Axis) -> Axis:
        """Join what lies at the same places of two axes of the same size."""
        if first.channels is not second.channels:
            self._joined.append((first.channels, second.channels))
        if (first.parts == second.parts).all():
            return first
        pairs = np.stack([first.parts, second.parts])
        parts = np.unique(pairs, axis=1, return_inverse=True)[1].reshape(-1)
        return self.noted(Axis(first.dim, first.channels, parts))

    def settled(self) -> "Settled":
        """What comes of all that was noted."""
        roots = self._roots()
        kinds = np.zeros(self._count, dtype=np.uint64)
        fixed: dict[int, str] = {}
        for number, axis in enumerate(self._axes):
            for root in _doubled(roots[axis.channels], axis.parts):
                fixed.setdefault(int(root), "a channel is added to another of the same layer")
            own, which = np.unique(roots[axis.channels], return_inverse=True)
            parts = np.zeros(len(own), dtype=np.uint64)
            np.add.at(parts, which, _scattered(axis.parts))
            kinds[own] = _scattered(kinds[own] + _scattered(parts + np.uint64(number)))
        for axis, reason in self._fixed:
            for root in roots[axis.channels]:
                fixed.setdefault(int(root), reason)
        return Settled(roots, kinds, fixed)

    def _roots(self) -> IntArray:
        """Of each channel, the number of all that it was joined with."""
        # Here, for all that prunes imports this module, and most of it permutes nothing.
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        left = np.concatenate([np.zeros(0, np.int64), *(one for one, _ in self._joined)])
        right = np.concatenate([np.zeros(0, np.int64), *(other for _, other in self._joined)])
        shape = (self._count, self._count)
        graph = coo_array((np.ones(len(left), dtype=bool), (left, right)), shape)
        return connected_components(graph, directed=False)[1].astype(np.int64)


@dataclass(frozen=True)
class Settled:
    """The channels of a network once all is known."""

    roots: IntArray
    """Of each channel, the number of the one that it is with all that it was joined with."""
    kinds: npt.NDArray[np.uint64]
    """Of each root; those of equal kinds may change places."""
    fixed: dict[int, str]
    """Roots that stay where they are, with the reason."""

    def groups(self) -> list[IntArray]:
        """Roots that may change places with each other, two or more, in their order."""
        free = np.setdiff1d(self.roots, np.array(list(self.fixed), dtype=np.int64))
        order = np.argsort(self.kinds[free], kind="stable")
        cuts = np.flatnonzero(np.diff(self.kinds[free][order])) + 1
        groups = [group for group in np.split(free[order], cuts) if len(group) > 1]
        return sorted(groups, key=lambda group: int(group[0]))

    def reason(self, axis: Axis) -> str:
        """Why channels of it stay where they are; empty if none does."""
        reasons = (self.fixed.get(int(root), "") for root in self.roots[axis.channels])
        return next(filter(None, reasons), "")


def _doubled(roots: IntArray, parts: IntArray) -> IntArray:
    """What is twice in the same part of an axis: which of the two is which cannot be told."""
    unique, counts = np.unique(np.stack([roots, parts]), axis=1, return_counts=True)
    doubled: IntArray = unique[0][counts > 1]
    return doubled


def _scattered(values: npt.NDArray[np.int64] | npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """A hash of each number: sums of them tell sets of numbers apart (splitmix64)."""
    mixed = values.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
