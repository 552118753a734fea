"""The report's figures, as SVG with deterministic bytes.

Colours are those of Okabe & Ito (colour-blind safe), black for dense; a variant keeps its colour
and marker in every figure of a study but the ablation, where they tell groups and batch norm
apart. A study of many variants has its first few alone in the other figures. The background is
white, so that dark pages show it too.
"""

import csv
import math
import textwrap
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from sparsecnn.artifacts import atomic_write
from sparsecnn.errors import UserError
from sparsecnn.study.ablation import Column, Ingredient, columns, largest_budget, shown
from sparsecnn.study.comparisons import accuracy, drop
from sparsecnn.study.metrics import DENSE, Cell, Results
from sparsecnn.study.statistics import Estimate

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F5F3F")
_MARKERS = ("s", "^", "D", "v", "P", "X", "p")
_PAGE = 10.0
"""Width in inches that panels side by side may take: wider, and a page shrinks the letters."""
DROPS = (-10, -3, -1, 0, 0.5, 1, 3, 10, 30, 60)
STYLE: Any = {
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
    "legend.frameon": False,
    "svg.hashsalt": "sparsecnn",
}


@dataclass(frozen=True)
class LayerErrors:
    """Relative output error ``||WX - W'X||^2 / ||WX||^2`` of every layer of one pruned network."""

    model: str
    recipe: str
    epochs: int
    seed: int
    variant: str
    errors: tuple[float, ...]
    """In order of depth; NaN for a layer left dense."""
    layers: tuple[str, ...] = ()
    """Names of the layers, in the same order."""


def read_layer_errors(path: Path) -> LayerErrors:
    """Read ``<model>/<recipe>/epochs-<n>/seed-<s>/<variant>/layers.csv`` under any folder.

    Raises `UserError` if it is not such a table.
    """
    try:
        model, recipe, epochs, seed, variant = path.parts[-6:-1]
        with path.open(encoding="utf-8", newline="") as file:
            records = list(csv.DictReader(file))
            errors = [record["relative_error"] for record in records]
        return LayerErrors(
            model,
            recipe,
            int(epochs.removeprefix("epochs-")),
            int(seed.removeprefix("seed-")),
            variant,
            tuple(float(error) if error else np.nan for error in errors),
            tuple(record["layer"] for record in records),
        )
    except (OSError, KeyError, ValueError) as error:
        raise UserError(
            f"{path}: not a table of layers ({type(error).__name__}: {error}); "
            "delete the file and run snakemake again to make it anew"
        ) from None


def draw_accuracy(results: Results) -> Figure:
    """Top-1 accuracy per network by variant (dense first), one panel per regime."""
    estimates = {
        (cell, variant): accuracy(results, cell, variant)
        for cell in results.cells
        for variant in (DENSE, *shown(results))
    }
    seeds = {(cell, variant): results.top1(cell, variant) for cell, variant in estimates}
    figure = _draw_cells(results, [DENSE, *shown(results)], estimates, seeds)
    first = figure.axes[0]
    _label_rows(figure, "top-1 accuracy (%)")
    low, high = max(first.get_ylim()[0], 0), min(first.get_ylim()[1], 100)
    first.set_ylim(low, high)
    if low < results.chance < high:
        for axes in figure.axes:
            axes.axhline(results.chance, color="#777777", linewidth=1, linestyle=":", zorder=1)
        first.annotate(
            "chance",
            (0, results.chance),
            xycoords=first.get_yaxis_transform(),
            xytext=(3, 3),
            textcoords="offset points",
            fontsize=9,
        )
    return figure


def draw_drop(results: Results) -> Figure:
    """Accuracy lost to pruning per network by variant, one panel per regime."""
    estimates = {
        (cell, variant): drop(results, cell, variant)
        for cell in results.cells
        for variant in shown(results)
    }
    seeds = {
        (cell, variant): [row.drop for row in results.of(cell, variant)]
        for cell, variant in estimates
    }
    figure = _draw_cells(results, shown(results), estimates, seeds)
    _label_rows(figure, "drop: dense minus pruned (points)")
    for axes in figure.axes:
        axes.axhline(0, color="black", linewidth=1, zorder=1)
    return figure


def draw_layer_error(results: Results, layers: Sequence[LayerErrors]) -> Figure:
    """Relative output error along depth by variant, mean over seeds.

    Regimes go down, networks across; the error axis is logarithmic. Of variants with the same
    errors (re-estimating batch norm changes no weight) the first stands for all.
    """
    variants = different(shown(results), layers)
    with mpl.rc_context(STYLE):
        n_rows, n_columns = len(results.regimes), len(results.models)
        figure = Figure(figsize=(1.4 + 3.2 * n_columns, 1.4 + 2.3 * n_rows))
        grid = figure.subplots(n_rows, n_columns, squeeze=False, sharey=True, sharex="col")
        for i, regime in enumerate(results.regimes):
            for j, model in enumerate(results.models):
                axes, cell = grid[i, j], Cell(regime, model)
                if cell not in results.cells:
                    axes.set_axis_off()
                    continue
                _draw_depth(axes, results, cell, variants, layers)
                axes.set_title(f"{model}, {results.epochs(cell)} epochs", fontsize=11)
                axes.tick_params(labelleft=True)
            grid[i, 0].set_ylabel("relative output error")
        for axes in grid[-1]:
            axes.set_xlabel("layer, by depth")
        add_legend(figure, results, variants)
    return figure


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


def save_svg(figure: Figure, path: Path) -> None:
    """Write a figure as SVG, atomically; the same figure gives the same bytes."""
    _save(figure, path, format="svg", metadata={"Date": None, "Creator": None})


def save_png(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, as `save_svg` does, for viewers that show no SVG."""
    _save(figure, path, format="png", dpi=150, metadata={"Software": None})


def _save(figure: Figure, path: Path, **options: Any) -> None:
    FigureCanvasAgg(figure)
    with mpl.rc_context(STYLE):
        atomic_write(path, lambda temporary: figure.savefig(temporary, **options))


def _draw_cells(
    results: Results,
    variants: Sequence[str],
    estimates: Mapping[tuple[Cell, str], Estimate],
    seeds: Mapping[tuple[Cell, str], Sequence[float]],
) -> Figure:
    """A panel for each regime, as many in a row as a page is wide enough to show legibly."""
    n = len(results.regimes)
    with mpl.rc_context(STYLE):
        widest = max(
            sum(cell.regime == regime for cell in results.cells) for regime in results.regimes
        )
        panel = max(2.4, widest * (0.5 + 0.22 * len(variants)))
        n_columns = min(n, max(1, int(_PAGE // panel)))
        n_rows = math.ceil(n / n_columns)
        figure = Figure(figsize=(max(4.5, 1.2 + panel * n_columns), 0.9 + 3.3 * n_rows))
        grid = figure.subplots(n_rows, n_columns, squeeze=False, sharey=True).flatten()
        for axes in grid[n:]:
            axes.remove()
        for axes, regime in zip(grid, results.regimes, strict=False):
            cells = [cell for cell in results.cells if cell.regime == regime]
            for position, cell in enumerate(cells):
                for k, variant in enumerate(variants):
                    x = position + 0.7 * ((k + 0.5) / len(variants) - 0.5)
                    key = (cell, variant)
                    _draw_estimate(
                        axes, x, estimates[key], seeds[key], appearance(results, variant)
                    )
            axes.set_xticks(
                range(len(cells)), [f"{c.model}\n{results.epochs(c)} epochs" for c in cells]
            )
            axes.tick_params(axis="x", length=0)
            axes.set_xlim(-0.55, len(cells) - 0.45)
            axes.set_title(regime, fontsize=11)
            axes.tick_params(labelleft=True)
        whiskers = [whisker(estimates[key], seeds[key]) for key in estimates]
        grid[0].set_ylim(limits(whiskers, seeds.values()))
        add_legend(figure, results, variants)
    return figure


def _label_rows(figure: Figure, label: str) -> None:
    for axes in figure.axes:
        place = axes.get_subplotspec()
        if place and place.is_first_col():
            axes.set_ylabel(label)


def _draw_estimate(
    axes: Axes, x: float, estimate: Estimate, seeds: Sequence[float], look: tuple[str, str]
) -> None:
    colour, marker = look
    axes.vlines(x, *whisker(estimate, seeds), color=colour, linewidth=1.8)
    axes.plot([x], [estimate.value], marker, color=colour, markersize=7)
    if len(seeds) > 1:
        axes.plot([x] * len(seeds), seeds, "_", color=colour, markersize=9, alpha=0.6)


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


def whisker(estimate: Estimate, seeds: Sequence[float]) -> tuple[float, float]:
    """The interval; with two seeds, whose t-interval would fill the axis, the seeds themselves."""
    return (min(seeds), max(seeds)) if len(seeds) == 2 else (estimate.low, estimate.high)


def different(variants: Sequence[str], layers: Sequence[LayerErrors]) -> list[str]:
    """The variants whose errors are not those of an earlier one, to the last bit."""
    first: dict[str, str] = {}
    for variant in variants:
        own = sorted(
            (x.model, x.recipe, x.epochs, x.seed, *x.errors) for x in layers if x.variant == variant
        )
        first.setdefault(repr(own), variant)
    return list(first.values())


def _draw_depth(
    axes: Axes,
    results: Results,
    cell: Cell,
    variants: Sequence[str],
    layers: Sequence[LayerErrors],
) -> None:
    network = (cell.model, *results.training(cell))
    for variant in variants:
        errors = [
            layer.errors
            for layer in layers
            if (layer.model, layer.recipe, layer.epochs, layer.variant) == (*network, variant)
        ]
        if not errors:
            continue
        mean = np.mean(errors, axis=0)
        mean[mean <= 0] = np.nan  # a layer without error has no place on a logarithmic axis
        colour, marker = appearance(results, variant)
        depth = np.arange(1, len(mean) + 1)
        axes.plot(depth, mean, marker=marker, color=colour, markersize=4, linewidth=1.4)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda error, _: f"{100 * error:g} %"))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def appearance(results: Results, variant: str) -> tuple[str, str]:
    """Colour and marker of a variant, the same in all figures of a study."""
    if variant == DENSE:
        return "black", "o"
    index = results.variants.index(variant)
    return COLOURS[index % len(COLOURS)], _MARKERS[index % len(_MARKERS)]


def add_legend(figure: Figure, results: Results, variants: Sequence[str]) -> None:
    """Name the variants above the figure."""
    handles = []
    for variant in variants:
        colour, marker = appearance(results, variant)
        handles.append(Line2D([], [], color=colour, marker=marker, linewidth=1.8))
    columns = min(len(variants), max(2, int(figure.get_figwidth() / 1.7)))
    figure.legend(handles, list(variants), loc="outside upper center", ncols=columns)


def limits(
    whiskers: Sequence[tuple[float, float]], seeds: Collection[Sequence[float]]
) -> tuple[float, float]:
    """Limits that hold every point, and whiskers as far as they leave the points readable."""
    points = [value for values in seeds for value in values]
    low, high = min(points), max(points)
    reach = max(0.5 * (high - low), 10.0)
    bottom = max(min(whisker[0] for whisker in whiskers), low - reach)
    top = min(max(whisker[1] for whisker in whiskers), high + reach)
    margin = 0.04 * (top - bottom)
    return bottom - margin, top + margin
