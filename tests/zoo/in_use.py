"""Which weights a network computes with; no code of the library that prunes is used here."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FUNCTIONS = ("conv1d", "conv2d", "conv3d", "linear")


@dataclass(frozen=True)
class Use:
    """A weight as a convolution or a product got it."""

    weight: Tensor
    parameters: tuple[str, ...]
    """Names of the parameter that it is, or is a part of; none of a weight made anew."""
    module: str
    """Name of the innermost module at work."""

    def is_of(self, layer: str, tensor: str) -> bool:
        """Whether it is this tensor, or was made inside the layer that owns it."""
        if self.parameters:
            return ".".join(filter(None, (layer, tensor))) in self.parameters
        return self.module == layer


def uses(model: nn.Module, batch: Tensor) -> list[Use]:
    """Every weight that one forward pass computes with."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(_memory(parameter), []).append(name)
    found: list[Use] = []
    with torch.no_grad(), _modules_at_work(model) as at_work, ExitStack() as stack:

        def recording(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
            def call(input: Tensor, weight: Tensor, *args: Any, **kwargs: Any) -> Tensor:  # noqa: A002
                found.append(Use(weight, tuple(names.get(_memory(weight), ())), at_work[-1]))
                return function(input, weight, *args, **kwargs)

            return call

        # A TorchFunctionMode is off inside of nn.MultiheadAttention.
        for name in FUNCTIONS:
            stack.enter_context(mock.patch.object(F, name, recording(getattr(F, name))))
        stack.enter_context(_slow_attention())
        model(batch)
    return found


def two_of_four(weight: Tensor) -> bool:
    """Whether at most two of every four neighbouring input channels are not zero."""
    if weight.shape[1] % 4:
        return False
    groups = weight.movedim(1, -1).reshape(-1, 4)
    return bool((groups.count_nonzero(1) <= 2).all())


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


@contextmanager
def _modules_at_work(model: nn.Module) -> Iterator[list[str]]:
    """The names of the modules that are being called, the innermost last."""
    at_work: list[str] = []

    def end(*_: Any) -> None:
        at_work.pop()

    with ExitStack() as stack:
        for name, module in model.named_modules():
            begin = module.register_forward_pre_hook(lambda *_, name=name: at_work.append(name))
            stack.callback(begin.remove)
            stack.callback(module.register_forward_hook(end).remove)
        yield at_work


@contextmanager
def _slow_attention() -> Iterator[None]:
    """The fast path of nn.MultiheadAttention computes with weights unseen."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)
