"""What pruning a model reports."""

from dataclasses import dataclass, field

from torch import Tensor


@dataclass
class LayerReport:
    """One row of the table of layers; every value is plain JSON."""

    layer: str
    """Dotted name of the module."""
    tensor: str
    """Name of the weight in it, mostly ``weight``."""
    kind: str
    """linear, conv1d, conv2d or conv3d; else the module's class in lower case."""
    out_channels: int
    in_channels: int
    kernel: str
    """Height x width, "1x1" for a linear layer."""
    groups: int
    weights: int
    """Number of elements."""
    share: float
    """Of all weights of the model."""
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
    """Input rows that were gathered from."""
    notes: str = ""
    """What had to be done to keep the numbers sound."""


@dataclass
class PermutedStream:
    """Channels that were put in another order, together wherever they lie."""

    readers: list[str]
    """Layers pruned whose input channels they are."""
    writers: list[str]
    """Layers whose output channels they are."""
    order: list[int]
    """Channel i is what channel `order[i]` was."""
    before: float
    """What the pattern keeps of their importance, the sum of |w| sqrt(H), in the old order."""
    after: float
    """In the new one."""


@dataclass
class Permutation:
    """What was done to the channels of a model."""

    streams: list[PermutedStream]
    left: dict[str, str]
    """By name of a layer to be pruned whose input channels keep their order, why they do."""
    seconds: float = 0.0


@dataclass
class PruningResult:
    """Masks and measurements of one call of `prune`."""

    masks: dict[str, Tensor] = field(repr=False)
    """bool, the shape of the layer's weight, True where it is kept; by name of pruned layer, with
    the tensor's name behind a dot where that is not ``weight``."""
    layers: list[LayerReport]
    """Every weight of the model (parameters of two dimensions or more, whatever module owns them),
    in the order data reaches them; those that none reached come last."""
    seconds: float
    """Elapsed time of the whole call."""
    permutation: Permutation | None = None
    """What was done to the channels before; None without `permute_channels`."""

    @property
    def sparsity(self) -> float:
        """Fraction of zeros among all weights of the model, those of dense layers included."""
        return sum(layer.sparsity * layer.share for layer in self.layers)
