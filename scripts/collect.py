"""Gather the metrics of every network into one table, and what made them (rule `collect`)."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsecnn.artifacts import Manifest, read_json, write_json, write_table
from sparsecnn.job import run_job
from sparsecnn.study.metrics import collect, network_name, table_rows
from sparsecnn.study.metrics import provenance as provenance_of

if TYPE_CHECKING:
    from snakemake.script import snakemake


def main(
    metrics: list[Path], table: Path, provenance: Path, settings: dict[str, Any], code: str
) -> None:
    """Write metrics.csv and provenance.json."""
    sources = [read_json(path, "metrics") for path in metrics]
    values = [value for value, _ in sources]
    write_table(table, table_rows(collect(values, **settings)))
    parents = {network_name(value): manifest.content for value, manifest in sources}
    write_json(provenance, provenance_of(sources), Manifest("provenance", settings, code, parents))


if __name__ == "__main__":
    run_job(snakemake, main)
