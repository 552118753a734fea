"""The diagnostics of a study: one tidy table, views on it, and the test of the cause."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from sparsecnn.analysis.comparisons import Comparison, Effects
from sparsecnn.analysis.results import Cell, Results
from sparsecnn.analysis.statistics import Estimate, mean_over_seeds, p_same_effect
from sparsecnn.analysis.tables import in_order, read_csv
from sparsecnn.errors import UserError
from sparsecnn.study.config import DENSE, budgets

WORST = 100
"""The largest error of a quadratic model, in percent (see `model_error`)."""

LOSS_CHANGE = ("measured", "predicted", "first_order", "second_order", "distance", "model_error")
"""Quantities of a pruned network; it has none of them where more than parameters changed."""

COLUMNS: Mapping[str, type] = {
    "study": str,
    "model": str,
    "regime": str,
    "recipe": str,
    "epochs": int,
    "seed": int,
    "variant": str,
    "layer": str,
    "depth": int,
    "quantity": str,
    "value": float,
}
"""Of diagnostics.csv, in order; nothing is missing.

`variant` is ``dense``, or the variant that is compared with it. `layer` is empty and `depth` 0 for
what is measured of the whole network; layers have a depth from 1 on.
"""

_LINE = ["variant", "layer", "depth", "quantity", "value"]
_NETWORK = ["regime", "model", "variant"]


def model_error(measured: float, first_order: float, second_order: float) -> float:
    """How far the quadratic model is off, in percent of the most possible: 0 is exact, 100 worst.

    |first + second order - measured| / (|first order| + |second order| + |measured|), all of the
    change of the loss. It stays bounded, and tells networks apart, where a change next to nothing
    leaves a ratio of predicted to measured change without meaning.
    """
    all_terms = abs(first_order) + abs(second_order) + abs(measured)
    return 100 * abs(first_order + second_order - measured) / all_terms if all_terms else 0.0


def collect_diagnostics(
    values: Sequence[Mapping[str, Any]],
    *,
    study: str,
    regimes: Mapping[str, Mapping[str, Any]],
    seeds: Sequence[int],
) -> pd.DataFrame:
    """The table of all diagnostics.json values of a study.

    A network that two regimes share has lines for both. Raises `UserError` if one is missing.
    """
    by_key = {(v["model"], v["recipe"], v["epochs"], v["seed"]): v for v in values}
    networks = []
    for regime, own in regimes.items():
        for model, epochs in budgets(own).items():
            for seed in seeds:
                key = (model, own["recipe"], epochs, seed)
                if key not in by_key:
                    raise UserError(
                        f"diagnostics of {model}, {epochs} epochs, seed {seed} are missing: "
                        "run snakemake again"
                    )
                lines = pd.DataFrame(_lines(by_key[key]), columns=_LINE)
                names = dict(zip(("model", "recipe", "epochs", "seed"), key, strict=True))
                networks.append(lines.assign(study=study, regime=regime, **names))
    return _ordered(pd.concat(networks, ignore_index=True)[list(COLUMNS)])


def read_diagnostics(path: Path) -> pd.DataFrame:
    """Read diagnostics.csv; `UserError` if it is not such a table."""
    return _ordered(read_csv(path, "diagnostics", COLUMNS))


def compared(diagnostics: pd.DataFrame) -> list[str]:
    """The variants that were compared with their dense networks."""
    return [variant for variant in diagnostics["variant"].cat.categories if variant != DENSE]


def in_cells(diagnostics: pd.DataFrame, results: Results) -> pd.DataFrame:
    """The lines on networks that these results have."""
    return diagnostics[diagnostics["regime"].isin(results.regimes)]


def by_seed(diagnostics: pd.DataFrame, cell: Cell, variant: str, quantity: str) -> pd.Series:
    """One quantity of one whole network, indexed by seed; empty if it was not measured."""
    found = diagnostics[
        (diagnostics["regime"] == cell.regime)
        & (diagnostics["model"] == cell.model)
        & (diagnostics["variant"] == variant)
        & (diagnostics["quantity"] == quantity)
    ]
    return found.set_index("seed")["value"].sort_index()


def of_networks(diagnostics: pd.DataFrame) -> pd.DataFrame:
    """Mean and sample standard deviation over seeds of what was measured of whole networks.

    Indexed by regime, model, variant and quantity; columns mean, std (NaN of one seed), min, max.
    """
    whole = diagnostics[diagnostics["depth"] == 0]
    groups = whole.groupby([*_NETWORK, "quantity"], observed=True)["value"]
    return groups.agg(["mean", "std", "min", "max"])


def of_layers(diagnostics: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds of what was measured of layers: a column for each quantity.

    Indexed by regime, model, variant, depth and layer, in order of depth.
    """
    layers = diagnostics[diagnostics["depth"] > 0]
    place = [*_NETWORK, "depth", "layer"]
    means = layers.groupby([*place, "quantity"], observed=True)["value"].mean()
    return means.unstack("quantity")


def conditioning(diagnostics: pd.DataFrame) -> pd.DataFrame:
    """Of the input Hessians of every dense network, over its layers.

    Indexed by regime and model: median and lowest effective rank in percent of the columns, and
    the layer `of_lowest`; median and highest condition number, and the layer `of_highest`.
    """
    layers = of_layers(diagnostics).xs(DENSE, level="variant").reset_index(["layer", "depth"])
    share = 100 * layers["effective_rank"] / layers["columns"]
    found = {}
    for cell, own in layers.assign(rank=share).groupby(level=["regime", "model"], observed=True):
        low, high = own["rank"].argmin(), own["condition"].argmax()
        found[cell] = {
            "rank": own["rank"].median(),
            "lowest": own["rank"].iloc[low],
            "of_lowest": own["layer"].iloc[low],
            "condition": own["condition"].median(),
            "highest": own["condition"].iloc[high],
            "of_highest": own["layer"].iloc[high],
        }
    return pd.DataFrame.from_dict(found, orient="index")


def convergence(diagnostics: pd.DataFrame) -> dict[str, float]:
    """How far the largest eigenvalues can be trusted.

    Networks (`n`) and those that `converged`, `fewest` and `most` products with the Hessian, and
    the largest `residual` as a share of its eigenvalue.
    """
    dense = diagnostics[(diagnostics["variant"] == DENSE) & (diagnostics["depth"] == 0)]
    wide = dense.pivot(index=["regime", "model", "seed"], columns="quantity", values="value")
    shares = (wide["residual"] / wide["largest"].abs())[wide["largest"] != 0]
    return {
        "n": len(wide),
        "converged": wide["converged"].sum(),
        "fewest": wide["iterations"].min(),
        "most": wide["iterations"].max(),
        "residual": shares.max() if len(shares) else 0.0,
    }


def model_error_effects(
    comparisons: Sequence[Comparison], diagnostics: pd.DataFrame
) -> Effects | None:
    """The same comparisons with the error of the quadratic model in the place of each drop.

    In percentage points, paired by seed, with Student's 95 % t-intervals cut to what is possible.
    None unless the networks were measured with two seeds or more.
    """
    differences = {}
    for i, comparison in enumerate(comparisons):
        # A drop is dense minus pruned.
        terms = [
            -weight * by_seed(diagnostics, cell, variant, "model_error")
            for weight, cell, variant in comparison.terms
            if variant != DENSE
        ]
        differences[i] = pd.concat(terms, axis="columns").sum(axis="columns", skipna=False)
    found = pd.DataFrame(differences)
    if found.isna().any(axis=None):
        raise ValueError("errors of different seeds cannot be paired")
    if len(found) < 2:
        return None
    return Effects(
        _interval(found.mean(axis="columns")),
        [(comparison, _interval(found[i])) for i, comparison in enumerate(comparisons)],
        p_same_effect(found),
    )


def _interval(differences: "pd.Series[float]") -> Estimate:
    """Of a difference of errors, which lies between -`WORST` and `WORST`."""
    return mean_over_seeds(differences, 0.95, -WORST, WORST)


def _ordered(frame: pd.DataFrame) -> pd.DataFrame:
    return in_order(frame, "regime", "model", "variant", first=(DENSE,))


def _lines(value: Mapping[str, Any]) -> Iterator[tuple[str, str, int, str, float]]:
    """Variant, layer, depth, quantity and value of all that one diagnostics.json holds."""
    network = value["network"]
    for quantity, number in network.items():
        if quantity != "layers":
            yield DENSE, "", 0, quantity, float(number)
    yield from _layers(DENSE, network["layers"])
    for variant, own in value["variants"].items():
        change = own["loss_change"]
        if change is not None:
            measured, first, second = (
                change[name] for name in ("measured", "first_order", "second_order")
            )
            numbers = change | {
                "predicted": first + second,
                "model_error": model_error(measured, first, second),
            }
            for quantity in LOSS_CHANGE:
                yield variant, "", 0, quantity, numbers[quantity]
        yield from _layers(variant, own["layers"], "_error")


def _layers(
    variant: str, layers: Sequence[Mapping[str, Any]], suffix: str = ""
) -> Iterator[tuple[str, str, int, str, float]]:
    for depth, layer in enumerate(layers, start=1):
        for quantity, number in layer.items():
            if quantity != "layer" and number is not None:
                yield variant, layer["layer"], depth, quantity + suffix, float(number)
