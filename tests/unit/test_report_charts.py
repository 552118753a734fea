import csv
import json
from itertools import product

import numpy as np
import pytest
from study_example import CATALOGUES, ablation_config, ablation_results, diagnostics, results
from test_analysis_curves import EPOCHS, curve

from sparsecnn.analysis.ablation import ingredients
from sparsecnn.analysis.comparisons import accuracy, drop
from sparsecnn.analysis.diagnostics import Diagnostics
from sparsecnn.analysis.layer_errors import LayerErrors
from sparsecnn.analysis.results import Cell, read_results, table_rows
from sparsecnn.artifacts import write_table
from sparsecnn.report.appearance import COLOURS
from sparsecnn.report.charts import (
    ablation_chart,
    accuracy_chart,
    drop_chart,
    layer_error_chart,
    study_charts,
)
from sparsecnn.report.curve_charts import budgets_chart
from sparsecnn.report.diagnostic_charts import accumulation_chart, quadratic_model_chart
from sparsecnn.report.language import speaking

ONE = results(seeds=(0,), regimes={"under_trained": {"vgg16": 5}}, variants=("sparsegpt",))


def data_of(panel):
    """Every row of data that the panel's layers draw."""
    datasets = [layer.get("data", panel.get("data", {})) for layer in panel["layer"]]
    named = [panel.get("datasets", {}).get(data.get("name"), []) for data in datasets]
    inline = [data.get("values", []) for data in datasets]
    rows = [row for values in (*named, *inline) for row in values]
    return [json.loads(text) for text in dict.fromkeys(map(json.dumps, rows))]


def layer_errors(table, errors):
    return [
        LayerErrors(c.model, *table.training(c), seed, variant, errors, ("a", "b", "c", "d"))
        for c, seed, variant in product(table.cells, table.seeds, table.variants)
    ]


@pytest.mark.parametrize(("draw", "column"), [(accuracy_chart, "top1"), (drop_chart, "drop")])
@pytest.mark.parametrize("seeds", [(0,), (0, 1), (0, 1, 2)])
def test_every_seed_shows_what_metrics_csv_has(tmp_path, draw, column, seeds):
    write_table(tmp_path / "metrics.csv", table_rows(results(seeds=seeds)))
    chart = draw(read_results(tmp_path / "metrics.csv"))
    shown = {}
    for panel in chart.panels:
        for point in data_of(panel):
            if "folder" in point:
                of_mean = {int(k[5:]): v for k, v in point.items() if k.startswith("seed ")}
                for seed, value in (of_mean or {point["seed"]: point["value"]}).items():
                    braces = f"seed-{{{','.join(map(str, seeds))}}}"
                    folder = point["folder"].replace(braces, f"seed-{seed}")
                    assert shown.setdefault(folder, value) == value
    with (tmp_path / "metrics.csv").open(newline="") as file:
        rows = [r for r in csv.DictReader(file) if column == "top1" or r["variant"] != "dense"]
    assert shown == {
        f"results/example/{r['model']}/reference/epochs-{r['epochs']}/seed-{r['seed']}/"
        f"{r['variant']}": float(r[column])
        for r in rows
    }


@pytest.mark.parametrize(
    ("draw", "estimated"),
    [(accuracy_chart, accuracy), (drop_chart, drop)],
    ids=["accuracy", "drop"],
)
def test_means_and_whiskers_are_the_estimates(draw, estimated):
    table = results()
    for regime, panel in zip(table.regimes, draw(table).panels, strict=True):
        points = [point for point in data_of(panel) if "low" in point]
        assert panel["title"] == regime
        for cell in (cell for cell in table.cells if cell.regime == regime):
            for point in points:
                if point["network"].startswith(f"{cell.model}\n"):
                    found = estimated(table, cell, point["series"])
                    expected = (found.value, found.low, found.high)
                    assert (point["value"], point["low"], point["high"]) == expected


def test_a_variant_has_its_colour_of_the_figures():
    table = results()
    chart = accuracy_chart(table)
    assert [look.series for look in chart.legend] == ["dense", *table.variants]
    assert [look.colour for look in chart.legend] == ["currentColor", *COLOURS[:3]]
    assert drop_chart(table).legend == chart.legend[1:]
    assert len({look.shape for look in chart.legend}) == 4


def test_layers_have_names_gaps_and_every_seed():
    table = results(seeds=(0, 1), regimes={"under_trained": {"vgg16": 5}}, variants=("sparsegpt",))
    low, high = (np.nan, 0.1, 0.0, 0.02), (np.nan, 0.3, 0.0, 0.04)
    layers = [
        LayerErrors("vgg16", "reference", 5, seed, "sparsegpt", errors, ("a", "b", "c", "d"))
        for seed, errors in enumerate((low, high))
    ]
    points = [p for p in data_of(layer_error_chart(table, layers).panels[0]) if "depth" in p]
    assert [(p["depth"], p["layer"]) for p in points] == [(2, "b"), (4, "d")]
    assert [p["value"] for p in points] == pytest.approx([0.2, 0.03])
    assert points[0]["part"] != points[1]["part"]  # a line does not cross a gap
    assert (points[0]["seed 0"], points[0]["seed 1"]) == ("10 %", "30 %")


def test_without_errors_of_layers_there_is_no_chart():
    assert layer_error_chart(ONE, []) is None
    assert layer_error_chart(ONE, layer_errors(ONE, (np.nan, 0.0, np.nan, 0.0))) is None


def test_an_ablation_shows_every_ingredient_of_the_largest_budget():
    config = ablation_config()
    table = ablation_results(config)
    rows = ingredients(config)
    chart = ablation_chart(table, rows)
    assert [look.filled for look in chart.legend] == [False, True, False, True]
    for panel, model in zip(chart.panels, table.models, strict=True):
        points = [point for point in data_of(panel) if "low" in point]
        assert {p["pruning"] for p in points} == {row.label for row in rows}
        assert {p["variant"]: p["seed 0"] for p in points} == {
            r.variant: r.drop
            for r in table.rows
            if (r.regime, r.model) == ("fully_trained", model) and r.variant != "dense"
        }


@pytest.mark.parametrize("seeds", [(0,), (0, 1), (0, 1, 2)])
def test_a_curve_shows_every_budget_seed_and_band(seeds):
    table = curve(seeds)
    chart = budgets_chart(table)
    titles = [f"{model}, {quantity}" for model in table.models for quantity in ("accuracy", "drop")]
    assert [panel["title"] for panel in chart.panels] == titles
    assert [look.series for look in chart.legend] == ["dense", *table.variants]
    for panel in chart.panels:
        model, quantity = panel["title"].split(", ")
        estimated = {"accuracy": accuracy, "drop": drop}[quantity]
        points = [point for point in data_of(panel) if "folder" in point]
        variants = {row.variant for row in table.rows if quantity == "accuracy" or row.drop}
        assert len(points) == len(EPOCHS) * len(variants)
        for point in points:
            cell, variant = Cell(point["regime"], model), point["series"]
            rows = table.of(cell, variant)
            values = [row.top1 if quantity == "accuracy" else row.drop for row in rows]
            assert {f"seed {r.seed}": v for r, v in zip(rows, values, strict=True)} == {
                key: value for key, value in point.items() if key.startswith("seed ")
            }
            found = estimated(table, cell, variant)
            ends = (min(values), max(values)) if len(seeds) == 2 else (found.low, found.high)
            assert (point["epochs"], point["value"]) == (table.epochs(cell), found.value)
            assert (point["low"], point["high"]) == ends


def test_the_quadratic_model_is_shown_as_diagnostics_csv_has_it():
    table = results()
    measured = diagnostics(table)
    chart = quadratic_model_chart(table, measured)
    names = ["magnitude", "sparsegpt", "under_trained", "fully_trained"]
    assert [(look.series, look.filled) for look in chart.legend] == [
        (name, name != "under_trained") for name in names
    ]
    for panel, model in zip(chart.panels, table.models, strict=True):
        shown = {
            (p["series"], p["regime"], p["epochs"], p["seed"], quantity): p[key]
            for p in data_of(panel)
            if "folder" in p
            for quantity, keys in {
                "measured": ("x", "measured"),
                "predicted": ("y", "quadratic model"),
                "first_order": ("its first order",),
                "second_order": ("its second order",),
            }.items()
            for key in keys
        }
        assert shown == {
            (r.variant, r.regime, r.epochs, r.seed, r.quantity): r.value
            for r in measured.rows
            if r.model == model
            and r.quantity in ("measured", "predicted", "first_order", "second_order")
        }


def test_errors_along_depth_are_shown_with_the_layers_names():
    table = results()
    measured = diagnostics(table)
    chart = accumulation_chart(table, measured)
    kinds = {"accumulated_error": "in the pruned network", "own_error": "of the layer alone"}
    assert [look.series for look in chart.legend][2:] == list(kinds.values())
    for panel, cell in zip(chart.panels, table.cells, strict=True):
        points = [point for point in data_of(panel) if "depth" in point]
        shown = {(p["series"], p["error"], p["depth"], p["layer"]): p for p in points}
        expected = {
            (r.variant, kinds[r.quantity], r.depth, r.layer)
            for r in measured.rows
            if Cell(r.regime, r.model) == cell and r.quantity in kinds and r.value > 0
        }
        assert shown.keys() == expected
        for variant in measured.variants:
            for quantity, kind in kinds.items():
                for layer, mean in measured.along_depth(cell, variant, quantity).items():
                    found = [p for k, p in shown.items() if k[:2] == (variant, kind)]
                    own = [p["value"] for p in found if p["layer"] == layer]
                    assert own == pytest.approx([mean] if mean else [])
                for row in measured.of(cell, variant, quantity):
                    if row.value:
                        point = shown[variant, kind, row.depth, row.layer]
                        assert point[f"seed {row.seed}"] == f"{100 * row.value:.4g} %"


def test_a_layer_that_was_not_measured_is_a_gap():
    table = results(seeds=(0,))
    rows = diagnostics(table).rows
    measured = Diagnostics(tuple(r for r in rows if r.layer != "conv2"))
    points = [p for p in data_of(accumulation_chart(table, measured).panels[0]) if "depth" in p]
    assert {(p["depth"], p["layer"]) for p in points} == {(3, "fc")}


def test_without_compared_variants_diagnostics_have_no_charts():
    table = results()
    assert quadratic_model_chart(table, diagnostics(table, ())) is None
    assert accumulation_chart(table, diagnostics(table, ())) is None


@pytest.mark.parametrize(
    "table",
    [
        ONE,
        results(seeds=(0, 1)),
        results(),
        results(seeds=tuple(range(14))),
        ablation_results(ablation_config()),
    ],
    ids=["one", "two seeds", "three", "fourteen", "ablation"],
)
def test_charts_are_finite_and_the_same_each_time(table):
    config = ablation_config() if len(table.variants) > 6 else None
    rows = ingredients(config) if config else []
    layers = layer_errors(table, (np.nan, 0.01, 0.0, 0.002))

    def text():
        charts = (
            study_charts(table, layers, rows, diagnostics(table))
            if rows
            else {
                "accuracy": accuracy_chart(table),
                "drop": drop_chart(table),
                "layer_error": layer_error_chart(table, layers),
            }
        )
        return json.dumps({k: chart.as_json() for k, chart in charts.items()}, allow_nan=False)

    assert text() == text()
    assert "http" not in text()


def titles(node):
    """Titles of panels, axes and tooltips, wherever they are in a chart's values."""
    if isinstance(node, list):
        return {title for part in node for title in titles(part)}
    if not isinstance(node, dict):
        return set()
    own = {node["title"]} if isinstance(node.get("title"), str) else set()
    return own.union(*(titles(part) for key, part in node.items() if key != "values"))


def test_charts_speak_the_language_of_their_page():
    config = ablation_config()
    several, wide = results(), ablation_results(config)

    def drawn():
        charts = [
            *study_charts(several, [], [], diagnostics(several)).values(),
            budgets_chart(curve()),
            layer_error_chart(several, layer_errors(several, (0.1, 0.01, 0.02, 0.002))),
            ablation_chart(wide, ingredients(config)),
        ]
        return [chart.as_json() for chart in charts if chart]

    english = drawn()
    with speaking(CATALOGUES["ko"]):
        korean = drawn()
    untranslated = titles(english) & titles(korean)
    assert untranslated == {*several.regimes, *several.models}
    assert len(titles(english)) == len(titles(korean)) > 40
    assert "저하(%p)" in titles(korean)
    series = [
        {look["series"] for chart in charts for look in chart["legend"]}
        for charts in (english, korean)
    ]
    assert series[0] & series[1] == {"dense", *several.variants, *several.regimes}
