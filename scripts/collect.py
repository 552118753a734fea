"""Gather what was measured into tables, and what made it (rule `collect`)."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsecnn.analysis.diagnostics import collect_diagnostics
from sparsecnn.analysis.results import collect
from sparsecnn.analysis.tables import write_csv
from sparsecnn.artifacts import Manifest, read_json, write_json
from sparsecnn.digest import CodeDigest
from sparsecnn.job import run_job
from sparsecnn.own_files import looked_in
from sparsecnn.study.config import data_label
from sparsecnn.study.layout import network_folder
from sparsecnn.study.lineage import Lineage
from sparsecnn.study.own_networks import own_files
from sparsecnn.study.record import provenance as provenance_of
from sparsecnn.study.record import record

if TYPE_CHECKING:
    from snakemake.script import snakemake

logger = logging.getLogger("sparsecnn")


def main(
    metrics: list[Path],
    layers: list[Path],
    diagnostics: list[Path],
    table: Path,
    provenance: Path,
    settings: dict[str, Any],
    code: str,
    diagnostics_table: Path | None = None,
) -> None:
    """Write the tables and provenance.json, unless their sources are of different generations."""
    config = settings["config"]
    digest, content = CodeDigest.of_this_project(), settings["content"]
    weights = settings.get("weights")
    lineage = Lineage(table.parent, config, digest, content, weights=weights, thorough=False)
    tensors = lineage.require_whole()
    sources = [read_json(path, "metrics") for path in metrics]
    values = [{**value, "seconds": manifest.seconds} for value, manifest in sources]
    results = collect(
        values,
        study=config["study"],
        dataset=data_label(config["dataset"]),
        **{key: config[key] for key in ("regimes", "seeds", "variants")},
    )
    parents = {network_folder(value): source.content for value, source in sources}
    write_csv(table, results.frame)
    tables = [table, *layers]
    if diagnostics_table:
        measured = [read_json(path, "diagnostics") for path in diagnostics]
        parents |= {
            path.relative_to(table.parent).as_posix(): manifest.content
            for path, (_, manifest) in zip(diagnostics, measured, strict=True)
        }
        lines = collect_diagnostics(
            [value for value, _ in measured],
            **{key: config[key] for key in ("study", "regimes", "seeds")},
        )
        write_csv(diagnostics_table, lines)
        tables.append(diagnostics_table)
    manifest = Manifest("provenance", settings, code, parents, record(tables, table.parent))
    made = provenance_of(sources, tensors)
    if own_files(config):
        made["beside"] = looked_in()  # where they were, for whoever verifies the study
    if len(made["precisions"]) > 1:
        logger.warning(
            "some networks were trained in %s, others in %s, as their machines compute; "
            "`training: {precision: float32}` would train all alike",
            *made["precisions"],
        )
    write_json(provenance, made, manifest)


if __name__ == "__main__":
    run_job(snakemake, main)
