import math
from statistics import fmean

import pandas as pd
import pytest
from scipy import stats
from study_example import (
    BUDGETS,
    CATALOGUES,
    metric,
    published_results,
    results,
    values_of,
    with_defaults,
    with_top1,
)

from sparsecnn.analysis.claims import CLAIMS
from sparsecnn.analysis.comparisons import (
    CONTRADICTED,
    INCONCLUSIVE,
    NO_EFFECT,
    NOT_TESTED,
    REPRODUCED,
    p_value_of,
    weigh,
    winner,
)
from sparsecnn.analysis.declared import declared_claims
from sparsecnn.analysis.judging import judge
from sparsecnn.analysis.results import Cell, results_of
from sparsecnn.analysis.statistics import estimate
from sparsecnn.report.claims import told, verdict
from sparsecnn.report.labels import comparison_label
from sparsecnn.report.language import speaking
from sparsecnn.report.tables import solvers_table
from sparsecnn.report.text import signed

A, B = "under_trained", "fully_trained"


def claims_of(table, **more):
    """Every claim as the report tells it."""
    return [told(claim) for claim in judge(table, **more)["claims"]]


def by_number(table):
    return {claim["number"]: claim for claim in claims_of(table)}


def names(claim, comparisons=None):
    chosen = claim["comparisons"] if comparisons is None else comparisons
    return [comparison_label(claim, comparison) for comparison in chosen]


def mean(table, regime, model, variant):
    return fmean(values_of(table, Cell(regime, model), variant))


def drop(table, regime, model, variant="sparsegpt"):
    return mean(table, regime, model, "dense") - mean(table, regime, model, variant)


def test_the_references_own_numbers_give_its_own_conclusions():
    claims = by_number(published_results())
    assert {number: claim["verdict"] for number, claim in claims.items()} == {
        1: REPRODUCED,
        2: REPRODUCED,
        3: NOT_TESTED,
        4: REPRODUCED,
        5: REPRODUCED,
    }
    largest = max(comparison["effect"] for comparison in claims[1]["comparisons"])
    assert largest == pytest.approx(37.16)
    assert "+37.16 points" in claims[1]["evidence"]
    assert "One seed" not in claims[3]["evidence"]
    for number in (1, 2, 4, 5):
        assert "With one seed this speaks of these very networks" in claims[number]["evidence"]


def test_effects_are_the_plain_arithmetic_of_means_over_networks():
    table = results()
    claims = by_number(table)
    models = list(BUDGETS[A])
    expected = {
        1: fmean(
            mean(table, r, m, "sparsegpt") - mean(table, r, m, "magnitude")
            for r in BUDGETS
            for m in models
        ),
        2: fmean(drop(table, A, m) - drop(table, B, m) for m in models),
        4: fmean(drop(table, B, "resnet18") - drop(table, B, m) for m in ("custom_cnn", "vgg16")),
        5: fmean(
            drop(table, B, m, "magnitude")
            - drop(table, B, m)
            - drop(table, B, "resnet18", "magnitude")
            + drop(table, B, "resnet18")
            for m in ("custom_cnn", "vgg16")
        ),
    }
    for number, effect in expected.items():
        assert claims[number]["effect"] == pytest.approx(effect)
        assert claims[number]["low"] < effect < claims[number]["high"]
        each = [comparison["effect"] for comparison in claims[number]["comparisons"]]
        assert fmean(each) == pytest.approx(effect)
    assert [len(claims[number]["comparisons"]) for number in (1, 2, 3, 4, 5)] == [6, 3, 0, 2, 2]


def test_networks_of_a_seed_are_one_replicate():
    """The interval is Student's of one number for each seed, whatever cells share or vary by."""
    table = with_top1(results(), lambda row: row.top1 + row.seed * (row.variant == "sparsegpt"))
    claim = by_number(table)[1]
    sums = [
        fmean(
            table.of(cell, "sparsegpt")["top1"][seed] - table.of(cell, "magnitude")["top1"][seed]
            for cell in table.cells
        )
        for seed in table.seeds
    ]
    low, high = stats.t.interval(0.95, len(sums) - 1, fmean(sums), stats.sem(sums))
    assert (claim["low"], claim["high"]) == pytest.approx((low, high))
    assert (claim["n"], claim["basis"]) == (len(sums), "seeds")


def lost(table, points):
    """A table in which SparseGPT loses `points(regime, model)` and 0.1 more or less by seed."""

    def top1(row):
        if row.variant != "sparsegpt":
            return row.top1
        return row.dense_top1 - points(row.regime, row.model) - 0.1 * (row.seed - 1)

    return with_top1(table, top1)


def test_a_claim_about_every_case_that_holds_on_average_is_called_so():
    """SparseGPT is worse in one network, and better by far in all others."""
    table = lost(results(), lambda regime, model: 60 if (regime, model) == (A, "vgg16") else 1)
    claim = by_number(table)[1]
    assert (claim["verdict"], claim["decided"]) == (REPRODUCED, "reproduced, on average")
    assert "from -2.10 points" in claim["evidence"]
    assert "of the 6 intervals 5 lie above 0 and 1 below" in claim["evidence"]
    assert "They differ by more than chance (p < 0.001)" in claim["evidence"]
    everywhere = by_number(lost(results(), lambda regime, model: 1))[1]
    assert everywhere["decided"] == "reproduced, in every case"


def test_a_difference_too_small_to_matter_is_no_effect():
    same = by_number(lost(results(), lambda regime, model: 1))[2]
    assert same["verdict"] == NO_EFFECT
    assert "An effect that would matter (a margin of 1) is ruled out." in same["evidence"]
    little = by_number(lost(results(), lambda regime, model: 1.5 if regime == A else 1))[2]
    assert little["verdict"] == REPRODUCED
    assert "not 0, but smaller than what would matter (a margin of 1)" in little["evidence"]


def test_the_margin_is_the_configurations():
    table = lost(results(), lambda regime, model: 1)

    def of_seed(row):  # the drop changes by 0, 1 and 2 points over the seeds
        return row.top1 + (row.seed - 1) * (row.variant == "sparsegpt" and row.regime == A)

    wide = with_top1(table, of_seed)
    verdicts = {m: judge(wide, margin=m)["claims"][1]["verdict"] for m in (1.0, 3.0)}
    assert verdicts == {1.0: INCONCLUSIVE, 3.0: NO_EFFECT}
    assert judge(wide, margin=3.0)["claims"][1]["margin"] == 3.0
    assert judge(wide, margin=3.0)["claims"][2]["margin"] == 10  # of another quantity
    claim = told(judge(wide)["claims"][1])
    assert "The interval holds 0, and effects that would matter" in claim["evidence"]


def test_the_plain_variant_is_judged_not_the_one_with_batch_norm():
    one, other = results(), results(variants=("magnitude", "sparsegpt"))
    assert judge(one) == judge(other)


def test_opposite_numbers_refute_claims_and_the_cause_with_them():
    def reversed_training(row):
        lost = 3 if row.regime == A else 9
        return row.top1 if row.variant == "dense" else row.dense_top1 - lost + 0.1 * row.seed

    claims = by_number(with_top1(results(), reversed_training))
    assert claims[2]["verdict"] == CONTRADICTED
    assert claims[3]["verdict"] == CONTRADICTED
    assert "nothing to explain" in claims[3]["evidence"]


@pytest.mark.parametrize(
    ("table", "missing"),
    [
        (
            results(regimes={A: BUDGETS[A]}),
            {2: "a second training regime"},
        ),
        (
            results(variants=("sparsegpt",)),
            {1: "a variant with method magnitude", 5: "a variant with method magnitude"},
        ),
        (
            results(variants=("sparsegpt_bn",)),
            dict.fromkeys((1, 2, 4, 5), "a variant with method sparsegpt"),
        ),
        (
            results(regimes={name: {"resnet18": 5 + i} for i, name in enumerate(BUDGETS)}),
            {4: "a serial network in fully_trained", 5: "a serial network in fully_trained"},
        ),
        (
            results(regimes={name: {"vgg16": 5 + i} for i, name in enumerate(BUDGETS)}),
            {4: "a residual network in fully_trained", 5: "a residual network in fully_trained"},
        ),
    ],
)
def test_what_the_study_lacks_is_said(table, missing):
    claims = by_number(table)
    for number, what in missing.items():
        assert claims[number]["verdict"] == NOT_TESTED
        assert claims[number]["effect"] is None
        assert f"Not tested: the study lacks {what}" in claims[number]["evidence"]
    assert len(claims) == len(CLAIMS)


def test_two_regimes_that_share_every_network_cannot_show_an_effect_of_training():
    shared = {"short": {"vgg16": 5}, "long": {"vgg16": 5}}
    values = [metric("vgg16", 5, s, v, 60 + s) for s in (0, 1) for v in ("dense", "sparsegpt")]
    table = results((0, 1), shared, ("sparsegpt",), values)
    assert "a network trained longer in long than in short" in by_number(table)[2]["evidence"]


def test_a_network_trained_less_in_the_longer_regime_is_not_taken_for_trained_longer():
    regimes = {"short": {"custom_cnn": 30, "vgg16": 1}, "long": {"custom_cnn": 5, "vgg16": 40}}
    values = [
        metric(model, epochs, s, v, 60 + s)
        for own in regimes.values()
        for model, epochs in own.items()
        for s in (0, 1)
        for v in ("dense", "sparsegpt")
    ]
    claim = by_number(results((0, 1), regimes, ("sparsegpt",), values))[2]
    assert names(claim) == ["vgg16, short against long"]


def test_claims_do_not_compare_recipes():
    table = results().frame
    strong = table[table["regime"] == B]
    names = {"regime": "strong", "recipe": "strong"}
    strong = strong.assign(**names, top1=50.0, drop=strong["dense_top1"] - 50)
    both = results_of(pd.concat([table, strong]))
    assert both.regimes == [A, B, "strong"]
    assert both.ends == (A, B)
    one, other = by_number(results()), by_number(both)
    assert [one[n] for n in (2, 4, 5)] == [other[n] for n in (2, 4, 5)]
    assert len(other[1]["comparisons"]) == 9


def test_claims_with_another_solver_are_those_of_a_study_where_it_is_sparsegpt():
    table = results()
    assert judge(table)["solvers"] == {}
    # What counts is the method: the variant with batch norm anew becomes the imitated solver.
    other = table.frame["variant"] == "sparsegpt_bn"
    imitation = {
        "method": table.frame["method"].mask(other, "static_obs"),
        "bn_recalibrated": table.frame["bn_recalibrated"] & ~other,
    }
    judged = judge(results_of(table.frame.assign(**imitation)))
    by_solver = judged["solvers"]
    assert list(by_solver) == ["sparsegpt", "sparsegpt_bn"]
    own = [claim for claim in judged["claims"] if claim["number"] != 3]
    assert by_solver["sparsegpt"] == own

    def as_other(row):
        if row.variant != "sparsegpt":
            return row.top1
        return table.of(Cell(row.regime, row.model), "sparsegpt_bn")["top1"][row.seed]

    exchanged = judge(with_top1(table, as_other))["claims"]
    assert by_solver["sparsegpt_bn"] == [c for c in exchanged if c["number"] != 3]
    text = solvers_table(by_solver)
    for claim in (*own, *by_solver["sparsegpt_bn"]):
        assert f"{signed(claim['effect'])}: {verdict(claim)}" in text
    with speaking(CATALOGUES["ko"]):
        korean = solvers_table(by_solver)
    assert not any(claim["title"] in korean for claim in own)


def test_a_network_at_chance_leaves_claims_open():
    table = results_of(results().frame.assign(top1=10.0, dense_top1=10.0, drop=0.0))
    claims = claims_of(table)
    assert {claim["verdict"] for claim in claims} == {NOT_TESTED}
    assert "a dense custom_cnn above chance in under_trained" in claims[0]["evidence"]


def test_on_unbalanced_classes_chance_is_the_largest_ones_share():
    """A network that always names the largest class, 40 % of the test images, learnt nothing."""
    table = results().frame.assign(top1=40.0, dense_top1=40.0, drop=0.0)
    assert judge(results_of(table))["claims"][0]["verdict"] != NOT_TESTED
    unbalanced = results_of(table.assign(chance=40.0))
    assert unbalanced.chance == 40
    assert judge(unbalanced)["claims"][0]["verdict"] == NOT_TESTED
    assert results_of(table.assign(chance=math.nan)).chance == 10  # of an earlier version


DECLARED = with_defaults(
    {
        "batch_norm_helps": {
            "statement": "Re-estimated statistics help.",
            "more": {"accuracy": "sparsegpt_bn"},
            "than": {"accuracy": "sparsegpt"},
        },
        "resnet_loses_more": {
            "statement": "ResNet-18 loses more than VGG-16.",
            "more": {"drop": "sparsegpt", "model": "resnet18"},
            "than": {"drop": "sparsegpt", "model": "vgg16"},
        },
        "training_lessens_the_gain": {
            "statement": "The gain shrinks.",
            "more": {"gain": ["sparsegpt", "magnitude"], "regime": A, "model": "vgg16"},
            "than": {"gain": ["sparsegpt", "magnitude"], "regime": B, "model": "vgg16"},
        },
    }
)


def one_network(**top1):
    """Results of one network and one seed, with these accuracies."""
    variants = [variant for variant in top1 if variant != "dense"]
    values = [metric("vgg16", 5, 0, variant, value) for variant, value in top1.items()]
    return results((0,), {A: {"vgg16": 5}}, variants, values)


def test_the_same_quantity_said_in_another_way_has_the_same_interval():
    table = one_network(dense=90.0, magnitude=83.5, sparsegpt=84.7)
    said = {
        "by_drop": ({"drop": "magnitude"}, {"drop": "sparsegpt"}),
        "by_accuracy": ({"accuracy": "sparsegpt"}, {"accuracy": "magnitude"}),
    }
    claims = {
        name: {"statement": name, "more": more, "than": than} for name, (more, than) in said.items()
    }
    by_drop, by_accuracy = claims_of(
        table, declared=declared_claims({"claims": with_defaults(claims)}, first=6)
    )[5:]
    for key in ("low", "high", "verdict"):
        assert by_drop[key] == pytest.approx(by_accuracy[key])


def test_a_network_that_counts_twice_is_as_uncertain_as_twice_itself():
    table = one_network(dense=90.0, magnitude=80.0, wanda=82.0, sparsegpt=85.6)
    cell = Cell(A, "vgg16")
    terms = ((1, cell, "sparsegpt"), (-1, cell, "wanda"), (-1, cell, "wanda"))
    once = weigh(table, (*terms, (1, cell, "magnitude")))
    expected = estimate(
        [(1, pd.Series([85.6])), (-2, pd.Series([82.0])), (1, pd.Series([80.0]))], table.n_test
    )
    assert (once.low, once.high) == pytest.approx((expected.low, expected.high))
    nothing = ((1, cell, "wanda"), (-1, cell, "wanda"))
    assert (weigh(table, nothing).low, weigh(table, nothing).high) == (0, 0)
    assert p_value_of(table, nothing) == pytest.approx(1)


def test_a_study_tests_claims_of_its_own():
    table = results()
    claims = claims_of(table, declared=declared_claims({"claims": DECLARED}, first=6))
    assert [claim["number"] for claim in claims] == list(range(1, 9))
    helps, loses, lessens = claims[5:]
    assert [len(claim["comparisons"]) for claim in (helps, loses, lessens)] == [6, 2, 1]
    assert helps["title"] == "Batch norm helps"
    assert helps["verdict"] == REPRODUCED
    assert names(loses) == [f"resnet18, {regime} against vgg16, {regime}" for regime in (A, B)]
    for regime, comparison in zip((A, B), loses["comparisons"], strict=True):
        expected = drop(table, regime, "resnet18") - drop(table, regime, "vgg16")
        assert comparison["effect"] == pytest.approx(expected)
    gains = [
        mean(table, regime, "vgg16", "sparsegpt") - mean(table, regime, "vgg16", "magnitude")
        for regime in (A, B)
    ]
    assert lessens["effect"] == pytest.approx(gains[0] - gains[1])
    margins = with_defaults(DECLARED) | {
        "batch_norm_helps": DECLARED["batch_norm_helps"] | {"margin": 30, "every_case": True}
    }
    claims = claims_of(table, declared=declared_claims({"claims": margins | {"margin": 2}}, 6))
    assert [claim["number"] for claim in claims] == list(range(1, 9))
    assert (claims[5]["margin"], claims[5]["decided"]) == (30, "reproduced, in every case")
    assert "the gain of sparsegpt over magnitude (vgg16, under_trained)" in lessens["quantity"]
    assert {claim["source"] for claim in claims[5:]} == {"study"}


def test_a_winner_is_ahead_of_every_other_variant_with_certainty():
    cell = Cell(A, "vgg16")
    assert winner(results(), cell) == "sparsegpt_bn"
    one_seed = results(seeds=(1,))
    close = with_top1(one_seed, lambda row: 70.0 + 0.3 * (row.variant == "sparsegpt_bn"))
    assert values_of(close, cell, "sparsegpt_bn") > values_of(close, cell, "sparsegpt")
    assert winner(close, cell) is None
    assert winner(results(variants=("sparsegpt",)), cell) is None
