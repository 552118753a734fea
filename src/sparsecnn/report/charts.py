"""The report's figures as charts: of networks here, of layers and of the loss in `layer_charts`.

Pointing at a mark shows its numbers as the tables have them, seed by seed, and the network's
folder. A study of many variants has its first few alone in most figures.
"""

import textwrap
from collections.abc import Sequence

import altair as alt
import pandas as pd

from sparsecnn.analysis.ablation import Column, Ingredient, columns, shown
from sparsecnn.analysis.curves import extremes
from sparsecnn.analysis.results import Results
from sparsecnn.report.chart_parts import (
    COLOURS,
    INK,
    PAPER,
    Chart,
    Grid,
    Look,
    accuracy_axis,
    chosen,
    drop_axis,
    faceted,
    fills,
    joined,
    limits,
    look_of,
    markers,
    means,
    over,
    pixels,
    rule_at,
    single,
    strokes,
    tooltips,
)
from sparsecnn.report.labels import column_label, epochs_label, ingredient_label
from sparsecnn.report.language import gettext as _
from sparsecnn.report.layer_charts import (
    accumulation_chart,
    layer_error_chart,
    quadratic_model_chart,
)
from sparsecnn.study.config import DENSE


def study_charts(
    results: Results,
    errors: pd.DataFrame,
    rows: Sequence[Ingredient],
    diagnostics: pd.DataFrame | None,
) -> dict[str, Chart | None]:
    """Every chart by the name of its figure; None where there is nothing to show.

    `errors` are of layers, as `read_layer_errors` gives them.
    """
    ends = extremes(results)
    charts = {
        "budgets": budgets_chart(results),
        "accuracy": accuracy_chart(ends),
        "drop": drop_chart(ends),
        "layer_error": layer_error_chart(ends, errors),
        "ablation": ablation_chart(ends, rows),
    }
    if diagnostics is not None:
        charts["quadratic_model"] = quadratic_model_chart(ends, diagnostics)
        charts["accumulation"] = accumulation_chart(ends, diagnostics)
    return charts


def accuracy_chart(results: Results) -> alt.FacetChart:
    """Top-1 accuracy per network by variant (dense first), one panel per regime."""
    variants = [DENSE, *shown(results)]
    low, high = limits(means(results, "top1", variants), 0, 100)
    seen = low < results.chance < high
    lines = rule_at(results.chance, "y", _("chance")) if seen else []
    return _networks(results, "top1", variants, accuracy_axis([low, high]), lines)


def drop_chart(results: Results) -> alt.FacetChart:
    """Accuracy lost to pruning per network by variant, one panel per regime.

    The axis is logarithmic beyond one point, so that small losses can be told apart beside large
    ones.
    """
    variants = shown(results)
    y = drop_axis(limits(means(results, "drop", variants)), alt.Y)
    return _networks(results, "drop", variants, y, rule_at(0, "y"))


def budgets_chart(results: Results) -> alt.ConcatChart:
    """Accuracy and drop against epochs: of each network a panel for either, side by side.

    Lines are means over seeds, bands 95 % intervals (with two seeds: from seed to seed). The axis
    of drops is logarithmic beyond one point.
    """
    pruned = shown(results)
    top1, lost = means(results, "top1", [DENSE, *pruned]), means(results, "drop", pruned)
    accuracy, drop = accuracy_axis(limits(top1, 0, 100)), drop_axis(limits(lost), alt.Y)
    looks = [look_of(results, variant) for variant in (DENSE, *pruned)]
    panels = {}
    for model in results.models:
        for quantity, found, y, lines in (
            (_("accuracy"), top1, accuracy, []),
            (_("drop"), lost, drop, rule_at(0, "y")),
        ):
            curves = _curves(found[found["model"] == model], looks, y)
            panels[f"{model}, {quantity}"] = alt.layer(*lines, *curves)
    return joined(panels, Grid(most=2, narrowest=340), height=180)


def ablation_chart(results: Results, rows: Sequence[Ingredient]) -> alt.FacetChart:
    """Accuracy lost to pruning by ingredient (down), one panel per network at the largest budget.

    Marker and colour tell the groups, its filling whether batch norm was re-estimated.
    """
    wide = columns(rows)
    looks = [_look_of_column(wide, column) for column in wide]
    labels = [_wrapped(ingredient_label(row)) for row in rows]
    places = pd.DataFrame(
        [
            {"pruning": label, "slot": wide.index(column), "series": column_label(column)}
            | {"variant": variant}
            for label, row in zip(labels, rows, strict=True)
            for column, variant in row.variants.items()
        ]
    )
    lost = means(results, "drop", results.variants)
    lost = lost[lost["regime"] == results.regimes[-1]].drop(columns="series")
    points = lost.merge(places, on="variant").assign(network=_titles(lost))
    low, high = points["low"].min(), points["high"].max()
    seeds = points.filter(like="seed ")
    low, high = min(low, seeds.min(axis=None), 0), max(high, seeds.max(axis=None), 1)
    x = drop_axis([low - 0.2, high * 1.2], alt.X)
    # The upper part of each row is its label's, on a band.
    lines = pd.Series(labels).str.count("\n") + 1
    band = 4 + 14 * lines.max()
    height = band + 12 * len(wide)
    whole = alt.Scale(paddingInner=0, paddingOuter=0)
    y = alt.Y("pruning:N", sort=labels, scale=whole, axis=None)
    reach = [-0.8 - band / 12, len(wide) - 0.4]
    offset = alt.YOffset("slot:Q", scale=alt.Scale(domain=reach))
    named = over(pd.DataFrame({"pruning": labels, "band": 4 + 14 * lines}))
    shift = alt.ExprRef(f"(datum.band - {height}) / 2")
    bands = [
        named.mark_rect(height=alt.ExprRef("datum.band"), yOffset=shift, aria=False, **fill)
        for fill in ({"fill": PAPER, "opacity": 1}, {"fill": INK, "opacity": 0.06})
    ]
    names = named.mark_text(align="left", baseline="top", dx=4, dy=3, fill=INK, lineBreak="\n")
    base = alt.Chart().transform_filter(chosen()).encode(y=y, yOffset=offset)
    whiskers = base.mark_rule(strokeWidth=1.4, opacity=0.7, clip=True)
    marks = markers(base.encode(x=x), looks, size=60)
    said = tooltips(
        points,
        series=_("groups, batch norm"),
        pruning=_("pruning"),
        variant=_("variant"),
    )
    layers = [
        *rule_at(0, "x"),
        *(rect.encode(y=y) for rect in bands),
        whiskers.encode(x=alt.X("low:Q"), x2="high:Q", stroke=strokes(looks)),
        names.encode(x=alt.value(0), y=y.copy().bandPosition(0), text="pruning:N"),
        marks.encode(tooltip=said),
    ]
    grid = Grid(most=len(results.models), narrowest=270, beside=20)
    return faceted(layers, points, "network", grid, height=len(rows) * height)


def _networks(
    results: Results, column: str, variants: Sequence[str], y: alt.Y, lines: Sequence[alt.Chart]
) -> alt.FacetChart:
    """A panel per regime: networks across, variants side by side, seeds right of their mean."""
    every, seeds = means(results, column, variants), single(results, column, variants)
    points = pd.concat([every.assign(shift=-0.12 if len(seeds) else 0), seeds.assign(shift=0.25)])
    slots = points["series"].map({variant: k for k, variant in enumerate(variants)})
    points = points.assign(slot=slots + points["shift"], network=_titles(points, "\n"))
    label = {"labelAngle": 0, "labelExpr": "split(datum.label, '\\n')", "labelLimit": 0}
    x = alt.X("network:N", sort=None, axis=alt.Axis(title=None, ticks=False, **label))
    offset = alt.XOffset("slot:Q", scale=alt.Scale(domain=[-0.7, len(variants) - 0.3]))
    looks = [look_of(results, variant) for variant in variants]
    base = alt.Chart().transform_filter(chosen()).encode(x=x, xOffset=offset)
    of_means = base.transform_filter("isValid(datum.low)")
    of_seeds = base.transform_filter("isValid(datum.seed)")
    whiskers = of_means.mark_rule(strokeWidth=1.8, clip=True)
    circles = of_seeds.mark_point(size=22, strokeWidth=1.2, fill="transparent")
    marks = markers(of_means.encode(y=y), looks, size=70)
    words = {"series": _("variant"), "network": _("network")}
    of_one = {"seed": _("seed"), "value": _("value")}
    circles = circles.encode(y=y, stroke=strokes(looks), tooltip=tooltips(seeds, **words, **of_one))
    layers = [
        *lines,
        whiskers.encode(y=alt.Y("low:Q"), y2="high:Q", stroke=strokes(looks)),
        marks.encode(tooltip=tooltips(every, **words)),
        *([circles] if len(seeds) else []),
    ]
    network = max(13 * len(variants), *map(pixels, results.models))
    grid = Grid(most=len(results.regimes), narrowest=90 + network * len(results.models))
    return faceted(layers, points, "regime", grid, height=240)


def _curves(points: pd.DataFrame, looks: Sequence[Look], y: alt.Y) -> list[alt.Chart]:
    """Bands, lines and markers of one network against epochs."""
    epochs = sorted(map(int, points["epochs"].unique()))
    scale = alt.Scale(type="log", domain=[epochs[0], epochs[-1]], nice=False, padding=12)
    axis = alt.Axis(title=_("epochs of training"), values=epochs, format="d", grid=False)
    x = alt.X("epochs:Q", scale=scale, axis=axis)
    base = over(points).transform_filter(chosen()).encode(x=x, detail="series:N")
    band = base.mark_area(opacity=0.18, clip=True, aria=False)
    line = base.mark_line(strokeWidth=1.6, aria=False)
    said = tooltips(points, series=_("variant"), regime=_("regime"), epochs=_("epochs"))
    return [
        band.encode(y=alt.Y("low:Q"), y2="high:Q", fill=fills(looks)),
        line.encode(y=y, stroke=strokes(looks)),
        markers(base.encode(y=y), looks, size=45).encode(tooltip=said),
    ]


def _titles(points: pd.DataFrame, between: str = ", ") -> list[str]:
    """The network of each point, and how long it was trained."""
    pairs = zip(points["model"], points["epochs"], strict=True)
    return [f"{model}{between}{epochs_label(epochs)}" for model, epochs in pairs]


def _wrapped(label: str) -> str:
    """The label in lines that a narrow panel holds; an option is not broken."""
    lines = textwrap.wrap(label.replace(" ", "\xa0").replace("\xa0+", " +"), 44)
    return "\n".join(lines).replace("\xa0", " ")


def _look_of_column(wide: Sequence[Column], column: Column) -> Look:
    index = list(dict.fromkeys(c.layout for c in wide)).index(column.layout)
    shape = ("circle", "square")[index % 2]
    return Look(column_label(column), COLOURS[index % len(COLOURS)], shape, column.bn_recalibrated)
