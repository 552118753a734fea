"""Run a model for calibration and leave it as it was."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from sparsecnn.errors import UserError


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode and no gradients inside; every module's own mode is restored afterwards."""
    modes = {module: module.training for module in model.modules()}
    try:
        model.eval()
    except NotImplementedError as error:
        raise UserError(
            f"the model cannot be put into eval mode ({error}): if it was exported, prune the "
            "module that it was exported from, then export that"
        ) from error
    try:
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
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    fused = torch.backends.mha.get_fastpath_enabled()
    with torch.compiler.set_stance("force_eager"):
        torch.backends.mha.set_fastpath_enabled(False)
        for module in parallel:
            module.device_ids = []
        try:
            yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fused)
            for module, own in zip(parallel, devices, strict=True):
                module.device_ids = own
            for buffer, value in buffers:
                if not _same(buffer, value):
                    write(buffer, value)


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

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self._tensors = list(tensors)
        self._dense = [tensor.detach().clone() for tensor in tensors]

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


def write(tensor: Tensor, value: Tensor) -> None:
    """Copy values into a tensor of a model, which may have been made in inference mode."""
    with torch.inference_mode(tensor.is_inference()), torch.no_grad():
        tensor.copy_(value)


def _same(one: Tensor, other: Tensor) -> bool:
    if one.is_meta:
        return True
    return torch.equal(one, other)
