"""What pruning a model reports."""

from dataclasses import dataclass

from torch import Tensor


@dataclass
class LayerReport:
    """One row of the table of layers; every value is plain JSON."""

    layer: str
    """Dotted name of the module."""
    kind: str
    """conv2d or linear."""
    out_channels: int
    in_channels: int
    kernel: str
    """Height x width, "1x1" for a linear layer."""
    groups: int
    status: str
    """pruned or dense."""
    reason: str
    """Why the layer stayed dense; empty for a pruned one."""
    pattern: str
    layout: str
    sparsity: float
    """Fraction of zero weights."""
    relative_error: float | None = None
    """||W X - W' X||^2 / ||W X||^2 over the calibration set; None for a dense layer."""
    damping: float | None = None
    """Damping used, a fraction of the mean diagonal of the Hessian; None if there was none."""
    seconds: float = 0.0
    """Time to solve the layer, without gathering its Hessian."""
    samples: int = 0
    """Input rows that the Hessian was gathered from."""
    notes: str = ""
    """What had to be done to keep the numbers sound."""


@dataclass
class PruningResult:
    """Masks and measurements of one call of `prune`."""

    masks: dict[str, Tensor]
    """bool, the shape of the layer's weight, True where it is kept; by name of pruned layer."""
    layers: list[LayerReport]
    """Every Conv2d and Linear of the model, in the order data reaches them."""
    seconds: float
    """Elapsed time of the whole call."""
