"""Pruning a network of the zoo by several methods, and what that does to its outputs."""

import copy
import re
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from networks import Network, build, images
from torch import Tensor, nn

import sparsecnn
from sparsecnn.pruning.result import PruningResult

METHODS = ("magnitude", "wanda", "sparsegpt")

CALIBRATION_IMAGES = 8
HELD_OUT_IMAGES = 16


@dataclass(frozen=True)
class Trial:
    """A network, and its copy as pruned."""

    dense: nn.Module
    pruned: nn.Module
    result: PruningResult
    error: float
    """||f' - f||^2 / ||f - mean f||^2, of the outputs on images that pruning did not see."""
    seconds: float


def dense_network(network: Network) -> nn.Module:
    """As `build` makes it; modules in training and eval mode, parameters with and without
    gradients take turns, so that a change of any would show.
    """
    model = build(network)
    for index, module in enumerate(model.modules()):
        module.training = index % 2 == 0
    for index, parameter in enumerate(model.parameters()):
        parameter.requires_grad = index % 3 > 0
    return model


def run_trial(network: Network, dense: nn.Module, method: str) -> Trial:
    """Prune a copy."""
    pruned = copy.deepcopy(dense)
    batches = [images(network.size, CALIBRATION_IMAGES, seed) for seed in (2, 3)]
    begun = time.perf_counter()
    result = sparsecnn.prune(pruned, batches, method=method)
    seconds = time.perf_counter() - begun
    held_out = images(network.size, HELD_OUT_IMAGES, seed=4)
    wanted, got = outputs(dense, held_out), outputs(pruned, held_out)
    spread = (wanted - wanted.mean(0)).square().sum()
    error = float((got - wanted).square().sum() / spread)
    return Trial(dense, pruned, result, error, seconds)


@torch.no_grad()
def outputs(model: nn.Module, batch: Tensor) -> Tensor:
    """In eval mode; the model keeps its own."""
    computed: Tensor = copy.deepcopy(model).eval()(batch)
    return computed


def table_row(network: Network, trials: dict[str, Trial]) -> dict[str, Any]:
    """One row of the table of the zoo."""
    layers = trials["sparsegpt"].result.layers
    pruned = [layer for layer in layers if layer.status == "pruned"]
    return {
        "network": f"{network.name} ({network.changed})" if network.changed else network.name,
        "library": network.library,
        "million_weights": f"{sum(layer.weights for layer in layers) / 1e6:.2f}",
        "layers": len(layers),
        "pruned": len(pruned),
        "share_pruned": f"{100 * sum(layer.share for layer in pruned):.1f} %",
        "dense_and_why": why_dense(layers),
        **{f"error_by_{method}": f"{trial.error:.3g}" for method, trial in trials.items()},
        "seconds": " / ".join(f"{trial.seconds:.1f}" for trial in trials.values()),
    }


def why_dense(layers: list[Any]) -> str:
    """Reasons with how often there is each, whatever their numbers and names."""
    reasons = [layer.reason for layer in layers if layer.status != "pruned"]
    general = [re.sub(r"'[^']*'", "...", re.sub(r"\d+", "n", reason)) for reason in reasons]
    return "; ".join(f"{count} x {reason}" for reason, count in Counter(general).most_common())
