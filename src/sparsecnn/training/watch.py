"""Noticing that a training has diverged without waiting for the device."""

import math

import torch
from torch import Tensor

_NONE = -1
_EVERY = 16
"""Steps between two looks at a GPU."""


class FirstBadStep:
    """The first step of an epoch whose loss was not finite.

    A GPU works through its steps long after they were asked for: there the answer is computed
    on the device and copied in the background, so that `poll` may give it some steps late, but
    it names the right one.
    """

    def __init__(self, device: torch.device) -> None:
        self._first = torch.full((), _NONE, device=device)
        on_gpu = device.type == "cuda"
        self._copy = torch.full((), _NONE).pin_memory() if on_gpu else self._first
        self._copied = torch.cuda.Event() if on_gpu else None

    def add(self, loss: Tensor, step: int) -> None:
        """Take note of the loss (a scalar on the device) of step `step`."""
        if self._copied is None:
            if not math.isfinite(loss.item()) and int(self._first) == _NONE:
                self._first.fill_(step)
            return
        self._first.masked_fill_((self._first == _NONE) & ~loss.isfinite(), step)
        if step % _EVERY == 0 and self._copied.query():
            self._copy.copy_(self._first, non_blocking=True)
            self._copied.record()

    def poll(self) -> int | None:
        """The first bad step that is known of now, or None."""
        arrived = self._copied is None or self._copied.query()
        return _step(self._copy) if arrived else None

    def wait(self) -> int | None:
        """The first bad step, or None."""
        return _step(self._first)


def _step(value: Tensor) -> int | None:
    step = int(value)
    return None if step == _NONE else step
