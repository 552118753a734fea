"""Studies of several sparsity patterns, which are reported as accuracy against kept weights.

Variants that are pruned alike but for the pattern are a series. What belongs to which is not in the
table: `series` is the name of each variant's series, in the study's order.
"""

from collections.abc import Mapping

import pandas as pd

from sparsecnn.analysis.results import Results, at_largest_budget
from sparsecnn.study.config import DENSE

MANY = 3
"""A study is a sweep of patterns if some method has at least so many."""

LITTLE = 1.0
"""Points of accuracy that pruning may cost and still be called cheap."""


def is_sweep(results: Results) -> bool:
    """Whether some method is tried with several patterns, at least `MANY`."""
    pruned = results.frame[results.frame["variant"] != DENSE]
    return bool((pruned.groupby("method")["pattern"].nunique() >= MANY).any())


def patterns_of(results: Results) -> dict[str, str]:
    """The pattern of every variant, in the study's order."""
    first = results.frame.drop_duplicates("variant").set_index("variant")["pattern"]
    return {variant: str(first[variant]) for variant in results.variants}


def with_first_pattern(results: Results) -> list[str]:
    """The variants of the pattern that the study names first."""
    patterns = patterns_of(results)
    first = next(iter(patterns.values()))
    return [variant for variant, pattern in patterns.items() if pattern == first]


def kept_by(pattern: str) -> float:
    """The fraction of the weights that a pattern keeps, by its name: 0.75 of "3:4" and "25%"."""
    if "%" in pattern:
        return round(1 - float(pattern.partition("%")[0]) / 100, 9)
    kept, group = map(int, pattern.split(":"))
    return kept / group


def kind_of(pattern: str) -> str:
    """What patterns that differ in the kept weights alone share: "N:4", "%" or "% per row"."""
    if "%" in pattern:
        return pattern[pattern.index("%") :]
    return f"N:{pattern.partition(':')[2]}"


def kinds(results: Results) -> list[str]:
    """Every kind of pattern: unstructured ones, then N:M with the smallest M first."""
    found = dict.fromkeys(map(kind_of, patterns_of(results).values()))
    return sorted(found, key=lambda kind: int(kind.partition(":")[2] or 0))


def by_kept(results: Results) -> list[str]:
    """Every pattern, those that keep most first, and of these in the study's order."""
    return sorted(dict.fromkeys(patterns_of(results).values()), key=kept_by, reverse=True)


def kept(results: Results) -> "pd.Series[float]":
    """Weights in the pruned layers that are not zero, in percent, by model and variant."""
    return 100 * (1 - results.pruning()["sparsity_pruned_layers"])


def counterparts(results: Results, series: Mapping[str, str]) -> dict[str, str]:
    """For each N:M variant the unstructured one of its series that keeps as many, if there is one.

    Unstructured is what removes weights anywhere in a layer, not row by row.
    """
    patterns = patterns_of(results)
    free = {
        (name, kept_by(patterns[variant])): variant
        for variant, name in series.items()
        if kind_of(patterns[variant]) == "%"
    }
    return {
        variant: free[name, kept_by(patterns[variant])]
        for variant, name in series.items()
        if ":" in patterns[variant] and (name, kept_by(patterns[variant])) in free
    }


def sparsest_cheap(results: Results, series: Mapping[str, str]) -> dict[str, list[str]]:
    """By series the patterns that keep fewest weights and still cost at most `LITTLE`.

    The cost is the mean over the networks at the largest budget. No pattern where all cost more;
    several where they keep equally many.
    """
    drops = at_largest_budget(results, results.estimates("drop"))
    cost = drops.groupby("variant", observed=True)["value"].mean()
    patterns = patterns_of(results)
    found: dict[str, list[str]] = {}
    for name in dict.fromkeys(series.values()):
        own = [v for v, of in series.items() if of == name and cost[v] <= LITTLE]
        cheap = [patterns[variant] for variant in own]
        fewest = min(map(kept_by, cheap), default=0.0)
        found[name] = [pattern for pattern in cheap if kept_by(pattern) == fewest]
    return found
