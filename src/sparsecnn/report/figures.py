"""Figures of accuracy, of what pruning costs, and of errors along depth.

A study of many variants has its first few alone in these.
"""

import math
from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sparsecnn.analysis.ablation import shown
from sparsecnn.analysis.comparisons import accuracy, drop
from sparsecnn.analysis.layer_errors import LayerErrors, different
from sparsecnn.analysis.results import Cell, Results
from sparsecnn.analysis.statistics import Estimate
from sparsecnn.report.appearance import appearance, limits, whisker
from sparsecnn.report.figure_parts import STYLE, add_legend, draw_along_depth
from sparsecnn.study.config import DENSE

_PAGE = 10.0
"""Width in inches that panels side by side may take: wider, and a page shrinks the letters."""


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
        draw_along_depth(
            figure,
            results,
            results.regimes,
            lambda axes, cell: _draw_depth(axes, results, cell, variants, layers),
        )
        add_legend(figure, results, variants)
    return figure


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
