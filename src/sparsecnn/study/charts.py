"""The report's interactive charts: the numbers of the figures as Vega-Lite panels.

A chart is a legend and panels of one kind, which a page lays out as its width allows. Pointing at a
mark shows its numbers as metrics.csv has them, seed by seed, and the network's folder. Colours are
those of the figures, but black: that is `currentColor`, the text's, in light pages and dark ones.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import altair as alt
import numpy as np

from sparsecnn.study.ablation import Column, Ingredient, columns, largest_budget, shown
from sparsecnn.study.comparisons import accuracy, drop
from sparsecnn.study.figures import (
    COLOURS,
    DROPS,
    LayerErrors,
    different,
    limits,
    whisker,
)
from sparsecnn.study.metrics import DENSE, Cell, Results, Row, network_name
from sparsecnn.study.statistics import Estimate

_INK = "currentColor"
_CIRCLE = "M1,0A1,1,0,1,1,-1,0A1,1,0,1,1,1,0Z"
_SQUARE = "M-.9,-.9H.9V.9H-.9Z"
_SHAPES = (
    _SQUARE,
    "M0,-1.1L1.1,.9H-1.1Z",
    "M0,-1.25L1,0L0,1.25L-1,0Z",
    "M0,1.1L1.1,-.9H-1.1Z",
    "M-.4,-1.1H.4V-.4H1.1V.4H.4V1.1H-.4V.4H-1.1V-.4H-.4Z",
    "M0,-.57L.57,-1.13L1.13,-.57L.57,0L1.13,.57L.57,1.13L0,.57L-.57,1.13L-1.13,.57L-.57,0"
    "L-1.13,-.57L-.57,-1.13Z",
    "M0,-1.1L1.05,-.34L.65,.89H-.65L-1.05,-.34Z",
)
_VISIBLE = "indexof(hidden, datum.series) < 0"


class Look(NamedTuple):
    """One entry of a legend: a series and how its marks look."""

    series: str
    colour: str
    shape: str
    """An SVG path within -1 and 1."""
    filled: bool = True


@dataclass(frozen=True)
class Chart:
    """An interactive chart. Each panel is a Vega-Lite specification as wide as its container.

    A panel shows the series that are not in its parameter `hidden`, a list of names.
    """

    legend: Sequence[Look]
    panels: Sequence[Mapping[str, Any]]
    width: int
    """Pixels that a panel needs to be readable."""

    def as_json(self) -> dict[str, Any]:
        """Plain values, for the page's script."""
        looks = [look._asdict() for look in self.legend]
        return {"legend": looks, "panels": list(self.panels), "width": self.width}


def study_charts(
    results: Results, layers: Sequence[LayerErrors], rows: Sequence[Ingredient]
) -> dict[str, Chart | None]:
    """Every chart by the name of the figure it stands for; None where there is nothing to show."""
    return {
        "accuracy": accuracy_chart(results),
        "drop": drop_chart(results),
        "layer_error": layer_error_chart(results, layers),
        "ablation": ablation_chart(results, rows),
    }


def accuracy_chart(results: Results) -> Chart:
    """Top-1 accuracy per network by variant (dense first), one panel per regime."""
    estimates = {
        (cell, variant): accuracy(results, cell, variant)
        for cell in results.cells
        for variant in (DENSE, *shown(results))
    }
    seeds = {key: results.top1(*key) for key in estimates}
    low, high = limits([whisker(estimates[key], seeds[key]) for key in estimates], seeds.values())
    low, high = max(low, 0), min(high, 100)
    scale = alt.Scale(domain=[low, high], nice=False, zero=False)
    y = alt.Y("value:Q", scale=scale, axis=_axis("top-1 accuracy (%)"))
    chance = results.chance if low < results.chance < high else None
    return _networks(results, [DENSE, *shown(results)], estimates, seeds, y, {"chance": chance})


def drop_chart(results: Results) -> Chart:
    """Accuracy lost to pruning per network by variant, one panel per regime.

    Unlike the figure's, its axis is logarithmic beyond one point, so that small losses can be
    told apart beside large ones.
    """
    estimates = {
        (cell, variant): drop(results, cell, variant)
        for cell in results.cells
        for variant in shown(results)
    }
    seeds = {key: [row.drop for row in results.of(*key)] for key in estimates}
    ends = limits([whisker(estimates[key], seeds[key]) for key in estimates], seeds.values())
    y = alt.Y("value:Q", scale=_symlog(ends), axis=_drop_axis(ends))
    return _networks(results, shown(results), estimates, seeds, y, {"": 0.0})


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
    looks = [_look(results, variant) for variant in variants]
    ends = min(values) / 1.3, max(values) * 1.3
    scale = alt.Scale(type="log", domain=list(ends), nice=False)
    percent = "format(100 * datum.value, '~g') + ' %'"
    ticks = _log_ticks(*ends)
    axis = _axis("relative output error", labelExpr=percent, values=ticks, labelOverlap=False)
    y = alt.Y("value:Q", scale=scale, axis=axis)
    specs = []
    for cell, points in panels.items():
        if not points:
            continue
        x = alt.X(
            "depth:Q",
            scale=alt.Scale(nice=False, zero=False, padding=8),
            axis=_axis("layer, by depth", grid=False, tickMinStep=1, format="d"),
        )
        base = _over(points).transform_filter(_VISIBLE).encode(x=x, y=y)
        # A variant that left a layer dense has a gap there, where its line begins anew.
        line = base.mark_line(strokeWidth=1.5)
        line = line.encode(stroke=_colours(looks), detail=["series:N", "part:N"])
        marks = _points(base, looks, size=50).encode(tooltip=_tooltips(points))
        specs.append(_panel([line, marks], f"{cell}, {results.epochs(cell)} epochs", 190))
    return Chart(looks, specs, 270)


def ablation_chart(results: Results, rows: Sequence[Ingredient]) -> Chart:
    """Accuracy lost to pruning by ingredient (down), one panel per network at the largest budget.

    Marker and colour tell the groups, its filling whether batch norm was re-estimated.
    """
    cells, wide = largest_budget(results), columns(rows)
    looks = [_column_look(wide, column) for column in wide]
    labels = [row.label for row in rows]
    lost = {(c, v): drop(results, c, v) for c in cells for v in results.variants}
    seeds = {key: [row.drop for row in results.of(*key)] for key in lost}
    ends = [end for key in lost for end in (*whisker(lost[key], seeds[key]), *seeds[key])]
    extent = (min(*ends, 0) - 0.2, max(*ends, 1) * 1.2)
    x = alt.X("value:Q", scale=_symlog(extent), axis=_drop_axis(extent))
    whole = alt.Scale(paddingInner=0, paddingOuter=0)
    y = alt.Y("pruning:N", sort=labels, scale=whole, axis=None)
    # The upper part of each row is its label's, on a band.
    offset = alt.YOffset("slot:Q", scale=alt.Scale(domain=[-2.1, len(wide) - 0.4]))
    bands = _over([{"pruning": label} for label in labels])
    bands = bands.mark_rect(fill=_INK, opacity=0.06, height=18, aria=False)
    names = _over([{"pruning": label} for label in labels]).mark_text(
        align="left", baseline="top", dx=4, dy=5, fill=_INK, limit={"expr": "width - 4"}
    )
    names = names.encode(x=alt.value(0), y=y.copy().bandPosition(0), text="pruning:N")
    specs = []
    for cell in cells:
        points = [
            {"pruning": label, "slot": k}
            | _point(results, cell, row.variants[column], lost, seeds, series=str(column))
            for label, row in zip(labels, rows, strict=True)
            for k, column in enumerate(wide)
            if column in row.variants
        ]
        base = _over(points).transform_filter(_VISIBLE).encode(y=y, yOffset=offset)
        whiskers = base.mark_rule(strokeWidth=1.4, opacity=0.7, clip=True).encode(
            x=alt.X("low:Q"), x2="high:Q", stroke=_colours(looks)
        )
        marks = _points(base.encode(x=x), looks, size=60).encode(tooltip=_tooltips(points))
        title = f"{cell.model}, {results.epochs(cell)} epochs"
        layers = [bands.encode(y=y), _rule_at(0, "x"), whiskers, names, marks]
        specs.append(_panel(layers, title, len(rows) * (22 + 11 * len(wide))))
    return Chart(looks, specs, 270)


def _networks(
    results: Results,
    variants: Sequence[str],
    estimates: Mapping[tuple[Cell, str], Estimate],
    seeds: Mapping[tuple[Cell, str], Sequence[float]],
    y: alt.Y,
    lines: Mapping[str, float | None],
) -> Chart:
    """A panel per regime: networks across, variants side by side, seeds right of their mean."""
    looks = [_look(results, variant) for variant in variants]
    offset = alt.XOffset("slot:Q", scale=alt.Scale(domain=[-0.7, len(variants) - 0.3]))
    specs, most = [], 0
    for regime in results.regimes:
        cells = [cell for cell in results.cells if cell.regime == regime]
        names = {cell: f"{cell.model}\n{results.epochs(cell)} epochs" for cell in cells}
        means, single = [], []
        for cell in cells:
            for k, variant in enumerate(variants):
                place = {"network": names[cell]}
                point = _point(results, cell, variant, estimates, seeds, series=variant)
                several = len(seeds[cell, variant]) > 1
                means.append(place | {"slot": k - 0.12 * several} | point)
                values = zip(results.of(cell, variant), seeds[cell, variant], strict=True)
                single += [
                    place
                    | {"slot": k + 0.25, "series": variant, "value": value, "seed": row.seed}
                    | {"folder": _folder([row])}
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
        base = _over(means).transform_filter(_VISIBLE)
        base = base.encode(x=x, xOffset=offset)
        layers = [_rule_at(value, "y", name) for name, value in lines.items() if value is not None]
        layers.append(
            base.mark_rule(strokeWidth=1.8, clip=True).encode(
                y=alt.Y("low:Q"), y2="high:Q", stroke=_colours(looks)
            )
        )
        if single:
            of_seeds = _over(single).transform_filter(_VISIBLE)
            of_seeds = of_seeds.encode(x=x, xOffset=offset, y=y)
            layers.append(
                of_seeds.mark_point(size=22, strokeWidth=1.2, fill="transparent").encode(
                    stroke=_colours(looks), tooltip=_tooltips(single)
                )
            )
        layers.append(_points(base.encode(y=y), looks, size=70).encode(tooltip=_tooltips(means)))
        specs.append(_panel(layers, regime, 260))
        most = max(most, len(cells))
    return Chart(looks, specs, 80 + 13 * most * len(variants))


def _point(
    results: Results,
    cell: Cell,
    variant: str,
    estimates: Mapping[tuple[Cell, str], Estimate],
    seeds: Mapping[tuple[Cell, str], Sequence[float]],
    series: str,
) -> dict[str, Any]:
    """A mark for a mean, and what is said of it: its interval, every seed, the folder."""
    found, values = estimates[cell, variant], seeds[cell, variant]
    rows = results.of(cell, variant)
    low, high = whisker(found, values)
    point: dict[str, Any] = {"series": series, "value": found.value, "low": low, "high": high}
    if series != variant:
        point["variant"] = variant
    if found.sd is not None:
        point["mean"] = f"{found.value:.3f} ± {found.sd:.3f}"
    point["95 % interval"] = f"{found.low:.3f} to {found.high:.3f}"
    point |= {f"seed {row.seed}": value for row, value in zip(rows, values, strict=True)}
    return point | {"folder": _folder(rows)}


def _layer_points(
    results: Results, cell: Cell, variant: str, layers: Sequence[LayerErrors]
) -> list[dict[str, Any]]:
    network = (cell.model, *results.training(cell), variant)
    found = [x for x in layers if (x.model, x.recipe, x.epochs, x.variant) == network]
    if not found:
        return []
    points, part = [], 0
    for i, mean in enumerate(np.mean([x.errors for x in found], axis=0)):
        if not mean > 0:
            part += 1
            continue
        name = {"layer": found[0].layers[i]} if found[0].layers else {}
        seeds = {f"seed {x.seed}": f"{100 * x.errors[i]:.4g} %" for x in found}
        mean_of = {"mean": f"{100 * mean:.4g} %"} if len(found) > 1 else {}
        point = {"depth": i + 1, "series": variant, "value": float(mean), "part": part, **name}
        points.append(point | mean_of | seeds | {"folder": _folder(results.of(cell, variant))})
    return points


def _folder(rows: Sequence[Row]) -> str:
    """The folder of a network; of several seeds, as a shell's braces abbreviate them."""
    seeds = [str(row.seed) for row in rows]
    name = network_name(asdict(rows[0]))
    if len(seeds) > 1:
        name = name.replace(f"/seed-{seeds[0]}/", f"/seed-{{{','.join(seeds)}}}/")
    return f"results/{rows[0].study}/{name}"


_PLACES = ("slot", "value", "low", "high", "part")
"""What only says where a mark stands."""


def _tooltips(points: Sequence[Mapping[str, Any]]) -> list[alt.Tooltip]:
    """Everything the points say, in their order; one seed's `value` is what it was measured as."""
    names = list(dict.fromkeys(key for point in points for key in point))
    kept = [name for name in names if name not in _PLACES or ("seed" in names and name == "value")]
    titles = {"series": "variant" if "variant" not in names else "groups, batch norm"}
    return [alt.Tooltip(field=name, type="nominal", title=titles.get(name, name)) for name in kept]


def _look(results: Results, variant: str) -> Look:
    if variant == DENSE:
        return Look(DENSE, _INK, _CIRCLE)
    index = results.variants.index(variant)
    return Look(variant, COLOURS[index % len(COLOURS)], _SHAPES[index % len(_SHAPES)])


def _column_look(wide: Sequence[Column], column: Column) -> Look:
    index = list(dict.fromkeys(c.layout for c in wide)).index(column.layout)
    shape = (_CIRCLE, _SQUARE)[index % 2]
    return Look(str(column), COLOURS[index % len(COLOURS)], shape, column.bn_recalibrated)


def _over(points: Sequence[Mapping[str, Any]]) -> alt.Chart:
    return alt.Chart(alt.InlineData(values=list(points)))


def _colours(looks: Sequence[Look]) -> alt.Stroke:
    domain, colours = [look.series for look in looks], [look.colour for look in looks]
    return alt.Stroke("series:N", scale=alt.Scale(domain=domain, range=colours), legend=None)


def _points(base: alt.Chart, looks: Sequence[Look], size: int) -> alt.Chart:
    domain = [look.series for look in looks]
    fills = [look.colour if look.filled else "var(--page, white)" for look in looks]
    shapes = [look.shape for look in looks]
    points: alt.Chart = base.mark_point(size=size, strokeWidth=1.5, opacity=1).encode(
        stroke=_colours(looks),
        fill=alt.Fill("series:N", scale=alt.Scale(domain=domain, range=fills), legend=None),
        shape=alt.Shape("series:N", scale=alt.Scale(domain=domain, range=shapes), legend=None),
    )
    return points


def _rule_at(value: float, axis: str, name: str = "") -> alt.Chart:
    dash = [2, 3] if name else [1, 0]
    rule = _over([{"value": value, "is": f"{name} {value:g}".strip()}])
    place = alt.X("value:Q") if axis == "x" else alt.Y("value:Q")
    tooltip = alt.Tooltip(field="is", type="nominal", title="line at")
    mark = rule.mark_rule(stroke=_INK, opacity=0.55, strokeDash=dash, aria=False)
    drawn: alt.Chart = mark.encode(place, tooltip=tooltip)
    return drawn


def _axis(title: str, **options: Any) -> alt.Axis:
    return alt.Axis(title=title, **options)


def _symlog(ends: tuple[float, float]) -> alt.Scale:
    return alt.Scale(type="symlog", constant=1, domain=list(ends), nice=False)


def _drop_axis(ends: tuple[float, float]) -> alt.Axis:
    ticks = [tick for tick in DROPS if ends[0] <= tick <= ends[1] and tick == int(tick)]
    return _axis("drop (points)", values=ticks, labelOverlap=False)


def _log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten between the ends; where these are few, their doubles and fives too."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1,), (1, 2, 5)):
        ticks = [step * 10.0**power for power in powers for step in steps]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) > 2:
            break
    return ticks


def _panel(layers: Collection[alt.Chart], title: str, height: int) -> dict[str, Any]:
    chart = (
        alt.layer(*layers)
        .add_params(alt.param(name="hidden", value=[]))
        .properties(width="container", height=height, title=title, description=title)
    )
    spec: dict[str, Any] = chart.to_dict()
    del spec["$schema"], spec["config"]
    return spec
