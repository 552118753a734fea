"""Test the reference study's claims, and the study's own, on its table (rule `claims`)."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsecnn.analysis.claims import CLAIMS
from sparsecnn.analysis.declared import declared_claims
from sparsecnn.analysis.diagnostics import read_diagnostics
from sparsecnn.analysis.judging import judge
from sparsecnn.analysis.results import read_results
from sparsecnn.artifacts import Manifest, Origin, file_sha256, write_json
from sparsecnn.job import run_job
from sparsecnn.study.record import read_record

if TYPE_CHECKING:
    from snakemake.script import snakemake


def main(
    table: Path,
    provenance: Path,
    claims: Path,
    settings: dict[str, Any],
    code: str,
    origins: dict[str, Origin],
    diagnostics: Path | None = None,
) -> None:
    """Write claims.json; `settings` are those of `claims`."""
    tables = [table, *([diagnostics] if diagnostics else [])]
    read_record(provenance, origins["provenance"], tables)
    measured = read_diagnostics(diagnostics) if diagnostics else None
    own = declared_claims(settings, first=len(CLAIMS) + 1)
    parents = {path.stem: file_sha256(path) for path in tables}
    write_json(
        claims,
        judge(read_results(table), measured, own, settings["claims"]["margin"]),
        Manifest("claims", settings, code, parents),
    )


if __name__ == "__main__":
    run_job(snakemake, main)
