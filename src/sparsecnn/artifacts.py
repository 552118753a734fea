"""Read and write the files that stages exchange, each with a manifest.

Tensors are safetensors with the manifest in the header; metrics are JSON with a `manifest`
key. A manifest says what made the file (settings, code digest, parents, versions, date) and
carries `content`, the sha256 of what the file holds. `content` leaves out the manifest, so two
runs that compute the same thing have equal `content` although their dates differ.
Reading recomputes it: a truncated or altered file is refused by name.
"""

import csv
import glob
import hashlib
import io
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsecnn.errors import ArtifactError, UserError

if TYPE_CHECKING:
    from torch import Tensor

_HEADER_KEY = "manifest"


@dataclass(frozen=True)
class Manifest:
    """Where an artifact comes from. All fields are plain JSON values."""

    kind: str
    """What the file is: dataset, calibration, dense, pruned, metrics, claims."""
    settings: dict[str, Any]
    """The settings that made it, exactly as the rule declared them."""
    code: str
    """Digest of the code that made it (see `sparsecnn.digest`)."""
    parents: dict[str, str] = field(default_factory=dict)
    """`content` of each artifact it was made from, by role."""
    files: dict[str, str] = field(default_factory=dict)
    """sha256 of each table, or other file, that belongs to it, by path from its folder."""
    device: str = "cpu"
    """Name of the device that computed it."""
    threads: int = 0
    """CPU threads that computed it, which decide its last bits; 0 on a GPU, or if none matter."""
    seconds: float = 0.0
    """Wall time of the training or pruning itself, without start-up and files; of metrics, that
    of the network they are of."""
    versions: dict[str, str] = field(default_factory=dict)
    created: str = ""
    """UTC, ISO 8601."""
    content: str = ""
    """sha256 over the JSON value, or over `tensors`; set on writing, checked on reading."""
    tensors: dict[str, str] = field(default_factory=dict)
    """sha256 of each tensor, by name, so that some can be read, and checked, without the others."""


@dataclass(frozen=True)
class Origin:
    """What an artifact must have been made from."""

    settings: Mapping[str, Any]
    """As in the manifest, which may hold more."""
    code: str


def environment() -> dict[str, str]:
    """Versions of what computes the numbers: python, torch, numpy and the processor type."""
    packages = {name: version(name) for name in ("torch", "numpy")}
    return {"python": platform.python_version(), **packages, "machine": platform.machine()}


def write_tensors(path: Path, tensors: Mapping[str, "Tensor"], manifest: Manifest) -> Manifest:
    """Write tensors (moved to the CPU, made contiguous) with their manifest, atomically.

    Returns the manifest as stored. Raises `UserError` when the disk refuses the file.
    """
    # torch takes seconds to import; JSON stages skip it.
    from safetensors.torch import save

    stored = {name: t.detach().cpu().contiguous() for name, t in sorted(tensors.items())}
    digests = {name: _tensor_digest(tensor) for name, tensor in stored.items()}
    manifest = _complete(replace(manifest, tensors=digests), _json_content(digests))
    header = {_HEADER_KEY: json.dumps(asdict(manifest), sort_keys=True)}
    # Not by `save_file`, whose own temporary file would stay if the process were killed in it.
    data = save(stored, metadata=header)
    atomic_write(path, lambda temporary: temporary.write_bytes(data))
    return manifest


def read_tensors(
    path: Path, kind: str, origin: Origin | None = None, names: Collection[str] | None = None
) -> tuple[dict[str, "Tensor"], Manifest]:
    """Read tensors (on the CPU) and their manifest; if `names` are given, these tensors alone.

    Raises `UserError` if the file is missing, truncated, of another kind, or of another origin
    than the one given, if one of the tensors that are read was altered, or if the file has not the
    tensors that its manifest lists.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            header, stored = file.metadata() or {}, set(file.keys())
            read = sorted(stored if names is None else names)
            tensors = {name: file.get_tensor(name) for name in read}
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, error) from None
    manifest = _parse_manifest(path, header.get(_HEADER_KEY), kind)
    if not manifest.tensors:
        raise _made_by_other_code(path)
    _check_content(path, manifest, _json_content(manifest.tensors))
    digests = {name: _tensor_digest(tensor) for name, tensor in tensors.items()}
    if stored != set(manifest.tensors) or not digests.items() <= manifest.tensors.items():
        raise _altered(path)
    check_origin(path, manifest, origin)
    return tensors, manifest


def read_manifest(path: Path, kind: str, origin: Origin | None = None) -> Manifest:
    """The manifest of a file of tensors, without reading these.

    Raises `UserError` if the file is missing, truncated, of another kind, or of another origin than
    the one given.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            header = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, error) from None
    manifest = _parse_manifest(path, header.get(_HEADER_KEY), kind)
    check_origin(path, manifest, origin)
    return manifest


def check_origin(path: Path, manifest: Manifest, origin: Origin | None) -> None:
    """Raise `UserError` unless the artifact comes from `origin` (None: from anything)."""
    if origin is None:
        return
    if manifest.code != origin.code:
        raise _made_by_other_code(path)
    wanted = json.loads(json.dumps(dict(origin.settings)))
    other = list(_differences(wanted, manifest.settings))
    if other:
        reason = f"it was made with other settings ({'; '.join(other)})"
        raise ArtifactError(path, "foreign", reason)


def check_parents(path: Path, manifest: Manifest, parents: Mapping[str, str]) -> None:
    """Raise `UserError` unless the artifact was made from parents of this `content`, by role."""
    for role, content in parents.items():
        if manifest.parents.get(role) != content:
            reason = f"it was made from another {role} than is here now"
            raise ArtifactError(path, "stale", reason)


def write_json(path: Path, value: Any, manifest: Manifest) -> Manifest:
    """Write a JSON value (no NaN or infinity) with its manifest, atomically."""
    manifest = _complete(manifest, _json_content(value))
    document = {"manifest": asdict(manifest), "value": value}
    text = json.dumps(document, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False)
    write_text(path, text + "\n")
    return manifest


def read_json(path: Path, kind: str, origin: Origin | None = None) -> tuple[Any, Manifest]:
    """Read a JSON value and its manifest; `UserError` as in `read_tensors`."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        value, header = document["value"], json.dumps(document["manifest"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _unreadable(path, error) from None
    manifest = _parse_manifest(path, header, kind)
    _check_content(path, manifest, _json_content(value))
    check_origin(path, manifest, origin)
    return value, manifest


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    atomic_write(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> str:
    """Write rows as CSV, atomically; columns as in the first row. Returns the file's sha256."""
    text = io.StringIO()
    table = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_text(path, text.getvalue())
    return file_sha256(path)


def read_table(path: Path, manifest: Manifest) -> list[dict[str, str]]:
    """Rows of a CSV that was written together with the artifact that has this manifest.

    Raises `UserError` as `check_table` does.
    """
    check_table(path, manifest, path.name)
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def check_table(path: Path, manifest: Manifest, name: str) -> None:
    """Raise `UserError` if the table is missing, or not what `manifest` records as `name`."""
    if _readable_sha256(path) != manifest.files.get(name):
        raise ArtifactError(path, "foreign", "it is not the table that was recorded for it")


def check_file(path: Path, manifest: Manifest) -> None:
    """Raise `UserError` if the file is missing, or differs from what `manifest` records of it."""
    if _readable_sha256(path) != manifest.files.get(path.name):
        reason = "it differs from what was recorded of it (altered, damaged or exchanged)"
        raise ArtifactError(path, "broken", reason)


def atomic_write(path: Path, write: Callable[[Path], object]) -> None:
    """Run `write` on a temporary file beside `path`, flush it to disk, rename it into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        os.close(handle)
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(path: Path) -> None:
    """Delete what a process killed in `atomic_write` left beside `path`.

    Only for files that nobody else is writing now.
    """
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*"):
        leftover.unlink(missing_ok=True)


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _readable_sha256(path: Path) -> str:
    try:
        return file_sha256(path)
    except OSError as error:
        raise _unreadable(path, error) from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _complete(manifest: Manifest, content: str) -> Manifest:
    created = datetime.now(UTC).isoformat(timespec="seconds")
    return replace(manifest, versions=environment(), created=created, content=content)


def _tensor_digest(tensor: "Tensor") -> str:
    import torch

    digest = hashlib.sha256(f"{sys.byteorder} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
    digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _json_content(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _parse_manifest(path: Path, text: str | None, kind: str) -> Manifest:
    if text is None:
        raise ArtifactError(path, "foreign", "it has no manifest")
    try:
        manifest = Manifest(**json.loads(text))
    except (ValueError, TypeError) as error:
        raise ArtifactError(path, "foreign", f"its manifest is not ours ({error})") from None
    if manifest.kind != kind:
        reason = f"it holds a {manifest.kind!r}, expected a {kind!r}"
        raise ArtifactError(path, "foreign", reason)
    return manifest


def _check_content(path: Path, manifest: Manifest, content: str) -> None:
    if manifest.content != content:
        raise _altered(path)


def _altered(path: Path) -> ArtifactError:
    reason = "its content differs from its manifest (altered or damaged)"
    return ArtifactError(path, "broken", reason)


def _made_by_other_code(path: Path) -> ArtifactError:
    return ArtifactError(path, "stale", "it was made by other code than is here now")


def _differences(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[str]:
    """Each setting that is not as wanted, with both values."""
    for key, value in wanted.items():
        other = found.get(key)
        if isinstance(value, dict) and isinstance(other, dict):
            yield from (f"{key}.{rest}" for rest in _differences(value, other))
        elif other != value:
            yield f"{key}: {json.dumps(other)}, not {json.dumps(value)}"


def _unreadable(path: Path, error: Exception) -> ArtifactError:
    if isinstance(error, FileNotFoundError):
        return ArtifactError(path, "missing", "it is not there")
    return ArtifactError(path, "broken", f"it cannot be read ({error})")
