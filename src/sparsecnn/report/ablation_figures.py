"""The figure of an ablation: what each ingredient of a method is worth."""

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullLocator

from sparsecnn.analysis.ablation import Column, Ingredient, columns, largest_budget
from sparsecnn.analysis.comparisons import drop
from sparsecnn.analysis.results import Cell, Results
from sparsecnn.report.appearance import COLOURS, DROPS, whisker
from sparsecnn.report.figure_parts import STYLE


def draw_ablation(results: Results, rows: Sequence[Ingredient]) -> Figure:
    """Accuracy lost to pruning by ingredient (down), one panel per network at the largest budget.

    Marker and colour tell the groups, its filling whether batch norm was re-estimated. The axis is
    linear up to one point and logarithmic beyond.
    """
    with mpl.rc_context({**STYLE, "axes.grid.axis": "x"}):
        cells, wide = largest_budget(results), columns(rows)
        labels = [_wrapped(row.label) for row in rows]
        lines = max(label.count("\n") + 1 for label in labels)
        height = 1.5 + len(rows) * max(0.4, 0.13 * len(wide), 0.1 + 0.18 * lines)
        figure = Figure(figsize=(max(6.0, 2.6 + 2.7 * len(cells)), height))
        grid = figure.subplots(1, len(cells), squeeze=False, sharey=True, sharex=True)[0]
        for axes, cell in zip(grid, cells, strict=True):
            for i, row in enumerate(rows):
                if i % 2:
                    axes.axhspan(i - 0.5, i + 0.5, color="#F2F2F2", zorder=0)
                for k, column in enumerate(wide):
                    if column in row.variants:
                        y = i + 0.8 * ((k + 0.5) / len(wide) - 0.5)
                        _draw_drop(axes, y, results, cell, row.variants[column], wide, column)
            axes.set_title(f"{cell.model}, {results.epochs(cell)} epochs", fontsize=11)
            axes.axvline(0, color="black", linewidth=1, zorder=1)
            axes.tick_params(axis="y", length=0)
        grid[0].set_yticks(range(len(rows)), labels)
        grid[0].set_ylim(len(rows) - 0.5, -0.5)
        _scale_drops(grid[0], [end for cell in cells for end in _extent(results, cell)])
        figure.supxlabel("drop: dense minus pruned (points)", fontsize=11)
        figure.legend(
            [Line2D([], [], linestyle="", **_mark(wide, column)) for column in wide],
            [f"{column.layout}, batch norm {str(column).split(', ')[1]}" for column in wide],
            loc="outside upper center",
            ncols=2,
        )
    return figure


def _draw_drop(
    axes: Axes,
    y: float,
    results: Results,
    cell: Cell,
    variant: str,
    wide: Sequence[Column],
    column: Column,
) -> None:
    lost, look = drop(results, cell, variant), _mark(wide, column)
    seeds = [row.drop for row in results.of(cell, variant)]
    axes.hlines(y, *whisker(lost, seeds), color=look["color"], linewidth=1.2, alpha=0.6)
    axes.plot([lost.value], [y], linestyle="", **look)


def _wrapped(label: str) -> str:
    """The label in lines that begin with a plus."""
    return textwrap.fill(label.replace(" ", "\xa0").replace("\xa0+", " +"), 26)


def _mark(wide: Sequence[Column], column: Column) -> dict[str, Any]:
    """Colour and shape for the layout, full where batch norm was re-estimated."""
    index = list(dict.fromkeys(c.layout for c in wide)).index(column.layout)
    colour = COLOURS[index % len(COLOURS)]
    return {
        "color": colour,
        "marker": ("o", "s")[index % 2],
        "markersize": 6.5,
        "markeredgewidth": 1.4,
        "markerfacecolor": colour if column.bn_recalibrated else "white",
    }


def _scale_drops(axes: Axes, drops: Sequence[float]) -> None:
    axes.set_xscale("symlog", linthresh=1, linscale=0.8)
    axes.set_xlim(min(*drops, 0) - 0.2, max(*drops, 1) * 1.5)
    axes.set_xticks([tick for tick in DROPS if axes.get_xlim()[0] <= tick <= axes.get_xlim()[1]])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda points, _: f"{points:g}"))


def _extent(results: Results, cell: Cell) -> Iterator[float]:
    """All that is drawn of one network's drops: the drops of the seeds, and the whiskers' ends."""
    for variant in results.variants:
        seeds = [row.drop for row in results.of(cell, variant)]
        yield from seeds
        yield from whisker(drop(results, cell, variant), seeds)
