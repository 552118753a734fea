"""How much each channel of a stream matters to each row of the weights that read it."""

from collections.abc import Mapping

import torch
from torch import Tensor

from sparsecnn.pruning.layouts import to_matrix
from sparsecnn.pruning.patterns import NM
from sparsecnn.pruning.permutation.channels import IntArray
from sparsecnn.pruning.permutation.streams import Place, Stream


def counted(stream: Stream, diagonals: Mapping[int, Tensor], pattern: NM) -> list[Place]:
    """The weights to be pruned that have groups whose M members are channels of this stream.

    `diagonals` are those of the Hessians of all weights to be pruned, by id.
    """
    return [
        place
        for place in stream.places
        if place.reads and id(place.tensor) in diagonals and len(_aligned(place, pattern))
    ]


def importance(stream: Stream, diagonals: Mapping[int, Tensor], pattern: NM) -> Tensor:
    """|w| sqrt(H) of all that reads each channel: by this Wanda prunes (arXiv 2306.11695).

    Returns
    -------
    Tensor
        Shape (channels, rows), float32, on the CPU: rows, kernel positions and weights in a row.
    """
    found = []
    for place in counted(stream, diagonals, pattern):
        weight, diagonal = place.tensor.detach(), diagonals[id(place.tensor)]
        matrix = to_matrix(weight, 1, "channels")[0].abs() * diagonal.sqrt()
        channels = matrix.view(-1, weight.shape[1]).float().cpu()
        found += [channels[:, part].T for part in torch.from_numpy(_aligned(place, pattern))]
    return torch.cat(found, dim=1).contiguous()


def _aligned(place: Place, pattern: NM) -> IntArray:
    """Of the parts of a place those in which each M channels, from the first, are a group."""
    whole = place.positions.shape[1] // pattern.group * pattern.group
    groups = place.positions[:, :whole].reshape(len(place.positions), -1, pattern.group)
    first = groups[..., :1]
    together = (groups // pattern.group == first // pattern.group).all((1, 2))
    aligned: IntArray = place.positions[together & (groups.shape[1] > 1)]
    return aligned
