"""Streams of channels: sets of channels that may change places, and where they lie."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sparsecnn.pruning.permutation.channels import Axis, IntArray, Settled
from sparsecnn.pruning.permutation.tracing import Tracer
from sparsecnn.pruning.state import write


@dataclass(frozen=True)
class Place:
    """A dimension of a parameter or buffer along which channels of a stream lie."""

    name: str
    tensor: Tensor
    dim: int
    positions: IntArray
    """Shape (parts, channels): where each channel lies, as often as it does."""

    @property
    def reads(self) -> bool:
        """Whether it is a weight that reads them, as those of linear layers and convolutions do."""
        return self.dim == 1

    def permute(self, order: Tensor) -> None:
        """Put what belongs to channel `order[i]` in the place of channel i."""
        index = np.arange(self.tensor.shape[self.dim])
        index[self.positions] = self.positions[:, order.numpy()]
        moved = torch.from_numpy(index).to(self.tensor.device)
        write(self.tensor, self.tensor.detach().index_select(self.dim, moved))


@dataclass(frozen=True)
class Stream:
    """Channels that may change places with each other."""

    channels: int
    places: list[Place]

    @property
    def readers(self) -> list[str]:
        """Names of the weights that read it."""
        return [place.name for place in self.places if place.reads]

    @property
    def writers(self) -> list[str]:
        """Names of what else belongs to its channels, the weights that write it first."""
        return [place.name for place in self.places if not place.reads]

    def permute(self, order: Tensor) -> None:
        """Put channel `order[i]` in the place of channel i, everywhere; int64 (channels,)."""
        for place in self.places:
            place.permute(order)


@dataclass(frozen=True)
class Streams:
    """All streams of a network."""

    found: list[Stream]
    left: dict[str, str]
    """By name of a weight whose inputs stay in their order, or some of them do, the reason."""
    unreached: list[str]
    """Parameters that the pass did not reach."""


def streams_of(tracer: Tracer) -> Streams:
    """What comes of a forward pass that was traced."""
    for (leaf, _), axis in tracer.axes.items():
        if reason := tracer.still.get(leaf):
            tracer.ledger.fix(axis, reason)
    settled = tracer.ledger.settled()
    names = {key: name for key, (name, _) in tracer.leaves.items()}
    left = {names[key]: reason for key, reason in tracer.inputs.items()}
    for (leaf, dim), axis in tracer.axes.items():
        if dim == 1 and (reason := settled.reason(axis)):
            left.setdefault(names[leaf], reason)
    groups = settled.groups()
    streams = [Stream(len(group), []) for group in groups]
    for (leaf, dim), axis in tracer.axes.items():
        name, tensor = tracer.leaves[leaf]
        for stream, positions in _positions(groups, settled, axis, streams):
            stream.places.append(Place(name, tensor, dim, positions))
    return Streams(streams, left, list(tracer.unreached.values()))


def _positions(
    groups: Sequence[IntArray], settled: Settled, axis: Axis, streams: Sequence[Stream]
) -> list[tuple[Stream, IntArray]]:
    """The streams whose channels an axis has, and where it has them."""
    roots = settled.roots[axis.channels]
    found = []
    for stream, group in zip(streams, groups, strict=True):
        own = np.flatnonzero(np.isin(roots, group))
        if len(own):
            slots = np.searchsorted(group, roots[own])
            order = np.lexsort((slots, axis.parts[own]))
            found.append((stream, own[order].reshape(-1, len(group))))
    return found
