import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sparsecnn.analysis.comparisons import (
    CONTRADICTED,
    INCONCLUSIVE,
    NO_EFFECT,
    REPRODUCED,
    verdict,
)
from sparsecnn.analysis.statistics import (
    Estimate,
    estimate,
    holm,
    mean_over_seeds,
    p_same_effect,
    p_value,
    wilson_interval,
)


def terms(*pairs):
    """Weights with values of the seeds 0, 1, ..."""
    return [(weight, pd.Series(values, dtype=float)) for weight, values in pairs]


@given(
    st.integers(1, 10000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))),
    st.floats(0.5, 0.999),
)
@settings(deadline=None)
def test_wilson_interval_is_scipys(counts, confidence):
    hits, n = counts
    expected = stats.binomtest(hits, n).proportion_ci(confidence, method="wilson")
    found = wilson_interval(100 * hits / n, n, confidence)
    assert found == pytest.approx((100 * expected.low, 100 * expected.high), abs=1e-9)


@given(
    st.lists(st.floats(20, 80), min_size=2, max_size=8).filter(lambda v: np.std(v) > 1e-3),
    st.floats(0.5, 0.99),
)
@settings(deadline=None)
def test_interval_over_seeds_is_scipys_cut_to_what_is_possible(values, confidence):
    found = estimate(terms((1, values)), 10000, confidence)
    low, high = stats.t.interval(confidence, len(values) - 1, np.mean(values), stats.sem(values))
    assert (found.low, found.high) == pytest.approx((max(low, 0), min(high, 100)))
    assert found.sd == pytest.approx(np.std(values, ddof=1))
    assert (found.n, found.basis) == (len(values), "seeds")


def test_differences_are_paired_by_seed():
    # The same gain at every seed, over baselines that differ wildly.
    found = estimate(terms((1, [10.1, 50.2, 90.1]), (-1, [5.0, 45.0, 85.0])), 10000)
    assert found.value == pytest.approx(5.1333333)
    assert found.high - found.low < 0.4


def test_seeds_are_paired_by_their_names_not_by_their_order():
    one, other = pd.Series({3: 70.0, 1: 50.0, 2: 60.0}), pd.Series({1: 49.0, 2: 58.0, 3: 67.0})
    found = estimate([(1, one), (-1, other)], 10000)
    assert (found.value, found.sd) == pytest.approx((2.0, 1.0))
    with pytest.raises(ValueError, match="different seeds"):
        estimate([(1, one), (-1, other.drop(2))], 10000)


def test_difference_with_one_seed_is_newcombes():
    # 9 of 10 against 3 of 10: Newcombe, Statistics in Medicine 17 (1998), table II, method 10.
    found = estimate(terms((1, [90.0]), (-1, [30.0])), 10)
    assert (found.low, found.high) == pytest.approx((17.05, 80.90), abs=0.01)
    assert (found.sd, found.n, found.basis) == (None, 1, "test images")


@given(st.integers(0, 500), st.integers(0, 500))
def test_one_seed_intervals_are_antisymmetric_and_hold_the_estimate(a, b):
    one = estimate(terms((1, [a / 5]), (-1, [b / 5])), 500)
    other = estimate(terms((1, [b / 5]), (-1, [a / 5])), 500)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))
    assert -100 - 1e-9 <= one.low <= one.value <= one.high <= 100 + 1e-9


@pytest.mark.parametrize("n_seeds", [2, 3, 5])
@pytest.mark.parametrize("n_test", [100, 10000])
def test_seeds_that_agree_have_neither_certainty_nor_wider_intervals_than_others(n_seeds, n_test):
    """The width grows with the spread, from agreement to the last image on."""
    image = 100 / n_test
    widths = []
    for images in range(5):
        values = [70.0] * (n_seeds - 1) + [70.0 + images * image]
        found = estimate(terms((1, values)), n_test)
        assert (found.basis, found.n) == ("seeds", n_seeds)
        widths.append(found.high - found.low)
    assert widths[0] > 0
    assert widths == sorted(widths)
    assert widths[1] < 3.5 * widths[0]


def test_rounding_to_images_is_that_of_a_uniform_error():
    """Of two accuracies: twice the variance of a uniform distribution one image wide."""
    found = estimate(terms((1, [70.0] * 3), (-1, [60.0] * 3)), 1000)
    half = stats.t.ppf(0.975, 2) * 0.1 * (2 / 12) ** 0.5 / 3**0.5
    assert (found.low, found.high) == pytest.approx((10 - half, 10 + half))
    assert found.sd == 0
    assert p_value(terms((1, [70.0] * 3), (-1, [70.0] * 3)), 1000) == pytest.approx(1)


@pytest.mark.parametrize("n_seeds", [1, 3])
def test_95_percent_intervals_cover_the_truth_95_times_in_100(n_seeds):
    random = np.random.default_rng(0)
    truth, n_test, covered = 70.0, 2000, 0
    for _ in range(1000):
        # Over seeds the spread is that of training; with one seed that of the test images.
        if n_seeds == 1:
            values = [100 * random.binomial(n_test, truth / 100) / n_test]
        else:
            values = list(random.normal(truth, 1.5, n_seeds))
        found = estimate(terms((1, values)), n_test)
        covered += found.low <= truth <= found.high
    assert 930 <= covered <= 970


@pytest.mark.parametrize("n_seeds", [2, 3, 5])
def test_intervals_of_paired_drops_cover_the_truth_95_times_in_100(n_seeds):
    """Baselines that differ from seed to seed far more than what pruning costs them."""
    random = np.random.default_rng(n_seeds)
    covered, loss = 0, 1.2
    for _ in range(1000):
        dense = random.normal(70, 4, n_seeds)
        pruned = dense - random.normal(loss, 0.4, n_seeds)
        found = estimate(terms((1, list(dense)), (-1, list(pruned))), 10000)
        covered += found.low <= loss <= found.high
    assert 930 <= covered <= 970


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.1, 5, REPRODUCED),
        (0.1, 0.2, REPRODUCED),
        (-0.1, 5, INCONCLUSIVE),
        (-5, -0.1, CONTRADICTED),
        (-0.9, 0.9, NO_EFFECT),
        (-1.1, 0.9, INCONCLUSIVE),
        (-0.9, 1.1, INCONCLUSIVE),
        (0, 0, NO_EFFECT),
    ],
)
def test_verdicts(low, high, expected):
    assert verdict(Estimate((low + high) / 2, low, high, 1.0, 3, "seeds"), margin=1) == expected


def studies(random, n_seeds, truths, spreads, heavy, count=2000):
    """Differences of `count` studies, seeds by cells; some of the spread is common to a seed."""
    shape = (count, n_seeds, len(truths))
    own = random.standard_t(3, shape) / 3**0.5 if heavy else random.normal(size=shape)
    common = 0.3 * np.mean(spreads) * random.normal(size=(count, n_seeds, 1))
    return np.asarray(truths) + np.asarray(spreads) * own + common


SPREADS = [0.5, 0.6, 0.9, 3.0, 4.0, 12.0]
"""Standard deviations over seeds that differ as those of magnitude pruning do."""


@pytest.mark.parametrize("heavy", [False, True], ids=["normal", "heavy tails"])
@pytest.mark.parametrize("n_seeds", [2, 3, 5, 10])
def test_wrong_verdicts_are_as_rare_as_stated(n_seeds, heavy):
    """Effects that differ between cells and cancel on average, or are as large as the margin."""
    random = np.random.default_rng(n_seeds)
    truths = np.array([-8, -3, -1, 1, 3, 8.0])
    found = studies(random, n_seeds, truths, SPREADS, heavy)
    of_none = [verdict(mean_over_seeds(pd.Series(own.mean(axis=1))), margin=1000) for own in found]
    # 2.5 % of 2000 is 50, with a standard deviation of 7.
    for firm in (REPRODUCED, CONTRADICTED):
        assert of_none.count(firm) < 75
    of_margin = [
        verdict(mean_over_seeds(pd.Series(own.mean(axis=1) + 30)), margin=30) for own in found
    ]
    assert of_margin.count(NO_EFFECT) < 75
    assert of_margin.count(CONTRADICTED) < 75


@pytest.mark.parametrize("heavy", [False, True], ids=["normal", "heavy tails"])
@pytest.mark.parametrize("n_seeds", [2, 3, 5, 10])
def test_cells_of_one_effect_seldom_seem_to_differ(n_seeds, heavy):
    random = np.random.default_rng(n_seeds)
    found = studies(random, n_seeds, [2.0] * 6, SPREADS, heavy, count=1000)
    p_values = [p_same_effect(pd.DataFrame(own)) for own in found]
    assert sum(p < 0.05 for p in p_values) < 70  # 50, with a standard deviation of 7


def test_cells_that_differ_are_found_out():
    random = np.random.default_rng(0)
    found = studies(random, 3, [10, 40, 40, 20, 50, 50.0], [1.0] * 6, heavy=False, count=200)
    assert np.mean([p_same_effect(pd.DataFrame(own)) < 0.05 for own in found]) > 0.9


@given(st.lists(st.tuples(st.floats(-9, 9), st.floats(-9, 9)), min_size=2, max_size=6))
@settings(deadline=None)
def test_two_cells_are_compared_by_the_paired_t_test(pairs):
    one, other = np.array(pairs).T
    if np.std(one - other) < 1e-3:
        return
    expected = stats.ttest_rel(one, other).pvalue
    assert p_same_effect(pd.DataFrame(pairs)) == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_what_cannot_be_told_apart_has_no_p_value():
    assert p_same_effect(pd.DataFrame([[1.0, 2.0]])) is None
    assert p_same_effect(pd.DataFrame([[1.0], [2.0]])) is None
    assert p_same_effect(pd.DataFrame([[1.0, 1.0], [2.0, 2.0]])) == 1
    assert p_same_effect(pd.DataFrame([[1.0, 3.0], [2.0, 4.0]])) == 0


@given(
    st.lists(st.floats(-20, 20), min_size=2, max_size=8).filter(lambda v: np.std(v) > 1e-3),
)
@settings(deadline=None)
def test_p_values_over_seeds_are_scipys(values):
    found = p_value(terms((1, list(50 + np.asarray(values))), (-1, [50.0] * len(values))), 10000)
    assert found == pytest.approx(stats.ttest_1samp(values, 0).pvalue, rel=1e-6, abs=1e-12)


@given(st.integers(0, 500), st.integers(0, 500))
@settings(deadline=None)
def test_one_seed_p_values_say_at_what_confidence_the_interval_leaves_zero_out(a, b):
    difference = terms((1, [a / 5]), (-1, [b / 5]))
    p = p_value(difference, 500)
    if a == b:
        assert p == pytest.approx(1)
    for confidence in (1 - p - 1e-6, 1 - p + 1e-6):
        if 0 < confidence < 1:
            found = estimate(difference, 500, confidence)
            assert (found.low > 0 or found.high < 0) == (confidence < 1 - p)


def test_one_seed_p_values_are_close_to_those_of_the_usual_test():
    p = p_value(terms((1, [70.0]), (-1, [68.0])), 10000)
    z = 0.02 / (0.7 * 0.3 / 10000 + 0.68 * 0.32 / 10000) ** 0.5
    assert p == pytest.approx(2 * stats.norm.sf(z), rel=0.02)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=7))
def test_holm_rejects_as_its_definition_does(p_values):
    """At level alpha: go up the sorted p-values while the kth is at most alpha / (m - k + 1)."""
    adjusted = holm(p_values)
    for alpha in (0.01, 0.05, 0.3, 0.9):
        rejected = set()
        for k, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
            if p_values[i] * (len(p_values) - k) > alpha:
                break
            rejected.add(i)
        assert {i for i, p in enumerate(adjusted) if p <= alpha} == rejected


def test_holm_on_an_example():
    # The smallest times 3, the next times 2, and the largest not below the one before it.
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
