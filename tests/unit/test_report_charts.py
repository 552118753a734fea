import csv
import hashlib
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from html import unescape
from itertools import product

import altair as alt
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from study_example import (
    CATALOGUES,
    ROOT,
    ablation_config,
    ablation_results,
    diagnostics,
    metrics,
    results,
    sweep_config,
    sweep_results,
    values_of,
    waterfall_config,
    with_top1,
)
from test_analysis_curves import EPOCHS, curve
from vl_convert import get_vegalite_versions, vegalite_to_svg

from sparsecnn.analysis.ablation import FEW, columns, ingredients
from sparsecnn.analysis.patterns import is_sweep
from sparsecnn.analysis.results import Cell, read_results
from sparsecnn.analysis.tables import write_csv
from sparsecnn.analysis.waterfall import levels, steps
from sparsecnn.report.chart_parts import COLOURS, SHAPES, look_of, on_page, picture
from sparsecnn.report.charts import (
    ablation_chart,
    accuracy_chart,
    budgets_chart,
    drop_chart,
    patterns_chart,
    study_charts,
    waterfall_chart,
)
from sparsecnn.report.labels import column_label, ingredient_label
from sparsecnn.report.language import speaking
from sparsecnn.report.layer_charts import (
    accumulation_chart,
    layer_error_chart,
    quadratic_model_chart,
)

CONFIG = ablation_config()
WIDE = ablation_results(CONFIG)
SWEEP = sweep_config()
STEPPED = waterfall_config()
ONE = results(seeds=(0,), regimes={"under_trained": {"vgg16": 5}}, variants=("sparsegpt",))
SMALL = results(
    (0, 1, 2), {"fully_trained": {"vgg16": 5, "resnet18": 5}}, ("magnitude", "sparsegpt")
)
NETWORK = ["regime", "model", "variant"]
STUDIES = {
    "one": ONE,
    "two seeds": results(seeds=(0, 1)),
    "three": results(),
    "fourteen": results(seeds=tuple(range(14))),
    "curve": curve(),
    "ablation": WIDE,
    "patterns": sweep_results(SWEEP, (0, 1)),
    "waterfall": ablation_results(STEPPED, (0, 1)),
}


def layer_errors(table, errors, layers="abcdefg"):
    """The table of layers if every network has these errors, by its layers in order."""
    pruned = table.frame[table.frame["variant"] != "dense"]
    networks = pruned[["model", "recipe", "epochs", "seed", "variant"]].drop_duplicates()
    own = pd.DataFrame({"layer": list(layers[: len(errors)]), "relative_error": errors})
    own["depth"] = range(1, len(errors) + 1)
    return networks.astype({"model": str, "variant": str}).merge(own, how="cross")


def charts_of(table):
    """Every chart of a study that shows something, by name."""
    errors = layer_errors(table, (np.nan, 0.01, 0.0, 0.002))
    rows = []
    for row in ingredients(SWEEP if is_sweep(table) else CONFIG):
        own = {column: v for column, v in row.variants.items() if v in table.variants}
        rows += [replace(row, variants=own)] if own else []
    found = steps(STEPPED) if table is STUDIES["waterfall"] else []
    charts = study_charts(table, errors, rows, found, diagnostics(table, table.variants[:2]))
    return {name: chart for name, chart in charts.items() if chart is not None}


def panels_of(chart):
    """Of each panel, by its title, the points of its layers; lines across it have none."""
    spec = chart if isinstance(chart, dict) else chart.to_dict()
    panels = {}
    for panel in spec["concat"]:
        shared = panel.get("data", spec.get("data"))
        names = [layer.get("data", shared)["name"] for layer in panel["layer"]]
        rows = [row for name in dict.fromkeys(names) for row in spec["datasets"][name]]
        panels[panel["title"]] = [row for row in rows if "folder" in row]
    return panels


def points_of(chart):
    """The points of all panels."""
    return [point for points in panels_of(chart).values() for point in points]


def legend_of(chart):
    """Colour, filling and shape of each series, as far as it has its own."""
    spec, looks = chart if isinstance(chart, dict) else chart.to_dict(), {}
    for panel in spec["concat"]:
        for layer in panel["layer"]:
            if layer.get("name", "").startswith("markers"):
                channels = [layer["encoding"][c] for c in ("stroke", "fill", "shape")]
                scales = [c["scale"] for c in channels if c.get("field") == "series"]
                ranges = zip(*(scale["range"] for scale in scales), strict=True)
                looks |= dict(zip(scales[0]["domain"], ranges, strict=True))
                assert all(scale["domain"] == scales[0]["domain"] for scale in scales)
    return looks


def marks_of(chart):
    """The marks in a chart's picture: where they are in their panel, and what is said of them."""
    found = []
    for label, x, y in re.findall(
        r'aria-label="([^"]*)"[^>]*aria-roledescription="point"[^>]*'
        r'transform="translate\(([^,]+),([^)]+)\)"',
        picture(chart)[0],
    ):
        said = dict(part.split(": ", 1) for part in unescape(label).split("; "))
        found.append((float(x), float(y), said))
    return found


def symlog(near):
    return lambda value: np.sign(value) * np.log1p(abs(value) / near)


@pytest.mark.parametrize(("draw", "column"), [(accuracy_chart, "top1"), (drop_chart, "drop")])
@pytest.mark.parametrize("seeds", [(0,), (0, 1), (0, 1, 2)])
def test_every_seed_shows_what_metrics_csv_has(tmp_path, draw, column, seeds):
    write_csv(tmp_path / "metrics.csv", results(seeds=seeds).frame)
    shown = {}
    for point in points_of(draw(read_results(tmp_path / "metrics.csv"))):
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


@pytest.mark.parametrize("seeds", [(0,), (0, 1), (0, 1, 2)])
@pytest.mark.parametrize(
    ("draw", "column"),
    [
        (accuracy_chart, "top1"),
        (drop_chart, "drop"),
        (lambda table: ablation_chart(table, ingredients(CONFIG)), "drop"),
    ],
    ids=["accuracy", "drop", "ablation"],
)
def test_means_and_whiskers_are_the_estimates_or_with_two_seeds_the_seeds(draw, column, seeds):
    table = ablation_results(CONFIG, seeds)
    means = [point for point in points_of(draw(table)) if "low" in point]
    assert len({(p["regime"], p["model"], p["variant"]) for p in means}) == len(means) >= 36
    found = table.estimates(column).set_index(NETWORK)
    for point in means:
        own = found.loc[point["regime"], point["model"], point["variant"]]
        values = values_of(table, Cell(point["regime"], point["model"]), point["variant"], column)
        ends = (min(values), max(values)) if len(seeds) == 2 else (own["low"], own["high"])
        assert point["value"] == own["value"]
        assert (point["low"], point["high"]) == pytest.approx(ends, abs=1e-12)
        assert point["95 % interval"] == f"{own['low']:.3f} to {own['high']:.3f}"
        assert point.get("mean") == (
            f"{own['value']:.3f} ± {own['sd']:.3f}" if len(seeds) > 1 else None
        )


@pytest.mark.parametrize(
    ("name", "axis", "key", "quantity", "scale"),
    [
        ("accuracy", 1, ["folder"], "value", float),
        ("drop", 1, ["folder"], "value", symlog(1)),
        ("ablation", 0, ["folder"], "value", symlog(1)),
        ("layer_error", 1, ["folder", "depth"], "value", np.log),
        ("accumulation", 1, ["folder", "depth", "error"], "value", np.log),
        ("budgets", 0, ["folder"], "epochs", np.log),
        ("patterns", 0, ["folder"], "kept", float),
        ("patterns", 1, ["folder"], "value", float),
        ("quadratic_model", 0, ["folder"], "measured", symlog(0.1)),
        ("quadratic_model", 1, ["folder"], "predicted", symlog(0.1)),
    ],
)
def test_a_mark_stands_where_its_number_belongs(name, axis, key, quantity, scale):
    table = STUDIES.get({"budgets": "curve"}.get(name, name), STUDIES["three"])
    chart = charts_of(table)[name]
    points = points_of(chart)
    numbers = {tuple(str(p[k]) for k in key): scale(p[quantity]) for p in points}
    marks = marks_of(chart)
    assert len(marks) == len(points)
    wanted = [numbers[tuple(said[k] for k in key)] for *_, said in marks]
    places = [mark[axis] for mark in marks]
    if name == "budgets":  # networks may have axes of their own
        assert np.corrcoef(wanted, places)[0, 1] == pytest.approx(1)
    else:
        np.testing.assert_allclose(np.polyval(np.polyfit(wanted, places, 1), wanted), places)


@pytest.mark.parametrize("seeds", [(0,), (0, 1), (0, 1, 2)])
def test_a_waterfall_goes_from_the_first_level_to_the_last(seeds):
    table = ablation_results(STEPPED, seeds)
    found = levels(table, [step.variant for step in steps(STEPPED)])
    chart = waterfall_chart(table, steps(STEPPED))
    data = chart.to_dict()["datasets"].values()
    bars = next(rows for rows in data if len(rows) == len(found) + 1 and "told" in rows[0])
    first, *moved, last = bars
    for bar, row in ((first, found.iloc[0]), (last, found.iloc[-1])):
        assert (bar["start"], bar["end"], bar["kind"]) == (0, row["drop"], "level")
        assert (bar["least"], bar["most"]) == (row["drop_least"], row["drop_most"])
        assert bar["label"] == bar["variant"] == row.name
    level = first["end"]
    for bar, (variant, row) in zip(moved, found.iloc[1:].iterrows(), strict=True):
        assert (bar["variant"], bar["start"], bar["end"]) == (variant, level, row["drop"])
        assert bar["kind"] == ("gain" if row["drop"] <= level else "loss")
        whisker = level - row["gain_most"], level - row["gain_least"]
        assert (bar["least"], bar["most"]) == pytest.approx(whisker)
        assert float(bar["told"]) == pytest.approx(row["drop"] - level, abs=0.00501)
        level = row["drop"]
    svg = picture(chart)[0]
    for bar in bars:
        assert svg.count(f">{bar['label']}</text>") == 1
    # Every bar lies where its ends do on the one axis.
    drawn = re.findall(
        r'; step: ([^;]*); variant[^"]*" role="graphics-symbol" '
        r'aria-roledescription="bar" d="M([-\d.]+),[-\d.]+h([-\d.]+)',
        svg,
    )
    assert [unescape(label) for label, *_ in drawn] == [bar["label"] for bar in bars]
    sizes = [abs(bar["end"] - bar["start"]) for bar in bars]
    wide = [abs(float(width)) for *_, width in drawn]
    np.testing.assert_allclose(np.array(wide) / wide[0], np.array(sizes) / sizes[0], atol=0.002)


def test_panels_are_named_and_hold_their_own_networks():
    table = results()
    for regime, points in panels_of(accuracy_chart(table)).items():
        networks = {p["network"] for p in points}
        cells = [cell for cell in table.cells if cell.regime == regime]
        assert networks == {f"{c.model}\n{table.epochs(c)} epochs" for c in cells}
        assert {p["series"] for p in points} == {"dense", *table.variants}
    assert list(panels_of(accuracy_chart(table))) == table.regimes
    titles = [f"{c.model}, {c.regime}, {table.epochs(c)} epochs" for c in table.cells]
    charts = charts_of(table)
    assert list(panels_of(charts["layer_error"])) == titles
    assert list(panels_of(charts["accumulation"])) == titles
    assert list(panels_of(charts["quadratic_model"])) == table.models


def test_a_variant_has_the_same_colour_and_marker_in_all_figures():
    table = results()
    looks = legend_of(accuracy_chart(table))
    assert list(looks) == ["dense", *table.variants]
    assert [stroke for stroke, *_ in looks.values()] == ["currentColor", *COLOURS[:3]]
    assert len({shape for *_, shape in looks.values()}) == 4
    for name, chart in charts_of(table).items():
        if name != "ablation":
            assert legend_of(chart).items() <= looks.items()
    assert legend_of(drop_chart(table)) == {v: looks[v] for v in table.variants}


def test_no_two_variants_look_alike_however_many_there_are():
    looks = [look_of(WIDE, variant)[1:] for variant in WIDE.variants]
    assert len(set(looks)) == 36 < len(COLOURS) * len(SHAPES)


def test_figures_of_an_ablation_show_the_first_variants():
    assert list(legend_of(accuracy_chart(WIDE))) == ["dense", *WIDE.variants[:FEW]]
    errors = layer_errors(WIDE, [0.1])
    errors["relative_error"] = np.arange(1, len(errors) + 1) / 1000
    assert list(legend_of(layer_error_chart(WIDE, errors))) == WIDE.variants[:FEW]


def test_whiskers_far_beyond_the_points_do_not_flatten_the_figure():
    chart = accuracy_chart(with_top1(results(), lambda row: 60 - 16 * (row["seed"] == 2)))
    seeds = [v for p in points_of(chart) for k, v in p.items() if k.startswith("seed ")]
    whiskers = [p["low"] for p in points_of(chart) if "low" in p]
    low, high = domain(chart)
    assert min(whiskers) < low < min(seeds) - 9
    assert max(seeds) + 9 < high


def domain(chart):
    """The limits of the vertical axis, the same in all panels."""
    found = {
        tuple(layer["encoding"]["y"]["scale"]["domain"])
        for panel in chart.to_dict()["concat"]
        for layer in panel["layer"]
        if "domain" in layer["encoding"].get("y", {}).get("scale", {})
    }
    assert len(found) == 1
    return found.pop()


def test_layers_have_names_gaps_and_every_seed():
    table = results(seeds=(0, 1), regimes={"under_trained": {"vgg16": 5}}, variants=("sparsegpt",))
    errors = layer_errors(table, (np.nan, 0.1, 0.0, 0.02), "abcd")
    other = layer_errors(table, (np.nan, 0.3, 0.0, 0.04), "abcd")
    errors["relative_error"] = errors["relative_error"].where(
        errors["seed"] == 0, other["relative_error"]
    )
    points = points_of(layer_error_chart(table, errors))
    assert [(p["depth"], p["layer"]) for p in points] == [(2, "b"), (4, "d")]
    assert [p["value"] for p in points] == pytest.approx([0.2, 0.03])
    assert points[0]["part"] != points[1]["part"]  # a line does not cross a gap
    assert (points[0]["seed 0"], points[0]["seed 1"], points[0]["mean"]) == ("10 %", "30 %", "20 %")
    assert points[0]["folder"] == "results/example/vgg16/reference/epochs-5/seed-{0,1}/sparsegpt"


def test_of_variants_with_the_same_layer_errors_the_first_is_drawn():
    table = results(variants=("sparsegpt", "sparsegpt_bn"))
    errors = layer_errors(table, (0.1, 0.2, 0.3))
    assert list(legend_of(layer_error_chart(table, errors))) == ["sparsegpt"]
    errors.loc[errors["variant"].eq("sparsegpt_bn").idxmax(), "relative_error"] = 0.5
    assert list(legend_of(layer_error_chart(table, errors))) == ["sparsegpt", "sparsegpt_bn"]


def test_regimes_that_share_a_network_both_show_its_layers():
    regimes = {"under_trained": {"vgg16": 5}, "fully_trained": {"vgg16": 5, "resnet18": 5}}
    shared = metrics((0, 1), {"under_trained": {"vgg16": 5}})
    other = metrics((0, 1), {"fully_trained": {"resnet18": 5}})
    table = results((0, 1), regimes, values=[*shared, *other])
    for chart in (
        layer_error_chart(table, layer_errors(table, (0.1, 0.2))),
        accumulation_chart(table, diagnostics(table)),
    ):
        first, second, third = panels_of(chart).values()
        assert [p["value"] for p in first] == [p["value"] for p in second]
        assert {p["model"] for p in third} == {"resnet18"}


def test_without_errors_of_layers_there_is_no_chart():
    assert layer_error_chart(ONE, layer_errors(ONE, ())) is None
    assert layer_error_chart(ONE, layer_errors(ONE, (np.nan, 0.0, np.nan, 0.0))) is None


def test_an_ablation_shows_every_ingredient_of_the_largest_budget():
    rows = ingredients(CONFIG)
    chart = ablation_chart(WIDE, rows)
    names = [column_label(column) for column in columns(rows)]
    looks = legend_of(chart)
    assert list(looks) == names
    assert [fill == stroke for stroke, fill, _ in looks.values()] == [False, True, False, True]
    assert looks[names[0]][2] == looks[names[1]][2] != looks[names[2]][2] == looks[names[3]][2]
    for (title, points), model in zip(panels_of(chart).items(), WIDE.models, strict=True):
        assert title.startswith(f"{model}, ")
        cell = Cell("fully_trained", model)
        assert len(points) == 36
        for row, (k, column) in product(rows, enumerate(columns(rows))):
            (point,) = (p for p in points if p["variant"] == row.variants[column])
            assert point["pruning"].replace("\n", " ") == ingredient_label(row)
            assert (point["series"], point["slot"]) == (names[k], k)
            assert [point["seed 0"]] == values_of(WIDE, cell, point["variant"], "drop")


def test_the_figure_of_an_ablation_has_room_for_every_whisker():
    chart = ablation_chart(WIDE, ingredients(CONFIG))
    ends = [end for point in points_of(chart) for end in (point["low"], point["high"])]
    for panel in chart.to_dict()["concat"]:
        (low, high), *others = (
            layer["encoding"]["x"]["scale"]["domain"]
            for layer in panel["layer"]
            if "scale" in layer["encoding"].get("x", {})
        )
        assert low < min(ends) < 0
        assert max(ends) < high
        assert not others


@pytest.mark.parametrize("seeds", [(0,), (0, 1), (0, 1, 2)])
def test_a_sweep_shows_every_pattern_by_method_and_what_it_keeps(seeds):
    table = sweep_results(SWEEP, seeds)
    chart = patterns_chart(table, ingredients(SWEEP))
    assert list(legend_of(chart)) == ["magnitude", "sparsegpt"]
    markers = chart.to_dict()["concat"][0]["layer"][-1]["encoding"]
    assert markers["shape"]["scale"]["domain"] == ["unstructured", "N:4", "N:8"]
    for (title, points), model in zip(panels_of(chart).items(), table.models, strict=True):
        cell = Cell("fully_trained", model)
        assert title == f"{model}, {table.epochs(cell)} epochs"
        assert {p["variant"] for p in points} == set(table.variants)
        assert len(points) == len(table.variants) == 12
        for point in points:
            own = table.of(cell, point["variant"])
            assert point["kept"] == round(100 * (1 - own["sparsity_pruned_layers"].iloc[0]), 2)
            assert (point["series"], point["pattern"]) == (
                own["method"].iloc[0],
                own["pattern"].iloc[0],
            )
            assert [point[f"seed {s}"] for s in seeds] == own["top1"].tolist()
            form = "unstructured" if "%" in point["pattern"] else "N" + point["pattern"][1:]
            assert point["kind"] == form


def test_a_panel_of_a_sweep_has_its_dense_network_as_a_line():
    table = sweep_results(SWEEP)
    spec = patterns_chart(table, ingredients(SWEEP)).to_dict()
    lines = {
        panel["title"].split(",")[0]: row["value"]
        for panel in spec["concat"]
        for layer in panel["layer"]
        for row in spec["datasets"][layer.get("data", spec.get("data"))["name"]]
        if "is" in row
    }
    assert lines == {c.model: t for c, t in table.baselines.items() if c.regime == "fully_trained"}


def test_other_figures_of_a_sweep_show_one_pattern_in_the_colours_of_the_methods():
    table = sweep_results(SWEEP)
    colours = [
        stroke for (stroke,) in legend_of(patterns_chart(table, ingredients(SWEEP))).values()
    ]
    looks = legend_of(drop_chart(table))
    assert list(looks) == ["magnitude_2_4", "sparsegpt_2_4"]
    assert [stroke for stroke, *_ in looks.values()] == colours


def test_without_several_patterns_there_is_no_chart_of_them():
    assert patterns_chart(WIDE, ingredients(CONFIG)) is None
    few = sweep_config(("2:4", "75%"))
    assert patterns_chart(sweep_results(few), ingredients(few)) is None


@pytest.mark.parametrize("seeds", [(0,), (0, 1), (0, 1, 2)])
def test_a_curve_shows_every_budget_seed_and_band(seeds):
    table = curve(seeds)
    panels = panels_of(budgets_chart(table))
    titles = [f"{model}, {quantity}" for model in table.models for quantity in ("accuracy", "drop")]
    assert list(panels) == titles
    assert list(legend_of(budgets_chart(table))) == ["dense", *table.variants]
    for title, points in panels.items():
        model, quantity = title.split(", ")
        column = {"accuracy": "top1", "drop": "drop"}[quantity]
        variants = (["dense"] if quantity == "accuracy" else []) + table.variants
        assert len(points) == len(EPOCHS) * len(variants)
        found = table.estimates(column).set_index(NETWORK)
        for point in points:
            cell, variant = Cell(point["regime"], model), point["series"]
            values = values_of(table, cell, variant, column)
            assert dict(zip((f"seed {s}" for s in seeds), values, strict=True)) == {
                key: value for key, value in point.items() if key.startswith("seed ")
            }
            own = found.loc[cell.regime, model, variant]
            ends = (min(values), max(values)) if len(seeds) == 2 else (own["low"], own["high"])
            assert (point["epochs"], point["value"]) == (table.epochs(cell), own["value"])
            assert (point["low"], point["high"]) == ends


def test_the_quadratic_model_is_shown_as_diagnostics_csv_has_it():
    table = results()
    measured = diagnostics(table)
    chart = quadratic_model_chart(table, measured)
    assert list(legend_of(chart)) == ["magnitude", "sparsegpt"]
    encoding = chart.to_dict()["concat"][0]["layer"][-1]["encoding"]
    assert encoding["fillOpacity"]["scale"] == {"domain": table.regimes, "range": [0, 1]}
    quantities = ["measured", "predicted", "first_order", "second_order"]
    for model, points in panels_of(chart).items():
        shown = {
            (p["series"], p["regime"], p["epochs"], p["seed"], quantity): p[quantity]
            for p in points
            for quantity in quantities
        }
        own = measured[(measured["model"] == model) & measured["quantity"].isin(quantities)]
        key = ["variant", "regime", "epochs", "seed", "quantity"]
        assert shown == own.set_index(key)["value"].to_dict()
    said = marks_of(chart)[0][2]
    assert {"quadratic model", "its first order", "its second order", "its error"} <= said.keys()


def test_errors_along_depth_are_shown_with_the_layers_names():
    table = results()
    measured = diagnostics(table)
    kinds = {"accumulated_error": "in the pruned network", "own_error": "of the layer alone"}
    key = ["variant", "quantity", "depth", "layer"]
    for title, points in panels_of(accumulation_chart(table, measured)).items():
        model, regime, _ = title.split(", ")
        shown = {(p["series"], p["error"], p["depth"], p["layer"]): p for p in points}
        own = measured[(measured["model"] == model) & (measured["regime"] == regime)]
        own = own[own["quantity"].isin(kinds) & (own["value"] > 0)]
        by_seed = own.pivot(index=key, columns="seed", values="value")
        assert len(by_seed) == len(points)
        for (variant, quantity, depth, layer), values in by_seed.iterrows():
            point = shown[variant, kinds[quantity], depth, layer]
            assert point["value"] == pytest.approx(values.mean())
            for seed, value in values.items():
                assert point[f"seed {seed}"] == f"{100 * value:.4g} %"


def test_a_layer_that_was_not_measured_is_a_gap():
    table = results(seeds=(0,))
    found = diagnostics(table)
    chart = accumulation_chart(table, found[found["layer"] != "conv2"])
    assert {(p["depth"], p["layer"]) for p in points_of(chart)} == {(3, "fc")}


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
@pytest.mark.parametrize("variants", [(), ("sparsegpt",), ("magnitude", "sparsegpt")])
def test_any_choice_of_variants_can_be_diagnosed(seeds, variants):
    table = results(seeds=seeds)
    measured = diagnostics(table, variants)
    for chart in (quadratic_model_chart(table, measured), accumulation_chart(table, measured)):
        assert (chart is None) == (not variants)
        if chart is not None:
            assert list(legend_of(chart)) == list(variants)


@pytest.mark.parametrize("table", STUDIES.values(), ids=STUDIES)
def test_charts_are_finite_and_their_pictures_whole(tmp_path, table, capfd):
    for name, chart in charts_of(table).items():
        spec = on_page(chart)
        assert "http" not in json.dumps(spec, allow_nan=False).replace(spec["$schema"], "")
        vegalite_to_svg(spec, show_warnings=True)
        svg, png = picture(chart)
        (tmp_path / "a.png").write_bytes(png)
        width, height = map(int, re.search(r'width="(\d+)" height="(\d+)"', svg).groups())
        with Image.open(tmp_path / "a.png") as image:
            assert image.size == (2 * width, 2 * height)
            assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
        texts = set(re.findall(r"<text[^>]*>([^<]+)", svg))
        assert {*legend_of(spec), *panels_of(spec)} <= texts, name
        assert "currentColor" not in svg
        assert width < 950
    assert capfd.readouterr().err == ""  # Vega-Lite has nothing to warn of


def test_vega_lite_is_the_version_that_charts_are_written_for():
    assert alt.SCHEMA_VERSION.lstrip("v").startswith(f"{get_vegalite_versions()[-1]}.")


PRINT = """
from test_report_charts import SMALL, digest
print(digest(SMALL))
"""


def digest(table):
    """Of all charts, as the page has them and as pictures."""
    found = hashlib.sha256()
    for name, chart in charts_of(table).items():
        svg, png = picture(chart)
        found.update((name + json.dumps(on_page(chart)) + svg).encode() + png)
    return found.hexdigest()


def test_the_same_charts_have_the_same_bytes_in_any_process(monkeypatch):
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    fresh = subprocess.run(
        [sys.executable, "-c", PRINT], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert digest(SMALL) == digest(SMALL) == fresh.stdout.strip()


def test_a_picture_of_nothing_says_so():
    svg, png = picture(None)
    assert "There is nothing to show here." in svg
    assert png.startswith(b"\x89PNG")


def titles(node):
    """Titles of panels, axes and tooltips, wherever they are in a chart's values."""
    if isinstance(node, list):
        return {title for part in node for title in titles(part)}
    if not isinstance(node, dict):
        return set()
    own = {node["title"]} if isinstance(node.get("title"), str) else set()
    return own.union(*(titles(part) for key, part in node.items() if key != "datasets"))


def test_charts_speak_the_language_of_their_page():
    def drawn():
        charts = [*charts_of(table).values(), ablation_chart(WIDE, ingredients(CONFIG))]
        charts.append(patterns_chart(sweep_results(SWEEP, (0, 1)), ingredients(SWEEP)))
        return [on_page(chart) for chart in charts]

    table = results(seeds=(0, 1))

    english = drawn()
    with speaking(CATALOGUES["ko"]):
        korean = drawn()
    assert titles(english) & titles(korean) == {*table.regimes, *table.models}
    assert len(titles(english)) == len(titles(korean)) > 40
    assert "저하(%p)" in titles(korean)
    texts = json.dumps(korean, ensure_ascii=False)
    for word in ("channels, as is", "in the pruned network", " to ", "epochs of training"):
        assert word not in texts
