"""The interactive charts of the diagnostics, in the style of `charts`."""

import math
from collections.abc import Sequence
from itertools import product
from typing import Any

import altair as alt

from sparsecnn.analysis.diagnostics import Diagnostics
from sparsecnn.analysis.results import Cell, Results
from sparsecnn.report.chart_parts import (
    CIRCLE,
    INK,
    PAGE,
    Chart,
    Look,
    depth_axis,
    error_axis,
    error_points,
    fills,
    folder_of,
    look_of,
    markers,
    over,
    panel,
    rule_at,
    strokes,
    titled,
    tooltips,
    visible,
)
from sparsecnn.report.diagnostic_figures import ChangeScale, change_scale, ends_of
from sparsecnn.report.language import N_
from sparsecnn.report.language import gettext as _

_KINDS = {"accumulated_error": N_("in the pruned network"), "own_error": N_("of the layer alone")}
_LINE, _DOTS = "M-1.5,0H1.5", "M-1.4,0h.5M-.5,0h.5M.4,0h.5M1.3,0h.2"


def quadratic_model_chart(results: Results, diagnostics: Diagnostics) -> Chart | None:
    """Loss change predicted by the quadratic model against the one measured; a panel per network.

    Open markers are the least, full ones the most trained of `results`. Both axes are linear around
    zero and logarithmic beyond. None if no variant was measured.
    """
    variants, regimes = _compared(results, diagnostics), ends_of(results)
    panels = {
        model: [
            point
            for regime, variant in product(regimes, variants)
            for point in _changes(diagnostics, Cell(regime, model), variant)
        ]
        for model in results.models
    }
    drawn = [point[key] for points in panels.values() for point in points for key in ("x", "y")]
    if not drawn:
        return None
    looks = [look_of(results, variant) for variant in variants]
    scale = change_scale([0.0, *drawn])
    specs = [
        _changes_panel(model, points, looks, regimes, scale) for model, points in panels.items()
    ]
    budgets = [Look(regime, INK, CIRCLE, regime == regimes[-1]) for regime in regimes]
    return Chart([*looks, *(budgets if len(regimes) > 1 else [])], specs, 300)


def accumulation_chart(results: Results, diagnostics: Diagnostics) -> Chart | None:
    """Error of every layer's outputs against the dense network's, along depth by variant.

    Full lines are the error in the pruned network, dotted ones what the layer adds by itself; means
    over seeds. A panel for each of the least and the most trained networks. None if no layer has an
    error that a logarithmic axis can show.
    """
    variants = _compared(results, diagnostics)
    panels = {
        cell: [
            point
            for variant, quantity in product(variants, _KINDS)
            for point in _layer_points(diagnostics, cell, variant, quantity)
        ]
        for cell in results.cells
        if cell.regime in ends_of(results)
    }
    values = [point["value"] for points in panels.values() for point in points]
    if not values:
        return None
    looks = [look_of(results, variant) for variant in variants]
    x, y = depth_axis(), error_axis(values)
    whole, alone = map(_, _KINDS.values())
    dashes = alt.Scale(domain=[whole, alone], range=[[1, 0], [2, 3]])
    specs = []
    for cell, points in panels.items():
        base = over(points).transform_filter(visible("series", "error")).encode(x=x, y=y)
        line = base.mark_line(strokeWidth=1.5).encode(
            stroke=strokes(looks),
            strokeDash=alt.StrokeDash("error:N", scale=dashes, legend=None),
            detail=["series:N", "part:N"],
        )
        dots = base.transform_filter(alt.datum.error == alone)
        dots = dots.mark_point(size=8, strokeWidth=2.5, opacity=1)
        dots = dots.encode(stroke=strokes(looks), tooltip=tooltips(points))
        marks = markers(base.transform_filter(alt.datum.error == whole), looks, size=50)
        marks = marks.encode(tooltip=tooltips(points))
        specs.append(panel([line, dots, marks], titled(str(cell), results.epochs(cell)), 190))
    return Chart([*looks, Look(whole, INK, _LINE), Look(alone, INK, _DOTS)], specs, 270)


def _compared(results: Results, diagnostics: Diagnostics) -> list[str]:
    return [variant for variant in results.variants if variant in diagnostics.variants]


def _changes(diagnostics: Diagnostics, cell: Cell, variant: str) -> list[dict[str, Any]]:
    """A mark for each seed's change of the loss."""
    quantities = ("measured", "predicted", "first_order", "second_order", "model_error")
    found = [diagnostics.of(cell, variant, quantity) for quantity in quantities]
    points = []
    for measured, predicted, first, second, error in zip(*found, strict=True):
        point = {"series": variant, "regime": cell.regime, "epochs": measured.epochs}
        point |= {"seed": measured.seed, "x": measured.value, "y": predicted.value}
        point |= {"measured": measured.value, "quadratic model": predicted.value}
        point |= {"its first order": first.value, "its second order": second.value}
        point |= {"its error": f"{error.value:.4g} %", "folder": folder_of([measured])}
        points.append(point)
    return points


def _changes_panel(
    model: str,
    points: Sequence[dict[str, Any]],
    looks: Sequence[Look],
    regimes: Sequence[str],
    change: ChangeScale,
) -> dict[str, Any]:
    low, high = change.limits
    scale = alt.Scale(type="symlog", constant=change.near, domain=[low, high], nice=False)
    options: dict[str, Any] = {"values": change.ticks, "format": "~g", "labelOverlap": "greedy"}
    x = alt.X("x:Q", scale=scale, axis=alt.Axis(title=_("change of loss, measured"), **options))
    y = alt.Y(
        "y:Q", scale=scale, axis=alt.Axis(title=_("change of loss, quadratic model"), **options)
    )
    exact = over([{"x": low, "y": low}, {"x": high, "y": high}])
    exact = exact.mark_line(stroke=INK, opacity=0.55, strokeWidth=1, aria=False).encode(
        x="x:Q", y="y:Q"
    )
    base = over(points).transform_filter(visible("series", "regime")).encode(x=x, y=y)
    marks = markers(base, looks, size=60).encode(tooltip=tooltips(points))
    if len(regimes) > 1:
        least = alt.datum.regime == regimes[0]
        marks = marks.encode(fill=alt.condition(least, alt.value(PAGE), fills(looks)))
    return panel([rule_at(0, "y"), exact, marks], model, 280)


def _layer_points(
    diagnostics: Diagnostics, cell: Cell, variant: str, quantity: str
) -> list[dict[str, Any]]:
    rows = diagnostics.of(cell, variant, quantity)
    if not rows:
        return []
    names = {row.depth: row.layer for row in rows}
    depths = range(1, max(names) + 1)
    errors = {row.seed: [math.nan] * len(depths) for row in rows}
    for row in rows:
        errors[row.seed][row.depth - 1] = row.value
    layers = [names.get(depth, "") for depth in depths]
    points = error_points(variant, layers, errors, folder_of(rows))
    return [{"series": variant, "error": _(_KINDS[quantity])} | point for point in points]
