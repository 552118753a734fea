"""The report's interactive charts: the numbers of the figures as Vega-Lite panels.

A chart is a legend and panels of one kind, which a page lays out as its width allows. Pointing at a
mark shows its numbers as the tables have them, seed by seed, and the network's folder. Colours are
those of the figures, but black: that is `currentColor`, the text's, in light pages and dark ones.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from sparsecnn.analysis.ablation import Column, Ingredient, columns, largest_budget, shown
from sparsecnn.analysis.curves import extremes
from sparsecnn.analysis.diagnostics import Diagnostics
from sparsecnn.analysis.layer_errors import LayerErrors, different
from sparsecnn.analysis.results import Cell, Results
from sparsecnn.report.appearance import COLOURS
from sparsecnn.report.chart_parts import (
    CIRCLE,
    INK,
    SQUARE,
    Chart,
    Look,
    Measured,
    accuracies,
    accuracy_axis,
    depth_axis,
    drop_axis,
    drops,
    epochs_of,
    error_axis,
    error_points,
    folder_of,
    look_of,
    markers,
    mean_point,
    over,
    panel,
    rule_at,
    strokes,
    titled,
    tooltips,
    visible,
)
from sparsecnn.report.curve_charts import budgets_chart
from sparsecnn.report.diagnostic_charts import accumulation_chart, quadratic_model_chart
from sparsecnn.report.language import gettext as _
from sparsecnn.study.config import DENSE


def study_charts(
    results: Results,
    layers: Sequence[LayerErrors],
    rows: Sequence[Ingredient],
    diagnostics: Diagnostics | None,
) -> dict[str, Chart | None]:
    """Every chart by the name of the figure it stands for; None where there is nothing to show."""
    ends = extremes(results)
    charts = {
        "budgets": budgets_chart(results),
        "accuracy": accuracy_chart(ends),
        "drop": drop_chart(ends),
        "layer_error": layer_error_chart(ends, layers),
        "ablation": ablation_chart(ends, rows),
    }
    if diagnostics is not None:
        charts["quadratic_model"] = quadratic_model_chart(ends, diagnostics)
        charts["accumulation"] = accumulation_chart(ends, diagnostics)
    return charts


def accuracy_chart(results: Results) -> Chart:
    """Top-1 accuracy per network by variant (dense first), one panel per regime."""
    variants = [DENSE, *shown(results)]
    measured = accuracies(results, variants)
    low, high = ends = measured.ends(0, 100)
    lines = {_("chance"): results.chance} if low < results.chance < high else {}
    return _networks(results, variants, measured, accuracy_axis(ends), lines)


def drop_chart(results: Results) -> Chart:
    """Accuracy lost to pruning per network by variant, one panel per regime.

    Unlike the figure's, its axis is logarithmic beyond one point, so that small losses can be
    told apart beside large ones.
    """
    measured = drops(results, results.cells, shown(results))
    y = drop_axis(measured.ends(), alt.Y)
    return _networks(results, shown(results), measured, y, {"": 0.0})


def layer_error_chart(results: Results, layers: Sequence[LayerErrors]) -> Chart | None:
    """Relative output error along depth by variant, mean over seeds; a panel per network.

    None if no layer has an error that a logarithmic axis can show.
    """
    variants = different(shown(results), layers)
    panels = {
        cell: [
            point for variant in variants for point in _layer_points(results, cell, variant, layers)
        ]
        for cell in results.cells
    }
    values = [point["value"] for points in panels.values() for point in points]
    if not values:
        return None
    looks = [look_of(results, variant) for variant in variants]
    x, y = depth_axis(), error_axis(values)
    specs = []
    for cell, points in panels.items():
        if not points:
            continue
        base = over(points).transform_filter(visible("series")).encode(x=x, y=y)
        # A variant that left a layer dense has a gap there, where its line begins anew.
        line = base.mark_line(strokeWidth=1.5)
        line = line.encode(stroke=strokes(looks), detail=["series:N", "part:N"])
        marks = markers(base, looks, size=50).encode(tooltip=tooltips(points))
        specs.append(panel([line, marks], titled(str(cell), results.epochs(cell)), 190))
    return Chart(looks, specs, 270)


def ablation_chart(results: Results, rows: Sequence[Ingredient]) -> Chart:
    """Accuracy lost to pruning by ingredient (down), one panel per network at the largest budget.

    Marker and colour tell the groups, its filling whether batch norm was re-estimated.
    """
    cells, wide = largest_budget(results), columns(rows)
    looks = [_column_look(wide, column) for column in wide]
    labels = [row.label for row in rows]
    lost = drops(results, cells, results.variants)
    ends = [end for key in lost.seeds for end in (*lost.whisker(*key), *lost.seeds[key])]
    x = drop_axis((min(*ends, 0) - 0.2, max(*ends, 1) * 1.2), alt.X)
    whole = alt.Scale(paddingInner=0, paddingOuter=0)
    y = alt.Y("pruning:N", sort=labels, scale=whole, axis=None)
    # The upper part of each row is its label's, on a band.
    offset = alt.YOffset("slot:Q", scale=alt.Scale(domain=[-2.1, len(wide) - 0.4]))
    bands = over([{"pruning": label} for label in labels])
    bands = bands.mark_rect(fill=INK, opacity=0.06, height=18, aria=False)
    names = over([{"pruning": label} for label in labels]).mark_text(
        align="left", baseline="top", dx=4, dy=5, fill=INK, limit={"expr": "width - 4"}
    )
    names = names.encode(x=alt.value(0), y=y.copy().bandPosition(0), text="pruning:N")
    specs = []
    for cell in cells:
        points = [
            {"pruning": label, "slot": k}
            | mean_point(results, cell, row.variants[column], lost, series=str(column))
            for label, row in zip(labels, rows, strict=True)
            for k, column in enumerate(wide)
            if column in row.variants
        ]
        base = over(points).transform_filter(visible("series")).encode(y=y, yOffset=offset)
        whiskers = base.mark_rule(strokeWidth=1.4, opacity=0.7, clip=True).encode(
            x=alt.X("low:Q"), x2="high:Q", stroke=strokes(looks)
        )
        marks = markers(base.encode(x=x), looks, size=60).encode(tooltip=tooltips(points))
        title = titled(cell.model, results.epochs(cell))
        layers = [bands.encode(y=y), rule_at(0, "x"), whiskers, names, marks]
        specs.append(panel(layers, title, len(rows) * (22 + 11 * len(wide))))
    return Chart(looks, specs, 270)


def _networks(
    results: Results,
    variants: Sequence[str],
    measured: Measured,
    y: alt.Y,
    lines: Mapping[str, float],
) -> Chart:
    """A panel per regime: networks across, variants side by side, seeds right of their mean."""
    looks = [look_of(results, variant) for variant in variants]
    offset = alt.XOffset("slot:Q", scale=alt.Scale(domain=[-0.7, len(variants) - 0.3]))
    specs, most = [], 0
    for regime in results.regimes:
        cells = [cell for cell in results.cells if cell.regime == regime]
        names = {cell: f"{cell.model}\n{epochs_of(results.epochs(cell))}" for cell in cells}
        means, single = [], []
        for cell in cells:
            for k, variant in enumerate(variants):
                place = {"network": names[cell]}
                point = mean_point(results, cell, variant, measured, series=variant)
                seeds = measured.seeds[cell, variant]
                several = len(seeds) > 1
                means.append(place | {"slot": k - 0.12 * several} | point)
                values = zip(results.of(cell, variant), seeds, strict=True)
                single += [
                    place
                    | {"slot": k + 0.25, "series": variant, "value": value, "seed": row.seed}
                    | {"folder": folder_of([row])}
                    for row, value in values
                    if several
                ]
        x = alt.X(
            "network:N",
            sort=list(names.values()),
            axis=alt.Axis(
                title=None, labelAngle=0, labelExpr="split(datum.label, '\\n')", ticks=False
            ),
        )
        base = over(means).transform_filter(visible("series"))
        base = base.encode(x=x, xOffset=offset)
        layers = [rule_at(value, "y", name) for name, value in lines.items()]
        layers.append(
            base.mark_rule(strokeWidth=1.8, clip=True).encode(
                y=alt.Y("low:Q"), y2="high:Q", stroke=strokes(looks)
            )
        )
        if single:
            of_seeds = over(single).transform_filter(visible("series"))
            of_seeds = of_seeds.encode(x=x, xOffset=offset, y=y)
            layers.append(
                of_seeds.mark_point(size=22, strokeWidth=1.2, fill="transparent").encode(
                    stroke=strokes(looks), tooltip=tooltips(single)
                )
            )
        layers.append(markers(base.encode(y=y), looks, size=70).encode(tooltip=tooltips(means)))
        specs.append(panel(layers, regime, 260))
        most = max(most, len(cells))
    return Chart(looks, specs, 80 + 13 * most * len(variants))


def _layer_points(
    results: Results, cell: Cell, variant: str, layers: Sequence[LayerErrors]
) -> list[dict[str, Any]]:
    network = (cell.model, *results.training(cell), variant)
    found = [x for x in layers if (x.model, x.recipe, x.epochs, x.variant) == network]
    if not found:
        return []
    errors = {x.seed: x.errors for x in found}
    return error_points(variant, found[0].layers, errors, folder_of(results.of(cell, variant)))


def _column_look(wide: Sequence[Column], column: Column) -> Look:
    index = list(dict.fromkeys(c.layout for c in wide)).index(column.layout)
    shape = (CIRCLE, SQUARE)[index % 2]
    return Look(str(column), COLOURS[index % len(COLOURS)], shape, column.bn_recalibrated)
