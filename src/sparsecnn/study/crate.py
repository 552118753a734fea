"""A finished study as an RO-Crate (https://w3id.org/ro/crate/1.1), which archives take.

It holds what is small - report, figures, tables, verdicts, metrics, settings, environment, the code
that builds networks of the user's own - and of the images and networks their hashes and manifests.
"""

import hashlib
import json
import subprocess
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from rocrate.rocrate import ROCrate

from sparsecnn.artifacts import Manifest, read_manifest
from sparsecnn.errors import UserError
from sparsecnn.study import layout
from sparsecnn.study.own_networks import own_files

_METADATA = "ro-crate-metadata.json"
_FORMATS = {
    ".csv": "text/csv",
    ".html": "text/html",
    ".json": "application/json",
    ".md": "text/markdown",
    ".py": "text/x-python",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".yaml": "application/yaml",
    ".lock": "text/plain",
}


def export_crate(folder: Path, provenance: Manifest, project: Path, target: Path) -> int:
    """Write the crate of the study in `folder` to `target`, a .zip; the number of its files.

    Parameters
    ----------
    provenance
        The manifest of the study's provenance.json, with its configuration.
    project
        The project's folder, for the revision of the code and its requirements.lock.

    Raises `UserError` if a file is missing or `target` cannot be written.
    """
    config = provenance.settings["config"]
    with tempfile.TemporaryDirectory() as temporary:
        made = {
            "config.yaml": yaml.safe_dump(config, sort_keys=False, allow_unicode=True),
            "artifacts.json": json.dumps(_manifests(folder, config), indent=1, sort_keys=True),
        }
        for name, text in made.items():
            (Path(temporary) / name).write_text(text, encoding="utf-8")
        files = {name: Path(temporary) / name for name in made}
        if (project / "requirements.lock").exists():
            files["requirements.lock"] = project / "requirements.lock"
        files |= {path.relative_to(folder).as_posix(): path for path in _small_files(folder)}
        files |= {f"builders/{name}": path for name, path in own_files(config).items()}
        try:
            _write(files, provenance, _revision(project), target)
        except OSError as error:
            raise UserError(f"cannot write {target}: {error.strerror or error}") from error
    return len(files)


def check_crate(path: Path) -> dict[str, str]:
    """State of every file that a crate lists: ``whole``, ``missing`` or ``broken``.

    Raises `UserError` if it is no crate of this project.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            graph = json.loads(archive.read(_METADATA))["@graph"]
            listed = {entry["@id"]: entry["sha256"] for entry in graph if "sha256" in entry}
            names = set(archive.namelist())
            return {name: _state(archive, names, name, digest) for name, digest in listed.items()}
    except (OSError, zipfile.BadZipFile, KeyError, ValueError, TypeError) as error:
        raise UserError(f"{path}: not an RO-Crate of a study ({error})") from None


def _state(archive: zipfile.ZipFile, names: set[str], name: str, digest: str) -> str:
    if name not in names:
        return "missing"
    try:
        content = archive.read(name)
    except zipfile.BadZipFile:
        return "broken"
    return "whole" if hashlib.sha256(content).hexdigest() == digest else "broken"


def _write(files: Mapping[str, Path], provenance: Manifest, revision: str, target: Path) -> None:
    crate = ROCrate()
    study = provenance.settings["config"]["study"]
    crate.name = f"Pruning after training: study {study}"
    crate.description = "Settings, environment, metrics, verdicts and report of a sparsecnn study."
    code = {
        "@type": "SoftwareSourceCode",
        "name": "sparsecnn",
        "softwareVersion": version("sparsecnn"),
        "version": revision,
    }
    software = crate.add_jsonld({"@id": "#sparsecnn", **code})
    crate.root_dataset["isBasedOn"] = software
    for name, path in sorted(files.items()):
        properties = {
            "name": name,
            "encodingFormat": _FORMATS.get(path.suffix, "application/octet-stream"),
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "contentSize": str(path.stat().st_size),
        }
        crate.add_file(path, name, properties=properties)
    crate.write_zip(target)


def _small_files(folder: Path) -> list[Path]:
    """Tables, verdicts, metrics and the report; not Snakemake's own records."""
    found = [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix in (".csv", ".html", ".json", ".md", ".png", ".svg")
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    if folder / layout.REPORT not in found:
        raise UserError(f"{folder}: it has no report; run snakemake first")
    return found


def _manifests(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """Manifest of every file of tensors, by its path under the folder of all results.

    In these paths the study's folder has the study's name, whatever it is called now.
    """
    files = layout.tensor_files(folder, config)
    named = layout.tensor_files(Path(config["study"]), config)
    return {
        name.as_posix(): asdict(read_manifest(path, kind))
        for (name, _), (path, kind) in zip(named, files, strict=True)
    }


def _revision(project: Path) -> str:
    """The commit of the code, with a mark if files differ from it; `unknown` without git."""
    command = ["git", "-C", str(project), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        run = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return run.stdout.strip()
