"""Draw the report's figures (rule `figures`)."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsecnn.analysis.ablation import ingredients
from sparsecnn.analysis.curves import extremes
from sparsecnn.analysis.diagnostics import read_diagnostics
from sparsecnn.analysis.layer_errors import read_layer_errors
from sparsecnn.analysis.results import read_results
from sparsecnn.artifacts import Origin
from sparsecnn.job import run_job
from sparsecnn.report.ablation_figures import draw_ablation
from sparsecnn.report.curve_figures import draw_budgets
from sparsecnn.report.diagnostic_figures import draw_accumulation, draw_quadratic_model
from sparsecnn.report.figure_parts import save_png, save_svg
from sparsecnn.report.figures import draw_accuracy, draw_drop, draw_layer_error
from sparsecnn.study.record import read_record

if TYPE_CHECKING:
    from snakemake.script import snakemake


def main(
    table: Path,
    provenance: Path,
    layers: list[Path],
    accuracy: Path,
    drop: Path,
    layer_error: Path,
    ablation: Path,
    budgets: Path,
    settings: dict[str, Any],
    origins: dict[str, Origin],
    diagnostics: Path | None = None,
    quadratic_model: Path | None = None,
    accumulation: Path | None = None,
) -> None:
    """Write the figures as SVG, and as PNG beside; `settings` as in `ingredients`."""
    tables = [table, *layers, *([diagnostics] if diagnostics else [])]
    read_record(provenance, origins["provenance"], tables)
    every_budget = read_results(table)
    results = extremes(every_budget)
    errors = [read_layer_errors(path) for path in layers]
    drawn = {
        budgets: draw_budgets(every_budget),
        accuracy: draw_accuracy(results),
        drop: draw_drop(results),
        layer_error: draw_layer_error(results, errors),
        ablation: draw_ablation(results, ingredients(settings)),
    }
    if diagnostics and quadratic_model and accumulation:
        measured = read_diagnostics(diagnostics)
        drawn[quadratic_model] = draw_quadratic_model(results, measured)
        drawn[accumulation] = draw_accumulation(results, measured)
    for path, figure in drawn.items():
        save_svg(figure, path)
        save_png(figure, path.with_suffix(".png"))


if __name__ == "__main__":
    run_job(snakemake, main)
