"""What `collect` puts on record, which every stage of the report checks its tables against."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sparsecnn.artifacts import (
    Manifest,
    Origin,
    check_origin,
    check_table,
    file_sha256,
    read_json,
)
from sparsecnn.errors import ArtifactError
from sparsecnn.study.config import DENSE
from sparsecnn.study.layout import network_folder


def provenance(
    sources: Sequence[tuple[Mapping[str, Any], Manifest]], tensors: Sequence[Manifest] = ()
) -> dict[str, Any]:
    """What made the metrics: distinct versions, devices and code, dates, and every network read.

    `sources` are the metrics.json values with their manifests, `tensors` the manifests of all
    that they come from, whose versions count too, of trainings the number formats, of given
    networks the files, and of the dataset where its source lay. Each network is listed with the
    `content` hash of its metrics and the layers that pruning left dense.
    """
    manifests = [manifest for _, manifest in sources]
    versions: list[Mapping[str, str]] = []
    for manifest in (*manifests, *tensors):
        if manifest.versions not in versions:
            versions.append(manifest.versions)
    created = sorted(manifest.created for manifest in manifests)
    return {
        "versions": versions,
        "precisions": sorted(
            {m.settings["precision"] for m in tensors if "precision" in m.settings}
        ),
        "devices": sorted({manifest.device for manifest in manifests}),
        "code": sorted({manifest.code for manifest in manifests}),
        "created": {"first": created[0], "last": created[-1]},
        "given": {
            m.settings["model"]: {"file": m.settings["file"], "sha256": m.settings["weights"]}
            for m in tensors
            if m.kind == "dense" and "weights" in m.settings
        },
        "source": next((m.settings.get("source") for m in tensors if m.kind == "dataset"), None),
        "networks": [
            {
                "network": network_folder(value),
                "model": value["model"],
                "variant": value["variant"],
                "content": manifest.content,
                "pruned_layers": len(value["pruned_layers"]),
                "dense_layers": value["dense_layers"] if value["variant"] != DENSE else [],
            }
            for value, manifest in sources
        ],
    }


def read_record(
    provenance: Path, origin: Origin, tables: Iterable[Path]
) -> tuple[dict[str, Any], Manifest]:
    """Value and manifest of provenance.json, after checking tables of its study against it.

    Raises `UserError` if provenance.json is unreadable or of another origin, or a table is missing
    or not the one on record.
    """
    value, manifest = read_json(provenance, "provenance")
    check_record(provenance, manifest, origin)
    for table in tables:
        check_table(table, manifest, name_on_record(table, provenance.parent))
    return value, manifest


def check_record(provenance: Path, manifest: Manifest, origin: Origin) -> None:
    """Raise `UserError` unless provenance.json is of exactly `origin`.

    Other artifacts may hold more settings than are asked for; a table of more is of another study.
    """
    check_origin(provenance, manifest, origin)
    more = list(_more(origin.settings, manifest.settings))
    if more:
        reason = f"it was made with settings that are no longer there ({', '.join(more)})"
        raise ArtifactError(provenance, "foreign", reason)


def _more(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[str]:
    """Each setting that `found` holds besides, at any depth."""
    for key, value in found.items():
        if key not in wanted:
            yield key
        elif isinstance(value, dict):
            yield from (f"{key}.{rest}" for rest in _more(wanted[key], value))


def record(tables: Iterable[Path], folder: Path) -> dict[str, str]:
    """sha256 of each table, by its path from the study's folder."""
    return {name_on_record(table, folder): file_sha256(table) for table in tables}


def name_on_record(table: Path, folder: Path) -> str:
    """Path of a table from the study's folder."""
    return table.relative_to(folder).as_posix()
