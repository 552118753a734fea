"""Operations that move elements and compute nothing: followed by letting them move numbers."""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparsecnn.pruning.calibration.nested import changed, tensors_in
from sparsecnn.pruning.permutation.channels import Axis, IntArray
from sparsecnn.pruning.permutation.operations import Operation
from sparsecnn.pruning.permutation.tracing import Origin, Tracer

MOVING = {
    *("view", "_unsafe_view", "reshape", "permute", "transpose", "t", "expand"),
    *("squeeze", "unsqueeze", "slice", "select", "split", "split_with_sizes", "chunk", "unbind"),
    *("cat", "stack", "index_select", "roll", "flip", "repeat", "unfold", "narrow"),
    *("pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "native_channel_shuffle"),
}
_FLIPPING = {"t", "transpose", "permute"}
_BESIDE = 2**40
"""Numbers of elements without channels begin here."""

Numbers = tuple[Tensor, Tensor]
"""Of each element of a tensor its channel, and which of the elements of this channel it is."""


def moves(tracer: Tracer, operation: Operation) -> None:
    """Each element of the results is one of those given."""
    origin = tracer.origin(operation.input)
    if origin and origin.leaf.dim() == 2 and operation.name in _FLIPPING:
        flipped = origin.flipped ^ _flips(operation)
        tracer.derive(operation.results[0], Origin(origin.leaf, flipped))
        return
    index = operation.named["index"] if operation.name == "index_select" else None
    moved = [one for one in operation.tensors if one is not index]
    axes = {id(one): tracer.axis(one) for one in moved}
    reason = f"{operation.name} tears its channels apart"
    if not any(axes.values()):
        tracer.leave(operation, tracer.reason(operation.input))
        return
    if operation.in_place or (index is not None and tracer.axis(index)):
        tracer.leave(operation, reason)
        return
    shapes = _shapes(operation, moved, [axis for axis in axes.values() if axis])
    given = {id(one): _numbers(tracer, one, axes[id(one)], shapes[id(one)]) for one in moved}
    places = [_axis(*numbers) for numbers in _both(operation, given)]
    if None in places:
        tracer.leave(operation, reason)
        return
    for result, axis in zip(operation.results, places, strict=True):
        assert axis is not None
        tracer.give(result, tracer.ledger.noted(axis))


def _flips(operation: Operation) -> bool:
    """Whether it makes rows of a matrix columns."""
    named = operation.named
    if operation.name == "permute":
        return bool(named["dims"][0] % 2 == 1)
    return operation.name == "t" or (named["dim0"] - named["dim1"]) % 2 == 1


def _both(operation: Operation, given: dict[int, Numbers]) -> list[Numbers]:
    """The numbers of each result: what the operation does with the numbers of its tensors."""
    sides = []
    for side in range(2):

        def numbers(tensor: Tensor, side: int = side) -> Tensor:
            return given[id(tensor)][side] if id(tensor) in given else tensor.cpu()

        args: Any = changed(operation.args, numbers)
        kwargs: Any = changed(dict(operation.kwargs), numbers)
        sides.append(list(tensors_in(operation.function(*args, **kwargs))))
    return list(zip(*sides, strict=True))


def _shapes(
    operation: Operation, tensors: Sequence[Tensor], axes: Sequence[Axis]
) -> dict[int, list[int]]:
    """Shapes of tensors of numbers: those of the tensors, or less where less will do."""
    shapes = {id(one): list(one.shape) for one in tensors}
    if operation.name == "cat":
        rank = tensors[0].dim()
        needed = {operation.named.get("dim", 0) % rank, *(axis.dim for axis in axes)}
        for shape in shapes.values():
            shape[:] = [size if dim in needed else 1 for dim, size in enumerate(shape)]
    return shapes


def _numbers(tracer: Tracer, tensor: Tensor, axis: Axis | None, shape: list[int]) -> Numbers:
    size = prod(shape)
    if axis is None:
        tracer.fix(tensor, "it lies beside channels of others")
        beside = tracer.ledger.new(0, 1)
        tracer.ledger.fix(beside, "it lies beside what has no channels")
        which = torch.arange(size).view(shape) + _BESIDE
        return torch.full_like(which, int(beside.channels[0])), which
    own = [len(axis) if dim == axis.dim else 1 for dim in range(len(shape))]
    others = [1 if dim == axis.dim else size for dim, size in enumerate(shape)]
    channels = torch.from_numpy(axis.channels).view(own).expand(shape)
    count = size // len(axis)
    which = torch.from_numpy(axis.parts).view(own) * count + torch.arange(count).view(others)
    return channels.contiguous(), which  # or some views of the tensor would be none of these


def _axis(channels: Tensor, which: Tensor) -> Axis | None:
    """The dimension along which the channels lie; None unless it is one and all else is alike."""
    long = [dim for dim, size in enumerate(channels.shape) if size > 1]
    dims = [dim for dim in long if bool((channels != channels.narrow(dim, 0, 1)).any())]
    if len(dims) != 1:
        return None
    rows = which.movedim(dims[0], 0).flatten(1) if which.dim() > 1 else which[:, None]
    lead = rows[:, 0].numpy()
    _, first, parts = np.unique(lead, return_index=True, return_inverse=True)
    if not torch.equal(rows, rows[torch.from_numpy(first[parts])]):
        return None
    line = channels.movedim(dims[0], 0).flatten(1)[:, 0] if channels.dim() > 1 else channels
    names = line.numpy().copy()
    return Axis(dims[0], names, _told_apart(names, parts.astype(np.int64)))


def _told_apart(channels: IntArray, parts: IntArray) -> IntArray:
    """Parts by which the copies of one channel in one part differ, too."""
    _, entries = np.unique(np.stack([channels, parts]), axis=1, return_inverse=True)
    entries = entries.reshape(-1)
    order = np.argsort(entries, kind="stable")
    ordered, index = entries[order], np.arange(len(entries))
    starts = np.where(np.r_[True, ordered[1:] != ordered[:-1]], index, 0)
    copies = np.empty_like(index)
    copies[order] = index - np.maximum.accumulate(starts)
    apart: IntArray = parts * (copies.max() + 1) + copies
    return apart
