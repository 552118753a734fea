"""Render the report in each of its languages (rule `report`)."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsecnn.analysis.diagnostics import read_diagnostics
from sparsecnn.analysis.reference import read_reference
from sparsecnn.analysis.results import read_results
from sparsecnn.artifacts import Origin, check_parents, file_sha256, read_json, write_text
from sparsecnn.job import run_job
from sparsecnn.report.language import NAMES, speaking
from sparsecnn.report.markdown import relative_links, render, report_context
from sparsecnn.study.record import read_record

if TYPE_CHECKING:
    from snakemake.script import snakemake


def main(
    table: Path,
    claims: Path,
    provenance: Path,
    dataset: Path,
    templates: list[Path],
    figures: list[Path],
    reference: Path,
    reports: list[Path],
    settings: dict[str, Any],
    origins: dict[str, Origin],
    catalogues: Sequence[Path] = (),
    diagnostics: Path | None = None,
) -> None:
    """Write the reports, unless tables, claims and provenance are of different generations.

    Reports are in the order of the languages in `settings`, catalogues in that of all but English.
    """
    tables = [table, *([diagnostics] if diagnostics else [])]
    made, _ = read_record(provenance, origins["provenance"], tables)
    verdicts, claims_manifest = read_json(claims, "claims", origins["claims"])
    check_parents(claims, claims_manifest, {path.stem: file_sha256(path) for path in tables})
    images, _ = read_json(dataset, "dataset_summary", origins["dataset"])
    config, results = settings["config"], read_results(table)
    measured = read_diagnostics(diagnostics) if diagnostics else None
    by_language = dict(zip(config["report"]["language"], reports, strict=True))
    words = {catalogue.stem: catalogue for catalogue in catalogues}
    published = read_reference(reference)
    texts = {path.name: path.read_text(encoding="utf-8") for path in templates}
    for language, report in by_language.items():
        with speaking(words.get(language)):
            context = report_context(
                results,
                claims=verdicts,
                provenance=made,
                dataset=images,
                reference=published,
                figures=relative_links(figures, report),
                config=config,
                name=report.name,
                others={NAMES[k]: r.name for k, r in by_language.items() if k != language},
                diagnostics=measured,
            )
            write_text(report, render(texts, context))
    for former in set(reports[0].parent.glob("report.*.md")) - set(reports):
        former.unlink()  # in a language that is no longer asked for


if __name__ == "__main__":
    run_job(snakemake, main)
