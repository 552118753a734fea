"""Streams of channels: sets of channels that may change places, and where they lie."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sparsecnn.models.reparametrized import write
from sparsecnn.pruning.permutation.channels import IntArray
from sparsecnn.pruning.permutation.tracing import Tracer


@dataclass(frozen=True)
class Place:
    """A dimension of a parameter or buffer along which channels of a stream lie."""

    name: str
    tensor: Tensor
    dim: int
    positions: IntArray
    """Shape (parts, channels): where each channel lies, as often as it does."""
    reads: bool
    """Whether it is a weight that reads them, not one that writes them or scales them."""

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
    def writers(self) -> list[str]:
        """Names of the weights whose outputs they are."""
        written = (place for place in self.places if place.tensor.dim() > 1 and not place.reads)
        return [place.name.removesuffix(".weight") for place in written]

    def permute(self, order: Tensor) -> None:
        """Put channel `order[i]` in the place of channel i, everywhere; int64 (channels,)."""
        for place in self.places:
            place.permute(order)


@dataclass(frozen=True)
class Streams:
    """All streams of a network."""

    found: list[Stream]
    left: dict[int, str]
    """By id of a weight whose inputs stay in their order, or some of them do, the reason."""
    unreached: dict[int, str]
    """Names of parameters that the pass did not reach, by id."""


def streams_of(tracer: Tracer) -> Streams:
    """What comes of a forward pass that was traced."""
    for (leaf, _), axis in tracer.axes.items():
        if reason := tracer.still.get(leaf):
            tracer.ledger.fix(axis, reason)
        tracer.ledger.noted(axis)
    settled = tracer.ledger.settled()
    left = dict(tracer.inputs)
    for (leaf, dim), axis in tracer.axes.items():
        if (leaf, dim) in tracer.reading and (reason := settled.reason(axis)):
            left.setdefault(leaf, reason)
    groups = settled.groups()
    streams = [Stream(len(group), []) for group in groups]
    slots = np.full((2, len(settled.roots)), -1)  # of each root its stream, and its place there
    for number, group in enumerate(groups):
        slots[:, group] = np.stack([np.full_like(group, number), np.arange(len(group))])
    for (leaf, dim), axis in tracer.axes.items():
        for number, positions in _positions(axis.parts, *slots[:, settled.roots[axis.channels]]):
            reads = (leaf, dim) in tracer.reading
            streams[number].places.append(Place(*tracer.leaves[leaf], dim, positions, reads))
    return Streams(streams, left, tracer.unreached)


def _positions(
    parts: IntArray, streams: IntArray, slots: IntArray
) -> Iterator[tuple[int, IntArray]]:
    """The streams of which an axis has channels, and where it has them: (parts, channels)."""
    for number in np.unique(streams[streams >= 0]):
        own = np.flatnonzero(streams == number)
        order = np.lexsort((slots[own], parts[own]))
        yield int(number), own[order].reshape(-1, int(slots[own].max()) + 1)
