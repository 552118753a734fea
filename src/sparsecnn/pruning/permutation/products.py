"""Convolutions and products with a weight: what they read and what they write."""

import numpy as np
from torch import Tensor

from sparsecnn.pruning.permutation.channels import Axis
from sparsecnn.pruning.permutation.operations import Operation
from sparsecnn.pruning.permutation.tracing import Origin, Tracer


def convolves(tracer: Tracer, operation: Operation) -> None:
    """Of one group, or of one for each channel; others keep their channels where they are."""
    named = operation.named
    inputs, weight, bias = named["input"], named["weight"], named["bias"]
    origin, groups = tracer.origin(weight), named["groups"]
    if origin is None or origin.flipped:
        tracer.leave(operation, "a convolution reads it whose weight is computed")
        return
    axis = tracer.axis(inputs)
    if axis is not None and axis.dim != inputs.dim() - weight.dim() + 1:
        tracer.leave(operation, "a convolution reads its channels along another dimension")
        return
    if groups > 1 and groups == inputs.shape[1] and not named["transposed"]:
        _depthwise(tracer, operation, origin.leaf, axis)
        return
    if groups > 1:
        tracer.leave(operation, "a convolution in groups reads or writes it")
        return
    written = _linear(tracer, origin, inputs, bool(named["transposed"]), axis)
    _give(tracer, operation, bias, written.along(inputs.dim() - weight.dim() + 1))


def _depthwise(tracer: Tracer, operation: Operation, weight: Tensor, axis: Axis | None) -> None:
    if axis is None:
        tracer.leave(operation, tracer.reason(operation.input))
        return
    times = len(weight) // len(axis)
    channels = np.repeat(axis.channels, times)
    parts = np.repeat(axis.parts * times, times) + np.tile(np.arange(times), len(axis))
    written = tracer.place(weight, tracer.ledger.noted(Axis(0, channels, parts)))
    _give(tracer, operation, operation.named["bias"], written.along(axis.dim))


def multiplies(tracer: Tracer, operation: Operation) -> None:
    """`addmm(bias, inputs, weight)` or `mm(inputs, weight)`: a linear layer, if it is one."""
    *biases, inputs, weight = operation.tensors
    origin, axis = tracer.origin(weight), tracer.axis(inputs)
    plain = operation.named.get("alpha", 1) == 1 and operation.named.get("beta", 1) == 1
    if origin is None or weight.dim() != 2 or (axis is not None and axis.dim != 1) or not plain:
        tracer.leave(operation, "it is multiplied by what is no weight")
        return
    written = _linear(tracer, origin, inputs, not origin.flipped, axis)
    _give(tracer, operation, biases[0] if biases else None, written.along(1))


def _linear(
    tracer: Tracer, origin: Origin, inputs: Tensor, inputs_first: bool, axis: Axis | None
) -> Axis:
    """What a weight writes, along its own dimension, when it reads inputs of this axis.

    Its first dimension is the outputs', unless `inputs_first`.
    """
    weight, reading = origin.leaf, int(not inputs_first)
    tracer.reading.add((id(weight), reading))
    if axis is None:
        tracer.inputs.setdefault(id(weight), tracer.reason(inputs))
        if (id(weight), reading) in tracer.axes:
            tracer.ledger.fix(tracer.axes[id(weight), reading], tracer.reason(inputs))
    else:
        tracer.place(weight, axis.along(reading))
        if reason := tracer.inputs.get(id(weight)):
            tracer.ledger.fix(axis, reason)
    known = tracer.axes.get((id(weight), 1 - reading))
    if known is None:
        known = tracer.ledger.new(1 - reading, weight.shape[1 - reading])
    return tracer.place(weight, known)


def _give(tracer: Tracer, operation: Operation, bias: Tensor | None, written: Axis) -> None:
    tracer.along(bias, written.along(0), "the bias of a layer holds what has no channels")
    tracer.give(operation.results[0], written)
