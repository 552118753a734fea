"""Errors of the layers of pruned networks, as their tables have them."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from sparsecnn.analysis.tables import read_csv
from sparsecnn.errors import UserError

COLUMNS: Mapping[str, type] = {"layer": str, "relative_error": float}
"""Of layers.csv, those that are read, in order of depth.

`relative_error` is ``||WX - W'X||^2 / ||WX||^2``; it is missing where a layer was left dense.
"""


def read_layer_errors(paths: Iterable[Path]) -> pd.DataFrame:
    """One row for every layer of every network: `_NETWORK`, layer, depth from 1 on, relative_error.

    Files are ``<model>/<recipe>/epochs-<n>/seed-<s>/<variant>/layers.csv`` under any folder. Raises
    `UserError` if one is not such a table.
    """
    found = [_read(path) for path in paths]
    return pd.concat(found, ignore_index=True) if found else _EMPTY


def mean_errors(errors: pd.DataFrame) -> pd.DataFrame:
    """Errors of every layer: a column for each seed, and their `mean`, NaN where one is missing.

    Indexed by model, recipe, epochs, variant, depth and layer, in order of depth.
    """
    place = [*(name for name in _NETWORK if name != "seed"), "depth", "layer"]
    by_seed = errors.pivot(index=place, columns="seed", values="relative_error")
    return by_seed.assign(mean=by_seed.mean(axis="columns", skipna=False))


def different(variants: Sequence[str], errors: pd.DataFrame) -> list[str]:
    """The variants whose errors are not those of an earlier one, to the last bit."""
    key = [*(name for name in _NETWORK if name != "variant"), "depth"]
    by_variant = errors.pivot(index=key, columns="variant", values="relative_error")
    measured = by_variant.reindex(columns=list(variants))
    return list(measured.columns[~measured.T.duplicated()])


_NETWORK = ("model", "recipe", "epochs", "seed", "variant")
_EMPTY = pd.DataFrame(columns=[*_NETWORK, "layer", "depth", "relative_error"])


def _read(path: Path) -> pd.DataFrame:
    errors = read_csv(path, "layers", COLUMNS, missing=("relative_error",))
    try:
        model, recipe, epochs, seed, variant = path.parts[-6:-1]
        numbers = int(epochs.removeprefix("epochs-")), int(seed.removeprefix("seed-"))
    except ValueError:
        raise UserError(f"{path}: not in a folder of a network's pruning") from None
    network: dict[str, Any] = dict(zip(_NETWORK, (model, recipe, *numbers, variant), strict=True))
    return errors.assign(**network, depth=range(1, len(errors) + 1))
