"""What Hessians and padded images take of memory, before anything is computed."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

WARNED = 8 * 2**30
"""Bytes of Hessians, at once, from which on a study is warned."""


@dataclass(frozen=True)
class Need:
    """What the Hessians of one network take at once, and the layer that takes most of it."""

    variant: str | None
    """What is pruned; None of the diagnostics."""
    layer: str
    columns: int
    """Inputs of one output: of a convolution, channels of a group times kernel positions."""
    hessian: int
    """Bytes of that layer's Hessian, (groups, columns, columns)."""
    bytes: int
    """All that there is at once."""
    number_format: str
    """float32 or float64."""


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
    by_layer: dict[tuple[str, bool, str], list[Need]] = {}
    for need in needs:
        key = need.layer, need.variant is None, need.number_format
        by_layer.setdefault(key, []).append(need)
    lines = []
    for (layer, diagnosing, number_format), group in by_layer.items():
        who = (
            "diagnostics" if diagnosing else f"pruning ({', '.join(str(n.variant) for n in group)})"
        )
        bound = (
            f", more than three quarters of the {gigabytes(memory)} of memory of this machine"
            if memory
            else ""
        )
        takes = {need.bytes for need in group}
        about = f"{'about' if len(takes) == 1 else 'up to'} {gigabytes(max(takes))}"
        otherwise = (
            "or measure none (diagnostics: null)"
            if diagnosing
            else f"or leave the layer out (exclude: [{layer}])"
        )
        lines.append(
            f"models.{model}: layer {layer} has {group[0].columns:,} inputs, so its Hessian "
            f"takes {gigabytes(group[0].hessian)} in {number_format} and {who} {about} at "
            f"once{bound}; lower the width (now {width:g}) or the size of the images (now "
            f"{side}x{side}), {otherwise}"
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
