"""Files of a user's own that a configuration names: images, code that builds a network, weights."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from sparsecnn.errors import UserError

BESIDE = "SPARSECNN_BESIDE"
"""Environment variable with the folders of the configuration files; jobs get it with the rest."""


def look_beside(files: Iterable[Path]) -> None:
    """From now on, here and in all processes started from here, look beside these files first."""
    look_in(dict.fromkeys(str(path.resolve().parent) for path in reversed(list(files))))


def look_in(folders: Iterable[str]) -> None:
    """As `look_beside`, with the folders themselves, the one to look in first."""
    os.environ[BESIDE] = os.pathsep.join(folders)


def looked_in() -> list[str]:
    """Those folders, for `look_in`."""
    return [folder for folder in os.environ.get(BESIDE, "").split(os.pathsep) if folder]


def find(name: str, wanted: Callable[[Path], bool] = Path.is_file) -> Path | None:
    """What has this name beside the configuration files, or else in the working directory.

    Of several configuration files the last is asked first. None if nothing there is `wanted`.
    """
    return next((path for path in places(name) if wanted(path)), None)


def places(name: str) -> list[Path]:
    """Where `find` looks, in this order."""
    return [Path(name) if folder == Path.cwd() else folder / name for folder in _folders()]


def found(name: str, what: str) -> Path:
    """As `find`; raises `UserError`, which begins with `what`, if there is no such file."""
    path = find(name)
    if path is None:
        looked = ", ".join(map(str, _folders()))
        raise UserError(f"{what}: there is no file {name} (looked for in {looked})")
    return path


def _folders() -> list[Path]:
    return list(dict.fromkeys([*map(Path, looked_in()), Path.cwd()]))


def builder_file(builder: str) -> str | None:
    """Name of the file of a builder ``nets.py:build``; None of ``package.module:function``."""
    target = builder.rpartition(":")[0]
    return target if target.endswith(".py") else None
