"""What a thread's forward passes run in, carried from the thread that prunes to those of passes."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack
from torch.utils._device import DeviceContext

from sparsecnn.device import full_precision
from sparsecnn.pruning.state import evaluating

_ALONE = threading.Lock()
"""Of threads that prune one does at a time: some of what is set meanwhile is the process's."""


@dataclass(frozen=True)
class Surroundings:
    """What torch keeps for each thread by itself, except dispatch modes."""

    autocast: tuple[tuple[str, torch.dtype], ...]
    """Device types that autocast is on for, with the dtype it casts to."""
    device: torch.device
    """Where tensors are made unless said otherwise."""
    stream: torch.cuda.Stream | None
    """The current stream of the current CUDA device, if the model is on one."""
    inference: bool
    """Inference mode is on."""
    modes: tuple[TorchFunctionMode, ...]
    """What the caller's code watches or changes torch's functions with."""

    @classmethod
    def here(cls, devices: set[str]) -> "Surroundings":
        """Those of the present thread; autocast of the CPU and of these device types."""
        on = [kind for kind in sorted(devices | {"cpu"}) if torch.is_autocast_enabled(kind)]
        autocast = tuple((kind, torch.get_autocast_dtype(kind)) for kind in on)
        stream = torch.cuda.current_stream() if "cuda" in devices else None
        modes = [m for m in _get_current_function_mode_stack() if not isinstance(m, DeviceContext)]
        inference = torch.is_inference_mode_enabled()
        return cls(autocast, torch.get_default_device(), stream, inference, tuple(modes))

    @contextmanager
    def entered(self) -> Iterator[None]:
        """In another thread: the same, for forward passes."""
        if self.stream is not None:
            torch.cuda.set_device(self.stream.device)
            torch.cuda.set_stream(self.stream)
            torch.zeros(1, device="cuda")  # cuBLAS warns if it is the first to run in a thread
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode(self.inference))
            stack.enter_context(torch.no_grad())
            for kind, dtype in self.autocast:
                stack.enter_context(torch.autocast(kind, dtype))
            if self.device.type != "cpu":
                stack.enter_context(self.device)
            for mode in self.modes:
                stack.enter_context(mode)
            yield

    @contextmanager
    def left(self) -> Iterator[None]:
        """In the same thread: none of it, for the solving; no gradients, no inference tensors."""
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.no_grad())
            for kind, _ in self.autocast:
                stack.enter_context(torch.autocast(kind, enabled=False))
            if self.device.type != "cpu":  # torch would ask it at every operation
                stack.enter_context(torch.device("cpu"))
            yield


@contextmanager
def undisturbed(model: nn.Module, surroundings: Surroundings) -> Iterator[None]:
    """Out of the caller's surroundings, at full precision, the model in eval mode, alone."""
    with _ALONE, full_precision(), surroundings.left(), evaluating(model):
        yield
