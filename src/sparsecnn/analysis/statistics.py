"""Intervals for accuracies and their differences, over seeds or over test images."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy.special import fdtrc, ndtri, stdtr, stdtrit

_BISECTIONS = 50
_ROUNDING = 1e-15
"""Of float64: what is smaller than so much of another sum of squares is nothing."""

Terms = Sequence[tuple[float, "pd.Series[float]"]]
"""Weights, each with accuracies in percent by seed: the index says whose."""


@dataclass(frozen=True)
class Estimate:
    """A weighted sum of accuracies, in percent or points, with a confidence interval."""

    value: float
    low: float
    high: float
    sd: float | None
    """Sample standard deviation over seeds; None with one seed."""
    n: int
    """Number of seeds."""
    basis: Literal["seeds", "test images"]
    """What the interval speaks of: new seeds (t), or new test images (binomial)."""


def estimate(terms: Terms, n_test: int, confidence: float = 0.95) -> Estimate:
    """Mean and interval of a weighted sum of accuracies, paired by seed.

    With two seeds or more, Student's t-interval of the per-seed sums, cut to what is possible
    (accuracies lie between 0 and 100). Accuracies are counts of images, so the sums' standard
    deviation is taken for no less than that of rounding to whole images, 1/sqrt(12) of an image
    for each accuracy: seeds that agree to the last image by chance do not give certainty, nor a
    wider interval than seeds that differ by an image.

    With one seed, the binomial interval of the test set by the MOVER of Newcombe (Statist. Med. 17,
    1998, method 10) and Zou & Donner (Statist. Med. 27, 2008): Wilson intervals of the terms,
    combined as if independent. Networks tested on the same images tend to err on the same ones, so
    for differences this is wider than needed. It knows nothing of the spread over seeds.

    Parameters
    ----------
    terms
        Weights and accuracies of the same seeds.
    n_test
        Number of test images.
    confidence
        Coverage of the interval, between 0 and 1.

    Raises `ValueError` if a seed is not in every term.
    """
    sums = per_seed(terms)
    if len(sums) > 1:
        least = 100 * sum(weight for weight, _ in terms if weight < 0)
        most = 100 * sum(weight for weight, _ in terms if weight > 0)
        return mean_over_seeds(sums, confidence, least, most, _rounding(terms, n_test))
    value = float(sums.mean())
    below, above = _binomial(_means(terms), n_test, confidence)
    return Estimate(value, value - below, value + above, None, 1, "test images")


def per_seed(terms: Terms) -> "pd.Series[float]":
    """The weighted sum of every seed; `ValueError` if a seed is not in every term."""
    sums = sum(weight * values for weight, values in terms)
    if not isinstance(sums, pd.Series) or sums.isna().any():
        raise ValueError("accuracies of different seeds cannot be paired")
    return sums


def mean_over_seeds(
    values: "pd.Series[float]",
    confidence: float = 0.95,
    least: float = -math.inf,
    most: float = math.inf,
    least_sd: float = 0.0,
) -> Estimate:
    """Mean of any quantity over two seeds or more, with Student's t-interval.

    The interval is cut to what is possible, `least` to `most`, and that of a standard deviation of
    at least `least_sd`.
    """
    n, value, sd = len(values), float(values.mean()), float(values.std())
    half = float(stdtrit(n - 1, (1 + confidence) / 2)) * max(sd, least_sd) / n**0.5
    return Estimate(value, max(value - half, least), min(value + half, most), sd, n, "seeds")


def p_same_effect(effects: pd.DataFrame) -> float | None:
    """p-value of all columns having the same mean; None unless there are two rows and columns.

    Analysis of variance of repeated measures: rows are seeds, whose networks belong together. Its
    degrees of freedom are those of Greenhouse & Geisser (Psychometrika 24, 1959), since columns
    differ in their spread; with few rows it is cautious.
    """
    values = effects.to_numpy(dtype=float)
    n, k = values.shape
    if min(n, k) < 2:
        return None
    means = values.mean(axis=0)
    rest = values - values.mean(axis=1, keepdims=True) - (means - means.mean())
    covariance = rest.T @ rest / (n - 1)
    between, within = n * np.square(means - means.mean()).sum(), np.trace(covariance) * (n - 1)
    if within <= _ROUNDING * between or within == 0:
        return 0.0 if between > 0 else 1.0
    epsilon = np.trace(covariance) ** 2 / np.square(covariance).sum() / (k - 1)
    freedom = (k - 1) * float(np.clip(epsilon, 1 / (k - 1), 1))
    return float(fdtrc(freedom, freedom * (n - 1), between * (n - 1) / within))


def p_value(terms: Terms, n_test: int) -> float:
    """Two-sided p-value of a weighted sum of accuracies being zero, paired by seed.

    The smallest p at which the interval of `estimate` at confidence 1 - p leaves 0 out: Student's
    t-test over two seeds or more, else the inverted binomial interval. Parameters as there.
    """
    found = estimate(terms, n_test)
    if found.sd is not None:
        error = max(found.sd, _rounding(terms, n_test)) / found.n**0.5
        return float(2 * stdtr(found.n - 1, -abs(found.value) / error)) if error else 1.0
    means = _means(terms)
    low, high = 0.0, 1.0  # bisection for the p at which the interval touches 0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        below, above = _binomial(means, n_test, 1 - middle)
        if found.value - below > 0 or found.value + above < 0:
            high = middle
        else:
            low = middle
    return high


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number, in the order given (Holm, Scand. J. Statist. 6, 1979).

    Rejecting where the adjusted value is below alpha keeps the probability of any false
    rejection among them below alpha, whatever their dependence.
    """
    order = np.argsort(p_values)
    factors = len(p_values) - np.arange(len(p_values))
    steps = np.minimum(np.maximum.accumulate(np.asarray(p_values)[order] * factors), 1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = steps
    return [float(p) for p in adjusted]


def wilson_interval(percent: float, n_test: int, confidence: float = 0.95) -> tuple[float, float]:
    """Binomial interval of an accuracy measured on `n_test` images (Wilson, JASA 1927).

    Takes and returns percent; the interval lies within 0 and 100 and holds `percent`.
    """
    p, z2 = percent / 100, float(ndtri((1 + confidence) / 2)) ** 2
    centre = (p + z2 / (2 * n_test)) / (1 + z2 / n_test)
    half = (z2 * (p * (1 - p) + z2 / (4 * n_test)) / n_test) ** 0.5 / (1 + z2 / n_test)
    return min(100 * max(centre - half, 0), percent), max(100 * min(centre + half, 1), percent)


def _rounding(terms: Terms, n_test: int) -> float:
    """Standard deviation of a weighted sum of accuracies by their being of whole images."""
    return float(100 / n_test * (sum(weight**2 for weight, _ in terms) / 12) ** 0.5)


def _means(terms: Terms) -> list[tuple[float, float]]:
    return [(weight, float(values.mean())) for weight, values in terms]


def _binomial(
    means: Sequence[tuple[float, float]], n_test: int, confidence: float
) -> tuple[float, float]:
    """How far the interval of a weighted sum of accuracies reaches below and above it."""
    below = above = 0.0
    for weight, mean in means:
        low, high = wilson_interval(mean, n_test, confidence)
        reach = (mean - low, high - mean) if weight > 0 else (high - mean, mean - low)
        below += (weight * reach[0]) ** 2
        above += (weight * reach[1]) ** 2
    return below**0.5, above**0.5
