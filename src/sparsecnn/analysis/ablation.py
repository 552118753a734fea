"""What each ingredient of pruning is worth.

Variants that differ in nothing but the groups of weights and the batch-norm statistics form a row,
an `Ingredient`; these two settings are its columns. All numbers are for the largest budget.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from sparsecnn.analysis.comparisons import Term, cost, gain_terms, p_value_of, weigh
from sparsecnn.analysis.patterns import is_sweep, with_first_pattern
from sparsecnn.analysis.results import Results, at_largest_budget, largest_budget
from sparsecnn.analysis.statistics import Estimate, holm
from sparsecnn.study.config import variant_settings

FEW = 7
"""Up to so many variants, each has a column and a colour of its own in every table and figure. A
study of more is reported as an ablation or as a sweep of patterns, and other figures show `FEW`."""

PLAIN = "sparsegpt"
"""Method whose row without options the others are compared with."""

_ALPHA = 0.05


class Column(NamedTuple):
    """The two settings that a row does not fix."""

    layout: str
    bn_recalibrated: bool


@dataclass(frozen=True)
class Ingredient:
    """Variants with the same settings but for groups and batch norm."""

    method: str
    options: Mapping[str, Any]
    """Settings that differ from the study's defaults."""
    variants: dict[Column, str]


def has_many(results: Results) -> bool:
    """Whether the study has too many variants for a column and a colour each."""
    return len(results.variants) > FEW


def is_ablation(results: Results) -> bool:
    """Whether these many variants are ingredients of pruning, and not one at many sparsities."""
    return has_many(results) and not is_sweep(results)


def shown(results: Results) -> list[str]:
    """The variants that figures with a colour per variant show: all, or `FEW`.

    Of many these are the first or, in a sweep, the first with the pattern that comes first.
    """
    few = has_many(results) and is_sweep(results)
    return (with_first_pattern(results) if few else results.variants)[:FEW]


def ingredients(config: Mapping[str, Any]) -> list[Ingredient]:
    """The rows of an ablation, in the order of the variants.

    `config` is the completed configuration, or its `pruning`, `methods` and `variants` alone. Of
    two variants with the same settings, the first is taken.
    """
    rows: dict[str, Ingredient] = {}
    for variant in config["variants"]:
        settings = variant_settings(config, variant)
        method = settings.pop("method")
        column = Column(settings.pop("layout"), settings.pop("bn_recalibration"))
        defaults = {**config["pruning"], **config["methods"].get(method, {})}
        options = {key: value for key, value in settings.items() if value != defaults.get(key)}
        key = json.dumps([method, options], sort_keys=True)
        row = rows.setdefault(key, Ingredient(method, options, {}))
        row.variants.setdefault(column, variant)
    return list(rows.values())


def columns(rows: Sequence[Ingredient]) -> list[Column]:
    """Every column that some row has: layouts as they come, re-estimated batch norm second."""
    found = list(dict.fromkeys(column for row in rows for column in row.variants))
    layouts = list(dict.fromkeys(column.layout for column in found))
    return sorted(found, key=lambda column: (layouts.index(column.layout), column.bn_recalibrated))


def plain_row(rows: Sequence[Ingredient]) -> Ingredient | None:
    """The row of SparseGPT without options, if there is one."""
    return next((row for row in rows if row.method == PLAIN and not row.options), None)


def mean_drop(results: Results, variant: str) -> Estimate:
    """Accuracy lost to pruning in points, averaged over the networks."""
    return cost(results, variant, largest_budget(results))


def mean_measures(results: Results) -> pd.DataFrame:
    """`MEASURES` of every variant (the index) but its accuracy, averaged over the networks.

    NaN if one of a network is.
    """
    means = results.against_dense.xs("mean", level=1, axis="columns").drop(columns="top1")
    largest = at_largest_budget(results, means.reset_index())
    groups = largest.groupby("variant", observed=True)[list(means.columns)]
    return groups.mean(skipna=False)


def mean_gain(results: Results, variant: str, over: str) -> Estimate:
    """Accuracy of one variant minus that of another in points, averaged over the networks."""
    return weigh(results, _gain_terms(results, variant, over))


def gains(results: Results, rows: Sequence[Ingredient], base: Ingredient) -> pd.DataFrame:
    """What every ingredient gains over `base` with the same groups and batch norm.

    One row for each variant, which is the index: value, low, high in points, and whether it is
    `settled`: not zero, by Holm's p below 0.05 over the whole table.
    """
    pairs = {
        variant: base.variants[column]
        for row in rows
        if row != base
        for column, variant in row.variants.items()
        if column in base.variants
    }
    return gains_of(results, pairs)


def gains_of(results: Results, pairs: Mapping[str, str]) -> pd.DataFrame:
    """What variants gain over others, each over its own: a table as that of `gains`."""
    found = pd.DataFrame(
        [mean_gain(results, *pair) for pair in pairs.items()], index=list(pairs)
    ).reindex(columns=["value", "low", "high"])
    p_values = [p_value_of(results, _gain_terms(results, *pair)) for pair in pairs.items()]
    return found.assign(settled=[p < _ALPHA for p in holm(p_values)])


def _gain_terms(results: Results, variant: str, over: str) -> list[Term]:
    cells = largest_budget(results)
    return [term for cell in cells for term in gain_terms(cell, variant, over, 1 / len(cells))]
