"""Charts of errors along the depth of networks, and of the quadratic model of the loss."""

import json
import math
from collections.abc import Sequence
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
    chosen,
    folders,
    legend,
    look_of,
    markers,
    over,
    paneled,
    rule_at,
    strokes,
    tooltips,
)
from sparsecnn.report.labels import epochs_label
from sparsecnn.report.language import N_
from sparsecnn.report.language import gettext as _
from sparsecnn.study.config import GIVEN

_KINDS = {"accumulated_error": N_("in the pruned network"), "own_error": N_("of the layer alone")}


def layer_error_chart(results: Results, errors: pd.DataFrame) -> alt.ConcatChart | None:
    """Relative output error along depth by variant, mean over seeds; a panel per network.

    Of variants with the same errors (re-estimating batch norm changes no weight) the first stands
    for all. None if no layer has an error that a logarithmic axis can show.
    """
    variants = different(shown(results), errors)
    points = _along_depth(results, errors[errors["variant"].isin(variants)])
    return _depths(results, points, variants)


def accumulation_chart(results: Results, diagnostics: pd.DataFrame) -> alt.ConcatChart | None:
    """Error of every layer's outputs against the dense network's, along depth by variant.

    Full lines are the error in the pruned network, dotted ones what the layer adds by itself; means
    over seeds. A panel for each of the least and the most trained networks, and of those given.
    None if no layer has an error that a logarithmic axis can show.
    """
    variants = _compared(results, diagnostics)
    found = diagnostics[diagnostics["variant"].isin(variants)].drop(columns="regime")
    errors = found.drop_duplicates().rename(columns={"value": "relative_error"})
    points = pd.concat(
        _along_depth(results, errors[errors["quantity"] == quantity]).assign(error=_(kind))
        for quantity, kind in _KINDS.items()
    )
    points = points[points["regime"].isin([*results.ends, GIVEN])].sort_values(
        "regime", kind="stable"
    )
    return _depths(results, points, variants, [_(kind) for kind in _KINDS.values()])


def quadratic_model_chart(results: Results, diagnostics: pd.DataFrame) -> alt.ConcatChart | None:
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
    at: dict[str, Any] = {"values": ticks, "tickCount": len(ticks), "labelOverlap": "greedy"}
    across = alt.Axis(title=_("change of loss, measured"), format="~g", **at)
    up = alt.Axis(title=_("change of loss, quadratic model"), format="~g", **at)
    x = alt.X("measured:Q", scale=scale, axis=across)
    y = alt.Y("predicted:Q", scale=scale, axis=up)
    exact = over(pd.DataFrame({"x": ends, "y": ends})).encode(x="x:Q", y="y:Q")
    exact = exact.mark_line(stroke=INK, opacity=0.55, strokeWidth=1, aria=False)
    looks = [look_of(results, variant) for variant in variants]
    words = {
        "series": _("variant"),
        "regime": _("regime"),
        "epochs": _("epochs"),
        "seed": _("seed"),
        "measured": _("measured"),
        "predicted": _("quadratic model"),
        "first_order": _("its first order"),
        "second_order": _("its second order"),
        "error": _("its error"),
    }
    # Vega-Lite has no legend of fillings: it is that of a size, which is the same for all.
    filling = f"datum.value === {json.dumps(regimes[-1])} ? '{INK}' : paper"
    key = legend(regimes, symbolStrokeColor=INK, symbolFillColor=alt.ExprRef(filling))
    of_regime: dict[str, Any] = {
        "fillOpacity": alt.FillOpacity("regime:O", scale=alt.Scale(domain=regimes, range=[0, 1])),
        "size": alt.Size("regime:O", scale=alt.Scale(domain=regimes, range=[60, 60]), legend=key),
    }
    several = len(regimes) > 1

    def layers(own: pd.DataFrame) -> list[alt.Chart]:
        marks = markers(over(own).encode(x=x, y=y), looks, size=60).transform_filter(chosen())
        if several:
            marks = marks.transform_filter(chosen("regime")).encode(**of_regime)
        return [*rule_at(0, "y"), exact, marks.encode(tooltip=tooltips(own, **words))]

    grid = Grid(most=len(results.models), narrowest=300, height=250, widest=340)
    fields = ["series", "regime"] if several else ["series"]
    return paneled(points, layers, grid, dict.fromkeys(fields, "markers"))


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
    """The variants that were compared with their dense networks; of many, the first few."""
    return [variant for variant in results.variants if variant in compared(diagnostics)][:FEW]


def _changes(
    results: Results, diagnostics: pd.DataFrame, variants: Sequence[str], regimes: Sequence[str]
) -> pd.DataFrame:
    """A point for each seed's change of the loss: a column for each quantity, and its network."""
    wanted = diagnostics["variant"].isin(variants) & diagnostics["regime"].isin(regimes)
    whole = diagnostics[wanted & (diagnostics["depth"] == 0)]
    place = ["model", "regime", "variant", "recipe", "epochs", "seed"]
    points = whole.pivot(index=place, columns="quantity", values="value").reset_index()
    if points.empty:
        return points
    return points.assign(
        panel=points["model"],
        series=points["variant"].astype(str),
        error=points["model_error"].map("{:.4g} %".format),
        folder=folders(results, points),
    )


def _along_depth(results: Results, errors: pd.DataFrame) -> pd.DataFrame:
    """A point for the mean error of every layer, if it has a place on a logarithmic axis.

    A line has a gap where it has not, and another `part` of it begins behind.
    """
    of_layers = mean_errors(errors)
    texts = of_layers.map(lambda error: f"{100 * error:.4g} %")
    texts = texts.rename(columns={seed: f"seed {seed}" for seed in results.seeds})
    if len(results.seeds) == 1:
        texts = texts.drop(columns="mean")
    shared = ["model", "recipe", "epochs", "variant"]
    table = texts.assign(value=of_layers["mean"]).reset_index().astype({"variant": str})
    networks = results.frame[["regime", *shared]].drop_duplicates()
    points = networks.merge(table.astype({"model": str}), on=shared)
    points = points[points["value"] > 0]
    titles = [points["model"], points["regime"].astype(str), points["epochs"].map(epochs_label)]
    return points.assign(
        panel=[", ".join(title) for title in zip(*titles, strict=True)],
        series=points["variant"],
        part=points["depth"] - points.groupby(NETWORK, observed=True).cumcount(),
        folder=folders(results, points),
    )


def _depths(
    results: Results, points: pd.DataFrame, variants: Sequence[str], kinds: Sequence[str] = ()
) -> alt.ConcatChart | None:
    """A panel per network of lines along depth, with markers; of the second kind dotted, with dots.

    None without points. Kinds are told apart by the points' `error`.
    """
    if points.empty:
        return None
    y, looks = _error_axis(points["value"]), [look_of(results, variant) for variant in variants]
    words = {"series": _("variant")} | ({"error": _("error")} if kinds else {})
    words |= {"depth": _("depth"), "layer": _("layer")}
    scale = alt.Scale(domain=list(kinds), range=[[1, 0], [2, 3]])
    key = legend(kinds, symbolType="stroke", symbolStrokeColor=INK) if kinds else None
    dash = alt.StrokeDash("error:N", scale=scale, legend=key)

    def layers(own: pd.DataFrame) -> list[alt.Chart]:
        base = over(own).encode(x=_depth_axis(own["depth"]), y=y).transform_filter(chosen())
        base = base.transform_filter(chosen("error")) if kinds else base
        line = base.mark_line(strokeWidth=1.5).properties(name="lines")
        line = line.encode(stroke=strokes(looks), detail=["series:N", "part:N"])
        marks = markers(base, looks, size=45).encode(tooltip=tooltips(own, **words))
        if not kinds:
            return [line, marks]
        dots = base.transform_filter(alt.datum.error == kinds[1])
        dots = dots.mark_point(size=8, strokeWidth=2.5, opacity=1)
        dots = dots.encode(stroke=strokes(looks), tooltip=tooltips(own, **words))
        whole = marks.transform_filter(alt.datum.error == kinds[0])
        return [line.encode(strokeDash=dash), whole, dots]

    legends = {"series": "markers"} | ({"error": "lines"} if kinds else {})
    return paneled(points, layers, Grid(len(results.models), 270, height=190), legends)


def _depth_axis(depths: Sequence[int]) -> alt.X:
    """The axis of layers by depth, with a tick for each."""
    first, last = int(min(depths)), int(max(depths))
    ticks: dict[str, Any] = {"values": list(range(first, last + 1)), "tickCount": last + 1 - first}
    labels: dict[str, Any] = {"labelOverlap": "parity", "labelSeparation": 5}
    axis = alt.Axis(title=_("layer, by depth"), grid=False, format="d", **ticks, **labels)
    scale = alt.Scale(domain=[first, last], nice=False, zero=False, padding=8)
    return alt.X("depth:Q", scale=scale, axis=axis)


def _error_axis(errors: Sequence[float]) -> alt.Y:
    """The axis of relative errors, logarithmic, in percent."""
    low, high = min(errors) / 1.3, max(errors) * 1.3
    ticks = _log_ticks(low, high)
    at: dict[str, Any] = {"values": ticks, "tickCount": len(ticks), "labelOverlap": False}
    percent = "format(100 * datum.value, '~g') + ' %'"
    axis = alt.Axis(title=_("relative output error"), labelExpr=percent, **at)
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
