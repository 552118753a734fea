"""The figures of the diagnostics, in the style and the colours of `figures`."""

import math
from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from sparsecnn.analysis.ablation import shown
from sparsecnn.analysis.diagnostics import Diagnostics
from sparsecnn.analysis.results import Cell, Results
from sparsecnn.report.appearance import appearance
from sparsecnn.report.figure_parts import STYLE, add_legend, draw_along_depth


class ChangeScale(NamedTuple):
    """A scale that is linear between `-near` and `near`, and logarithmic beyond."""

    near: float
    limits: tuple[float, float]
    ticks: Sequence[float]


def ends_of(results: Results) -> list[str]:
    """The least and the most trained regime, or the only one."""
    return list(dict.fromkeys(results.ends))


def draw_quadratic_model(results: Results, diagnostics: Diagnostics) -> Figure:
    """Loss change predicted by the quadratic model against the one measured, a point per network.

    One panel per network; open markers are the least, full ones the most trained of `results`.
    Both axes are linear around zero and logarithmic beyond.
    """
    variants = [v for v in shown(results) if v in diagnostics.variants]
    regimes = ends_of(results)
    with mpl.rc_context({**STYLE, "axes.grid.axis": "both"}):
        n = len(results.models)
        figure = Figure(figsize=(max(5.0, 1.2 + 3.4 * n), 4.9))
        grid = figure.subplots(1, n, squeeze=False, sharex=True, sharey=True)[0]
        drawn = [0.0]
        for axes, model in zip(grid, results.models, strict=True):
            for regime, variant in product(regimes, variants):
                cell = Cell(regime, model)
                measured = diagnostics.values(cell, variant, "measured")
                predicted = diagnostics.values(cell, variant, "predicted")
                colour, marker = appearance(results, variant)
                face = colour if regime == regimes[-1] else "white"
                axes.plot(measured, predicted, marker, color=colour, mfc=face, markersize=7)
                drawn += [*measured, *predicted]
            axes.set_title(model, fontsize=11)
            axes.set_xlabel("change of loss, measured")
        grid[0].set_ylabel("change of loss, quadratic model")
        _scale(grid, drawn)
        add_legend(figure, results, variants)
        if len(regimes) > 1:
            _budget_legend(figure, regimes)
    return figure


def draw_accumulation(results: Results, diagnostics: Diagnostics) -> Figure:
    """Error of every layer's outputs against the dense network's, along depth by variant.

    Full lines are the error in the pruned network, dotted ones what the layer adds by itself.
    Regimes (the least and the most trained) go down, networks across; means over seeds.
    """
    variants = [v for v in shown(results) if v in diagnostics.variants]
    regimes = ends_of(results)
    with mpl.rc_context(STYLE):
        n_rows, n_columns = len(regimes), len(results.models)
        figure = Figure(figsize=(1.4 + 3.2 * n_columns, 1.8 + 2.5 * n_rows))

        def draw(axes: Axes, cell: Cell) -> None:
            for variant, kind in product(variants, ("accumulated", "own")):
                _draw_errors(axes, results, diagnostics, cell, variant, kind)

        draw_along_depth(figure, results, regimes, draw)
        add_legend(figure, results, variants)
        figure.legend(
            [Line2D([], [], color="black"), Line2D([], [], color="black", linestyle=":")],
            ["in the pruned network", "of the layer alone"],
            loc="outside lower center",
            ncols=2,
        )
    return figure


def _draw_errors(
    axes: Axes,
    results: Results,
    diagnostics: Diagnostics,
    cell: Cell,
    variant: str,
    kind: str,
) -> None:
    rows = diagnostics.of(cell, variant, f"{kind}_error")
    depth = {row.layer: row.depth for row in rows}
    errors = diagnostics.along_depth(cell, variant, f"{kind}_error")
    # What is zero, as the own error of a layer left dense, has no place on a logarithmic axis.
    values = [error if error > 0 else float("nan") for error in errors.values()]
    colour, marker = appearance(results, variant)
    style = {"accumulated": "-", "own": ":"}[kind]
    mark = marker if kind == "accumulated" else ""
    places = [depth[layer] for layer in errors]
    axes.plot(places, values, style, marker=mark, color=colour, markersize=4, linewidth=1.4)


def change_scale(drawn: Sequence[float]) -> ChangeScale:
    """The scale that shows these changes of the loss, small ones and large ones alike."""
    sizes = sorted(abs(value) for value in drawn if value) or [1.0]
    near = 10.0 ** math.floor(math.log10(sizes[len(sizes) // 10]))
    decades = range(round(math.log10(near)) + 1, math.floor(math.log10(2 * sizes[-1])) + 1)
    powers = [10.0**decade for decade in decades[:: 1 + len(decades) // 4]]
    low, high = min(drawn), max([*drawn, near])
    limits = (2 * low if low < 0 else -0.3 * near, 2 * high)
    ticks = [tick for tick in (*(-p for p in powers), 0, *powers) if limits[0] <= tick <= limits[1]]
    return ChangeScale(near, limits, ticks)


def _scale(grid: Sequence[Axes], drawn: Sequence[float]) -> None:
    """The same scale for both axes of all panels, and the line on which the model is exact."""
    near, limits, ticks = change_scale(drawn)
    for axes in grid:
        axes.set_xscale("symlog", linthresh=near, linscale=0.5)
        axes.set_yscale("symlog", linthresh=near, linscale=0.5)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(FixedLocator(ticks))
            axis.set_minor_locator(NullLocator())
            axis.set_major_formatter(FuncFormatter(lambda change, _: f"{change:g}"))
        axes.set_xlim(limits)
        axes.set_ylim(limits)
        axes.plot(limits, limits, color="#777777", linewidth=1, zorder=1)
        axes.axhline(0, color="#777777", linewidth=1, linestyle=":", zorder=1)
        axes.tick_params(labelleft=True, labelsize=9)


def _budget_legend(figure: Figure, regimes: Sequence[str]) -> None:
    faces = ("white", "black")
    figure.legend(
        [Line2D([], [], linestyle="", marker="o", color="black", mfc=face) for face in faces],
        list(regimes),
        loc="outside lower center",
        ncols=2,
    )
