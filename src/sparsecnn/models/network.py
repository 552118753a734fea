"""A network as an artifact: the settings that rebuild it, and its weights."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sparsecnn.artifacts import Manifest, Origin, read_tensors
from sparsecnn.errors import UserError
from sparsecnn.models.builders import build_own
from sparsecnn.registry import resolve


@dataclass(frozen=True)
class Architecture:
    """Everything that fixes a network's shape."""

    model: str
    """A name of the model registry or, with a builder, any."""
    width: float
    """Factor on every hidden channel count; a builder knows nothing of it."""
    num_classes: int
    image_size: int
    """Side of the square input images, in pixels; a builder is not told."""
    builder: str | None = None
    """Of a network of the user's own: see `sparsecnn.models.builders`."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Of the builder, besides the number of classes."""


def architecture_of(settings: Mapping[str, Any], num_classes: int, image_size: int) -> Architecture:
    """The architecture that a dense network's settings name, for images of this size."""
    own = {key: settings[key] for key in ("builder", "arguments") if key in settings}
    return Architecture(settings["model"], settings["width"], num_classes, image_size, **own)


def build(architecture: Architecture, seed: int = 0) -> nn.Module:
    """A freshly initialised network; equal seeds give equal weights.

    Raises `UserError` if it cannot take the images, or a builder cannot build it.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if architecture.builder:
            return build_own(architecture.builder, architecture.num_classes, architecture.arguments)
        model: nn.Module = resolve("model", architecture.model)(
            num_classes=architecture.num_classes,
            width=architecture.width,
            image_size=architecture.image_size,
        )
    return model


def build_without_numbers(architecture: Architecture) -> nn.Module:
    """The network on torch's meta device or, if a builder cannot do without numbers, on the CPU."""
    try:
        with torch.device("meta"):
            return build(architecture)
    except (UserError, RuntimeError):  # on the CPU it is said what is wrong, if anything is
        return build(architecture)


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
