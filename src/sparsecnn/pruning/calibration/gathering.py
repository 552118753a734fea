"""Gather the moments of every layer: from the dense network, or from the network as it shrinks."""

import copy
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from sparsecnn.errors import UserError
from sparsecnn.pruning.calibration.moments import LayerMoments
from sparsecnn.pruning.calibration.trajectory import paused_passes
from sparsecnn.pruning.layouts import PrunableLayer

CALIBRATIONS = ("independent", "sequential")
TARGETS = ("own", "dense")

Gathered = Generator[tuple[str, LayerMoments], None, None]


def gather(
    model: nn.Module,
    batches: Sequence[Tensor],
    layers: Mapping[str, PrunableLayer],
    *,
    uses: Mapping[str, int],
    calibration: str,
    target: str,
    memory_mb: float,
    dtype: torch.dtype,
) -> Gathered:
    """Yield each layer's name and moments, in data order; the caller prunes it in between.

    Parameters
    ----------
    layers
        The layers to gather for, in data order.
    uses
        How often one forward pass calls each layer.
    calibration
        ``independent``: all inputs come from the dense network. ``sequential``: each layer's
        inputs come from the network as pruned so far; all batches are walked through the
        network together, so this costs one forward pass. After a layer that is used more than
        once the walk starts again from the inputs.
    target
        What a layer shall reconstruct: its ``own`` outputs on the inputs it gets, or the outputs
        it has in the ``dense`` network, which lets it correct the errors of earlier layers
        (sequential calibration only; walks a copy of the dense network alongside).
    """
    if calibration not in CALIBRATIONS:
        raise UserError(
            f"unknown calibration {calibration!r}: choose one of {', '.join(CALIBRATIONS)}"
        )
    if target not in TARGETS:
        raise UserError(f"unknown target {target!r}: choose one of {', '.join(TARGETS)}")
    if target == "dense" and calibration != "sequential":
        raise UserError("target 'dense' differs from 'own' only with calibration 'sequential'")

    def start(name: str) -> LayerMoments:
        return LayerMoments(name, layers[name], memory_mb, dtype)

    if calibration == "independent":
        return _independent(model, batches, layers, start)
    dense = copy.deepcopy(model) if target == "dense" else None
    return _sequential(model, dense, batches, layers, uses, start)


def _independent(
    model: nn.Module,
    batches: Sequence[Tensor],
    layers: Mapping[str, PrunableLayer],
    start: Any,
) -> Gathered:
    moments: dict[str, LayerMoments] = {name: start(name) for name in layers}

    def hook(name: str) -> Any:
        return lambda _, args, kwargs: moments[name].add(args[0] if args else kwargs["input"])

    with ExitStack() as stack:
        for name, layer in layers.items():
            handle = layer.register_forward_pre_hook(hook(name), with_kwargs=True)
            stack.callback(handle.remove)
        for batch in batches:
            model(batch)
    for name in layers:
        yield name, moments.pop(name)


def _sequential(
    model: nn.Module,
    dense: nn.Module | None,
    batches: Sequence[Tensor],
    layers: Mapping[str, PrunableLayer],
    uses: Mapping[str, int],
    start: Any,
) -> Gathered:
    remaining = dict(layers)
    while remaining:
        yield from _walk(model, dense, batches, remaining, uses, start)


def _walk(
    model: nn.Module,
    dense: nn.Module | None,
    batches: Sequence[Tensor],
    remaining: dict[str, PrunableLayer],
    uses: Mapping[str, int],
    start: Any,
) -> Gathered:
    """Go through the network until its end or the last use of a layer used more than once."""
    seen: dict[str, int] = {}
    moments: dict[str, LayerMoments] = {}
    with ExitStack() as stack:
        pauses = stack.enter_context(paused_passes(model, batches, dict(remaining)))
        wanted = None
        if dense is not None:
            twins = {name: dense.get_submodule(name) for name in remaining}
            wanted = stack.enter_context(paused_passes(dense, batches, twins, after=True))
        for stops in pauses:
            outputs = [None] * len(stops) if wanted is None else [s[1] for s in next(wanted)]
            name = stops[0][0]
            if any(stop[0] != name for stop in stops):
                raise UserError(
                    f"one batch reached layer {name!r} while another was elsewhere: such a model "
                    "needs calibration 'independent'"
                )
            collected = moments.setdefault(name, start(name))
            for (_, inputs), output in zip(stops, outputs, strict=True):
                collected.add(inputs, output)
            seen[name] = seen.get(name, 0) + 1
            if seen[name] == uses[name]:
                del remaining[name]
                yield name, moments.pop(name)
                if uses[name] > 1:
                    return
