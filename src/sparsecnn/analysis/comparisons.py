"""Named comparisons between networks of a study, and whether they settle a question."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sparsecnn.analysis.results import Cell, Results
from sparsecnn.analysis.statistics import Estimate, estimate, holm, p_value
from sparsecnn.report.language import N_
from sparsecnn.study.config import DENSE

Term = tuple[float, Cell, str]
"""Weight, network and variant; the accuracies are summed with the weights."""

REPRODUCED = N_("reproduced")
NOT_REPRODUCED = N_("not reproduced")
INCONCLUSIVE = N_("inconclusive")
NOT_TESTED = N_("not tested")
"""Where the study lacks what a claim compares."""

_CANCELLED = 1e-12
"""Weights below it are rounding: sums of thirds that ought to be zero."""


@dataclass(frozen=True)
class Comparison:
    """A weighted sum of accuracies that a claim expects to be positive."""

    name: str
    terms: tuple[Term, ...]


@dataclass(frozen=True)
class Outcome:
    """A comparison's estimate, and its p-value adjusted for the number of comparisons."""

    name: str
    estimate: Estimate
    adjusted_p: float
    """Of the effect being zero or more, where it is expected to be positive; one-sided, Holm."""


def accuracy(results: Results, cell: Cell, variant: str, confidence: float = 0.95) -> Estimate:
    """Top-1 accuracy in percent, with its interval."""
    return estimate([(1, results.top1(cell, variant))], results.n_test, confidence)


def drop_terms(cell: Cell, variant: str, weight: float = 1) -> tuple[Term, ...]:
    """Terms of the accuracy lost to pruning: dense minus pruned."""
    return ((weight, cell, DENSE), (-weight, cell, variant))


def drop(results: Results, cell: Cell, variant: str, confidence: float = 0.95) -> Estimate:
    """Accuracy lost to pruning, in points, paired by network."""
    return weigh(results, drop_terms(cell, variant), confidence)


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
    return outcomes_of([comparison.name for comparison in comparisons], estimates, two_sided)


def outcomes_of(
    names: Sequence[str], estimates: Sequence[Estimate], p_values: Sequence[float]
) -> list[Outcome]:
    """Named estimates with their two-sided p-values made one-sided and adjusted."""
    pairs = zip(p_values, estimates, strict=True)
    adjusted = holm([p / 2 if estimate.value < 0 else 1 - p / 2 for p, estimate in pairs])
    return [Outcome(*parts) for parts in zip(names, estimates, adjusted, strict=True)]


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
    refuting = [outcome for outcome in outcomes if against(outcome)]
    if verdict(outcomes) == NOT_REPRODUCED:
        return min(refuting, key=lambda outcome: outcome.adjusted_p)
    return min(outcomes, key=lambda outcome: outcome.estimate.low)


def winner(results: Results, cell: Cell, confidence: float = 0.95) -> str | None:
    """The pruned variant that is ahead of every other one beyond doubt, if there is one.

    Each difference to the best must have an interval above 0, corrected for the number of
    variants that the best was chosen among.
    """
    if len(results.variants) < 2:
        return None
    best, *others = sorted(
        results.variants, key=lambda v: accuracy(results, cell, v).value, reverse=True
    )
    corrected = 1 - (1 - confidence) / len(others)
    ahead = [
        weigh(results, ((1, cell, best), (-1, cell, other)), corrected).low > 0 for other in others
    ]
    return best if all(ahead) else None


def at_chance(results: Results, cell: Cell, variant: str) -> bool:
    """Whether some seed's network cannot be told from guessing (its 95 % interval holds chance)."""
    return any(
        estimate([(1, [top1])], results.n_test).low <= results.chance
        for top1 in results.top1(cell, variant)
    )


def _values(results: Results, terms: Sequence[Term]) -> list[tuple[float, list[float]]]:
    """Weight and accuracies of every network, once each: what cancels adds no uncertainty.

    Regimes that train alike share their networks. If all cancels, one network of weight 0 is left.
    """
    weights: dict[tuple[Any, ...], float] = {}
    accuracies = {}
    for weight, cell, variant in terms:
        network = (cell.model, *results.training(cell), variant)
        weights[network] = weights.get(network, 0) + weight
        accuracies[network] = results.top1(cell, variant)
    kept = [network for network, weight in weights.items() if abs(weight) > _CANCELLED]
    if not kept:
        return [(0, next(iter(accuracies.values())))]
    return [(weights[network], accuracies[network]) for network in kept]
