"""What charts are made of: looks and legends, axes and tooltips, panels, and their pictures.

A chart is drawn by report.js in a page, and by `picture` as the SVG and PNG beside the report.
Clicking entries of a legend shows what they stand for alone.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from typing import Any, NamedTuple, TypeVar

import altair as alt
import pandas as pd
from PIL import Image
from vl_convert import svg_to_png, vegalite_to_svg

from sparsecnn.analysis.ablation import shown
from sparsecnn.analysis.results import Results
from sparsecnn.report.language import gettext as _
from sparsecnn.study.config import DENSE
from sparsecnn.study.layout import network_folder

INK = "currentColor"
PAPER = alt.ExprRef("paper")
"""What is behind a chart: open marks are filled with it."""
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
NETWORK = ["regime", "model", "variant"]
_DROPS = (-30, -10, -3, -1, 0, 1, 3, 10, 30, 60)
_ROOM = 900
"""Width of a picture in pixels: a page of text shows it without shrinking its letters much."""
_FONT = "Liberation Sans, Arial, Helvetica, sans-serif"
"""Of pictures. vl-convert brings the first, so that they are the same on every machine."""
_CLIP = re.compile(r"""(?<=[#"])clip\d+(?=[)"])""")
_Channel = TypeVar("_Channel", alt.X, alt.Y)


class Look(NamedTuple):
    """One entry of a legend, and how the marks that it stands for look."""

    series: str
    colour: str
    shape: str
    """A name of Vega's, or an SVG path within -1 and 1."""
    filled: bool = True


class Grid(NamedTuple):
    """How panels are laid out: in as many columns as there is room for. Lengths are in pixels."""

    most: int
    """Columns."""
    narrowest: int
    """What a panel with its axis needs to be readable."""
    height: int
    """Of a panel without its axis."""
    beside: int = 86
    """Width of the axis, and of the gap to the next panel."""
    widest: int = 600


def paneled(
    points: pd.DataFrame,
    layers: Callable[[pd.DataFrame], Sequence[alt.Chart]],
    grid: Grid,
    legends: Mapping[str, str],
) -> alt.ConcatChart:
    """A chart of a panel for each value of the column `panel` of `points`, which is its title.

    Parameters
    ----------
    layers
        Of a panel with these points, from back to front.
    legends
        The fields that the reader can choose by, and the layer that the legend of each belongs to:
        the first one with symbols.
    """
    titles = list(points["panel"].unique())
    grid = grid._replace(narrowest=max(grid.narrowest, *map(pixels, titles)))
    columns = max(1, min(grid.most, _ROOM // grid.narrowest))
    width = min(_ROOM // columns, grid.widest) - grid.beside
    panels = [
        alt.layer(*layers(points[points["panel"] == title])).properties(
            title=title, width=width, height=grid.height
        )
        for title in titles
    ]
    of_legends = ("stroke", "fill", "shape", "strokeDash", "size")
    shared = alt.Resolve(scale=dict.fromkeys(of_legends, "shared"))
    layout: dict[str, Any] = {"columns": columns, "spacing": 20, "usermeta": grid._asdict()}
    chart: alt.ConcatChart = alt.concat(*panels, resolve=shared, **layout)
    named = [str(layer.name) for layer in chart.concat[0].layer]  # Altair adds the panel's number
    chart.params = [
        alt.TopLevelSelectionParameter(
            name=f"chosen_{field}",
            select=alt.PointSelectionConfig(type="point", fields=[field], toggle="true"),
            bind="legend",
            views=[next(name for name in named if name.startswith(layer))],
        )
        for field, layer in legends.items()
    ]
    return chart


def chosen(field: str = "series") -> alt.ParameterPredicate:
    """The filter by what the reader has chosen in the legend of this field; at first, all."""
    return alt.ParameterPredicate(param=f"chosen_{field}")


def on_page(chart: alt.ConcatChart) -> dict[str, Any]:
    """The specification that report.js fits into its place on a page."""
    spec: dict[str, Any] = chart.to_dict()
    return spec | {"config": _style("system-ui, sans-serif", None, "var(--page, white)")}


def picture(chart: alt.ConcatChart | None) -> tuple[str, bytes]:
    """SVG, black on white, and PNG of twice as many pixels; the same chart gives the same bytes.

    None, a chart of nothing, gives a picture that says so.
    """
    empty = alt.Chart(alt.InlineData(values=[{}])).properties(width=_ROOM // 2, height=60)
    shown = chart or empty.mark_text(text=_("There is nothing to show here."), fill=INK)
    spec = shown.to_dict() | {"config": _style(_FONT, "white", "white")}
    version = ".".join(alt.SCHEMA_VERSION.split(".")[:2])
    svg = vegalite_to_svg(spec, vl_version=version).replace(INK, "black")
    clips = list(dict.fromkeys(_CLIP.findall(svg)))  # numbered since the process began
    svg = _CLIP.sub(lambda found: f"clip{clips.index(found[0])}", svg)
    drawn, png = Image.open(BytesIO(svg_to_png(svg, scale=2))), BytesIO()
    drawn.convert("RGB").save(png, "PNG", optimize=True)  # a third of the bytes
    return svg, png.getvalue()


def _style(font: str, background: str | None, paper: str) -> dict[str, Any]:
    """Configuration of charts; their ink is the colour of the text around them."""
    ink = {f"{part}Color": INK for part in ("domain", "grid", "label", "tick", "title")}
    pale = {"domainOpacity": 0.5, "gridOpacity": 0.14, "tickOpacity": 0.5}
    size = {"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal"}
    entry = {"labelColor": INK, "labelFontSize": 13, "labelLimit": 0}
    apart = {"columnPadding": 18, "rowPadding": 7, "offset": 12}
    rows = {"top": {"anchor": "start", "direction": "vertical", "margin": 8}}
    return {
        "background": background,
        "font": font,
        "axis": ink | pale | size,
        "axisX": {"labelPadding": 5},
        "axisY": {"minExtent": 42},
        "legend": entry | apart | {"symbolSize": 90, "symbolOpacity": 1, "layout": rows},
        "params": [{"name": "paper", "value": paper}, {"name": "room", "value": _ROOM}],
        "text": {"fontSize": 12},
        "title": {"color": INK, "fontSize": 13, "anchor": "start", "frame": "group", "offset": 10},
        "view": {"stroke": None},
    }


def pixels(text: str) -> int:
    """About how wide a text is; Chinese, Japanese and Korean letters are as wide as two others."""
    return sum(15 if unicodedata.east_asian_width(letter) in "FW" else 7 for letter in text)


def look_of(results: Results, variant: str) -> Look:
    """The colour and the marker of a variant, the same in all figures of a study.

    Those that figures show come first, so that their colours are the first ones.
    """
    if variant == DENSE:
        return Look(DENSE, INK, "circle")
    order = list(dict.fromkeys([*shown(results), *results.variants]))
    lap, index = divmod(order.index(variant), len(COLOURS))
    return Look(variant, COLOURS[index], SHAPES[(index + lap) % len(SHAPES)])


def legend(names: Sequence[str], **options: Any) -> alt.Legend:
    """A legend of these names above the panels, in as many columns as there is room for."""
    columns = f"max(1, floor(room / {40 + max(map(pixels, names))}))"
    return alt.Legend(title=None, orient="top", columns=alt.ExprRef(columns), **options)


def strokes(looks: Sequence[Look]) -> alt.Stroke:
    """The colours of lines and outlines."""
    return alt.Stroke("series:N", **_scaled(looks, [look.colour for look in looks]))


def fills(looks: Sequence[Look]) -> alt.Fill:
    """The colours inside of marks and of bands."""
    colours = [look.colour if look.filled else PAPER for look in looks]
    return alt.Fill("series:N", **_scaled(looks, colours))


def markers(base: alt.Chart, looks: Sequence[Look], size: int) -> alt.Chart:
    """The marks of the points of `base`, `size` square pixels large."""
    shape = alt.Shape("series:N", **_scaled(looks, [look.shape for look in looks]))
    marks: alt.Chart = base.mark_point(size=size, strokeWidth=1.5, opacity=1)
    marks = marks.encode(stroke=strokes(looks), fill=fills(looks), shape=shape)
    marks.name = "markers"
    return marks


def _scaled(looks: Sequence[Look], values: Sequence[Any]) -> dict[str, Any]:
    names = [look.series for look in looks]
    return {"scale": alt.Scale(domain=names, range=list(values)), "legend": legend(names)}


def over(points: pd.DataFrame) -> alt.Chart:
    """A chart of these points, without marks; what a row lacks is left out of its point."""
    rows = points.astype(object).to_dict("records")
    values = [{k: v for k, v in row.items() if v == v} for row in rows]
    return alt.Chart(alt.InlineData(values=values))


def folders(results: Results, networks: pd.DataFrame) -> list[str]:
    """The folder of each network; where it has no seed of its own, of all seeds, in braces."""
    seeds = ",".join(map(str, results.seeds))
    every = {"seed": f"{{{seeds}}}" if len(results.seeds) > 1 else seeds}
    root = f"results/{results.frame['study'].iloc[0]}"
    return [f"{root}/{network_folder(every | row)}" for row in networks.to_dict("records")]


def rule_at(value: float, axis: str, name: str = "") -> list[alt.Chart]:
    """A line across the panel; if it has a name, it is dotted."""
    rule = over(pd.DataFrame([{"value": value, "is": f"{name} {value:g}".strip()}]))
    rule = rule.encode(alt.X("value:Q") if axis == "x" else alt.Y("value:Q"))
    said = alt.Tooltip(field="is", type="nominal", title=_("line at"))
    dash = [2, 3] if name else [1, 0]
    line = rule.mark_rule(stroke=INK, opacity=0.55, strokeDash=dash, aria=False)
    text = rule.mark_text(text=name, fill=INK, align="left", baseline="bottom", dx=3, aria=False)
    return [line.encode(tooltip=said), *([text.encode(x=alt.value(0))] if name else [])]


def tooltips(points: pd.DataFrame, **titles: str) -> list[alt.Tooltip]:
    """What is said of a point: these columns, then its mean, interval, seeds and folder."""
    own = {"mean": _("mean"), "95 % interval": _("95 % interval")}
    for name in points.filter(regex="^seed ").columns:
        own[name] = _("seed {seed}").format(seed=name.removeprefix("seed "))
    titles |= {name: title for name, title in own.items() if name in points}
    titles["folder"] = _("folder")
    return [alt.Tooltip(field=name, type="nominal", title=title) for name, title in titles.items()]


def accuracy_axis(ends: tuple[float, float]) -> alt.Y:
    """The axis of accuracies in percent."""
    scale = alt.Scale(domain=list(ends), nice=False, zero=False)
    return alt.Y("value:Q", scale=scale, axis=alt.Axis(title=_("top-1 accuracy (%)")))


def drop_axis(ends: tuple[float, float], channel: type[_Channel]) -> _Channel:
    """The axis of drops in points, with zero; it is logarithmic beyond one."""
    low, high = min(ends[0], 0), max(ends[1], 0)
    scale = alt.Scale(type="symlog", constant=1, domain=[low, high], nice=False, padding=5)
    ticks = [tick for tick in _DROPS if low <= tick <= high]
    # Where few of these are left the axis is almost linear, and Vega's ticks do.
    fixed: dict[str, Any] = {"values": ticks, "tickCount": len(ticks)} if len(ticks) > 2 else {}
    axis = alt.Axis(title=_("drop (points)"), labelOverlap=False, **fixed)
    return channel("value:Q", scale=scale, axis=axis)
