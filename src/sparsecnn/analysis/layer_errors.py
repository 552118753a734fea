"""Errors of the layers of pruned networks, as their tables have them."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sparsecnn.errors import UserError


@dataclass(frozen=True)
class LayerErrors:
    """Relative output error ``||WX - W'X||^2 / ||WX||^2`` of every layer of one pruned network."""

    model: str
    recipe: str
    epochs: int
    seed: int
    variant: str
    errors: tuple[float, ...]
    """In order of depth; NaN for a layer left dense."""
    layers: tuple[str, ...] = ()
    """Names of the layers, in the same order."""


def read_layer_errors(path: Path) -> LayerErrors:
    """Read ``<model>/<recipe>/epochs-<n>/seed-<s>/<variant>/layers.csv`` under any folder.

    Raises `UserError` if it is not such a table.
    """
    try:
        model, recipe, epochs, seed, variant = path.parts[-6:-1]
        with path.open(encoding="utf-8", newline="") as file:
            records = list(csv.DictReader(file))
            errors = [record["relative_error"] for record in records]
        return LayerErrors(
            model,
            recipe,
            int(epochs.removeprefix("epochs-")),
            int(seed.removeprefix("seed-")),
            variant,
            tuple(float(error) if error else np.nan for error in errors),
            tuple(record["layer"] for record in records),
        )
    except (OSError, KeyError, ValueError) as error:
        raise UserError(
            f"{path}: not a table of layers ({type(error).__name__}: {error}); "
            "delete the file and run snakemake again to make it anew"
        ) from None


def different(variants: Sequence[str], layers: Sequence[LayerErrors]) -> list[str]:
    """The variants whose errors are not those of an earlier one, to the last bit."""
    first: dict[str, str] = {}
    for variant in variants:
        own = sorted(
            (x.model, x.recipe, x.epochs, x.seed, *x.errors) for x in layers if x.variant == variant
        )
        first.setdefault(repr(own), variant)
    return list(first.values())
