"""Post-training pruning of convolutional networks."""

from sparsecnn.pruning.driver import prune
from sparsecnn.pruning.permutation.permute import permute_channels
from sparsecnn.pruning.result import Permutation, PruningResult

__all__ = ["Permutation", "PruningResult", "permute_channels", "prune"]
