"""Networks of a user's own in a study: whose code and whose weights they are."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from sparsecnn.artifacts import read_manifest
from sparsecnn.digest import own_code
from sparsecnn.errors import UserError
from sparsecnn.own_files import builder_file, find, found
from sparsecnn.registry import module_of
from sparsecnn.study import layout
from sparsecnn.study.config import given
from sparsecnn.study.layout import trainings


def code_of(model: str, config: Mapping[str, Any]) -> tuple[list[str], list[Path]]:
    """What builds a model: modules of this project, and files of the user's own.

    Of a package, whose version is its user's affair, neither. Raises `UserError` if a file is not
    there.
    """
    # A study that was made before there were such has no such key.
    builder = config["models"][model].get("builder")
    if builder is None:
        return [module_of("model", model)], []
    file = builder_file(builder)
    return [], [found(file, f"models.{model}.builder")] if file else []


def code_problems(config: Mapping[str, Any]) -> list[str]:
    """A line for each file of a builder that is not there, or is no Python."""

    def read(model: str) -> None:
        for file in code_of(model, config)[1]:
            own_code(file)

    return _said(read, config["models"])


def weights_problems(config: Mapping[str, Any]) -> list[str]:
    """A line for each file of weights that is not there."""
    return _said(
        lambda model: found(config["models"][model]["weights"], f"models.{model}.weights"),
        given(config),
    )


def _said(check: Callable[[str], object], models: Iterable[str]) -> list[str]:
    """What a check says of each model that it refuses."""
    lines = []
    for model in models:
        try:
            check(model)
        except UserError as error:
            lines.append(str(error))
    return lines


def own_files(config: Mapping[str, Any]) -> dict[str, Path]:
    """Each file of the user's own that builds a network, or that such a file imports beside it.

    By its path from the builder's folder. Raises `UserError` if one is not there, or is no Python.
    """
    files: dict[str, Path] = {}
    for model in config["models"]:
        for file in code_of(model, config)[1]:
            files |= {name: file.parent / name for name in own_code(file)}
    return files


def weights_file(model: str, config: Mapping[str, Any]) -> Path | None:
    """Where the weights lie that a model is given; None if it is given none, or they are gone."""
    name = config["models"][model]["weights"]
    return find(name) if name else None


def given_contents(
    config: Mapping[str, Any], base: Path, warn: Callable[[str], object]
) -> dict[str, str]:
    """sha256 of the weights that each model is given, by model.

    What was read is remembered, as of a source of images. Of weights that are gone, what the
    networks in the folder `base` were made of, with a line to `warn`. Raises `UserError` if there
    are none either.
    """
    from sparsecnn.study import sources  # of no use to a study without

    contents = {}
    for model in given(config):
        file = weights_file(model, config)
        contents[model] = (
            sources.file_content(file) if file else _adopted(model, config, base, warn)
        )
    return contents


def _adopted(
    model: str, config: Mapping[str, Any], base: Path, warn: Callable[[str], object]
) -> str:
    name = config["models"][model]["weights"]
    for training in trainings(config):
        path = base / layout.DENSE.format(**training._asdict())
        if training.model == model and path.exists():
            content = read_manifest(path, "dense").settings.get("weights")
            if content:
                warn(f"{name} is not there any more; going on with {path}, which was made of it")
                return str(content)
    found(name, f"models.{model}.weights")
    raise AssertionError  # found said where it was looked for
