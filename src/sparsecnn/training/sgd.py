"""Stochastic gradient descent by torch's own kernels, with its state in plain lists."""

import torch
from torch import Tensor, nn
from torch.optim.sgd import sgd

from sparsecnn.training.recipe import Recipe


class SGD:
    """`torch.optim.SGD` for one recipe, bit for bit.

    That class's hooks import torch's compiler, which takes a second of every job's start; the
    function that does its work does not.
    """

    def __init__(self, model: nn.Module, recipe: Recipe) -> None:
        self._model, self._recipe = model, recipe
        parameters = list(model.parameters())
        # Kernels and matrices have two axes or more; biases and batch norm's factors have one.
        decayed = [p for p in parameters if recipe.decay_norm_and_bias or p.ndim > 1]
        others = [p for p in parameters if not (recipe.decay_norm_and_bias or p.ndim > 1)]
        self._groups = [(decayed, recipe.weight_decay), (others, 0.0)]
        self._momenta: dict[Tensor, Tensor] = {
            p: torch.zeros_like(p, requires_grad=False) for p in parameters
        }
        device = parameters[0].device
        self._fused = device.type in ("cpu", "cuda")
        # On a GPU a tensor: a step that is replayed finds the rate of now in it.
        self._rate: float | Tensor = (
            torch.zeros((), device=device) if device.type == "cuda" else 0.0
        )

    @property
    def momenta(self) -> list[Tensor]:
        """The momentum of each parameter, in the model's order; its state, to be saved or set."""
        return list(self._momenta.values())

    def set_learning_rate(self, value: float) -> None:
        """For the steps that follow; on a GPU rounded to float32."""
        if isinstance(self._rate, Tensor):
            self._rate.fill_(value)
        else:
            self._rate = value

    @torch.no_grad()
    def step(self) -> None:
        """Move all parameters against their gradients, and forget these."""
        for group, decay in self._groups:
            moved: list[Tensor] = [p for p in group if p.grad is not None]
            momenta: list[Tensor | None] = [self._momenta[p] for p in moved]
            if moved:
                sgd(
                    moved,
                    [p.grad for p in moved if p.grad is not None],
                    momenta,
                    fused=self._fused,
                    foreach=not self._fused,
                    weight_decay=decay,
                    momentum=self._recipe.momentum,
                    lr=self._rate,
                    dampening=0.0,
                    nesterov=self._recipe.nesterov,
                    maximize=False,
                )
        self._model.zero_grad()
