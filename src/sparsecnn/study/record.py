"""What `collect` put on record, which every stage of the report checks its tables against."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sparsecnn.artifacts import Manifest, Origin, check_table, file_sha256, read_json


def read_record(
    provenance: Path, origin: Origin, tables: Iterable[Path]
) -> tuple[dict[str, Any], Manifest]:
    """Value and manifest of provenance.json, after checking tables of its study against it.

    Raises `UserError` if provenance.json is unreadable or of another origin, or a table is missing
    or not the one on record.
    """
    value, manifest = read_json(provenance, "provenance", origin)
    for table in tables:
        check_table(table, manifest, name_on_record(table, provenance.parent))
    return value, manifest


def record(tables: Iterable[Path], folder: Path) -> dict[str, str]:
    """sha256 of each table, by its path from the study's folder."""
    return {name_on_record(table, folder): file_sha256(table) for table in tables}


def name_on_record(table: Path, folder: Path) -> str:
    """Path of a table from the study's folder."""
    return table.relative_to(folder).as_posix()
