from dataclasses import replace
from statistics import fmean, stdev

import numpy as np
import pytest
from matplotlib.colors import to_hex
from scipy.stats import ttest_1samp
from study_example import BUDGETS, diagnosis, diagnostics, report, results

from sparsecnn.analysis.comparisons import INCONCLUSIVE, NOT_REPRODUCED, NOT_TESTED, REPRODUCED
from sparsecnn.analysis.diagnostics import (
    Diagnostics,
    collect_diagnostics,
    diagnostics_rows,
    model_error,
    read_diagnostics,
)
from sparsecnn.analysis.judging import judge
from sparsecnn.analysis.results import Cell, Results
from sparsecnn.analysis.statistics import holm
from sparsecnn.artifacts import write_table
from sparsecnn.errors import UserError
from sparsecnn.report.appearance import appearance
from sparsecnn.report.diagnostic_figures import draw_accumulation, draw_quadratic_model
from sparsecnn.report.figure_parts import save_svg

A, B = "under_trained", "fully_trained"


def cause(table, measured):
    return next(claim for claim in judge(table, measured) if claim["number"] == 3)


def changed(measured, change):
    """The diagnostics with `change` applied to every error of the quadratic model."""
    return Diagnostics(
        tuple(
            replace(row, value=change(row)) if row.quantity == "model_error" else row
            for row in measured.rows
        )
    )


@pytest.mark.parametrize(
    ("measured", "predicted", "error"),
    [(2, 2, 0), (2, 1, 50), (1, 2, 50), (1, -1, 200), (0, 3, 100), (0, 0, 0), (-4, -3, 25)],
)
def test_the_models_error_is_in_percent_of_the_larger_value(measured, predicted, error):
    assert model_error(measured, predicted) == pytest.approx(error)


def test_the_table_is_read_as_it_was_written(tmp_path):
    table = diagnostics(results())
    write_table(tmp_path / "diagnostics.csv", diagnostics_rows(table))
    assert read_diagnostics(tmp_path / "diagnostics.csv") == table
    cell = Cell(A, "vgg16")
    own = diagnosis("vgg16", 5, 2, ("magnitude", "sparsegpt"))
    assert table.values(cell, "dense", "loss")[2] == own["network"]["loss"]
    change = own["variants"]["sparsegpt"]["loss_change"]
    predicted = change["first_order"] + change["second_order"]
    assert table.values(cell, "sparsegpt", "predicted")[2] == predicted
    assert list(table.along_depth(cell, "sparsegpt", "own_error")) == ["conv1", "conv2", "fc"]


@pytest.mark.parametrize("text", [None, "study\nx\n", "value\nmany\n"])
def test_refuses_what_is_no_table_of_diagnostics(tmp_path, text):
    path = tmp_path / "diagnostics.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=r"diagnostics\.csv: not a table of diagnostics"):
        read_diagnostics(path)


def with_drops(table, lost):
    """The table with what every pruned network loses replaced by `lost` of its row."""
    rows = [row if row.variant == "dense" else replace(row, drop=lost(row)) for row in table.rows]
    return Results(tuple(replace(row, top1=row.dense_top1 - row.drop) for row in rows))


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
    assert table.values(cell, "magnitude", "measured") == []
    assert list(table.along_depth(cell, "magnitude", "own_error")) == ["conv2", "fc"]


def test_the_cause_is_tested_on_paired_differences_of_the_models_error():
    table = results()
    measured = diagnostics(table)
    claim = cause(table, measured)
    p_values = []
    for comparison, model in zip(claim["comparisons"], BUDGETS[A], strict=True):
        before, after = (
            np.array(measured.values(Cell(regime, model), "sparsegpt", "model_error"))
            for regime in (A, B)
        )
        difference = before - after
        interval = ttest_1samp(difference, 0).confidence_interval(0.95)
        p_values.append(ttest_1samp(difference, 0, alternative="less").pvalue)
        assert comparison["effect"] == pytest.approx(difference.mean())
        assert (comparison["low"], comparison["high"]) == pytest.approx(tuple(interval))
    adjusted = [comparison["adjusted_p"] for comparison in claim["comparisons"]]
    assert adjusted == pytest.approx(holm(p_values))
    assert "quadratic model" in claim["quantity"]


def test_a_cause_needs_an_effect_that_was_shown():
    table = results()
    measured = diagnostics(table)
    claim = cause(table, measured)
    assert all(comparison["low"] > 0 for comparison in claim["comparisons"])
    assert claim["verdict"] == INCONCLUSIVE
    assert "Claim 2, which this is meant to explain, is inconclusive here." in claim["evidence"]
    assert "What has not been shown cannot have been explained." in claim["evidence"]
    shown = with_drops(table, lambda row: (9 if row.regime == A else 3) + 0.1 * row.seed)
    claim = cause(shown, measured)
    assert claim["verdict"] == REPRODUCED
    assert "not been shown" not in claim["evidence"]


def test_a_model_that_gets_no_truer_refutes_the_cause_or_leaves_it_open():
    table = results()
    worse = changed(diagnostics(table), lambda row: row.epochs * (1 + 0.01 * row.seed))
    assert cause(table, worse)["verdict"] == NOT_REPRODUCED
    # Errors at their upper bound agree to the last digit, which is no certainty.
    capped = changed(diagnostics(table), lambda row: 200 if row.epochs > 10 else 100)
    claim = cause(table, capped)
    assert claim["verdict"] == INCONCLUSIVE
    assert (claim["low"], claim["high"]) == (-200, 200)
    same = changed(diagnostics(table), lambda row: 50 + (row.seed - 1) * (row.epochs > 10))
    assert cause(table, same)["verdict"] == INCONCLUSIVE


def test_where_there_is_nothing_to_explain_a_truer_model_is_no_cause():
    table = with_drops(results(), lambda row: (3 if row.regime == A else 9) - 0.1 * row.seed)
    claim = cause(table, diagnostics(table))
    assert claim["verdict"] == NOT_REPRODUCED
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
def test_the_report_and_its_figures_take_any_choice_of_variants(tmp_path, seeds, variants):
    table = results(seeds=seeds)
    measured = diagnostics(table, variants)
    text = report(table, measured=measured)
    assert ("Is the quadratic model truer" in text) == bool(variants)
    assert ("figures/quadratic_model.svg" in text) == bool(variants)
    assert "\n\n\n" not in text
    save_svg(draw_quadratic_model(table, measured), tmp_path / "a.svg")
    save_svg(draw_accumulation(table, measured), tmp_path / "b.svg")


def test_numbers_of_the_report_are_means_over_seeds():
    table = results()
    measured = diagnostics(table)
    text = report(table, measured=measured)
    norms = measured.values(Cell(B, "vgg16"), "dense", "gradient_norm")
    assert f"{fmean(norms):.3g} ± {stdev(norms):.2g}" in text
    errors = measured.values(Cell(A, "vgg16"), "sparsegpt", "model_error")
    assert f"from {fmean(errors):.0f} to " in text


def test_without_diagnostics_the_report_says_so():
    text = report(results())
    assert "This study measures accuracy alone" in text
    assert "diagnostics.csv" not in text
    assert "quadratic_model.svg" not in text


def test_every_network_is_a_point_in_its_variants_colour():
    table = results()
    measured = diagnostics(table)
    figure = draw_quadratic_model(table, measured)
    points = [line for line in figure.axes[1].lines if line.get_marker() not in ("", "None")]
    assert len(points) == 2 * 2
    for line, (regime, variant) in zip(
        points, [(r, v) for r in (A, B) for v in ("magnitude", "sparsegpt")], strict=True
    ):
        cell = Cell(regime, "vgg16")
        assert to_hex(line.get_color()) == to_hex(appearance(table, variant)[0])
        assert list(line.get_xdata()) == measured.values(cell, variant, "measured")
        assert list(line.get_ydata()) == measured.values(cell, variant, "predicted")


def test_errors_are_drawn_along_depth_with_gaps_where_there_are_none():
    table = results()
    measured = diagnostics(table)
    axes = draw_accumulation(table, measured).axes[0]
    whole, alone = axes.lines[0], axes.lines[1]
    np.testing.assert_allclose(whole.get_ydata(), [np.nan, 0.02, 0.04])
    np.testing.assert_allclose(alone.get_ydata(), [np.nan, 0.01, 0.02])
    np.testing.assert_array_equal(whole.get_xdata(), [1, 2, 3])
