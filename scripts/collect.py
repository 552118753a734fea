"""Gather the metrics of every network into one table, and what made them (rule `collect`)."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsecnn.artifacts import Manifest, read_json, write_json, write_table
from sparsecnn.digest import CodeDigest
from sparsecnn.job import run_job
from sparsecnn.study.lineage import Lineage
from sparsecnn.study.metrics import collect, network_name, table_rows
from sparsecnn.study.metrics import provenance as provenance_of

if TYPE_CHECKING:
    from snakemake.script import snakemake


def main(
    metrics: list[Path], table: Path, provenance: Path, settings: dict[str, Any], code: str
) -> None:
    """Write metrics.csv and provenance.json, unless the metrics are of different generations."""
    config = settings["config"]
    lineage = Lineage(table.parents[1], config, CodeDigest.of_this_project(), thorough=False)
    tensors = lineage.require_whole()
    sources = [read_json(path, "metrics") for path in metrics]
    values = [{**value, "seconds": manifest.seconds} for value, manifest in sources]
    results = collect(
        values,
        study=config["study"],
        dataset=config["dataset"]["label"] or config["dataset"]["name"],
        **{key: config[key] for key in ("regimes", "seeds", "variants")},
    )
    manifest = Manifest(
        "provenance",
        settings,
        code,
        parents={network_name(value): source.content for value, source in sources},
        files={table.name: write_table(table, table_rows(results))},
    )
    write_json(provenance, provenance_of(sources, tensors), manifest)


if __name__ == "__main__":
    run_job(snakemake, main)
