"""Make the report's page for a browser (rule `page`)."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsecnn.analysis.ablation import ingredients
from sparsecnn.analysis.diagnostics import read_diagnostics
from sparsecnn.analysis.layer_errors import read_layer_errors
from sparsecnn.analysis.results import read_results
from sparsecnn.analysis.waterfall import steps
from sparsecnn.artifacts import Origin, write_text
from sparsecnn.job import run_job
from sparsecnn.report.chart_parts import on_page
from sparsecnn.report.charts import study_charts
from sparsecnn.report.html import render_page
from sparsecnn.report.language import speaking
from sparsecnn.report.markdown import relative_links
from sparsecnn.study.record import read_record

if TYPE_CHECKING:
    from snakemake.script import snakemake


def main(
    reports: list[Path],
    table: Path,
    provenance: Path,
    layers: list[Path],
    figures: list[Path],
    template: Path,
    style: Path,
    script: Path,
    pages: list[Path],
    settings: dict[str, Any],
    origins: dict[str, Origin],
    catalogues: Sequence[Path] = (),
    diagnostics: Path | None = None,
) -> None:
    """Write a page of each report; `settings` as in `ingredients` and `steps`."""
    tables = [table, *layers, *([diagnostics] if diagnostics else [])]
    read_record(provenance, origins["provenance"], tables)
    links = relative_links(figures, pages[0])
    results, errors = read_results(table), read_layer_errors(layers)
    measured = read_diagnostics(diagnostics) if diagnostics else None
    words = {catalogue.stem: catalogue for catalogue in catalogues}
    for language, report, page in zip(settings["report"]["language"], reports, pages, strict=True):
        markdown = report.read_text(encoding="utf-8")
        for other in reports:  # in a page, the other languages are pages too
            markdown = markdown.replace(f"]({other.name})", f"]({other.stem}.html)")
        with speaking(words.get(language)):
            rows, found = ingredients(settings), steps(settings)
            charts = study_charts(results, errors, rows, found, measured)
            text = render_page(
                markdown,
                template.read_text(encoding="utf-8"),
                style=style.read_text(encoding="utf-8"),
                script=script.read_text(encoding="utf-8"),
                figures={links[figure.stem]: figure.read_bytes() for figure in figures},
                charts={links[n]: on_page(c) if c else None for n, c in charts.items()},
                language=language,
            )
        write_text(page, text)
    for former in set(pages[0].parent.glob("report.*.html")) - set(pages):
        former.unlink()


if __name__ == "__main__":
    run_job(snakemake, main)
