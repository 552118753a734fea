"""Post-training N:M pruning of convolutional networks, and the study built on it."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# Resolved on first use and by name: `import sparsecnn` stays free of torch, and no
# import edge ties every job's code digest to the pruning package.
_EXPORTS = {"prune": "sparsecnn.pruning", "PruningResult": "sparsecnn.pruning"}
__all__ = ["PruningResult", "__version__", "prune"]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'sparsecnn' has no attribute {name!r}")
    return getattr(import_module(_EXPORTS[name]), name)
