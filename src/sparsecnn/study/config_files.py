"""Read configuration files, so that a mistake in one is named with its place."""

from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import ConstructorError
from yaml.nodes import MappingNode

from sparsecnn.errors import UserError

SCHEMA = Path(__file__).parents[3] / "schemas" / "config.schema.yaml"
_MERGE = "tag:yaml.org,2002:merge"


def read_schema() -> dict[str, Any]:
    """The schema of a study's configuration, of this very source tree."""
    return read_config(SCHEMA)


def read_config(path: Path) -> dict[str, Any]:
    """The settings in a YAML file, as plain values.

    Raises `UserError` naming file, line and column if the file is missing, no UTF-8, no YAML,
    gives a key twice (YAML would keep the last one silently), or holds anything but settings.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        byte = error.object[error.start]
        raise UserError(
            f"{path}, line {line}: byte 0x{byte:02x} is not UTF-8; save the file in UTF-8"
        ) from None
    try:
        value = yaml.load(text, _StrictLoader)
    except yaml.MarkedYAMLError as error:
        raise UserError(f"{path}{_place(error)}: not valid YAML ({error.problem})") from None
    except yaml.YAMLError as error:  # a character that YAML forbids
        raise UserError(f"{path}: not valid YAML ({str(error).splitlines()[0]})") from None
    if not isinstance(value, dict):
        found = "nothing" if value is None else f"a {type(value).__name__}"
        raise UserError(f"{path}: holds {found}; write settings as `key: value`")
    return value


class _StrictLoader(yaml.SafeLoader):
    """Safe loading that refuses a key given twice."""

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: list[Any] = []  # a list, since keys need not be hashable yet
        for place, _ in node.value:
            if place.tag == _MERGE:
                continue
            key = self.construct_object(place, deep=True)
            if key in seen:
                problem = f"key {key!r} is given twice; keep one"
                raise ConstructorError(None, None, problem, place.start_mark)
            seen.append(key)
        return super().construct_mapping(node, deep)


def _place(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    return f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
