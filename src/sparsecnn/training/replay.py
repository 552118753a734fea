"""Work on a GPU that is launched whole, from a CUDA graph, in the place of kernel by kernel."""

import logging
from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

_WARM_UP = 3
"""Calls in which libraries choose their kernels and allocate what a graph cannot."""


class Replayed:
    """A function of tensors on a GPU that is recorded as a CUDA graph, and replayed from then on.

    The first calls run as they are, so that nothing has to be undone; what the next of the same
    shapes launches is recorded, with all that it reads and writes at fixed places in memory. Inputs
    of other shapes, as of the last batch of an epoch, always run as they are. Random numbers go on
    as without a graph, since it draws from the device's default generator.

    Parameters
    ----------
    function
        What it launches may depend on the shapes of its inputs alone, and it must not wait for the
        device. The tensor that it returns is overwritten by the next call.
    """

    def __init__(self, function: Callable[..., Tensor]) -> None:
        self._function = function
        self._calls: Counter[tuple[torch.Size, ...]] = Counter()
        self._shapes: tuple[torch.Size, ...] = ()
        self._inputs: list[Tensor] = []
        self._replay: Callable[[], None] = lambda: None
        self._result = torch.empty(0)

    def __call__(self, *inputs: Tensor) -> Tensor:
        """The function of `inputs`."""
        shapes = tuple(tensor.shape for tensor in inputs)
        self._calls[shapes] += 1
        if not self._shapes:
            if self._calls[shapes] <= _WARM_UP:
                return _beside(self._function, *inputs)
            self._shapes, self._inputs = shapes, [tensor.clone() for tensor in inputs]
            self._replay, self._result = recorded(self._function, *self._inputs)
            logger.info("steps of %d images are replayed from a CUDA graph", shapes[0][0])
        if shapes != self._shapes:
            return self._function(*inputs)
        for kept, given in zip(self._inputs, inputs, strict=True):
            kept.copy_(given)
        self._replay()
        return self._result


def recorded(function: Callable[..., Tensor], *inputs: Tensor) -> tuple[Callable[[], None], Tensor]:
    """What launches the function's work on these tensors again, and its result; not run yet."""
    graph = torch.cuda.CUDAGraph()
    # Only this thread is kept from what a graph cannot hold: another one writes checkpoints.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        result = function(*inputs)
    return graph.replay, result


def _beside(function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """The function on a stream of its own, as recording has one, for libraries to get ready."""
    here = torch.cuda.current_stream()
    side = torch.cuda.Stream()
    side.wait_stream(here)
    with torch.cuda.stream(side):
        result = function(*inputs)
    here.wait_stream(side)
    return result
