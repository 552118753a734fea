"""What charts are made of: looks, legends, points, axes, tooltips, panels, and their pictures.

A chart is drawn by report.js in a page, and by `picture` as the SVG and PNG beside the report.
Clicking an entry of a legend shows what it stands for alone, or with what is shown already.
"""

import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import altair as alt
import pandas as pd
from vl_convert import svg_to_png, vegalite_to_svg

from sparsecnn.analysis.results import Results
from sparsecnn.report.language import gettext as _
from sparsecnn.study.config import DENSE
from sparsecnn.study.layout import network_folder

INK = "currentColor"
PAPER = alt.ExprRef("paper")
"""What open marks are filled with."""
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F5F3F")
"""Of Okabe & Ito, which the colour-blind tell apart; brown for yellow, too pale on white."""
SHAPES = (
    "square",
    "triangle-up",
    "diamond",
    "triangle-down",
    "cross",
    "M0,-.57L.57,-1.13L1.13,-.57L.57,0L1.13,.57L.57,1.13L0,.57L-.57,1.13L-1.13,.57L-.57,0"
    "L-1.13,-.57L-.57,-1.13Z",
    "M0,-1.1L1.05,-.34L.65,.89H-.65L-1.05,-.34Z",
)
DROPS = (-30, -10, -3, -1, 0, 1, 3, 10, 30, 60)
NETWORK = ["regime", "model", "variant"]

Chart = alt.FacetChart | alt.ConcatChart

GAP = 20
_LEGENDS = {"series": "markers"}
_ROOM = 900
"""Width of a picture in pixels: a page of text shows it without shrinking its letters much."""
_FONT = "Liberation Sans, Arial, Helvetica, sans-serif"
"""Of pictures. vl-convert brings the first, so that they are the same on every machine."""
_Channel = TypeVar("_Channel", alt.X, alt.Y)


class Look(NamedTuple):
    """One entry of a legend, and how the marks that it stands for look."""

    series: str
    colour: str
    shape: str
    """A name of Vega's, or an SVG path within -1 and 1."""
    filled: bool = True


class Grid(NamedTuple):
    """How panels are laid out, in pixels: in as many columns as there is room for."""

    most: int
    """Columns."""
    narrowest: int
    """Room that a panel needs to be readable, with its axis."""
    beside: int = 86
    """Of this, the axis and the gap to the next panel."""
    widest: int = 600

    @property
    def columns(self) -> int:
        """How many a picture has."""
        return max(1, min(self.most, _ROOM // self.narrowest))

    @property
    def width(self) -> int:
        """Of a panel in a picture, without its axis."""
        return min(_ROOM // self.columns, self.widest) - self.beside

    def for_titles(self, titles: Iterable[str]) -> "Grid":
        """With panels that are wide enough for their titles."""
        return self._replace(narrowest=max(self.narrowest, *map(pixels, titles)))


def on_page(chart: Chart) -> dict[str, Any]:
    """The specification that report.js fits into its place on a page."""
    spec: dict[str, Any] = chart.to_dict()
    return spec | {"config": _style("system-ui, sans-serif", None, "var(--page, white)")}


def picture(chart: Chart | None) -> tuple[str, bytes]:
    """SVG, black on white, and PNG of twice as many pixels; the same chart gives the same bytes.

    None, a chart of nothing, gives a picture that says so.
    """
    empty = alt.Chart(alt.InlineData(values=[{}])).properties(width=_ROOM // 2, height=60)
    shown = chart or empty.mark_text(text=_("There is nothing to show here."), fill=INK)
    spec = shown.to_dict() | {"config": _style(_FONT, "white", "white")}
    version = ".".join(alt.SCHEMA_VERSION.split(".")[:2])
    svg = vegalite_to_svg(spec, vl_version=version).replace(INK, "black")
    return svg, svg_to_png(svg, scale=2)


def _style(font: str, background: str | None, paper: str) -> dict[str, Any]:
    """Configuration of charts; ink is the colour of the text around them."""
    title = {"color": INK, "fontSize": 13, "fontWeight": "bold", "anchor": "start"}
    return {
        "background": background,
        "font": font,
        "axis": {
            **{f"{part}Color": INK for part in ("domain", "grid", "label", "tick", "title")},
            **{"domainOpacity": 0.5, "gridOpacity": 0.14, "tickOpacity": 0.5},
            **{"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal"},
        },
        "axisX": {"labelPadding": 5},
        "axisY": {"minExtent": 42},
        "header": {f"label{key[0].upper()}{key[1:]}": value for key, value in title.items()},
        "legend": {
            **{"labelColor": INK, "labelFontSize": 13, "labelLimit": 0, "symbolSize": 90},
            **{"columnPadding": 18, "rowPadding": 7, "offset": 12, "symbolOpacity": 1},
            "layout": {"top": {"anchor": "start", "direction": "vertical", "margin": 8}},
        },
        "params": [{"name": "paper", "value": paper}, {"name": "room", "value": _ROOM}],
        "text": {"fontSize": 12},
        "title": title | {"offset": 10, "frame": "group"},
        "view": {"stroke": None},
    }


def faceted(
    layers: Sequence[alt.Chart],
    points: pd.DataFrame,
    by: str,
    grid: Grid,
    height: int,
    legends: Mapping[str, str] = _LEGENDS,
) -> alt.FacetChart:
    """A panel of these layers, `height` pixels high, for each value of a column of `points`.

    `legends` are the fields that the reader may choose by, with the layers that these belong to.
    """
    titles = list(points[by].unique())
    grid = grid.for_titles(titles)
    chart: alt.FacetChart = (
        alt.layer(*layers)
        .properties(width=grid.width, height=height)
        .facet(
            alt.Facet(by, type="nominal", sort=titles, title=None),
            data=_values(points),
            columns=grid.columns,
        )
        .resolve_scale(x="independent", xOffset="independent")
        .resolve_axis(x="independent", y="independent")
        .properties(usermeta=grid._asdict(), spacing=GAP)
    )
    chart.params = _choices(layers, legends)
    return chart


def joined(
    panels: Mapping[str, alt.LayerChart],
    grid: Grid,
    height: int,
    legends: Mapping[str, str] = _LEGENDS,
) -> alt.ConcatChart:
    """Panels of different axes by their titles; else as `faceted`."""
    grid = grid.for_titles(panels)
    sized = [
        panel.properties(title=title, width=grid.width, height=height)
        for title, panel in panels.items()
    ]
    chart: alt.ConcatChart = (
        alt.concat(*sized, columns=grid.columns)
        .resolve_scale(stroke="shared", fill="shared", shape="shared", strokeDash="shared")
        .properties(usermeta=grid._asdict(), spacing=GAP)
    )
    chart.params = _choices(chart.concat[0].layer, legends)
    return chart


def _choices(
    layers: Iterable[alt.Chart], legends: Mapping[str, str]
) -> list[alt.TopLevelSelectionParameter]:
    names = [str(layer.name) for layer in layers]  # altair numbers them where there are panels
    return [
        alt.TopLevelSelectionParameter(
            name=f"chosen_{field}",
            select=alt.PointSelectionConfig(type="point", fields=[field], toggle="true"),
            bind="legend",
            views=[next(name for name in names if name.startswith(layer))],
        )
        for field, layer in legends.items()
    ]


def look_of(results: Results, variant: str) -> Look:
    """The colour and the marker of a variant, the same in all figures of a study."""
    if variant == DENSE:
        return Look(DENSE, INK, "circle")
    lap, index = divmod(results.variants.index(variant), len(COLOURS))
    return Look(variant, COLOURS[index], SHAPES[(index + lap) % len(SHAPES)])


def strokes(looks: Sequence[Look]) -> alt.Stroke:
    """The colours of lines and outlines."""
    return alt.Stroke("series:N", **_scaled(looks, [look.colour for look in looks]))


def fills(looks: Sequence[Look]) -> alt.Fill:
    """The colours inside of marks and of bands."""
    colours = [look.colour if look.filled else PAPER for look in looks]
    return alt.Fill("series:N", **_scaled(looks, colours))


def _scaled(looks: Sequence[Look], values: Sequence[Any]) -> dict[str, Any]:
    names = [look.series for look in looks]
    return {"scale": alt.Scale(domain=names, range=list(values)), "legend": legend(names)}


def pixels(text: str) -> int:
    """About how wide a text is; Chinese, Japanese and Korean letters are as wide as two others."""
    return sum(15 if unicodedata.east_asian_width(letter) in "FW" else 7 for letter in text)


def legend(names: Sequence[str], **options: Any) -> alt.Legend:
    """A legend of these names above the panels, in as many columns as there is room for."""
    columns = f"max(1, floor(room / {40 + max(map(pixels, names))}))"
    return alt.Legend(title=None, orient="top", columns=alt.ExprRef(columns), **options)


def chosen(field: str = "series") -> alt.ParameterPredicate:
    """The filter by what the reader has chosen in the legend of this field; at first, all."""
    return alt.ParameterPredicate(param=f"chosen_{field}")


def markers(base: alt.Chart, looks: Sequence[Look], size: int) -> alt.Chart:
    """The marks of the points of `base`, `size` square pixels large."""
    shapes = _scaled(looks, [look.shape for look in looks])
    marks = base.mark_point(size=size, strokeWidth=1.5, opacity=1).encode(
        stroke=strokes(looks), fill=fills(looks), shape=alt.Shape("series:N", **shapes)
    )
    named: alt.Chart = marks.properties(name="markers")
    return named


def rule_at(value: float, axis: str, name: str = "") -> list[alt.Chart]:
    """A line across every panel; dotted if it has a name."""
    rule = over(pd.DataFrame([{"value": value, "is": f"{name} {value:g}".strip()}]))
    place = alt.X("value:Q") if axis == "x" else alt.Y("value:Q")
    tooltip = alt.Tooltip(field="is", type="nominal", title=_("line at"))
    dash = [2, 3] if name else [1, 0]
    line = rule.mark_rule(stroke=INK, opacity=0.55, strokeDash=dash, aria=False)
    text = rule.mark_text(text=name, fill=INK, align="left", baseline="bottom", dx=3, aria=False)
    named = [text.encode(place, x=alt.value(0))] if name else []
    return [line.encode(place, tooltip=tooltip), *named]


def over(points: pd.DataFrame) -> alt.Chart:
    """A chart of these points, without marks."""
    return alt.Chart(_values(points))


def _values(points: pd.DataFrame) -> alt.InlineData:
    """Rows of points; what one lacks is left out of it."""
    rows = points.astype(object).to_dict("records")
    return alt.InlineData(values=[{k: v for k, v in row.items() if v == v} for row in rows])


def means(results: Results, column: str, variants: Sequence[str]) -> pd.DataFrame:
    """A point for the mean of every network's `column`, and what is said of it.

    Columns of `Results.estimates`; `low` and `high` as they are drawn: with two seeds, whose
    t-interval would fill the axis, from seed to seed. Beside them texts, every seed, the folder.
    """
    found = results.estimates(column)
    found = found[found["variant"].isin(variants)]
    texts = found[["value", "sd", "low", "high"]].map("{:.3f}".format)
    by_seed = results.frame.pivot(index=NETWORK, columns="seed", values=column)
    seeds = by_seed.reindex(pd.MultiIndex.from_frame(found[NETWORK])).set_index(found.index)
    interval = _("{low} to {high}")
    found = found.assign(series=found["variant"].astype(str))
    if len(results.seeds) > 1:
        found["mean"] = texts["value"] + " ± " + texts["sd"]
    found["95 % interval"] = [interval.format(**row) for row in texts.to_dict("records")]
    if len(results.seeds) == 2:
        found["low"], found["high"] = seeds.min(axis="columns"), seeds.max(axis="columns")
    found = found.join(seeds.rename(columns="seed {}".format))
    return found.assign(folder=folders(results, found))


def single(results: Results, column: str, variants: Sequence[str]) -> pd.DataFrame:
    """A point for every seed of these means; none if there is one seed."""
    found = results.frame[results.frame["variant"].isin(variants)]
    found = found[[*NETWORK, "recipe", "epochs", "seed", column]]
    found = found.rename(columns={column: "value"})
    found = found.assign(series=found["variant"].astype(str), folder=folders(results, found))
    return found if len(results.seeds) > 1 else found[:0]


def folders(results: Results, networks: pd.DataFrame) -> list[str]:
    """The folder of each network; where it has no seed of its own, of all seeds, in braces."""
    seeds = ",".join(map(str, results.seeds))
    every = {"seed": f"{{{seeds}}}" if len(results.seeds) > 1 else seeds}
    root = f"results/{results.frame['study'].iloc[0]}"
    return [f"{root}/{network_folder(every | row)}" for row in networks.to_dict("records")]


def limits(found: pd.DataFrame, low: float = -math.inf, high: float = math.inf) -> list[float]:
    """Limits that hold every seed, and whiskers as far as they leave the points readable.

    Not below `low` nor above `high`.
    """
    seeds = found.filter(like="seed ")
    least, most = seeds.min(axis=None), seeds.max(axis=None)
    reach = max(0.5 * (most - least), 10.0)
    bottom = max(found["low"].min(), least - reach)
    top = min(found["high"].max(), most + reach)
    margin = 0.04 * (top - bottom)
    return [max(bottom - margin, low), min(top + margin, high)]


def tooltips(points: pd.DataFrame, **titles: str) -> list[alt.Tooltip]:
    """What is said of a point: these columns, then its mean, interval, seeds and folder."""
    own = {"mean": _("mean"), "95 % interval": _("95 % interval")}
    own |= {
        name: _("seed {seed}").format(seed=name.removeprefix("seed "))
        for name in points
        if name.startswith("seed ")
    }
    titles |= {name: title for name, title in own.items() if name in points}
    titles["folder"] = _("folder")
    return [alt.Tooltip(field=name, type="nominal", title=title) for name, title in titles.items()]


def accuracy_axis(ends: Sequence[float]) -> alt.Y:
    """The axis of accuracies in percent."""
    scale = alt.Scale(domain=list(ends), nice=False, zero=False)
    return alt.Y("value:Q", scale=scale, axis=alt.Axis(title=_("top-1 accuracy (%)")))


def drop_axis(ends: Sequence[float], channel: type[_Channel]) -> _Channel:
    """The axis of drops in points, with zero; it is logarithmic beyond one."""
    low, high = min(ends[0], 0), max(ends[1], 0)
    scale = alt.Scale(type="symlog", constant=1, domain=[low, high], nice=False, padding=5)
    axis = alt.Axis(title=_("drop (points)"), labelOverlap=False)
    ticks = [tick for tick in DROPS if low <= tick <= high]
    if len(ticks) > 2:  # else the axis is almost linear, and Vega's own ticks are
        axis.values, axis.tickCount = ticks, len(ticks)
    return channel("value:Q", scale=scale, axis=axis)
