"""Run a model for calibration and leave it as it was."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode and no gradients inside; every module's own mode is restored afterwards."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes.items():
            module.training = training


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


@contextmanager
def restored_on_error(layers: Mapping[str, nn.Module]) -> Iterator[None]:
    """Put weights and biases back as they were if anything is raised inside."""
    parameters = [p for layer in layers.values() for p in layer.parameters(recurse=False)]
    saved = [parameter.detach().clone() for parameter in parameters]
    try:
        yield
    except BaseException:
        with torch.no_grad():
            for parameter, value in zip(parameters, saved, strict=True):
                parameter.copy_(value)
        raise
