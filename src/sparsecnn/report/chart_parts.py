"""What the interactive charts are made of: looks, marks, scales, axes, tooltips, panels."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any, NamedTuple, TypeVar

import altair as alt
import numpy as np

from sparsecnn.analysis.comparisons import accuracy, drop
from sparsecnn.analysis.diagnostics import Measurement
from sparsecnn.analysis.results import Cell, Results, Row
from sparsecnn.analysis.statistics import Estimate
from sparsecnn.report.appearance import COLOURS, DROPS, limits, whisker
from sparsecnn.report.language import N_, ngettext
from sparsecnn.report.language import gettext as _
from sparsecnn.study.config import DENSE
from sparsecnn.study.layout import network_folder

INK = "currentColor"
PAGE = "var(--page, white)"
CIRCLE = "M1,0A1,1,0,1,1,-1,0A1,1,0,1,1,1,0Z"
SQUARE = "M-.9,-.9H.9V.9H-.9Z"
_SHAPES = (
    SQUARE,
    "M0,-1.1L1.1,.9H-1.1Z",
    "M0,-1.25L1,0L0,1.25L-1,0Z",
    "M0,1.1L1.1,-.9H-1.1Z",
    "M-.4,-1.1H.4V-.4H1.1V.4H.4V1.1H-.4V.4H-1.1V-.4H-.4Z",
    "M0,-.57L.57,-1.13L1.13,-.57L.57,0L1.13,.57L.57,1.13L0,.57L-.57,1.13L-1.13,.57L-.57,0"
    "L-1.13,-.57L-.57,-1.13Z",
    "M0,-1.1L1.05,-.34L.65,.89H-.65L-1.05,-.34Z",
)
_Channel = TypeVar("_Channel", alt.X, alt.Y)


class Look(NamedTuple):
    """One entry of a legend, and how the marks that it stands for look."""

    series: str
    colour: str
    shape: str
    """An SVG path within -1 and 1."""
    filled: bool = True


@dataclass(frozen=True)
class Chart:
    """An interactive chart. Each panel is a Vega-Lite specification as wide as its container.

    A panel hides what its parameter `hidden` holds, a list of names from the legend.
    """

    legend: Sequence[Look]
    panels: Sequence[Mapping[str, Any]]
    width: int
    """Pixels that a panel needs to be readable."""

    def as_json(self) -> dict[str, Any]:
        """Plain values, for the page's script."""
        looks = [look._asdict() for look in self.legend]
        return {"legend": looks, "panels": list(self.panels), "width": self.width}


class Measured(NamedTuple):
    """One quantity of networks and variants: estimates of its mean, and the values of the seeds."""

    estimates: Mapping[tuple[Cell, str], Estimate]
    seeds: Mapping[tuple[Cell, str], Sequence[float]]

    def whisker(self, cell: Cell, variant: str) -> tuple[float, float]:
        """The interval that is drawn, as in the figures."""
        return whisker(self.estimates[cell, variant], self.seeds[cell, variant])

    def ends(self, low: float = -math.inf, high: float = math.inf) -> tuple[float, float]:
        """The limits of an axis, as in the figures, not below `low` nor above `high`."""
        whiskers = [self.whisker(*key) for key in self.seeds]
        bottom, top = limits(whiskers, self.seeds.values())
        return max(bottom, low), min(top, high)


def accuracies(results: Results, variants: Sequence[str]) -> Measured:
    """Top-1 accuracies of every network."""
    keys = list(product(results.cells, variants))
    return Measured(
        {key: accuracy(results, *key) for key in keys}, {key: results.top1(*key) for key in keys}
    )


def drops(results: Results, cells: Sequence[Cell], variants: Sequence[str]) -> Measured:
    """Accuracies lost to pruning."""
    keys = list(product(cells, variants))
    return Measured(
        {key: drop(results, *key) for key in keys},
        {key: [row.drop for row in results.of(*key)] for key in keys},
    )


def look_of(results: Results, variant: str) -> Look:
    """The colour and the marker of a variant, as in the figures."""
    if variant == DENSE:
        return Look(DENSE, INK, CIRCLE)
    index = results.variants.index(variant)
    return Look(variant, COLOURS[index % len(COLOURS)], _SHAPES[index % len(_SHAPES)])


def mean_point(
    results: Results,
    cell: Cell,
    variant: str,
    measured: Measured,
    series: str,
) -> dict[str, Any]:
    """A mark for a mean, and what is said of it: its interval, every seed, the folder."""
    found, values = measured.estimates[cell, variant], measured.seeds[cell, variant]
    rows = results.of(cell, variant)
    low, high = measured.whisker(cell, variant)
    point: dict[str, Any] = {"series": series, "value": found.value, "low": low, "high": high}
    if series != variant:
        point["variant"] = variant
    if found.sd is not None:
        point["mean"] = f"{found.value:.3f} ± {found.sd:.3f}"
    interval = _("{low} to {high}").format(low=f"{found.low:.3f}", high=f"{found.high:.3f}")
    point["95 % interval"] = interval
    point |= {f"seed {row.seed}": value for row, value in zip(rows, values, strict=True)}
    return point | {"folder": folder_of(rows)}


def error_points(
    series: str, names: Sequence[str], errors: Mapping[int, Sequence[float]], folder: str
) -> list[dict[str, Any]]:
    """Marks for the errors of layers along depth, which `errors` holds by seed; means of them.

    What is not above zero has no place on a logarithmic axis: the line has a gap there, after which
    another `part` of it begins.
    """
    points, part = [], 0
    for i, mean in enumerate(np.mean(list(errors.values()), axis=0)):
        if not mean > 0:
            part += 1
            continue
        name = {"layer": names[i]} if names else {}
        seeds = {f"seed {seed}": f"{100 * own[i]:.4g} %" for seed, own in errors.items()}
        mean_of = {"mean": f"{100 * mean:.4g} %"} if len(errors) > 1 else {}
        point = {"depth": i + 1, "series": series, "value": float(mean), "part": part, **name}
        points.append(point | mean_of | seeds | {"folder": folder})
    return points


def folder_of(rows: Sequence[Row] | Sequence[Measurement]) -> str:
    """The folder of a network; of several seeds, as a shell's braces abbreviate them."""
    seeds = [str(seed) for seed in dict.fromkeys(row.seed for row in rows)]
    name = network_folder(asdict(rows[0]))
    if len(seeds) > 1:
        name = name.replace(f"/seed-{seeds[0]}/", f"/seed-{{{','.join(seeds)}}}/")
    return f"results/{rows[0].study}/{name}"


_PLACES = ("slot", "value", "low", "high", "part", "x", "y")
"""What only says where a mark stands."""
_TITLES = {
    "95 % interval": N_("95 % interval"),
    "depth": N_("depth"),
    "epochs": N_("epochs"),
    "error": N_("error"),
    "folder": N_("folder"),
    "its error": N_("its error"),
    "its first order": N_("its first order"),
    "its second order": N_("its second order"),
    "layer": N_("layer"),
    "mean": N_("mean"),
    "measured": N_("measured"),
    "network": N_("network"),
    "pruning": N_("pruning"),
    "quadratic model": N_("quadratic model"),
    "regime": N_("regime"),
    "seed": N_("seed"),
    "value": N_("value"),
    "variant": N_("variant"),
}


def tooltips(points: Sequence[Mapping[str, Any]]) -> list[alt.Tooltip]:
    """Everything the points say, in their order; one seed's `value` is what it was measured as."""
    names = list(dict.fromkeys(key for point in points for key in point))
    kept = [name for name in names if name not in _PLACES or ("seed" in names and name == "value")]
    series = _("groups, batch norm") if "variant" in names else _("variant")
    titles = {"series": series} | {name: _title(name) for name in kept if name != "series"}
    return [alt.Tooltip(field=name, type="nominal", title=titles[name]) for name in kept]


def _title(name: str) -> str:
    if name.startswith("seed "):
        return _("seed {seed}").format(seed=name.removeprefix("seed "))
    return _(_TITLES[name])


def over(points: Sequence[Mapping[str, Any]]) -> alt.Chart:
    """A chart of these points, without marks."""
    return alt.Chart(alt.InlineData(values=list(points)))


def visible(*fields: str) -> str:
    """The filter of what the legend does not hide, where its entries are values of `fields`."""
    return " && ".join(f"indexof(hidden, datum.{field}) < 0" for field in fields)


def strokes(looks: Sequence[Look]) -> alt.Stroke:
    """The colours of lines and outlines."""
    domain, range_ = [look.series for look in looks], [look.colour for look in looks]
    return alt.Stroke("series:N", scale=alt.Scale(domain=domain, range=range_), legend=None)


def fills(looks: Sequence[Look]) -> alt.Fill:
    """The colours inside of marks and of bands."""
    domain = [look.series for look in looks]
    range_ = [look.colour if look.filled else PAGE for look in looks]
    return alt.Fill("series:N", scale=alt.Scale(domain=domain, range=range_), legend=None)


def markers(base: alt.Chart, looks: Sequence[Look], size: int) -> alt.Chart:
    """The marks of the points of `base`, `size` square pixels large."""
    domain, shapes = [look.series for look in looks], [look.shape for look in looks]
    drawn: alt.Chart = base.mark_point(size=size, strokeWidth=1.5, opacity=1).encode(
        stroke=strokes(looks),
        fill=fills(looks),
        shape=alt.Shape("series:N", scale=alt.Scale(domain=domain, range=shapes), legend=None),
    )
    return drawn


def rule_at(value: float, axis: str, name: str = "") -> alt.Chart:
    """A line across the panel; dotted if it has a name."""
    dash = [2, 3] if name else [1, 0]
    rule = over([{"value": value, "is": f"{name} {value:g}".strip()}])
    place = alt.X("value:Q") if axis == "x" else alt.Y("value:Q")
    tooltip = alt.Tooltip(field="is", type="nominal", title=_("line at"))
    mark = rule.mark_rule(stroke=INK, opacity=0.55, strokeDash=dash, aria=False)
    drawn: alt.Chart = mark.encode(place, tooltip=tooltip)
    return drawn


def accuracy_axis(ends: tuple[float, float]) -> alt.Y:
    """The axis of accuracies in percent."""
    scale = alt.Scale(domain=list(ends), nice=False, zero=False)
    return alt.Y("value:Q", scale=scale, axis=alt.Axis(title=_("top-1 accuracy (%)")))


def drop_axis(ends: tuple[float, float], channel: type[_Channel]) -> _Channel:
    """The axis of drops in points, logarithmic beyond one."""
    ticks = [tick for tick in DROPS if ends[0] <= tick <= ends[1] and tick == int(tick)]
    scale = alt.Scale(type="symlog", constant=1, domain=list(ends), nice=False)
    axis = alt.Axis(title=_("drop (points)"), values=ticks, labelOverlap=False)
    return channel("value:Q", scale=scale, axis=axis)


def depth_axis() -> alt.X:
    """The axis of layers by depth."""
    axis = alt.Axis(title=_("layer, by depth"), grid=False, tickMinStep=1, format="d")
    return alt.X("depth:Q", scale=alt.Scale(nice=False, zero=False, padding=8), axis=axis)


def error_axis(errors: Sequence[float]) -> alt.Y:
    """The axis of relative errors, logarithmic, in percent."""
    low, high = min(errors) / 1.3, max(errors) * 1.3
    axis = alt.Axis(
        title=_("relative output error"),
        labelExpr="format(100 * datum.value, '~g') + ' %'",
        values=_log_ticks(low, high),
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


def epochs_of(number: int) -> str:
    """How long a network was trained, in words."""
    return ngettext("{number} epoch", "{number} epochs", number).format(number=number)


def titled(network: str, epochs: int) -> str:
    """The title of a panel on one network."""
    return f"{network}, {epochs_of(epochs)}"


def panel(layers: Collection[alt.Chart], title: str, height: int) -> dict[str, Any]:
    """The specification of a panel of these layers, `height` pixels high without its axes."""
    chart = (
        alt.layer(*layers)
        .add_params(alt.param(name="hidden", value=[]))
        .properties(width="container", height=height, title=title, description=title)
    )
    spec: dict[str, Any] = chart.to_dict()
    del spec["$schema"], spec["config"]
    return spec
