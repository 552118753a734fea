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
    p_same_effect,
    p_value,
    per_seed,
    wilson_interval,
)
from sparsecnn.study.config import DENSE

Term = tuple[float, Cell, str]
"""Weight, network and variant; the accuracies are summed with the weights."""

REPRODUCED = "reproduced"
CONTRADICTED = "contradicted"
NO_EFFECT = "no effect"
INCONCLUSIVE = "inconclusive"
NOT_TESTED = "not tested"
"""Where the study lacks what a claim compares."""

BEST_FIRST = ("admm", "sparsegpt")
"""Methods, the best first (docs/results/2026-11-27-solvers-cpu)."""

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
class Effects:
    """What comparisons came to: on average, which a claim is judged by, and each by itself."""

    mean: Estimate
    """Of the mean over the comparisons, computed for each seed."""
    each: Sequence[tuple[Comparison, Estimate]]
    p_same: float | None
    """p-value of all having the same effect; None of a single seed or comparison."""


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


def effects(results: Results, comparisons: Sequence[Comparison]) -> Effects:
    """What comparisons of accuracies came to, with 95 % intervals.

    A mean over comparisons is one number for each seed, whose networks are one replicate: so they
    may share networks, or calibration images, and differ in their spread.
    """
    sums = {
        i: per_seed(_values(results, comparison.terms)) for i, comparison in enumerate(comparisons)
    }
    return Effects(
        weigh(results, mean_terms(comparisons)),
        [(comparison, weigh(results, comparison.terms)) for comparison in comparisons],
        p_same_effect(pd.DataFrame(sums)),
    )


def mean_terms(comparisons: Sequence[Comparison]) -> list[Term]:
    """Terms of the mean over comparisons."""
    return [
        (weight / len(comparisons), cell, variant)
        for comparison in comparisons
        for weight, cell, variant in comparison.terms
    ]


def verdict(effect: Estimate, margin: float) -> str:
    """What an effect says of a claim that expects it to be positive, with what would matter.

    `reproduced`: the interval lies above 0, `contradicted`: below 0. `no effect`: neither, and it
    lies between -`margin` and `margin` (two one-sided tests: Schuirmann, J. Pharmacokin. Biopharm.
    15, 1987). Otherwise `inconclusive`. With a 95 % interval each of the first three is wrong in at
    most 2.5 % of studies.
    """
    if effect.low > 0:
        return REPRODUCED
    if effect.high < 0:
        return CONTRADICTED
    if -margin < effect.low and effect.high < margin:
        return NO_EFFECT
    return INCONCLUSIVE


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


def cost(results: Results, variant: str, cells: Sequence[Cell]) -> Estimate:
    """The drop under a variant in points, averaged over networks for each seed."""
    terms = [term for cell in cells for term in drop_terms(cell, variant, 1 / len(cells))]
    return weigh(results, terms)


def best_and_plain(results: Results) -> tuple[str, str]:
    """The variant of the best solver that the study has, and that of magnitude pruning.

    Which is best was measured elsewhere (`BEST_FIRST`), so that no study chooses by its own test
    set; without either, the one that costs least or most here, with batch-norm statistics as
    trained if some are: fresh ones change accuracy by themselves. The same twice if there is one.
    """
    fresh = set(results.frame.loc[results.frame["bn_recalibrated"], "variant"])
    among = [variant for variant in results.variants if variant not in fresh] or results.variants
    costs = {variant: cost(results, variant, results.cells).value for variant in among}
    known = (results.variant_of(method) for method in BEST_FIRST)
    best = next((variant for variant in known if variant), min(costs, key=lambda v: costs[v]))
    return best, results.variant_of("magnitude") or max(costs, key=lambda v: costs[v])


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
