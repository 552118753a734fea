"""The report's figures as charts: of accuracy and drop here, others in `layer_charts`.

Pointing at a mark shows its numbers as the tables have them, seed by seed, and the network's
folder. A study of many variants has its first few alone in all but the ablation.
"""

import json
import math
import textwrap
from collections.abc import Sequence
from typing import Any

import altair as alt
import pandas as pd

from sparsecnn.analysis.ablation import Column, Ingredient, columns, shown
from sparsecnn.analysis.curves import extremes
from sparsecnn.analysis.patterns import is_sweep, kept, kind_of, kinds, patterns_of
from sparsecnn.analysis.results import Results, at_largest_budget, largest_budget
from sparsecnn.analysis.waterfall import Step, levels
from sparsecnn.report.chart_parts import (
    COLOURS,
    INK,
    NETWORK,
    PAPER,
    SHAPES,
    Grid,
    Look,
    accuracy_axis,
    chosen,
    drop_axis,
    fills,
    folders,
    legend,
    look_of,
    markers,
    over,
    paneled,
    pixels,
    rule_at,
    strokes,
    tooltips,
)
from sparsecnn.report.labels import (
    column_label,
    epochs_label,
    ingredient_label,
    kind_label,
    series_labels,
    step_label,
)
from sparsecnn.report.language import gettext as _
from sparsecnn.report.layer_charts import (
    accumulation_chart,
    layer_error_chart,
    quadratic_model_chart,
)
from sparsecnn.report.text import signed
from sparsecnn.study.config import DENSE

_LEGEND = {"series": "markers"}
_LARGE = 14
"""Size of letters where a chart is one panel of few bars."""


def study_charts(
    results: Results,
    errors: pd.DataFrame,
    rows: Sequence[Ingredient],
    steps: Sequence[Step],
    diagnostics: pd.DataFrame | None,
) -> dict[str, alt.ConcatChart | None]:
    """Every chart by the name of its figure; None where there is nothing to show.

    `errors` are those of layers, as `read_layer_errors` gives them; `steps` of a waterfall.
    """
    ends = extremes(results)
    charts = {
        "budgets": budgets_chart(results),
        "accuracy": accuracy_chart(ends),
        "drop": drop_chart(ends),
        "layer_error": layer_error_chart(ends, errors),
        "ablation": ablation_chart(ends, rows),
        "patterns": patterns_chart(ends, rows),
        "waterfall": waterfall_chart(results, steps),
    }
    if diagnostics is not None:
        charts["quadratic_model"] = quadratic_model_chart(ends, diagnostics)
        charts["accumulation"] = accumulation_chart(ends, diagnostics)
    return charts


def accuracy_chart(results: Results) -> alt.ConcatChart:
    """Top-1 accuracy per network by variant (dense first), one panel per regime."""
    variants = [DENSE, *shown(results)]
    low, high = ends = _limits(_means(results, "top1", variants), 0, 100)
    seen = low < results.chance < high
    lines = rule_at(results.chance, "y", _("chance")) if seen else []
    return _networks(results, "top1", variants, accuracy_axis(ends), lines)


def drop_chart(results: Results) -> alt.ConcatChart:
    """Accuracy lost to pruning per network by variant, one panel per regime.

    The axis is logarithmic beyond one point, so that small losses can be told apart beside large
    ones.
    """
    variants = shown(results)
    y = drop_axis(_limits(_means(results, "drop", variants)), alt.Y)
    return _networks(results, "drop", variants, y, rule_at(0, "y"))


def budgets_chart(results: Results) -> alt.ConcatChart:
    """Accuracy and drop against epochs: of each network a panel for either, side by side.

    Of networks that are given, which have no epochs, nothing is shown unless there are no others.

    Lines are means over seeds, bands 95 % intervals (with two seeds: from seed to seed). The axis
    of drops is logarithmic beyond one point.
    """
    pruned = shown(results)
    looks = [look_of(results, variant) for variant in (DENSE, *pruned)]
    top1, lost = _means(results, "top1", [DENSE, *pruned]), _means(results, "drop", pruned)
    axes = {
        _("accuracy"): (accuracy_axis(_limits(top1, 0, 100)), []),
        _("drop"): (drop_axis(_limits(lost), alt.Y), rule_at(0, "y")),
    }
    found = zip(axes, (top1, lost), strict=True)
    points = pd.concat([of.assign(quantity=quantity) for quantity, of in found])
    trained = points["regime"].isin(results.trained_regimes)
    points = points[trained] if trained.any() else points
    points = points.assign(panel=points["model"].astype(str) + ", " + points["quantity"])

    def layers(own: pd.DataFrame) -> list[alt.Chart]:
        y, lines = axes[own["quantity"].iloc[0]]
        return [*lines, *_curves(own, looks, y)]

    grid = Grid(most=2, narrowest=340, height=180)
    return paneled(points.sort_values("model", kind="stable"), layers, grid, _LEGEND)


def ablation_chart(results: Results, rows: Sequence[Ingredient]) -> alt.ConcatChart:
    """Accuracy lost to pruning by ingredient (down), one panel per network at the largest budget.

    Marker and colour tell the groups, its filling whether batch norm was re-estimated.
    """
    wide, labels = columns(rows), [_wrapped(ingredient_label(row)) for row in rows]
    looks = [_look_of_column(wide, column) for column in wide]
    points = _of_ingredients(results, rows, labels)
    reach = points.filter(regex="^(low|high|seed .*)$")
    ends = min(reach.min(axis=None), 0) - 0.2, max(reach.max(axis=None), 1) * 1.2
    # The upper part of each row is its label's.
    top = 4 + 14 * max(1 + label.count("\n") for label in labels)
    row = top + 12 * len(wide)
    slots = alt.Scale(domain=[-0.8 - top / 12, len(wide) - 0.4])
    x, offset = drop_axis(ends, alt.X), alt.YOffset("slot:Q", scale=slots)
    y = alt.Y("pruning:N", sort=labels, scale=alt.Scale(padding=0), axis=None)
    behind = [*rule_at(0, "x"), *_labels(labels, y, row)]
    words = {"series": _("groups, batch norm"), "pruning": _("pruning"), "variant": _("variant")}

    def layers(own: pd.DataFrame) -> list[alt.Chart]:
        base = over(own).transform_filter(chosen()).encode(y=y, yOffset=offset)
        whiskers = base.mark_rule(strokeWidth=1.4, opacity=0.7, clip=True)
        whiskers = whiskers.encode(x=alt.X("low:Q"), x2="high:Q", stroke=strokes(looks))
        marks = markers(base.encode(x=x), looks, size=60)
        return [*behind, whiskers, marks.encode(tooltip=tooltips(own, **words))]

    grid = Grid(most=len(results.models), narrowest=270, height=len(rows) * row, beside=20)
    return paneled(points, layers, grid, _LEGEND)


def patterns_chart(results: Results, rows: Sequence[Ingredient]) -> alt.ConcatChart | None:
    """Accuracy against kept weights, one panel per network at the largest budget.

    Colours tell what is pruned alike but for the pattern, markers the kind of pattern. Lines join
    what differs in sparsity alone, dashed of N:M. None if the study is no sweep of patterns.
    """
    if not is_sweep(results):
        return None
    points = _of_patterns(results, rows)
    names, forms = list(dict.fromkeys(points["series"])), list(map(kind_label, kinds(results)))
    looks = [Look(name, COLOURS[i % len(COLOURS)], "circle") for i, name in enumerate(names)]
    ends, baselines = _limits(points, 0, 100), _baselines(results)
    y = accuracy_axis((ends[0], min(max(ends[1], *baselines.values()) + 1, 100)))
    across = alt.Axis(title=_("weights kept (% of the pruned layers)"))
    x = alt.X("kept:Q", scale=alt.Scale(zero=False, padding=12), axis=across)
    key = legend(forms, symbolStrokeColor=INK, symbolFillColor="transparent")
    shape = alt.Scale(domain=forms, range=["circle", *SHAPES])
    words = {"series": _("method"), "pattern": _("pattern"), "kept": _("weights kept (%)")}
    words |= {"variant": _("variant")}

    def layers(own: pd.DataFrame) -> list[alt.Chart]:
        base = over(own).encode(x=x).transform_filter(chosen()).transform_filter(chosen("kind"))
        whiskers = base.mark_rule(strokeWidth=1, opacity=0.4, clip=True)
        line = base.encode(y=y, stroke=strokes(looks), detail="kind:N")
        thin: dict[str, Any] = {"strokeWidth": 1.4, "opacity": 0.8, "clip": True, "aria": False}
        of_nm, free = "indexof(datum.kind, ':') > 0", "indexof(datum.kind, ':') < 0"
        marks = markers(base.encode(y=y), looks, size=45)
        return [
            *rule_at(baselines[own["model"].iloc[0]], "y", DENSE),
            whiskers.encode(y=alt.Y("low:Q"), y2="high:Q", stroke=strokes(looks)),
            line.transform_filter(free).mark_line(**thin),
            line.transform_filter(of_nm).mark_line(strokeDash=[4, 3], **thin),
            marks.encode(
                fill=alt.value("transparent"),
                shape=alt.Shape("kind:N", scale=shape, legend=key),
                tooltip=tooltips(own, **words),
            ),
        ]

    grid = Grid(most=len(results.models), narrowest=290, height=300, widest=420)
    return paneled(points, layers, grid, {"series": "markers", "kind": "markers"})


def waterfall_chart(results: Results, steps: Sequence[Step]) -> alt.ConcatChart | None:
    """Accuracy lost from the first variant of a waterfall to the last, a bar for each step between.

    Means over the networks at the largest budget. None if the study has no such steps.
    """
    if not steps:
        return None
    bars = _bars(results, steps)
    labels = list(bars["label"])
    large: dict[str, Any] = {"labelFontSize": _LARGE, "titleFontSize": _LARGE, "labelLimit": 0}
    named = f"{json.dumps(labels)}[datum.value]"
    y = alt.Y(
        "place:O", axis=alt.Axis(title=None, ticks=False, labelExpr=named, labelPadding=8, **large)
    )
    across = alt.Axis(title=_("accuracy lost (points)"), **large)
    # Room for the number right of the longest bar.
    ends = min(bars["least"].min(), 0), bars["right"].max() * 1.08
    x = alt.X("start:Q", axis=across, scale=alt.Scale(domain=list(ends), nice=False))
    kinds = {"level": INK, "gain": COLOURS[2], "loss": COLOURS[1]}
    colour = alt.Scale(domain=list(kinds), range=list(kinds.values()))
    pale = alt.Scale(domain=list(kinds), range=[0.35, 0.75, 0.75])  # whiskers lie on them
    said = {"label": _("step"), "variant": _("variant"), "told": _("points")}
    said["interval"] = _("95 % interval")

    def layers(own: pd.DataFrame) -> list[alt.Chart]:
        base = over(own).encode(y=y)
        joints = over(own[:-1]).mark_rule(stroke=INK, opacity=0.4, aria=False)
        drawn = base.mark_bar(height=alt.RelativeBandSize(0.62), opacity=1)
        whiskers = base.mark_rule(stroke=INK, strokeWidth=1.6)
        numbers = base.mark_text(align="left", dx=6, fontSize=_LARGE, fill=INK)
        return [
            *rule_at(0, "x"),
            joints.encode(y=y, y2="next:O", x=alt.X("end:Q")),
            drawn.encode(
                x=x,
                x2="end:Q",
                fill=alt.Fill("kind:N", scale=colour, legend=None),
                fillOpacity=alt.FillOpacity("kind:N", sort=list(kinds), scale=pale, legend=None),
                tooltip=[alt.Tooltip(field=k, type="nominal", title=t) for k, t in said.items()],
            ),
            whiskers.encode(x=alt.X("least:Q"), x2="most:Q"),
            numbers.encode(x=alt.X("right:Q"), text="told:N"),
        ]

    beside = 30 + max(map(pixels, labels)) * _LARGE // 12
    grid = Grid(most=1, narrowest=beside + 300, height=34 * len(bars), beside=beside, widest=900)
    return paneled(bars, layers, grid, {})


def _bars(results: Results, steps: Sequence[Step]) -> pd.DataFrame:
    """A bar from 0 for the first and the last variant, and from level to level for each step."""
    found = levels(results, [step.variant for step in steps])
    rows = found.reset_index(names="variant").to_dict("records")
    interval, cells = _("{low} to {high}"), largest_budget(results)
    first, last = (
        {"label": row["variant"], "variant": row["variant"], "kind": "level", "start": 0}
        | {"end": row["drop"], "least": row["drop_least"], "most": row["drop_most"]}
        | {"told": f"{row['drop']:.2f}"}
        | {
            "interval": interval.format(
                low=f"{row['drop_low']:.3f}", high=f"{row['drop_high']:.3f}"
            )
        }
        for row in (rows[0], rows[-1])
    )
    moved = [
        {"label": step_label(step), "variant": step.variant}
        | {"kind": "gain" if row["gain"] >= 0 else "loss"}
        | {"start": before["drop"], "end": row["drop"], "told": signed(-row["gain"])}
        | {"least": before["drop"] - row["gain_most"], "most": before["drop"] - row["gain_least"]}
        | {
            "interval": interval.format(
                low=signed(-row["gain_high"], 3), high=signed(-row["gain_low"], 3)
            )
        }
        for step, before, row in zip(steps[1:], rows[:-1], rows[1:], strict=True)
    ]
    bars = pd.DataFrame([first, *moved, last])
    return bars.assign(
        place=bars.index,
        next=bars.index + 1,
        right=bars[["start", "end", "most"]].max(axis="columns"),
        panel=_("mean of {n} networks").format(n=len(cells)) if len(cells) > 1 else cells[0].model,
    )


def _of_patterns(results: Results, rows: Sequence[Ingredient]) -> pd.DataFrame:
    """A point for the mean accuracy of every variant at the largest budget, and what it keeps."""
    series, patterns, share = series_labels(rows), patterns_of(results), kept(results)
    means = at_largest_budget(results, _means(results, "top1", list(series)))
    variants = means["variant"].astype(str)
    pattern = variants.map(patterns)
    networks = zip(means["model"], means["variant"], strict=True)
    return means.assign(
        series=variants.map(series),
        pattern=pattern,
        kind=pattern.map(kind_of).map(kind_label),
        kept=[round(share[network], 2) for network in networks],
        panel=_titles(means, ", "),
    )


def _baselines(results: Results) -> dict[str, float]:
    """Accuracy of every dense network at the largest budget, in percent."""
    return {cell.model: results.baselines[cell] for cell in largest_budget(results)}


def _of_ingredients(
    results: Results, rows: Sequence[Ingredient], labels: Sequence[str]
) -> pd.DataFrame:
    """A point for the mean drop of every variant at the largest budget, in its row and slot."""
    wide = columns(rows)
    places = [
        {"pruning": label, "variant": variant}
        | {"slot": wide.index(column), "series": column_label(column)}
        for label, row in zip(labels, rows, strict=True)
        for column, variant in row.variants.items()
    ]
    means = at_largest_budget(results, _means(results, "drop", results.variants))
    means = means.drop(columns="series")
    return means.assign(panel=_titles(means, ", ")).merge(pd.DataFrame(places), on="variant")


def _labels(labels: Sequence[str], y: alt.Y, row: int) -> list[alt.Chart]:
    """Each label of an axis on a band at the top of its row, which is so many pixels high."""
    bands = pd.DataFrame({"pruning": labels, "band": [18 + 14 * n.count("\n") for n in labels]})
    base = over(bands).encode(y=y)
    text = base.mark_text(align="left", baseline="top", dx=4, dy=3, fill=INK, lineBreak="\n")
    height, shift = alt.ExprRef("datum.band"), alt.ExprRef(f"(datum.band - {row}) / 2")
    return [
        base.mark_rect(height=height, yOffset=shift, aria=False, fill=PAPER, opacity=1),
        base.mark_rect(height=height, yOffset=shift, aria=False, fill=INK, opacity=0.06),
        text.encode(x=alt.value(0), y=y.copy().bandPosition(0), text="pruning:N"),
    ]


def _networks(
    results: Results, column: str, variants: Sequence[str], y: alt.Y, lines: Sequence[alt.Chart]
) -> alt.ConcatChart:
    """A panel per regime: networks across, variants side by side, seeds right of their mean."""
    looks = [look_of(results, variant) for variant in variants]
    means, seeds = _means(results, column, variants), _seeds(results, column, variants)
    points = pd.concat([means.assign(shift=-0.12 if len(seeds) else 0), seeds.assign(shift=0.25)])
    slots = points["series"].map(variants.index) + points["shift"]
    points = points.assign(slot=slots, network=_titles(points, "\n"), panel=points["regime"])
    offset = alt.XOffset("slot:Q", scale=alt.Scale(domain=[-0.7, len(variants) - 0.3]))
    words = {"series": _("variant"), "network": _("network")}

    def layers(own: pd.DataFrame) -> list[alt.Chart]:
        split: dict[str, Any] = {"labelExpr": "split(datum.label, '\\n')", "labelLimit": 0}
        axis = alt.Axis(title=None, ticks=False, labelAngle=0, **split)
        x = alt.X("network:N", sort=list(own["network"].unique()), axis=axis)
        of_means, of_seeds = (
            over(rows).transform_filter(chosen()).encode(x=x, xOffset=offset)
            for rows in (own[own["seed"].isna()], own[own["seed"].notna()])
        )
        whiskers = of_means.mark_rule(strokeWidth=1.8, clip=True)
        whiskers = whiskers.encode(y=alt.Y("low:Q"), y2="high:Q", stroke=strokes(looks))
        marks = markers(of_means.encode(y=y), looks, size=70)
        marks = marks.encode(tooltip=tooltips(means, **words))
        circles = of_seeds.mark_point(size=22, strokeWidth=1.2, fill="transparent")
        said = tooltips(seeds, **words, seed=_("seed"), value=_("value"))
        circles = circles.encode(y=y, stroke=strokes(looks), tooltip=said)
        return [*lines, whiskers, marks, *([circles] if len(seeds) else [])]

    network = max(13 * len(variants), *map(pixels, results.models))
    narrowest = 90 + network * len(results.models)
    grid = Grid(most=len(results.regimes), narrowest=narrowest, height=240)
    return paneled(points, layers, grid, _LEGEND)


def _curves(points: pd.DataFrame, looks: Sequence[Look], y: alt.Y) -> list[alt.Chart]:
    """Bands, lines and markers of one network against epochs."""
    epochs = sorted(map(int, points["epochs"].unique()))
    scale = alt.Scale(domain=[epochs[0], epochs[-1]], nice=False, padding=12)
    scale.type = "log" if epochs[0] else "linear"  # where all networks are given
    axis = alt.Axis(title=_("epochs of training"), values=epochs, format="d", grid=False)
    base = over(points).transform_filter(chosen())
    base = base.encode(x=alt.X("epochs:Q", scale=scale, axis=axis), detail="series:N")
    band = base.mark_area(opacity=0.18, clip=True, aria=False)
    line = base.mark_line(strokeWidth=1.6, aria=False)
    said = tooltips(points, series=_("variant"), regime=_("regime"), epochs=_("epochs"))
    return [
        band.encode(y=alt.Y("low:Q"), y2="high:Q", fill=fills(looks)),
        line.encode(y=y, stroke=strokes(looks)),
        markers(base.encode(y=y), looks, size=45).encode(tooltip=said),
    ]


def _means(results: Results, column: str, variants: Sequence[str]) -> pd.DataFrame:
    """A point for the mean of every network's `column`, and what is said of it.

    Columns of `Results.estimates`; `low` and `high` as they are drawn: with two seeds, whose
    t-interval would fill the axis, from seed to seed. Beside them texts, every seed, the folder.
    """
    found = results.estimates(column)
    found = found[found["variant"].isin(variants)].drop(columns=["n", "basis"])
    texts = found[["value", "sd", "low", "high"]].map("{:.3f}".format)
    seeds = results.frame.pivot(index=NETWORK, columns="seed", values=column)
    if len(results.seeds) > 1:
        found["mean"] = texts["value"] + " ± " + texts["sd"]
    interval = _("{low} to {high}")
    found["95 % interval"] = [interval.format(**row) for row in texts.to_dict("records")]
    found = found.join(seeds.rename(columns="seed {}".format), on=NETWORK)
    if len(results.seeds) == 2:
        both = found.filter(regex="^seed ")
        found["low"], found["high"] = both.min(axis="columns"), both.max(axis="columns")
    return found.assign(series=found["variant"].astype(str), folder=folders(results, found))


def _seeds(results: Results, column: str, variants: Sequence[str]) -> pd.DataFrame:
    """A point for every seed of these means; none if there is one seed."""
    found = results.frame[results.frame["variant"].isin(variants)]
    found = found[[*NETWORK, "recipe", "epochs", "seed", column]]
    found = found.rename(columns={column: "value"})
    found = found.assign(series=found["variant"].astype(str), folder=folders(results, found))
    return found if len(results.seeds) > 1 else found[:0]


def _limits(
    means: pd.DataFrame, lowest: float = -math.inf, highest: float = math.inf
) -> tuple[float, float]:
    """Limits that hold every seed, and whiskers as far as they leave the points readable."""
    seeds = means.filter(regex="^seed ")
    low, high = seeds.min(axis=None), seeds.max(axis=None)
    reach = max(0.5 * (high - low), 10.0)
    bottom, top = max(means["low"].min(), low - reach), min(means["high"].max(), high + reach)
    margin = 0.04 * (top - bottom)
    return max(bottom - margin, lowest), min(top + margin, highest)


def _titles(points: pd.DataFrame, between: str) -> list[str]:
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
