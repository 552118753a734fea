"""What a study's source of images holds, as a hash that is part of what the dataset comes from.

Of an image_folder it is a hash of every image by split, class and file name, whatever these are
packed in; of an archive that is read otherwise, that of its bytes. What was hashed is remembered by
path, size and dates, so that looking again reads nothing.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sparsecnn.artifacts import file_sha256, read_manifest, write_text
from sparsecnn.data.archive import absent, entries, folder_files
from sparsecnn.data.arrangement import arrange, may_be_image
from sparsecnn.data.filenames import decoded
from sparsecnn.errors import UserError
from sparsecnn.own_files import places

MEMORY = Path(".snakemake", "sources")
"""Where it is remembered, in the working directory; deleting it costs another reading."""
FOLDER = "image_folder"
CHANGED, UNSEEN = "changed", "unseen"
"""States of a source that holds something else than was read, or that is gone."""

_FORM = 1
"""Of the hash: what was remembered of another form is forgotten."""
_FRESH = 2 * 10**9
"""A file changed less than so many ns ago may change again without a newer date."""

Stamp = list[int]
"""Size of a file, and the dates of its content and of its state in ns."""
Hashes = dict[str, str]
"""sha256 of each file of a folder, by its path in the file system."""


def source_content(
    dataset: Mapping[str, Any],
    memory: Path = MEMORY,
    reading: Callable[[str], object] = lambda text: None,
) -> str | None:
    """Hash of what the source holds that a configuration's `dataset` names; None without one.

    `reading` is told in a line before anything is read. Raises `UserError` if the source is not
    there, not whole, or not arranged as its kind must be.
    """
    if dataset["source"] is None:
        return None
    source = Path(dataset["source"])
    if not source.exists():
        raise UserError(absent(source))
    whole, files = _remembered(dataset, memory)
    stamps = _stamps(source)
    listing = hashlib.sha256(json.dumps(stamps).encode()).hexdigest()
    known = _read(whole)
    if known.get("listing") == listing:
        return str(known["content"])
    reading(f"{source}: new or changed, looking at what it holds ...")
    began = time.time_ns()
    content, hashes = _look(dataset, stamps, _read(files))
    old = {path for path, (_, *dates) in stamps.items() if max(dates) < began - _FRESH}
    sure = old if _stamps(source) == stamps else set()
    if hashes:
        _write(files, {path: [stamps[path], hashes[path]] for path in hashes if path in sure})
    _write(whole, {"content": content, "listing": listing if sure == set(stamps) else None})
    return content


def file_content(path: Path, memory: Path = MEMORY) -> str:
    """sha256 of a file that is there, remembered as a source is."""
    return str(source_content({"source": str(path), "name": "file", "names": None}, memory))


def state_of_source(dataset: Mapping[str, Any], read: str | None) -> tuple[str, str, str | None]:
    """Whether a configuration's source still holds what the dataset was `read` from.

    Everything is read. A state, ``whole``, `CHANGED` or `UNSEEN`; what to say; and what it holds
    now, if that is known.
    """
    try:
        with TemporaryDirectory() as nothing_remembered:
            now = source_content(dataset, Path(nothing_remembered))
    except UserError as error:
        if Path(dataset["source"]).exists():
            return CHANGED, str(error), None
        return UNSEEN, "it is not there, so it could not be looked at", None
    if now != read:
        return CHANGED, "it no longer holds what the dataset was read from", now
    return "whole", "it still holds what the dataset was read from", now


def remembered_content(dataset: Mapping[str, Any], memory: Path = MEMORY) -> str | None:
    """What `source_content` last returned, without a look at the source; None if unknown."""
    return _read(_remembered(dataset, memory)[0]).get("content")


def content_as_made(
    dataset: Mapping[str, Any], made: Path, memory: Path = MEMORY
) -> tuple[str, str]:
    """For a source that is gone: what it held when the dataset `made` was read from it, and a line.

    Raises `UserError` if no dataset that was read from this source lies there.
    """
    source = dataset["source"]
    gone = absent(Path(source))
    if not made.exists():
        raise UserError(gone)
    settings = read_manifest(made, "dataset").settings
    where = [source, *map(str, places(source))]
    if settings.get("source") not in where or "content" not in settings:
        raise UserError(f"{gone}; {made} was read from {settings.get('source')}")
    content = str(settings["content"])
    _write(_remembered(dataset, memory)[0], {"content": content, "listing": None})
    return content, f"{gone} any more; going on with {made}, which was read from it"


def _look(
    dataset: Mapping[str, Any], stamps: Mapping[str, Stamp], known: Mapping[str, Any]
) -> tuple[str, Hashes]:
    """Hash of the whole, and of a folder those of its images; `known` has stamps with hashes."""
    source, names = Path(dataset["source"]), dataset["names"]
    if dataset["name"] != FOLDER:
        return file_sha256(source), {}
    texts = decoded([os.fsencode(path) for path in stamps], names)
    stored = dict(zip(texts, stamps, strict=True))
    hashes = {
        text: known[path][1]
        for text, path in stored.items()
        if known.get(path, [None])[0] == stamps[path]
    }
    files: list[str] = []
    folders: list[str] = []
    for entry in entries(source, names, lambda path: may_be_image(path) and path not in hashes):
        (folders if entry.is_folder else files).append(entry.path)
        if entry.content is not None:
            hashes[entry.path] = hashlib.sha256(entry.content).hexdigest()
    places = arrange(source, files, folders).places.values()
    lines = [[p.split, p.label, p.file, hashes[p.path]] for p in places]
    content = hashlib.sha256(json.dumps(lines).encode()).hexdigest()
    return content, {stored[text]: digest for text, digest in hashes.items() if text in stored}


def _stamps(source: Path) -> dict[str, Stamp]:
    """Of every file of a folder by its path in it; of an archive under an empty path."""
    found = folder_files(source) if source.is_dir() else [("", source.stat())]
    return {
        path: [state.st_size, state.st_mtime_ns, state.st_ctime_ns]
        for path, state in found
        if not path.endswith("/")
    }


def _remembered(dataset: Mapping[str, Any], memory: Path) -> tuple[Path, Path]:
    """Where the whole is remembered, which every job reads, and where its files are."""
    path = os.path.abspath(dataset["source"])  # noqa: PTH100 - links are to be told apart
    key = json.dumps([_FORM, path, dataset["name"], dataset["names"]])
    name = hashlib.sha256(key.encode()).hexdigest()[:16]
    return memory / f"{name}.json", memory / f"{name}.files.json"


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _write(path: Path, value: Mapping[str, Any]) -> None:
    try:
        write_text(path, json.dumps(value))
    except (OSError, UserError):  # where nothing can be written, it is looked at again next time
        return
