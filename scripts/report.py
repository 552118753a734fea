"""Render the report (rule `report`)."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsecnn.artifacts import check_parents, file_sha256, read_json, read_table, write_text
from sparsecnn.job import run_job
from sparsecnn.study.diagnostics import read_diagnostics
from sparsecnn.study.metrics import read_results
from sparsecnn.study.reference import read_reference
from sparsecnn.study.report import relative_links, render, report_context

if TYPE_CHECKING:
    from snakemake.script import snakemake


def main(
    table: Path,
    claims: Path,
    provenance: Path,
    dataset: Path,
    template: Path,
    figures: list[Path],
    reference: Path,
    report: Path,
    settings: dict[str, Any],
    diagnostics: Path | None = None,
) -> None:
    """Write report.md, unless tables, claims and provenance are of different generations."""
    verdicts, claims_manifest = read_json(claims, "claims")
    made, provenance_manifest = read_json(provenance, "provenance")
    read_table(table, provenance_manifest)
    parents = {"metrics": file_sha256(table)}
    if diagnostics:
        read_table(diagnostics, provenance_manifest)
        parents["diagnostics"] = file_sha256(diagnostics)
    check_parents(claims, claims_manifest, parents)
    context = report_context(
        read_results(table),
        claims=verdicts,
        provenance=made,
        dataset=read_json(dataset, "dataset_summary")[0],
        reference=read_reference(reference),
        figures=relative_links(figures, report),
        config=settings["config"],
        diagnostics=read_diagnostics(diagnostics) if diagnostics else None,
    )
    write_text(report, render(template.read_text(encoding="utf-8"), context))


if __name__ == "__main__":
    run_job(snakemake, main)
