"""Networks whose forward passes are paused, counted and started again."""

import threading

from torch import Tensor, nn


class Branches(nn.Module):
    """A residual block whose modules are registered against the order of the data."""

    def __init__(self) -> None:
        super().__init__()
        self.shortcut = nn.Conv2d(4, 8, 1)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.first = nn.Conv2d(4, 8, 3, padding=1)
        self.head = nn.Linear(8, 4)
        self.passes = 0

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        y = self.second(self.first(x).relu()) + self.shortcut(x)
        out: Tensor = self.head(y.relu().mean((2, 3)))
        return out


class Recurrent(nn.Module):
    """A layer that is used before and after another."""

    def __init__(self) -> None:
        super().__init__()
        self.passes = 0
        self.inner, self.cell, self.head = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        x = self.cell(self.inner(self.cell(x).relu()).relu())
        out: Tensor = self.head(x)
        return out


def forward_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "forward pass"]
