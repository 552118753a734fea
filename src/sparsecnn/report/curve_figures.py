"""The figure of accuracy and drop against training, in the style of `figures`."""

from collections.abc import Callable, Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from sparsecnn.analysis.ablation import shown
from sparsecnn.analysis.comparisons import accuracy, drop
from sparsecnn.analysis.curves import curve_of
from sparsecnn.analysis.results import Cell, Results
from sparsecnn.analysis.statistics import Estimate
from sparsecnn.report.appearance import appearance, whisker
from sparsecnn.report.figure_parts import STYLE, add_legend
from sparsecnn.study.config import DENSE


def draw_budgets(results: Results) -> Figure:
    """Accuracy (above) and drop (below) against epochs, one column per network.

    Lines are means over seeds, bands 95 % intervals (with two seeds: from seed to seed).
    """
    variants = shown(results)
    with mpl.rc_context(STYLE):
        n = len(results.models)
        figure = Figure(figsize=(max(4.5, 1.2 + 3.4 * n), 6.4))
        grid = figure.subplots(2, n, squeeze=False, sharex="col", sharey="row")
        for j, model in enumerate(results.models):
            cells = curve_of(results, model)
            epochs = [results.epochs(cell) for cell in cells]
            for variant in (DENSE, *variants):
                values = [results.top1(cell, variant) for cell in cells]
                _draw_band(grid[0, j], results, variant, epochs, cells, values, accuracy)
            for variant in variants:
                values = [[row.drop for row in results.of(cell, variant)] for cell in cells]
                _draw_band(grid[1, j], results, variant, epochs, cells, values, drop)
            grid[0, j].set_title(model, fontsize=11)
            grid[1, j].axhline(0, color="black", linewidth=1, zorder=1)
            grid[1, j].set_xlabel("epochs of training")
            _scale_epochs(grid[1, j], epochs)
        grid[0, 0].set_ylabel("top-1 accuracy (%)")
        grid[1, 0].set_ylabel("drop (points)")
        low, high = grid[0, 0].get_ylim()
        grid[0, 0].set_ylim(max(low, 0), min(high, 100))
        add_legend(figure, results, [DENSE, *variants])
    return figure


def _draw_band(
    axes: Axes,
    results: Results,
    variant: str,
    epochs: Sequence[int],
    cells: Sequence[Cell],
    values: Sequence[Sequence[float]],
    measure: Callable[[Results, Cell, str], Estimate],
) -> None:
    colour, marker = appearance(results, variant)
    estimates = [measure(results, cell, variant) for cell in cells]
    ends = [whisker(e, seeds) for e, seeds in zip(estimates, values, strict=True)]
    lows, highs = [low for low, _ in ends], [high for _, high in ends]
    axes.fill_between(epochs, lows, highs, color=colour, alpha=0.18, linewidth=0)
    means = [e.value for e in estimates]
    axes.plot(epochs, means, marker=marker, color=colour, markersize=5, linewidth=1.6)


def _scale_epochs(axes: Axes, epochs: Sequence[int]) -> None:
    axes.set_xscale("log")
    axes.set_xticks(sorted(set(epochs)), [str(e) for e in sorted(set(epochs))], fontsize=9)
    axes.xaxis.set_minor_locator(NullLocator())
