"""Pruning a network of the zoo by several methods, and what that does to its outputs."""

import copy
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from networks import Network, build, images
from torch import Tensor, nn

import sparsecnn
from sparsecnn.pruning.result import PruningResult

METHODS = ("magnitude", "wanda", "sparsegpt")

HELD_OUT_IMAGES = 16


@dataclass(frozen=True)
class Trial:
    """What pruning a network came to."""

    result: PruningResult
    error: float
    """||f' - f||^2 / ||f - mean f||^2, of the outputs on images that pruning did not see."""
    seconds: float


def dense_network(network: Network) -> nn.Module:
    """As `build` makes it, but with flags that a careless hand would change.

    Modules in training and in eval mode, parameters with and without gradients take turns.
    """
    model = build(network)
    for index, module in enumerate(model.modules()):
        module.training = index % 2 == 0
    for index, parameter in enumerate(model.parameters()):
        parameter.requires_grad = index % 3 > 0
    return model


def prune_copy(network: Network, dense: nn.Module, method: str) -> tuple[nn.Module, Trial]:
    """The network pruned by a method with its default settings, on two batches."""
    pruned = copy.deepcopy(dense)
    batches = [images(network.size, network.batch, seed) for seed in (2, 3)]
    begun = time.perf_counter()
    result = sparsecnn.prune(pruned, batches, method=method)
    seconds = time.perf_counter() - begun
    held_out = images(network.size, HELD_OUT_IMAGES, seed=4)
    wanted, got = outputs(dense, held_out), outputs(pruned, held_out)
    spread = (wanted - wanted.mean(0)).square().sum()
    error = float((got - wanted).square().sum() / spread)
    return pruned, Trial(result, error, seconds)


@torch.no_grad()
def outputs(model: nn.Module, batch: Tensor) -> Tensor:
    """In eval mode; the model keeps its own."""
    computed: Tensor = copy.deepcopy(model).eval()(batch)
    return computed


def table_row(network: Network, trials: Mapping[str, Trial]) -> dict[str, Any]:
    """One row of the table of the zoo; layers are those of the last method."""
    *_, last = trials.values()
    layers = last.result.layers
    pruned = [layer for layer in layers if layer.status == "pruned"]
    return {
        "network": f"{network.name} ({network.changed})" if network.changed else network.name,
        "library": network.library,
        "million_weights": f"{sum(layer.weights for layer in layers) / 1e6:.2f}",
        "layers": len(layers),
        "pruned": len(pruned),
        "share_pruned": f"{100 * sum(layer.share for layer in pruned):.1f} %",
        "dense_and_why": _why_dense(layers),
        **{f"error_by_{method}": f"{trial.error:.3g}" for method, trial in trials.items()},
        "seconds": " / ".join(f"{trial.seconds:.1f}" for trial in trials.values()),
    }


def _why_dense(layers: Sequence[Any]) -> str:
    """Each reason in short with how often there is it, whatever channels it speaks of."""
    reasons = [layer.reason for layer in layers if layer.status == "dense"]
    general = (re.sub(r"^\d+ (.*) are not.*", r"\1", one.split(", not as")[0]) for one in reasons)
    short = (
        one.replace("the first calibration batch did not reach it", "not reached")
        for one in general
    )
    return "; ".join(f"{count} x {reason}" for reason, count in Counter(short).most_common())
