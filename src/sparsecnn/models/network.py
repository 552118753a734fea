"""A network as an artifact: the settings that rebuild it, and its weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from sparsecnn.artifacts import Manifest, Origin, read_tensors
from sparsecnn.errors import UserError
from sparsecnn.registry import resolve


@dataclass(frozen=True)
class Architecture:
    """Everything that fixes a network's shape."""

    model: str
    """A name of the model registry."""
    width: float
    """Factor on every hidden channel count."""
    num_classes: int
    image_size: int
    """Side of the square input images, in pixels."""


def build(architecture: Architecture, seed: int = 0) -> nn.Module:
    """A freshly initialised network; equal seeds give equal weights."""
    factory = resolve("model", architecture.model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: nn.Module = factory(
            num_classes=architecture.num_classes,
            width=architecture.width,
            image_size=architecture.image_size,
        )
    return model


def read_network(path: Path, kind: str, origin: Origin | None = None) -> tuple[nn.Module, Manifest]:
    """The network stored in a `dense` or `pruned` artifact, in eval mode on the CPU.

    The manifest's settings hold the architecture under the key `architecture`.
    Raises `UserError` if the file is damaged, of another origin than the one given, or does not
    fit the architecture it names.
    """
    tensors, manifest = read_tensors(path, kind, origin)
    model = build(Architecture(**manifest.settings["architecture"]))
    load_weights(model, tensors, path)
    return model.eval(), manifest


def load_weights(model: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Load a state dict read from `path`; `UserError` if names or shapes differ."""
    try:
        model.load_state_dict(tensors)
    except RuntimeError:
        raise UserError(
            f"{path}: its weights do not fit the network it names; delete the file and run "
            "snakemake again to make it anew"
        ) from None
