"""Charts of errors along the depth of networks, and of the quadratic model of the loss."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import pandas as pd

from sparsecnn.analysis.ablation import FEW, shown
from sparsecnn.analysis.diagnostics import compared
from sparsecnn.analysis.layer_errors import different, mean_errors
from sparsecnn.analysis.results import Results
from sparsecnn.report.chart_parts import (
    INK,
    NETWORK,
    Grid,
    Look,
    chosen,
    faceted,
    folders,
    joined,
    legend,
    look_of,
    markers,
    over,
    rule_at,
    strokes,
    tooltips,
)
from sparsecnn.report.labels import epochs_label
from sparsecnn.report.language import N_
from sparsecnn.report.language import gettext as _

_KINDS = {"accumulated_error": N_("in the pruned network"), "own_error": N_("of the layer alone")}


def layer_error_chart(results: Results, errors: pd.DataFrame) -> alt.FacetChart | None:
    """Relative output error along depth by variant, mean over seeds; a panel per network.

    Of variants with the same errors (re-estimating batch norm changes no weight) the first stands
    for all. None if no layer has an error that a logarithmic axis can show.
    """
    variants = different(shown(results), errors)
    points = _along_depth(results, errors[errors["variant"].isin(variants)])
    looks = [look_of(results, variant) for variant in variants]
    return _depths(results, points, looks) if len(points) else None


def accumulation_chart(results: Results, diagnostics: pd.DataFrame) -> alt.FacetChart | None:
    """Error of every layer's outputs against the dense network's, along depth by variant.

    Full lines are the error in the pruned network, dotted ones what the layer adds by itself; means
    over seeds. A panel for each of the least and the most trained networks. None if no layer has an
    error that a logarithmic axis can show.
    """
    variants = _compared(results, diagnostics)
    if not variants:
        return None
    wanted = diagnostics["regime"].isin(results.ends) & diagnostics["variant"].isin(variants)
    kinds = [
        _along_depth(results, _layer_errors(diagnostics[wanted], quantity)).assign(error=_(kind))
        for quantity, kind in _KINDS.items()
    ]
    points = pd.concat(kinds)
    points = points[points["regime"].isin(results.ends)]
    looks = [look_of(results, variant) for variant in variants]
    return _depths(results, points, looks, list(map(_, _KINDS.values()))) if len(points) else None


def quadratic_model_chart(results: Results, diagnostics: pd.DataFrame) -> alt.FacetChart | None:
    """Loss change predicted by the quadratic model against the one measured; a panel per network.

    A point for each seed; open markers are the least, full ones the most trained of `results`. Both
    axes are linear around zero and logarithmic beyond. None if no variant was measured.
    """
    variants, regimes = _compared(results, diagnostics), list(dict.fromkeys(results.ends))
    points = _changes(results, diagnostics, variants, regimes)
    if points.empty:
        return None
    near, ends, ticks = change_scale([0.0, *points["measured"], *points["predicted"]])
    scale = alt.Scale(type="symlog", constant=near, domain=list(ends), nice=False)
    options = {"values": ticks, "format": "~g", "labelOverlap": "greedy", "tickCount": len(ticks)}
    across = alt.Axis(title=_("change of loss, measured"), **options)
    up = alt.Axis(title=_("change of loss, quadratic model"), **options)
    exact = over(pd.DataFrame({"x": ends, "y": ends})).mark_line(
        stroke=INK, opacity=0.55, strokeWidth=1, aria=False
    )
    looks = [look_of(results, variant) for variant in variants]
    base = (
        alt.Chart()
        .transform_filter(chosen())
        .encode(
            x=alt.X("measured:Q", scale=scale, axis=across),
            y=alt.Y("predicted:Q", scale=scale, axis=up),
        )
    )
    said = tooltips(
        points,
        series=_("variant"),
        regime=_("regime"),
        epochs=_("epochs"),
        seed=_("seed"),
        measured=_("measured"),
        predicted=_("quadratic model"),
        first_order=_("its first order"),
        second_order=_("its second order"),
        error=_("its error"),
    )
    marks = markers(base, looks, size=60).encode(tooltip=said)
    if len(regimes) > 1:
        opened = alt.Scale(domain=regimes, range=[0, 1])
        # Vega-Lite has no legend of fillings: it is that of a size, which is the same for all.
        filling = f"datum.value === {json.dumps(regimes[0])} ? paper : '{INK}'"
        key = legend(regimes, symbolStrokeColor=INK, symbolFillColor=alt.ExprRef(filling))
        alike = alt.Scale(domain=regimes, range=[60, 60])
        marks = marks.transform_filter(chosen("regime")).encode(
            fillOpacity=alt.FillOpacity("regime:O", scale=opened),
            size=alt.Size("regime:O", scale=alike, legend=key),
        )
    layers = [*rule_at(0, "y"), exact.encode(x="x:Q", y="y:Q"), marks]
    grid = Grid(most=len(results.models), narrowest=300, widest=340)
    legends = ["series", "regime"] if len(regimes) > 1 else ["series"]
    return faceted(layers, points, "model", grid, 250, dict.fromkeys(legends, "markers"))


def change_scale(drawn: Sequence[float]) -> tuple[float, tuple[float, float], list[float]]:
    """The scale that shows these changes of the loss, small ones and large ones alike.

    It is linear between -`near` and `near`, and logarithmic beyond: `near`, limits, ticks.
    """
    sizes = sorted(abs(value) for value in drawn if value) or [1.0]
    near = 10.0 ** math.floor(math.log10(sizes[len(sizes) // 10]))
    decades = range(round(math.log10(near)) + 1, math.floor(math.log10(2 * sizes[-1])) + 1)
    powers = [10.0**decade for decade in decades[:: 1 + len(decades) // 4]]
    low, high = min(drawn), max([*drawn, near])
    limits = (2 * low if low < 0 else -0.3 * near, 2 * high)
    ticks = [tick for tick in (*(-p for p in powers), 0, *powers) if limits[0] <= tick <= limits[1]]
    return near, limits, ticks


def _compared(results: Results, diagnostics: pd.DataFrame) -> list[str]:
    """The variants that were compared with their dense networks; the first, if they are many."""
    return [variant for variant in results.variants if variant in compared(diagnostics)][:FEW]


def _changes(
    results: Results, diagnostics: pd.DataFrame, variants: Sequence[str], regimes: Sequence[str]
) -> pd.DataFrame:
    """A point for each seed's change of the loss: a column for each quantity, and its network."""
    wanted = diagnostics["variant"].isin(variants) & diagnostics["regime"].isin(regimes)
    whole = diagnostics[wanted & (diagnostics["depth"] == 0)]
    place = [*NETWORK, "recipe", "epochs", "seed"]
    points = whole.pivot(index=place, columns="quantity", values="value").reset_index()
    return points.assign(
        series=points["variant"].astype(str),
        error=points["model_error"].map("{:.4g} %".format) if len(points) else "",
        folder=folders(results, points),
    )


def _layer_errors(diagnostics: pd.DataFrame, quantity: str) -> pd.DataFrame:
    """One quantity of layers as a table of their errors; regimes that share a network, once."""
    found = diagnostics[diagnostics["quantity"] == quantity].drop(columns="regime")
    return found.drop_duplicates().rename(columns={"value": "relative_error"})


def _along_depth(results: Results, errors: pd.DataFrame) -> pd.DataFrame:
    """A point for the mean error of every layer, if it has a place on a logarithmic axis.

    A line has a gap where it has not, and another `part` of it begins behind.
    """
    table = mean_errors(errors).reset_index().rename(columns={"mean": "value"})
    shared = ["model", "recipe", "epochs", "variant"]
    networks = results.frame[["regime", *shared]].drop_duplicates()
    points = networks.merge(table.astype({"model": str, "variant": str}), on=shared)
    points = points[points["value"] > 0]
    seeds = points[results.seeds]
    texts = points[[*seeds, "value"]].map(lambda error: f"{100 * error:.4g} %")
    points[["seed {}".format(seed) for seed in seeds]] = texts[list(seeds)]
    if len(seeds.columns) > 1:
        points["mean"] = texts["value"]
    titles = zip(points["model"], points["regime"], points["epochs"].map(epochs_label), strict=True)
    return points.drop(columns=list(seeds)).assign(
        network=[", ".join(title) for title in titles],
        series=points["variant"],
        part=points["depth"] - points.groupby(NETWORK, observed=True).cumcount(),
        folder=folders(results, points),
    )


def _depths(
    results: Results, points: pd.DataFrame, looks: Sequence[Look], kinds: Sequence[str] = ()
) -> alt.ConcatChart:
    """A panel per network of lines along depth; of several kinds, by the points' `error`."""
    y = _error_axis(points["value"])
    panels = {}
    for network, own in points.groupby("network", sort=False):
        panels[str(network)] = alt.layer(*_lines(own, looks, y, kinds))
    legends = {"series": "markers"} | ({"error": "lines"} if kinds else {})
    return joined(panels, Grid(most=len(results.models), narrowest=270), 190, legends)


def _lines(
    points: pd.DataFrame, looks: Sequence[Look], y: alt.Y, kinds: Sequence[str]
) -> list[alt.Chart]:
    """The lines of one network, with markers; of the second kind dotted, with dots."""
    said = tooltips(points, series=_("variant"), depth=_("depth"), layer=_("layer"))
    base = over(points).transform_filter(chosen()).encode(x=_depth_axis(points["depth"]), y=y)
    line = base.mark_line(strokeWidth=1.5)
    line = line.encode(stroke=strokes(looks), detail=["series:N", "part:N"])
    marks = markers(base, looks, size=45)
    if not kinds:
        return [line, marks.encode(tooltip=said)]
    said.insert(1, alt.Tooltip(field="error", type="nominal", title=_("error")))
    scale = alt.Scale(domain=list(kinds), range=[[1, 0], [2, 3]])
    key = legend(kinds, symbolType="stroke", symbolStrokeColor=INK)
    line = line.transform_filter(chosen("error"))
    line = line.encode(strokeDash=alt.StrokeDash("error:N", scale=scale, legend=key))
    marks = marks.transform_filter(chosen("error")).transform_filter(alt.datum.error == kinds[0])
    marks = marks.encode(tooltip=said)
    dots = base.transform_filter(chosen("error")).transform_filter(alt.datum.error == kinds[1])
    dots = dots.mark_point(size=8, strokeWidth=2.5, opacity=1)
    dots = dots.encode(stroke=strokes(looks), tooltip=said)
    return [line.properties(name="lines"), marks, dots]


def _depth_axis(depths: Sequence[int]) -> alt.X:
    """The axis of layers by depth, with a tick for each."""
    first, last = int(min(depths)), int(max(depths))
    labels = {"labelOverlap": "parity", "labelSeparation": 5}
    ticks = {"values": list(range(first, last + 1)), "tickCount": last + 1 - first}
    axis = alt.Axis(title=_("layer, by depth"), grid=False, **ticks, **labels)
    scale = alt.Scale(domain=[first, last], nice=False, zero=False, padding=8)
    return alt.X("depth:Q", scale=scale, axis=axis)


def _error_axis(errors: Sequence[float]) -> alt.Y:
    """The axis of relative errors, logarithmic, in percent."""
    low, high = min(errors) / 1.3, max(errors) * 1.3
    ticks = _log_ticks(low, high)
    axis = alt.Axis(
        title=_("relative output error"),
        labelExpr="format(100 * datum.value, '~g') + ' %'",
        values=ticks,
        tickCount=len(ticks),
        labelOverlap=False,
    )
    return alt.Y("value:Q", scale=alt.Scale(type="log", domain=[low, high], nice=False), axis=axis)


def _log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten between the ends; where these are few, their doubles and fives too."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1,), (1, 2, 5)):
        ticks = [step * 10.0**power for power in powers for step in steps]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) > 2:
            break
    return ticks
