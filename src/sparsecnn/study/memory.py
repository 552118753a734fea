"""What Hessians and padded images take of memory, before anything is computed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WARNED = 8 * 2**30
"""Bytes of Hessians, at once, from which on a study is warned."""


@dataclass(frozen=True)
class Layer:
    """A layer whose Hessian is (groups, columns, columns)."""

    name: str
    columns: int
    """Inputs of one output: of a convolution, channels of a group times kernel positions."""
    groups: int = 1

    def hessian_bytes(self, itemsize: int) -> int:
        """Of its Hessian, in numbers of so many bytes."""
        return self.groups * self.columns**2 * itemsize


@dataclass(frozen=True)
class Need:
    """What the Hessians of one network take at once, and the layer that takes most of it."""

    variant: str | None
    """What is pruned; None of the diagnostics."""
    layer: Layer
    bytes: int
    number_format: str
    """float32 or float64."""


def pruning_need(variant: str, settings: Mapping[str, Any], layers: Sequence[Layer]) -> Need | None:
    """What the Hessians take while these layers are pruned; None without any."""
    number_format = settings.get("precision", "float32")
    sequential = settings.get("calibration") == "sequential"
    return _need(variant, layers, _copies(settings), number_format, together=not sequential)


def diagnostics_need(layers: Sequence[Layer]) -> Need | None:
    """What the Hessians of all layers take while their conditioning is measured."""
    # The sum, the Hessian, the same in float64, and as much again for its eigenvalues: measured.
    return _need(None, layers, 6, "float32", together=True)


def _need(
    variant: str | None, layers: Sequence[Layer], copies: int, number_format: str, *, together: bool
) -> Need | None:
    if not layers:
        return None
    itemsize = 8 if number_format == "float64" else 4
    largest = max(layers, key=lambda layer: layer.hessian_bytes(itemsize))
    kept = sum(layer.hessian_bytes(itemsize) for layer in layers) if together else 0
    own = largest.hessian_bytes(itemsize)
    return Need(variant, largest, max(kept - own, 0) + copies * own, number_format)


def _copies(settings: Mapping[str, Any]) -> int:
    """Matrices of a Hessian's size that are there at once when a layer is pruned.

    As measured with a linear layer of 6,000 inputs: the sum over batches and the Hessian; its
    factor; the damped Hessian of a refit; what reorders it; and what an inverse takes.
    """
    if settings["method"] in ("static_obs", "exact_obs"):
        return 6
    if settings.get("column_order") == "importance":
        return 5
    if settings.get("refit") or settings["layout"] == "flattened":
        return 4
    return 3 if settings["method"] == "sparsegpt" else 2


def too_large(model: str, width: float, side: int, needs: Iterable[Need], memory: int) -> list[str]:
    """A line for each layer whose Hessian takes too much, with all whom that concerns.

    Parameters
    ----------
    model, width, side
        The network, its width, and the side of its images in pixels.
    needs
        Those that are too large.
    memory
        Bytes that there are; 0 to leave it unsaid.
    """
    by_layer: dict[tuple[Layer, bool, str], list[Need]] = {}
    for need in needs:
        key = need.layer, need.variant is None, need.number_format
        by_layer.setdefault(key, []).append(need)
    lines = []
    for (layer, diagnosing, number_format), group in by_layer.items():
        who = (
            "diagnostics" if diagnosing else f"pruning ({', '.join(str(n.variant) for n in group)})"
        )
        bound = f", more than the {gigabytes(memory)} of memory of this machine" if memory else ""
        takes = {need.bytes for need in group}
        about = f"{'about' if len(takes) == 1 else 'up to'} {gigabytes(max(takes))}"
        own = layer.hessian_bytes(8 if number_format == "float64" else 4)
        otherwise = (
            "or measure none (diagnostics: null)"
            if diagnosing
            else f"or leave the layer out (exclude: [{layer.name}])"
        )
        lines.append(
            f"models.{model}: layer {layer.name} has {layer.columns:,} inputs, so its Hessian "
            f"takes {gigabytes(own)} in {number_format} and {who} {about} at once{bound}; lower "
            f"the width (now {width:g}) or the size of the images (now {side}x{side}), {otherwise}"
        )
    return lines


def gigabytes(count: float) -> str:
    """Bytes in words, e.g. ``21.7 GB``."""
    return f"{count / 1e9:,.1f} GB"


def padded_bytes(recipe: Mapping[str, Any], facts: Mapping[str, Any]) -> int:
    """What a training takes for its padded images: they are there twice while they are made."""
    channels, height, width = facts["image_shape"]
    padding = 2 * recipe["crop_padding"]
    return int(2 * facts["n_train"] * channels * (height + padding) * (width + padding))
