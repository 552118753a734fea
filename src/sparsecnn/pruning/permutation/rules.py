"""What operations do with channels. What is not known here leaves its channels where they are."""

import re

import numpy as np
from torch import Tensor

from sparsecnn.pruning.permutation.channels import Axis
from sparsecnn.pruning.permutation.movement import MOVING, moves
from sparsecnn.pruning.permutation.operations import Operation
from sparsecnn.pruning.permutation.products import convolves, multiplies
from sparsecnn.pruning.permutation.tracing import Rule, Tracer

_COPIES = {"_to_copy", "clone", "detach", "alias", "contiguous", "lift_fresh"}
_POINTWISE = {
    *(_COPIES | {"fill", "zero", "dropout", "native_dropout"}),
    *("hardswish", "hardsigmoid", "hardtanh", "leaky_relu", "elu", "mish", "silu", "gelu"),
    *(
        "celu",
        "selu",
        "relu6",
        "softplus",
        "log_sigmoid_forward",
        "threshold",
        "softshrink",
        "_prelu_kernel",
    ),
}
"""Besides those that torch says are pointwise; it does not of all."""
_REDUCING = {
    *("mean", "sum", "prod", "amax", "amin", "max", "min", "var", "std", "var_mean", "std_mean"),
    *("logsumexp", "linalg_vector_norm", "norm"),
}
_NORMALIZING = {"_softmax", "_log_softmax"}
_SPATIAL = re.compile(r"(?:pool|upsample|pad|grid_sampler).*?([123])d")


def rule(name: str) -> Rule:
    """What the operation of this name does with channels."""
    if name in _RULES:
        return _RULES[name]
    return spatial if _SPATIAL.search(name) else unknown


def unknown(tracer: Tracer, operation: Operation) -> None:
    """Anything; torch says of most that are pointwise that they are."""
    if operation.pointwise:
        pointwise(tracer, operation)
    else:
        tracer.leave(operation, f"{operation.name} may do anything with its channels")


def pointwise(tracer: Tracer, operation: Operation) -> None:
    """Each element of the result comes of one of each tensor, with broadcasting."""
    result, tensors = operation.results[0], operation.tensors
    origin = tracer.origin(operation.input)
    if origin and operation.name in _COPIES:
        tracer.derive(result, origin)
        return
    known = [(one, axis) for one in tensors if (axis := tracer.axis(one)) is not None]
    others = [one for one in tensors if tracer.axis(one) is None]
    merged = _merged(tracer, operation, known, others)
    if merged is None and known:
        tracer.leave(operation, f"{operation.name} joins its channels to what has none")
        return
    for other in others:
        tracer.fix(other, f"{operation.name} reads it")
    reasons = [tracer.reason(one) for one in others]
    tracer.give(result, merged, next(filter(None, reasons), ""))


def _merged(
    tracer: Tracer, operation: Operation, known: list[tuple[Tensor, Axis]], others: list[Tensor]
) -> Axis | None:
    """The axis of the result; None if there is none."""
    result = operation.results[0]
    if not known or (operation.in_place and _is_part(result)):
        return None
    lifted = [axis.along(axis.dim + result.dim() - one.dim()) for one, axis in known]
    merged = lifted[0]
    if any(axis.dim != merged.dim or len(axis) != len(merged) for axis in lifted):
        return None
    if len(merged) != result.shape[merged.dim]:
        return None
    if any(_size(one, result, merged.dim) > 1 for one in others):
        return None
    for axis in lifted[1:]:
        merged = tracer.ledger.merged(merged, axis)
    for one, axis in known:
        if id(one) in tracer.leaves:
            tracer.place(one, merged.along(axis.dim))
    return merged


def _size(tensor: Tensor, result: Tensor, dim: int) -> int:
    """How long a tensor is along a dimension of the result that it is broadcast to."""
    own = dim - (result.dim() - tensor.dim())
    return tensor.shape[own] if own >= 0 else 1


def _is_part(tensor: Tensor) -> bool:
    return tensor.untyped_storage().nbytes() > tensor.numel() * tensor.itemsize


def spatial(tracer: Tracer, operation: Operation) -> None:
    """The same for each channel, over the last one, two or three dimensions."""
    axis, result = tracer.axis(operation.input), operation.results[0]
    found = _SPATIAL.search(operation.name)
    if axis is None:
        tracer.leave(operation, tracer.reason(operation.input))
        return
    if found is None or axis.dim >= result.dim() - int(found[1]) or len(operation.tensors) > 1:
        unknown(tracer, operation)
        return
    tracer.give(result, axis)


def pads(tracer: Tracer, operation: Operation) -> None:
    """Constants before and behind the last dimensions; along the channels they are none."""
    axis, sides = tracer.axis(operation.input), operation.named["pad"]
    if axis is None:
        tracer.leave(operation, tracer.reason(operation.input))
        return
    place = 2 * (operation.input.dim() - 1 - axis.dim)
    before, behind = [*sides, *[0] * (place + 2)][place : place + 2]
    if before < 0 or behind < 0:
        unknown(tracer, operation)
        return
    if before or behind:
        zeros = tracer.ledger.new(axis.dim, before + behind)
        tracer.ledger.fix(zeros, "it is added to padding")
        axis = tracer.ledger.noted(_joined(zeros, axis, before))
    tracer.give(operation.results[0], axis)


def _joined(zeros: Axis, axis: Axis, before: int) -> Axis:
    channels = [zeros.channels[:before], axis.channels, zeros.channels[before:]]
    parts = [zeros.parts[:before], axis.parts, zeros.parts[before:]]
    return Axis(axis.dim, np.concatenate(channels), np.concatenate(parts))


def reduces(tracer: Tracer, operation: Operation) -> None:
    """Over some dimensions; over the channels in any order."""
    axis, rank = tracer.axis(operation.input), operation.input.dim()
    if axis is None or len(operation.tensors) > 1:
        tracer.leave(operation, tracer.reason(operation.input))
        return
    given = operation.named.get("dim")
    dims = range(rank) if given is None or given == [] else np.atleast_1d(given) % rank
    result = operation.results[0]
    if axis.dim in dims:
        if operation.name in ("max", "min") and len(operation.results) > 1:
            unknown(tracer, operation)
            return
        tracer.leave_results(operation, f"{operation.name} is taken over the channels")
        return
    gone = 0 if result.dim() == rank else sum(dim < axis.dim for dim in dims)
    for one in operation.results:
        tracer.give(one, axis.along(axis.dim - gone))


def normalizes(tracer: Tracer, operation: Operation) -> None:
    """Over some dimensions, of which the channels may be one."""
    axis = tracer.axis(operation.input)
    if axis is None:
        tracer.leave(operation, tracer.reason(operation.input))
        return
    tracer.give(operation.results[0], axis)


def copies(tracer: Tracer, operation: Operation) -> None:
    """`copy_`: what was there before is gone."""
    target, source = operation.input, operation.tensors[-1]
    if id(target) in tracer.leaves or _is_part(target) or target.shape != source.shape:
        pointwise(tracer, operation)
        return
    tracer.fix(target, "it is overwritten")
    tracer.give(target, tracer.axis(source), tracer.reason(source))


def strides(tracer: Tracer, operation: Operation) -> None:
    """`as_strided_`, by which torch gives a dimension of size 1 another stride."""
    axis, result = tracer.axis(operation.input), operation.results[0]
    if axis is None or _is_part(result) or len(axis) != result.shape[axis.dim]:
        unknown(tracer, operation)
        return
    tracer.give(result, axis)


def batch_norm(tracer: Tracer, operation: Operation) -> None:
    """Each channel by its own numbers."""
    axis = tracer.axis(operation.input)
    own = None if axis is None or axis.dim != 1 else axis.along(0)
    if axis is not None and own is None:
        unknown(tracer, operation)
        return
    for tensor in operation.tensors[1:]:
        tracer.along(tensor, own, tracer.reason(operation.input))
    tracer.give(operation.results[0], axis, tracer.reason(operation.input))


def layer_norm(tracer: Tracer, operation: Operation) -> None:
    """Over the last dimensions, of which the channels may be one."""
    axis, first = tracer.axis(operation.input), operation.input.dim()
    first -= len(operation.named["normalized_shape"])
    own = None if axis is None or axis.dim < first else axis.along(axis.dim - first)
    for tensor in operation.tensors[1:]:
        tracer.along(tensor, own, "layer_norm scales it by position")
    tracer.give(operation.results[0], axis, tracer.reason(operation.input))


def group_norm(tracer: Tracer, operation: Operation) -> None:
    """Over groups of channels: within each these may change places."""
    axis, groups = tracer.axis(operation.input), operation.named["group"]
    if axis is not None and axis.dim != 1:
        unknown(tracer, operation)
        return
    if axis is not None:
        group = np.arange(len(axis)) * groups // len(axis)
        tracer.ledger.noted(Axis(1, axis.channels, axis.parts * groups + group))
    for tensor in operation.tensors[1:]:
        tracer.along(tensor, axis and axis.along(0), tracer.reason(operation.input))
    tracer.give(operation.results[0], axis, tracer.reason(operation.input))


_RULES: dict[str, Rule] = {
    **dict.fromkeys(MOVING, moves),
    **dict.fromkeys(_POINTWISE, pointwise),
    **dict.fromkeys(_REDUCING, reduces),
    **dict.fromkeys(_NORMALIZING, normalizes),
    **dict.fromkeys(
        ("native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training"),
        batch_norm,
    ),
    **dict.fromkeys(("cudnn_batch_norm", "miopen_batch_norm", "_batch_norm_no_update"), batch_norm),
    "convolution": convolves,
    "copy": copies,
    "as_strided": strides,
    **dict.fromkeys(("addmm", "mm"), multiplies),
    "native_layer_norm": layer_norm,
    "native_group_norm": group_norm,
    "constant_pad_nd": pads,
}
