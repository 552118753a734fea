"""What the report's figures have in common: style, legend, and SVG with deterministic bytes.

The background is white, so that dark pages show it too.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from sparsecnn.analysis.results import Cell, Results
from sparsecnn.artifacts import atomic_write
from sparsecnn.report.appearance import appearance

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


def draw_along_depth(
    figure: Figure, results: Results, regimes: Sequence[str], draw: Callable[[Axes, Cell], None]
) -> None:
    """Panels of errors by layer, which `draw` fills: regimes go down, networks across."""
    grid = figure.subplots(
        len(regimes), len(results.models), squeeze=False, sharey=True, sharex="col"
    )
    for i, regime in enumerate(regimes):
        for j, model in enumerate(results.models):
            axes, cell = grid[i, j], Cell(regime, model)
            if cell not in results.cells:
                axes.set_axis_off()
                continue
            draw(axes, cell)
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(FuncFormatter(lambda error, _: f"{100 * error:g} %"))
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.set_title(f"{model}, {results.epochs(cell)} epochs", fontsize=11)
            axes.tick_params(labelleft=True)
        grid[i, 0].set_ylabel("relative output error")
    for axes in grid[-1]:
        axes.set_xlabel("layer, by depth")


def add_legend(figure: Figure, results: Results, variants: Sequence[str]) -> None:
    """Name the variants above the figure."""
    handles = []
    for variant in variants:
        colour, marker = appearance(results, variant)
        handles.append(Line2D([], [], color=colour, marker=marker, linewidth=1.8))
    columns = min(len(variants), max(2, int(figure.get_figwidth() / 1.7)))
    figure.legend(handles, list(variants), loc="outside upper center", ncols=columns)


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
