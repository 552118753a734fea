"""Comparisons between networks of a study, and whether they settle a question."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import pandas as pd

from sparsecnn.analysis.results import Cell, Results
from sparsecnn.analysis.statistics import (
    Estimate,
    Terms,
    estimate,
    holm,
    p_value,
    wilson_interval,
)
from sparsecnn.study.config import DENSE

Term = tuple[float, Cell, str]
"""Weight, network and variant; the accuracies are summed with the weights."""

REPRODUCED = "reproduced"
NOT_REPRODUCED = "not reproduced"
INCONCLUSIVE = "inconclusive"
NOT_TESTED = "not tested"
"""Where the study lacks what a claim compares."""

_CANCELLED = 1e-12
"""Weights below it are rounding: sums of thirds that ought to be zero."""


@dataclass(frozen=True)
class Comparison:
    """A weighted sum of accuracies that a claim expects to be positive."""

    one: Cell
    other: Cell
    """What `one` is compared with; the same where variants of one network are."""
    terms: tuple[Term, ...]


@dataclass(frozen=True)
class Outcome:
    """A comparison's estimate, and its p-value adjusted for the number of comparisons."""

    comparison: Comparison
    estimate: Estimate
    adjusted_p: float
    """Of the effect being zero or more, where it is expected to be positive; one-sided, Holm."""


def versus(one: Sequence[Term], other: Sequence[Term]) -> Comparison:
    """One sum of accuracies of a network minus another, of the same network or of another."""
    negated = ((-weight, cell, variant) for weight, cell, variant in other)
    return Comparison(one[0][1], other[0][1], (*one, *negated))


def drop_terms(cell: Cell, variant: str, weight: float = 1) -> tuple[Term, ...]:
    """Terms of the accuracy lost to pruning: dense minus pruned."""
    return ((weight, cell, DENSE), (-weight, cell, variant))


def gain_terms(cell: Cell, variant: str, over: str, weight: float = 1) -> tuple[Term, ...]:
    """Terms of the accuracy of one variant minus that of another."""
    return ((weight, cell, variant), (-weight, cell, over))


def weigh(results: Results, terms: Sequence[Term], confidence: float = 0.95) -> Estimate:
    """Weighted sum of accuracies, with its interval."""
    return estimate(_values(results, terms), results.n_test, confidence)


def p_value_of(results: Results, terms: Sequence[Term]) -> float:
    """Two-sided p-value of a weighted sum of accuracies being zero."""
    return p_value(_values(results, terms), results.n_test)


def evaluate(
    results: Results, comparisons: Sequence[Comparison], confidence: float = 0.95
) -> list[Outcome]:
    """Estimate each comparison, with its p-value beside it."""
    estimates = [weigh(results, comparison.terms, confidence) for comparison in comparisons]
    two_sided = [p_value_of(results, comparison.terms) for comparison in comparisons]
    return outcomes_of(comparisons, estimates, two_sided)


def outcomes_of(
    comparisons: Sequence[Comparison], estimates: Sequence[Estimate], p_values: Sequence[float]
) -> list[Outcome]:
    """Comparisons with their estimates, and two-sided p-values made one-sided and adjusted."""
    pairs = zip(p_values, estimates, strict=True)
    adjusted = holm([p / 2 if estimate.value < 0 else 1 - p / 2 for p, estimate in pairs])
    return [Outcome(*parts) for parts in zip(comparisons, estimates, adjusted, strict=True)]


def verdict(outcomes: Sequence[Outcome], confidence: float = 0.95) -> str:
    """Whether a claim that expects every comparison to be positive holds.

    `reproduced`: every interval lies above 0 (an intersection-union test, which needs no
    correction: Berger, Technometrics 24, 1982). `not reproduced`: at least one effect is negative
    with a one-sided, Holm-adjusted p below (1 - confidence) / 2. Otherwise `inconclusive`. At 95 %
    either wrong verdict has a probability of at most 2.5 %, whatever the comparisons' dependence.
    """
    if all(outcome.estimate.low > 0 for outcome in outcomes):
        return REPRODUCED
    if any(against(outcome, confidence) for outcome in outcomes):
        return NOT_REPRODUCED
    return INCONCLUSIVE


def against(outcome: Outcome, confidence: float = 0.95) -> bool:
    """Whether a comparison speaks against its claim beyond doubt."""
    return outcome.estimate.value < 0 and outcome.adjusted_p < (1 - confidence) / 2


def deciding(outcomes: Sequence[Outcome]) -> Outcome:
    """The comparison a verdict rests on: if one refutes, the surest, else the lowest interval's."""
    if verdict(outcomes) == NOT_REPRODUCED:
        return min(filter(against, outcomes), key=lambda outcome: outcome.adjusted_p)
    return min(outcomes, key=lambda outcome: outcome.estimate.low)


def winner(
    results: Results, cell: Cell, variants: Sequence[str] | None = None, confidence: float = 0.95
) -> str | None:
    """The pruned variant that is ahead of every other one beyond doubt, if there is one.

    Each difference to the best must have an interval above 0, corrected for the number of
    variants that the best was chosen among: all of the study, or `variants`.
    """
    among = results.variants if variants is None else variants
    if len(among) < 2:
        return None
    means = {variant: results.of(cell, variant)["top1"].mean() for variant in among}
    best, *others = sorted(means, key=lambda variant: means[variant], reverse=True)
    corrected = 1 - (1 - confidence) / len(others)
    ahead = [
        weigh(results, ((1, cell, best), (-1, cell, other)), corrected).low > 0 for other in others
    ]
    return best if all(ahead) else None


def at_chance(results: Results) -> list[tuple[Cell, str]]:
    """Networks that in some seed cannot be told from guessing (the 95 % interval holds chance)."""
    return [
        (cell, variant)
        for cell, variant in product(results.cells, (DENSE, *results.variants))
        if wilson_interval(results.of(cell, variant)["top1"].min(), results.n_test)[0]
        <= results.chance
    ]


def costs(results: Results) -> pd.DataFrame:
    """What each variant costs over all networks.

    One row for each variant with its mean `drop` in points, the `worst` one, and that network's
    `regime` and `model`. Of variants with batch-norm statistics as trained, if there are any: fresh
    statistics alone change a network's accuracy, so that other drops are not pruning's alone.
    """
    fresh = results.frame.loc[results.frame["bn_recalibrated"], "variant"].unique()
    drops = results.estimates("drop")
    plain = drops[~drops["variant"].isin(fresh)]
    groups = (drops if plain.empty else plain).groupby("variant", observed=True)["value"]
    worst = drops.loc[groups.idxmax(), ["variant", "value", "regime", "model"]]
    found = worst.rename(columns={"value": "worst"}).set_index("variant")
    return found.assign(drop=groups.mean()).reset_index()


def _values(results: Results, terms: Sequence[Term]) -> Terms:
    """Weight and accuracies of every network, once each: what cancels adds no uncertainty.

    Regimes that train alike share their networks. If all cancels, one network of weight 0 is left.
    """
    weights: dict[tuple[Any, ...], float] = {}
    accuracies = {}
    for weight, cell, variant in terms:
        network = (cell.model, *results.training(cell), variant)
        weights[network] = weights.get(network, 0) + weight
        accuracies[network] = results.of(cell, variant)["top1"]
    kept = [network for network, weight in weights.items() if abs(weight) > _CANCELLED]
    if not kept:
        return [(0, next(iter(accuracies.values())))]
    return [(weights[network], accuracies[network]) for network in kept]
