"""Make the report's page for a browser (rule `page`)."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsecnn.artifacts import write_text
from sparsecnn.job import run_job
from sparsecnn.study.ablation import ingredients
from sparsecnn.study.charts import study_charts
from sparsecnn.study.diagnostics import read_diagnostics
from sparsecnn.study.figures import read_layer_errors
from sparsecnn.study.html import render_page
from sparsecnn.study.metrics import read_results
from sparsecnn.study.report import relative_links

if TYPE_CHECKING:
    from snakemake.script import snakemake


def main(
    report: Path,
    table: Path,
    layers: list[Path],
    figures: list[Path],
    template: Path,
    style: Path,
    script: Path,
    page: Path,
    settings: dict[str, Any],
    diagnostics: Path | None = None,
) -> None:
    """Write report.html; `settings` as in `ingredients`."""
    links = relative_links(figures, page)
    charts = study_charts(
        read_results(table),
        [read_layer_errors(path) for path in layers],
        ingredients(settings),
        read_diagnostics(diagnostics) if diagnostics else None,
    )
    text = render_page(
        report.read_text(encoding="utf-8"),
        template.read_text(encoding="utf-8"),
        style=style.read_text(encoding="utf-8"),
        script=script.read_text(encoding="utf-8"),
        figures={links[figure.stem]: figure.read_bytes() for figure in figures},
        charts={links[n]: chart.as_json() if chart else None for n, chart in charts.items()},
    )
    write_text(page, text)


if __name__ == "__main__":
    run_job(snakemake, main)
