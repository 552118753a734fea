from statistics import fmean, stdev

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_1samp
from study_example import BUDGETS, diagnosis, diagnostics, report, results

from sparsecnn.analysis.comparisons import (
    CONTRADICTED,
    INCONCLUSIVE,
    NO_EFFECT,
    NOT_TESTED,
    REPRODUCED,
)
from sparsecnn.analysis.diagnostics import (
    by_seed,
    collect_diagnostics,
    model_error,
    of_layers,
    read_diagnostics,
)
from sparsecnn.analysis.judging import judge
from sparsecnn.analysis.results import Cell, results_of
from sparsecnn.analysis.tables import write_csv
from sparsecnn.errors import UserError
from sparsecnn.report.claims import told

A, B = "under_trained", "fully_trained"


def cause(table, measured):
    return next(told(c) for c in judge(table, measured)["claims"] if c["number"] == 3)


def layers_with(table, cell, variant, quantity):
    """The layers that a quantity was measured of, in order of depth."""
    own = of_layers(table).xs((*cell, variant), level=("regime", "model", "variant"))
    return list(own[quantity].dropna().index.get_level_values("layer"))


def changed(measured, change):
    """The diagnostics with `change` applied to every error of the quadratic model."""
    errors = measured["quantity"] == "model_error"
    return measured.assign(
        value=measured["value"].mask(errors, measured.apply(change, axis="columns"))
    )


@pytest.mark.parametrize(
    ("measured", "first", "second", "error"),
    [
        (2, 0, 2, 0),
        (2, 0.5, 1.5, 0),
        (2, 0, 1, 100 / 3),
        (1, 0, 2, 100 / 3),
        (1, 0, -1, 100),
        (-1, 0.5, 1.5, 100),
        (0, 1, -1, 0),
        (0, 2, 1, 100),
        (0, 0, 0, 0),
        (-4, -1, -2, 100 / 7),
    ],
)
def test_the_models_error_is_in_percent_of_the_largest_possible(measured, first, second, error):
    assert model_error(measured, first, second) == pytest.approx(error)


def test_errors_of_the_model_tell_networks_apart_where_a_change_is_next_to_nothing():
    """A change of the loss by chance near 0, of either sign, hardly moves the error."""
    errors = [model_error(measured, 0.002, 0.01) for measured in (-1e-4, 1e-4)]
    assert errors == pytest.approx([100, 97.5], abs=1)


def test_the_table_is_read_as_it_was_written(tmp_path):
    table = diagnostics(results())
    write_csv(tmp_path / "diagnostics.csv", table)
    pd.testing.assert_frame_equal(read_diagnostics(tmp_path / "diagnostics.csv"), table)
    cell = Cell(A, "vgg16")
    own = diagnosis("vgg16", 5, 2, ("magnitude", "sparsegpt"))
    assert by_seed(table, cell, "dense", "loss")[2] == own["network"]["loss"]
    change = own["variants"]["sparsegpt"]["loss_change"]
    predicted = change["first_order"] + change["second_order"]
    assert by_seed(table, cell, "sparsegpt", "predicted")[2] == predicted
    assert layers_with(table, cell, "sparsegpt", "own_error") == ["conv1", "conv2", "fc"]


@pytest.mark.parametrize("text", [None, "study\nx\n", "value\nmany\n"])
def test_refuses_what_is_no_table_of_diagnostics(tmp_path, text):
    path = tmp_path / "diagnostics.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=r"diagnostics\.csv: not a table of diagnostics"):
        read_diagnostics(path)


def with_drops(table, lost):
    """The table with what every pruned network loses replaced by `lost` of its row."""
    pruned = table.frame["variant"] != "dense"
    drop = table.frame["drop"].mask(pruned, table.frame.apply(lost, axis="columns"))
    return results_of(table.frame.assign(drop=drop, top1=table.frame["dense_top1"] - drop))


def test_missing_diagnostics_are_named():
    with pytest.raises(UserError, match="diagnostics of vgg16, 5 epochs, seed 1 are missing"):
        collect_diagnostics(
            [diagnosis("vgg16", 5, 0, ())],
            study="s",
            regimes={A: {"recipe": "reference", "vgg16": 5}},
            seeds=[0, 1],
        )


def test_what_could_not_be_measured_has_no_line():
    value = diagnosis("vgg16", 5, 0, ("magnitude",))
    value["variants"]["magnitude"]["loss_change"] = None
    value["variants"]["magnitude"]["layers"][0]["own"] = None
    regimes = {A: {"recipe": "reference", "vgg16": 5}}
    table = collect_diagnostics([value], study="s", regimes=regimes, seeds=[0])
    cell = Cell(A, "vgg16")
    assert by_seed(table, cell, "magnitude", "measured").empty
    assert layers_with(table, cell, "magnitude", "own_error") == ["conv2", "fc"]


def test_the_cause_is_tested_on_paired_differences_of_the_models_error():
    table = results()
    measured = diagnostics(table)
    claim = cause(table, measured)
    differences = []
    for comparison, model in zip(claim["comparisons"], BUDGETS[A], strict=True):
        before, after = (
            np.array(by_seed(measured, Cell(regime, model), "sparsegpt", "model_error"))
            for regime in (A, B)
        )
        difference = before - after
        interval = ttest_1samp(difference, 0).confidence_interval(0.95)
        differences.append(difference)
        assert comparison["effect"] == pytest.approx(difference.mean())
        assert (comparison["low"], comparison["high"]) == pytest.approx(tuple(interval))
    mean = np.mean(differences, axis=0)
    interval = ttest_1samp(mean, 0).confidence_interval(0.95)
    assert claim["effect"] == pytest.approx(mean.mean())
    assert (claim["low"], claim["high"]) == pytest.approx(tuple(interval))
    assert "quadratic model" in claim["quantity"]


def test_a_cause_needs_an_effect_that_was_shown():
    open_ = with_drops(results(), lambda row: 5 + (row.seed - 1) * (9 if row.regime == A else 3))
    measured = diagnostics(open_)
    claim = cause(open_, measured)
    assert claim["low"] > 0
    assert claim["verdict"] == INCONCLUSIVE
    assert "Claim 2, which this is meant to explain: inconclusive." in claim["evidence"]
    assert "What has not been shown cannot have been explained." in claim["evidence"]
    shown = with_drops(open_, lambda row: (9 if row.regime == A else 3) + 0.1 * row.seed)
    claim = cause(shown, measured)
    assert claim["verdict"] == REPRODUCED
    assert "not been shown" not in claim["evidence"]


def test_a_model_that_gets_no_truer_refutes_the_cause_or_leaves_it_open():
    table = with_drops(results(), lambda row: (9 if row.regime == A else 3) + 0.1 * row.seed)
    worse = changed(diagnostics(table), lambda row: row.epochs * (1 + 0.01 * row.seed))
    assert cause(table, worse)["verdict"] == CONTRADICTED
    same = changed(diagnostics(table), lambda row: 50 + (row.seed - 1) * (row.epochs > 10))
    assert cause(table, same)["verdict"] == NO_EFFECT
    either = changed(diagnostics(table), lambda row: 50 + 9 * (row.seed - 1) * (row.epochs > 10))
    assert cause(table, either)["verdict"] == INCONCLUSIVE


@pytest.mark.parametrize("before", [3, 6])
def test_where_there_is_nothing_to_explain_a_truer_model_is_no_cause(before):
    """Trained networks lose more, or as much."""
    table = with_drops(results(), lambda row: (before if row.regime == A else 6) - 0.1 * row.seed)
    claim = cause(table, diagnostics(table))
    assert claim["verdict"] == CONTRADICTED
    assert claim["effect"] > 0
    assert "There is nothing to explain." in claim["evidence"]


@pytest.mark.parametrize(
    ("table", "variants", "lacking"),
    [
        (results(), None, "The study lacks diagnostics."),
        (results(), ("magnitude",), "quadratic model's error with two seeds or more"),
        (results(seeds=(0,)), ("sparsegpt",), "quadratic model's error with two seeds or more"),
        (results(regimes={A: BUDGETS[A]}), ("sparsegpt",), "lacks a second training regime"),
    ],
    ids=["none", "of another variant", "one seed", "one regime"],
)
def test_what_the_test_of_the_cause_lacks_is_said(table, variants, lacking):
    claim = cause(table, None if variants is None else diagnostics(table, variants))
    assert claim["verdict"] == NOT_TESTED
    assert claim["effect"] is None
    assert lacking in claim["evidence"]


@pytest.mark.parametrize("seeds", [(0,), (0, 1), (0, 1, 2)])
@pytest.mark.parametrize("variants", [(), ("sparsegpt",), ("magnitude", "sparsegpt")])
def test_the_report_takes_any_choice_of_variants(seeds, variants):
    table = results(seeds=seeds)
    measured = diagnostics(table, variants)
    text = report(table, measured=measured)
    assert ("Is the quadratic model truer" in text) == bool(variants)
    assert ("figures/quadratic_model.svg" in text) == bool(variants)
    assert "\n\n\n" not in text


def test_numbers_of_the_report_are_means_over_seeds():
    table = results()
    measured = diagnostics(table)
    text = report(table, measured=measured)
    norms = by_seed(measured, Cell(B, "vgg16"), "dense", "gradient_norm")
    assert f"{fmean(norms):.3g} ± {stdev(norms):.2g}" in text
    errors = by_seed(measured, Cell(A, "vgg16"), "sparsegpt", "model_error")
    assert f"from {fmean(errors):.0f} to " in text


def test_without_diagnostics_the_report_says_so():
    text = report(results())
    assert "This study measures accuracy alone" in text
    assert "diagnostics.csv" not in text
    assert "quadratic_model.svg" not in text
