"""Draw the report's figures (rule `figures`)."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import altair as alt

from sparsecnn.analysis.ablation import ingredients
from sparsecnn.analysis.diagnostics import read_diagnostics
from sparsecnn.analysis.layer_errors import read_layer_errors
from sparsecnn.analysis.results import read_results
from sparsecnn.analysis.waterfall import steps
from sparsecnn.artifacts import Origin, atomic_write, write_text
from sparsecnn.job import run_job
from sparsecnn.report.chart_parts import picture
from sparsecnn.report.charts import study_charts
from sparsecnn.study.record import read_record

if TYPE_CHECKING:
    from snakemake.script import snakemake


def main(
    table: Path,
    provenance: Path,
    layers: list[Path],
    figures: list[Path],
    settings: dict[str, Any],
    origins: dict[str, Origin],
    diagnostics: Path | None = None,
) -> None:
    """Write the figures as SVG, and as PNG beside; `settings` as in `ingredients` and `steps`."""
    tables = [table, *layers, *([diagnostics] if diagnostics else [])]
    read_record(provenance, origins["provenance"], tables)
    charts = study_charts(
        read_results(table),
        read_layer_errors(layers),
        ingredients(settings),
        steps(settings),
        read_diagnostics(diagnostics) if diagnostics else None,
    )
    for path in figures:
        _save(charts[path.stem], path)


def _save(chart: alt.ConcatChart | None, path: Path) -> None:
    svg, png = picture(chart)
    write_text(path, svg)
    atomic_write(path.with_suffix(".png"), lambda temporary: temporary.write_bytes(png))


if __name__ == "__main__":
    run_job(snakemake, main)
