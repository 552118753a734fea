"""Files of a user's own that a configuration names: code that builds a network, and weights."""

import os
from collections.abc import Iterable
from pathlib import Path

from sparsecnn.errors import UserError

BESIDE = "SPARSECNN_BESIDE"
"""Environment variable with the folders of the configuration files; jobs get it with the rest."""


def look_beside(files: Iterable[Path]) -> None:
    """From now on, here and in all processes started from here, look beside these files first."""
    folders = dict.fromkeys(str(path.resolve().parent) for path in reversed(list(files)))
    os.environ[BESIDE] = os.pathsep.join(folders)


def find(name: str) -> Path | None:
    """The file of this name beside the configuration files, or else in the working directory.

    Of several configuration files the last is asked first. None if there is no such file.
    """
    folders = [Path(folder) for folder in os.environ.get(BESIDE, "").split(os.pathsep) if folder]
    places = (folder / name for folder in (*folders, Path()))
    return next((path for path in places if path.is_file()), None)


def found(name: str, what: str) -> Path:
    """As `find`; raises `UserError`, which begins with `what`, if there is no such file."""
    path = find(name)
    if path is None:
        folders = [folder for folder in os.environ.get(BESIDE, "").split(os.pathsep) if folder]
        places = ", ".join(dict.fromkeys([*folders, str(Path.cwd())]))
        raise UserError(f"{what}: there is no file {name} (looked for in {places})")
    return path


def builder_file(builder: str) -> str | None:
    """Name of the file of a builder ``nets.py:build``; None of ``package.module:function``."""
    target = builder.rpartition(":")[0]
    return target if target.endswith(".py") else None
