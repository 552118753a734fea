"""Run a model for calibration and leave it as it was."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext

import torch
from torch import Tensor, nn

from sparsecnn.models.reparametrized import write


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode and no gradients inside; every module's own mode is restored afterwards.

    The flags are set as such: a `train` method of the user's may change more, such as weights.
    """
    modes = {module: module.training for module in model.modules()}
    try:
        for module in modes:
            module.training = False
        with torch.no_grad():
            yield
    finally:
        for module, training in modes.items():
            module.training = training


@contextmanager
def module_by_module(model: nn.Module) -> Iterator[None]:
    """Forward passes go through the code of every module inside, on one device.

    No compiled code, no fused path of transformers, no replicas of `torch.nn.DataParallel`: in
    these the use of a weight cannot be seen. Buffers that a pass changes are restored.
    """
    parallel = [module for module in model.modules() if isinstance(module, nn.DataParallel)]
    devices = [module.device_ids for module in parallel]
    buffers = [(buffer, _copy(buffer)) for buffer in model.buffers() if _comparable(buffer)]
    plain = [module for module in model.modules() if not isinstance(module, torch.jit.ScriptModule)]
    places = [(module._buffers, dict(module._buffers)) for module in plain]
    fused = torch.backends.mha.get_fastpath_enabled()
    with _uncompiled():
        torch.backends.mha.set_fastpath_enabled(False)
        for module in parallel:
            module.device_ids = []
        try:
            yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fused)
            for module, ids in zip(parallel, devices, strict=True):
                module.device_ids = ids
            for place, own in places:
                place.update(own)
            for buffer, value in buffers:
                if not torch.equal(buffer, value):
                    write(buffer, value)


def _uncompiled() -> AbstractContextManager[object]:
    # Where the compiler is not there yet, nothing is compiled; to import it takes 3 s.
    there = "torch._dynamo" in sys.modules
    return torch.compiler.set_stance("force_eager") if there else nullcontext()


@contextmanager
def one_thread() -> Iterator[None]:
    """One CPU thread inside: for loops of many small operations.

    Threads would share work of microseconds and wait for each other; beside other busy
    processes such a loop was seen to take 30 times longer with two threads than with one.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class TwoStates:
    """Tensors of a network that are about to change, as they were and as they are.

    As a context manager it writes back what they were if anything is raised inside.
    """

    def __init__(self) -> None:
        self._tensors: list[Tensor] = []
        self._dense: list[Tensor] = []

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Tensors about to change, as they are now."""
        self._tensors += tensors
        self._dense += [_copy(tensor) for tensor in tensors]

    @contextmanager
    def dense(self) -> Iterator[None]:
        """As they were inside: the network is the dense one."""
        now = [tensor.data for tensor in self._tensors]
        with ExitStack() as stack:
            for tensor, value, back in zip(self._tensors, self._dense, now, strict=True):
                tensor.data = value
                stack.callback(setattr, tensor, "data", back)
            yield

    def __enter__(self) -> "TwoStates":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            for tensor, value in zip(self._tensors, self._dense, strict=True):
                write(tensor, value)


def _copy(tensor: Tensor) -> Tensor:
    """One that can take its place: an inference tensor of an inference tensor."""
    with torch.inference_mode(tensor.is_inference()):
        return tensor.detach().clone()


def _comparable(tensor: Tensor) -> bool:
    """Whether it has values and they lie in plain memory."""
    return tensor.layout == torch.strided and not tensor.is_nested and not tensor.is_meta
