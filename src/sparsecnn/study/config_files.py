"""Read a configuration from files and command line, so that a mistake is named with its place."""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import yaml
from yaml.constructor import ConstructorError
from yaml.events import AliasEvent
from yaml.nodes import MappingNode, Node, ScalarNode

from sparsecnn.errors import UserError
from sparsecnn.own_files import find, look_beside
from sparsecnn.study.config import complete_config
from sparsecnn.study.config_values import (
    clipped,
    number,
    shown,
    without_zeros,
    wrong_value,
    wrong_values,
)

SCHEMA = Path(__file__).parents[3] / "schemas" / "config.schema.yaml"
_DEEPEST = 32


def read_schema() -> dict[str, Any]:
    """The schema of a study's configuration, of this very source tree."""
    return read_config(SCHEMA)


def read_study(
    files: Iterable[Path], entries: Iterable[str], template: Callable[[Path], Mapping[str, Any]]
) -> dict[str, Any]:
    """The checked configuration of config.yaml and other files; arguments as of `gather`.

    From now on the user's own files are looked for beside these (`sparsecnn.own_files`); where the
    images lie is already found, if they are there.
    """
    files = list(files)
    look_beside(files)
    study = complete_config(gather(files, entries, template), read_schema())
    source = study["dataset"]["source"]
    if source and (there := find(source, Path.exists)):
        study["dataset"]["source"] = str(there)
    return study


def gather(
    files: Iterable[Path], entries: Iterable[str], template: Callable[[Path], Mapping[str, Any]]
) -> dict[str, Any]:
    """What the files say, each over those before it, and over them `--config`'s KEY=VALUE entries.

    Values of entries are texts, since a command line says no more. `template` reads a file that
    asks for YTE, Snakemake's templates, by a true `__use_yte__`.
    """
    config: dict[str, Any] = {}
    for path in files:
        settings = read_config(path)
        is_template = settings.pop("__use_yte__", False)
        config = _merged(config, _from_template(path, template) if is_template else settings)
    for entry in entries:
        config = _merged(config, _read_entry(entry))
    return config


def read_config(path: Path) -> dict[str, Any]:
    """The settings in a YAML or JSON file, as plain values.

    Raises `UserError` naming file, line and column if the file is missing, no UTF-8, no YAML,
    gives a key twice (YAML would keep the last one silently), has a name or a number that
    readers of YAML take differently, or holds anything but settings.
    """
    text = _read_text(path)
    value = _read_json(text, path) if path.suffix == ".json" else _read_yaml(text, path)
    if not isinstance(value, dict):
        found = "nothing" if value is None else f"a {type(value).__name__}"
        raise UserError(f"{path}: holds {found}; write settings as `key: value`")
    if wrong := list(wrong_values(value)):
        raise UserError("\n".join(f"{path}: {line}" for line in wrong))
    return value


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        byte = error.object[error.start]
        raise UserError(
            f"{path}, line {line}: byte 0x{byte:02x} is not UTF-8; save the file in UTF-8"
        ) from None


def _read_json(text: str, path: Path) -> Any:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise UserError(f"{path}: key {shown(twice)} is given twice; keep one")
        return value

    try:
        return json.loads(text, object_pairs_hook=once)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise UserError(f"{path}, {where}: not valid JSON ({error.msg})") from None
    except RecursionError:
        raise UserError(f"{path}: nested too deeply") from None
    except ValueError:  # more digits than Python converts
        raise UserError(f"{path}: holds a number with too many digits") from None


def _read_yaml(text: str, path: Path) -> Any:
    try:
        return yaml.load(text, _StrictLoader)
    except _Refused as error:
        raise UserError(f"{path}{_place(error)}: {clipped(str(error.problem), 200)}") from None
    except yaml.MarkedYAMLError as error:
        problem = clipped(str(error.problem), 160)
        raise UserError(f"{path}{_place(error)}: not valid YAML ({problem})") from None
    except yaml.YAMLError as error:  # a character that YAML forbids
        raise UserError(f"{path}: not valid YAML ({str(error).splitlines()[0]})") from None


def _from_template(path: Path, template: Callable[[Path], Mapping[str, Any]]) -> Mapping[str, Any]:
    try:
        return template(path)
    except Exception as error:  # a template runs any code
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(f"{path}: its template cannot be read ({reason[:200]})") from None


def _read_entry(entry: str) -> dict[str, Any]:
    key, equals, text = entry.partition("=")
    if not equals:
        raise UserError(f"--config {shown(entry)}: write KEY=VALUE")
    try:
        # Snakemake strips these quotes too: some shells leave them.
        return {key: yaml.load(text.strip("'\""), _TextLoader)}
    except _Refused as error:
        raise UserError(f"--config {key}: {clipped(str(error.problem), 200)}") from None
    except yaml.YAMLError as error:
        problem = clipped(getattr(error, "problem", None) or str(error).splitlines()[0], 160)
        raise UserError(f"--config {key}: not valid YAML ({problem})") from None


def _merged(base: Any, over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` over `base`, key by key where both have keys, as Snakemake merges."""
    result = dict(base) if isinstance(base, dict) else {}
    for key, value in over.items():
        below = result.get(key)
        result[key] = _merged(below, value) if isinstance(value, dict) else value
    return result


class _Refused(yaml.MarkedYAMLError):
    """What is YAML, and yet says something that readers take differently or no setting can be."""


def _refused(problem: str, where: Any) -> _Refused:
    return _Refused(None, None, problem, where.start_mark)


_TAG = "tag:yaml.org,2002:"
_KEPT = (f"{_TAG}bool", f"{_TAG}null", f"{_TAG}merge")
_INTEGER = re.compile(r"^[-+]?(0|[1-9][0-9]*)$")
_FLOAT = re.compile(r"^[-+]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?$")
_ZEROS = re.compile(r"^[-+]?0[0-9][0-9_]*$")
_NOT_FINITE = re.compile(r"^([-+]?\.(inf|Inf|INF)|\.nan|\.NaN|\.NAN)$")


class _StrictLoader(yaml.SafeLoader):
    """Safe loading that refuses what YAML's versions read differently, and reads the rest alike.

    What is no plain number stays text as it is written (2:4 and 1:30, which YAML 1.1 takes for
    numbers to the base 60, 2024-01-01, 1_000, 1e-4): the schema knows where a number is meant.
    """

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._open: list[str | None] = []

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        """Refuses what is in itself or too deep."""
        event = cast(Any, self).peek_event()
        anchor = getattr(event, "anchor", None)
        if isinstance(event, AliasEvent):
            if anchor in self._open:
                raise _refused(f"*{anchor} stands inside itself", event)
            return super().compose_node(parent, index)
        self._open.append(anchor)
        if len(self._open) > _DEEPEST:
            raise _refused("nested too deeply", event)
        node = super().compose_node(parent, index)
        self._open.pop()
        return node

    def compose_mapping_node(self, anchor: Any) -> MappingNode:
        """Refuses names that are no text, or given twice."""
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if key.tag == f"{_TAG}merge":
                continue
            if key.tag != f"{_TAG}str" or not isinstance(key, ScalarNode):
                raise _refused(_no_name(key), key)
            if key.value in seen:
                problem = f"key {key.value[:60]!r} is given twice; keep one"
                raise ConstructorError(None, None, problem, key.start_mark)
            seen.add(key.value)
        return node

    def construct_object(self, node: Node, deep: bool = False) -> Any:
        """Values that a tag like !!int is wrong for are refused as other mistakes are."""
        try:
            value = super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError, TypeError):
            raise _refused(f"{shown(node.value)} is not what its tag says", node) from None
        if isinstance(node, ScalarNode) and (problem := wrong_value(value)):
            raise _refused(problem, node)
        return value


def _no_name(key: Node) -> str:
    """What is wrong with a name that is no text."""
    if not isinstance(key, ScalarNode):
        return "a name must be a text, not a list or settings"
    written, kind = shown(key.value), key.tag.removeprefix(_TAG)
    if kind == "bool":
        return f"the name {key.value} means true or false; write {written} in quotes"
    if kind == "null":
        return "a name is empty or null; write a text"
    return f"the name {key.value} is no text; write a name that begins with a letter"


def _construct_number(loader: _StrictLoader, node: ScalarNode) -> int | float:
    value = number(node.value)
    if value is None:
        kind = "too large" if node.value[-1:].isdigit() else "no number"
        raise _refused(f"{shown(node.value)} is {kind}; write another", node)
    return value


def _refuse_zeros(loader: _StrictLoader, node: ScalarNode) -> None:
    raise _refused(
        f"{node.value} begins with 0, which some readers take for octal; write "
        f'{without_zeros(node.value)}, or "{node.value}" in quotes if it is a text',
        node,
    )


def _refuse_not_finite(loader: _StrictLoader, node: ScalarNode) -> None:
    written = node.value
    raise _refused(
        f'{written} is not finite; write a finite number, or "{written}" in quotes if it is a text',
        node,
    )


_DIGITS = list("-+0123456789")
_StrictLoader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in forms if tag in _KEPT]
    for first, forms in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_StrictLoader.add_implicit_resolver(f"{_TAG}int", _INTEGER, _DIGITS)
_StrictLoader.add_implicit_resolver(f"{_TAG}float", _FLOAT, [*_DIGITS, "."])
_StrictLoader.add_implicit_resolver("!zeros", _ZEROS, _DIGITS)
_StrictLoader.add_implicit_resolver("!not-finite", _NOT_FINITE, list("-+."))
_StrictLoader.add_constructor(f"{_TAG}int", _construct_number)
_StrictLoader.add_constructor(f"{_TAG}float", _construct_number)
_StrictLoader.add_constructor("!zeros", _refuse_zeros)
_StrictLoader.add_constructor("!not-finite", _refuse_not_finite)


class _TextLoader(_StrictLoader):
    """The same of a command line's value: all is text, but for null where nothing stands."""


_TextLoader.yaml_implicit_resolvers = {"": [(f"{_TAG}null", re.compile("^$"))]}


def _place(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    return f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
