import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sparsecnn.study.comparisons import (
    INCONCLUSIVE,
    NOT_REPRODUCED,
    REPRODUCED,
    Outcome,
    verdict,
)
from sparsecnn.study.statistics import Estimate, estimate, wilson_interval


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
    found = estimate([(1, values)], 10000, confidence)
    low, high = stats.t.interval(confidence, len(values) - 1, np.mean(values), stats.sem(values))
    assert (found.low, found.high) == pytest.approx((max(low, 0), min(high, 100)))
    assert found.sd == pytest.approx(np.std(values, ddof=1))
    assert (found.n, found.basis) == (len(values), "seeds")


def test_differences_are_paired_by_seed():
    # The same gain at every seed, over baselines that differ wildly.
    found = estimate([(1, [10.1, 50.2, 90.1]), (-1, [5.0, 45.0, 85.0])], 10000)
    assert found.value == pytest.approx(5.1333333)
    assert found.high - found.low < 0.4


def test_difference_with_one_seed_is_newcombes():
    # 9 of 10 against 3 of 10: Newcombe, Statistics in Medicine 17 (1998), table II, method 10.
    found = estimate([(1, [90.0]), (-1, [30.0])], 10)
    assert (found.low, found.high) == pytest.approx((17.05, 80.90), abs=0.01)
    assert (found.sd, found.n, found.basis) == (None, 1, "test images")


@given(st.integers(0, 500), st.integers(0, 500))
def test_one_seed_intervals_are_antisymmetric_and_hold_the_estimate(a, b):
    one = estimate([(1, [a / 5]), (-1, [b / 5])], 500)
    other = estimate([(1, [b / 5]), (-1, [a / 5])], 500)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))
    assert -100 - 1e-9 <= one.low <= one.value <= one.high <= 100 + 1e-9


def test_seeds_that_agree_to_the_last_image_do_not_give_certainty():
    twice, once = estimate([(1, [70.0, 70.0])], 100), estimate([(1, [70.0])], 100)
    assert (twice.low, twice.high) == (once.low, once.high)
    assert (twice.basis, twice.n, twice.sd) == ("test images", 2, 0.0)


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
        found = estimate([(1, values)], n_test)
        covered += found.low <= truth <= found.high
    assert 930 <= covered <= 970


def outcome(low, high, corrected_high=None):
    middle = Estimate((low + high) / 2, low, high, 1.0, 3, "seeds")
    return Outcome("", middle, high if corrected_high is None else corrected_high)


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ([outcome(1, 2), outcome(0.1, 5)], REPRODUCED),
        ([outcome(1, 2), outcome(-0.1, 5)], INCONCLUSIVE),
        ([outcome(1, 2), outcome(-3, -1)], NOT_REPRODUCED),
        ([outcome(1, 2), outcome(-3, -1, corrected_high=0.5)], INCONCLUSIVE),
        ([outcome(0, 0)], INCONCLUSIVE),
    ],
)
def test_verdicts(outcomes, expected):
    assert verdict(outcomes) == expected


def test_wrong_verdicts_are_as_rare_as_stated():
    random = np.random.default_rng(1)
    n, comparisons, wrong = 3, 4, {REPRODUCED: 0, NOT_REPRODUCED: 0, INCONCLUSIVE: 0}
    for _ in range(2000):  # every true difference is 0: either firm verdict is wrong
        outcomes = []
        for values in random.normal(0, 1, (comparisons, n)):
            accuracies = [(1, list(50 + values)), (-1, [50.0] * n)]
            corrected = estimate(accuracies, 10**6, 1 - 0.05 / comparisons).high
            outcomes.append(Outcome("", estimate(accuracies, 10**6), corrected))
        wrong[verdict(outcomes)] += 1
    # 2.5 % of 2000 is 50, with a standard deviation of 7.
    assert wrong[REPRODUCED] < 5
    assert 25 < wrong[NOT_REPRODUCED] < 75
