"""Post-training pruning of convolutional networks."""

from sparsecnn.pruning.driver import prune
from sparsecnn.pruning.result import PruningResult

__all__ = ["PruningResult", "prune"]
