"""Draw the report's figures (rule `figures`)."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsecnn.job import run_job
from sparsecnn.study.ablation import ingredients
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
    settings: dict[str, Any],
) -> None:
    """Write the figures as SVG; `settings` are `pruning`, `methods` and `variants`."""
    results = read_results(table)
    save_svg(draw_accuracy(results), accuracy)
    save_svg(draw_drop(results), drop)
    save_svg(draw_layer_error(results, [read_layer_errors(path) for path in layers]), layer_error)
    save_svg(draw_ablation(results, ingredients(settings)), ablation)


if __name__ == "__main__":
    run_job(snakemake, main)
