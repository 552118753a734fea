"""Where points of accuracy went: variants of which each changes one setting of the one before.

The configuration names them (`report.waterfall`); that a step is one setting is checked there.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import pandas as pd

from sparsecnn.analysis.ablation import gains_of, mean_drop
from sparsecnn.analysis.results import Results, at_largest_budget
from sparsecnn.study.config import changed, waterfall


class Step(NamedTuple):
    """A variant, and what it changes of the one before; the first changes nothing."""

    variant: str
    setting: str = ""
    former: Any = None
    value: Any = None


def steps(config: Mapping[str, Any]) -> list[Step]:
    """The variants in order; empty if the study has none.

    `config` is the completed configuration, or its `pruning`, `methods`, `variants` and `report`.
    """
    variants = waterfall(config)
    found = [Step(variant) for variant in variants[:1]]
    for before, after in pairwise(variants):
        ((setting, values),) = changed(config, before, after).items()
        found.append(Step(after, setting, *values))
    return found


def levels(results: Results, variants: Sequence[str]) -> pd.DataFrame:
    """What each variant loses and gains over the one before it, in points.

    Means over the networks at the largest budget. One row for each variant, which is the index:
    `drop`, `drop_low` and `drop_high` with the 95 % interval; `gain`, `gain_low`, `gain_high`, NaN
    of the first, and whether it is `settled`: not zero, by Holm's p below 0.05 over all steps. Both
    are paired by seed. `drop_least` and `drop_most`, `gain_least` and `gain_most` are the ends of a
    whisker: of the interval or, with two seeds, whose t-interval would dwarf all else, from seed to
    seed.
    """
    index, seeds = list(variants), by_seed(results)[list(variants)]
    drops = pd.DataFrame([mean_drop(results, v) for v in index], index=index)
    gains = gains_of(results, {after: before for before, after in pairwise(index)}).reindex(index)
    drops, gains = (
        _with_whiskers(drops, seeds).add_prefix("drop_"),
        _with_whiskers(gains, -seeds.diff(axis="columns")).add_prefix("gain_"),
    )
    settled = gains.pop("gain_settled").eq(True)
    found = pd.concat([drops, gains], axis="columns").assign(settled=settled)
    return found.rename(columns={"drop_value": "drop", "gain_value": "gain"})


def _with_whiskers(estimates: pd.DataFrame, seeds: pd.DataFrame) -> pd.DataFrame:
    """Estimates with the ends `least` and `most` of a whisker; `seeds` has a column for each."""
    two = len(seeds) == 2
    ends = (seeds.min(), seeds.max()) if two else (estimates["low"], estimates["high"])
    kept = estimates[[c for c in ("value", "low", "high", "settled") if c in estimates]]
    return kept.assign(least=ends[0], most=ends[1])


def by_seed(results: Results) -> pd.DataFrame:
    """Points that every variant (columns) loses with each seed, mean over the networks."""
    largest = at_largest_budget(results, results.frame)
    groups = largest.groupby(["seed", "variant"], observed=True)["drop"]
    return groups.mean().unstack("variant")
