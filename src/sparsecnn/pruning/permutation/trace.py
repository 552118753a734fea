"""The streams of a network, by one forward pass."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sparsecnn.pruning.calibration.nested import tensors_in
from sparsecnn.pruning.permutation.rules import rule
from sparsecnn.pruning.permutation.streams import Streams, streams_of
from sparsecnn.pruning.permutation.tracing import Tracer

OUTPUT = "it is an output of the model"


def trace(model: nn.Module, run: Callable[[], object]) -> Streams:
    """Which channels of a model may change places, by a forward pass, which `run` makes."""
    tracer = Tracer(model, rule)
    with torch.no_grad(), tracer:
        outputs = outputs_of(model, run)
    for output in outputs:
        tracer.fix(output, OUTPUT)
    for axis in tracer.unread.values():
        tracer.ledger.fix(axis, OUTPUT)
    return streams_of(tracer)


def outputs_of(model: nn.Module, run: Callable[[], object]) -> list[Tensor]:
    """The tensors that `run`, which calls the model, or the model itself returns."""
    found: list[Tensor] = []

    def keep(_: nn.Module, __: Any, outputs: Any) -> None:
        found.extend(tensors_in(outputs))

    handle = model.register_forward_hook(keep)
    try:
        found.extend(tensors_in(run()))
    finally:
        handle.remove()
    return list({id(tensor): tensor for tensor in found}.values())
