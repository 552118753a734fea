"""Draw the report's figures (rule `figures`)."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsecnn.job import run_job
from sparsecnn.study.ablation import ingredients
from sparsecnn.study.curve_figures import draw_budgets
from sparsecnn.study.curves import extremes
from sparsecnn.study.diagnostic_figures import draw_accumulation, draw_quadratic_model
from sparsecnn.study.diagnostics import read_diagnostics
from sparsecnn.study.figures import (
    draw_ablation,
    draw_accuracy,
    draw_drop,
    draw_layer_error,
    read_layer_errors,
    save_svg,
)
from sparsecnn.study.metrics import read_results

if TYPE_CHECKING:
    from snakemake.script import snakemake


def main(
    table: Path,
    layers: list[Path],
    accuracy: Path,
    drop: Path,
    layer_error: Path,
    ablation: Path,
    budgets: Path,
    settings: dict[str, Any],
    diagnostics: Path | None = None,
    quadratic_model: Path | None = None,
    accumulation: Path | None = None,
) -> None:
    """Write the figures as SVG; `settings` are `pruning`, `methods` and `variants`."""
    every_budget = read_results(table)
    save_svg(draw_budgets(every_budget), budgets)
    results = extremes(every_budget)
    save_svg(draw_accuracy(results), accuracy)
    save_svg(draw_drop(results), drop)
    save_svg(draw_layer_error(results, [read_layer_errors(path) for path in layers]), layer_error)
    save_svg(draw_ablation(results, ingredients(settings)), ablation)
    if diagnostics and quadratic_model and accumulation:
        measured = read_diagnostics(diagnostics)
        save_svg(draw_quadratic_model(results, measured), quadratic_model)
        save_svg(draw_accumulation(results, measured), accumulation)


if __name__ == "__main__":
    run_job(snakemake, main)
