"""How a pruned network's error comes about and grows along its depth."""

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sparsecnn.float64 import sum_in_float64


@dataclass(frozen=True)
class LayerError:
    """Error of one layer's outputs y against the dense network's, ``||y' - y||^2 / ||y||^2``.

    None where the dense outputs are all zero.
    """

    layer: str
    own: float | None
    """Of the pruned layer on the inputs it has in the dense network."""
    accumulated: float | None
    """Of the pruned layer within the pruned network: its own error and that of its inputs."""


def output_errors(
    dense: nn.Module, pruned: nn.Module, batches: Iterable[Tensor]
) -> list[LayerError]:
    """Errors of every Conv2d and Linear, biases included, in the order data reaches them.

    Parameters
    ----------
    dense, pruned
        Networks of one architecture, in eval mode.
    batches
        Network inputs (N, C, H, W), on the models' device. Memory is for the outputs of all layers
        on one batch.

    A layer that is never used is left out; one that is used several times is summed over.
    """
    outputs: dict[str, list[Tensor]] = {}
    energy: dict[str, float] = {}
    own: dict[str, float] = {}
    accumulated: dict[str, float] = {}
    twins = _layers(pruned)

    def keep(name: str) -> Any:
        def hook(_: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            # Copied, since an activation in place may follow.
            outputs.setdefault(name, []).append(output.clone())
            _add(energy, name, output)
            _add(own, name, twins[name].forward(args[0]) - output)

        return hook

    def compare(name: str) -> Any:
        def hook(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
            _add(accumulated, name, output - outputs[name].pop(0))

        return hook

    with ExitStack() as stack, torch.no_grad():
        for name, layer in _layers(dense).items():
            stack.callback(layer.register_forward_hook(keep(name)).remove)
            stack.callback(twins[name].register_forward_hook(compare(name)).remove)
        for batch in batches:
            dense(batch)
            pruned(batch)
    return [
        LayerError(name, _share(own[name], total), _share(accumulated[name], total))
        for name, total in energy.items()
    ]


def _layers(model: nn.Module) -> dict[str, nn.Module]:
    return {n: m for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}


def _add(sums: dict[str, float], name: str, values: Tensor) -> None:
    sums[name] = sums.get(name, 0.0) + sum_in_float64(values.square())


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None
