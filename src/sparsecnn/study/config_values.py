"""What any value of a configuration may be, and its texts read as the schema means them."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

LARGEST = 2**63 - 1
"""The largest whole number: what the libraries that get it can hold."""

NULLS = ("null", "Null", "NULL", "~", "None")
"""Texts that mean null where null is allowed; Snakemake writes None for that of a profile."""

_DEEPEST = 16
_MOST = 100_000
_INTEGER = re.compile(r"[-+]?(0|[1-9]\d*(_\d+)*|0x[\da-fA-F]+|0o[0-7]+|0b[01]+)", re.ASCII)
_DIGITS = r"\d+(_\d+)*"
_FLOAT = re.compile(
    rf"[-+]?({_DIGITS}(\.({_DIGITS})?)?|\.{_DIGITS})([eE][-+]?\d+)?",
    re.ASCII,
)
_LONGEST_INTEGER = 100


def shown(value: Any, length: int = 80) -> str:
    """A value for a line to the user: as JSON, what cannot be seen escaped, its beginning."""
    if isinstance(value, int) and abs(value) > LARGEST**2:  # which Python may refuse to write
        return f"a whole number of {value.bit_length()} bits"
    text = json.dumps(value, ensure_ascii=False, default=str)
    text = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text[: length + 1])
    return clipped(text, length)


def clipped(line: str, length: int = 299) -> str:
    """A line for the user that stays one on a screen, whatever it quotes."""
    return line if len(line) <= length else f"{line[: length - 4]} ..."


def place(path: tuple[Any, ...]) -> str:
    """Where in a configuration a path of keys leads; a key with odd characters in quotes."""
    parts = [
        str(part) if re.fullmatch(r"[\w.%:/-]{1,64}", str(part)) else shown(part, 64)
        for part in path
    ]
    return ".".join(parts) or "the configuration"


def wrong_values(config: Any) -> Iterator[str]:
    """A line for each name that is no text and each value that no setting can have.

    What comes of these breaks whoever reads on, the schema's validator included.
    """
    waiting: list[tuple[tuple[Any, ...], Any]] = [((), config)]
    read = 0
    while waiting:
        path, value = waiting.pop()
        read += 1
        if len(path) > _DEEPEST:
            yield f"{place(path[:4])}: nested too deeply, or in itself; write settings one by one"
            return
        if read > _MOST:
            yield f"the configuration: holds more than {_MOST} values; write fewer"
            return
        inside: list[tuple[Any, Any]] = []
        if isinstance(value, dict):
            yield from (f"{place(path)}: {_no_name(key)}" for key in value if type(key) is not str)
            inside = list(value.items())
        elif isinstance(value, list):
            inside = list(enumerate(value))
        elif problem := wrong_value(value):
            yield f"{place(path)}: {problem}"
        waiting.extend((((*path, key), child) for key, child in reversed(inside)))


def _no_name(key: Any) -> str:
    if isinstance(key, str):
        return f"the name {shown(str(key))} is a {type(key).__name__}; write a plain text"
    if isinstance(key, bool):
        return (
            f"the name {shown(key)} is no text; write it in quotes "
            '(yes, no, on and off mean true and false without: "on")'
        )
    if key is None:
        return "a name is null; write a text"
    kind = "a number" if isinstance(key, int | float) else "no text"
    return f"the name {shown(key)} is {kind}; write a name that begins with a letter"


def wrong_value(value: Any) -> str | None:
    """What is wrong with a single value, whatever its key."""
    if isinstance(value, str):
        if re.search("[\0\ud800-\udfff]", value):
            return f"{shown(value)} has a character that no file can hold; leave it out"
    elif isinstance(value, float):
        if not math.isfinite(value):
            return f"{shown(value)} is not finite; write a finite number"
    elif isinstance(value, int):
        if abs(value) > LARGEST:
            return f"{shown(value)} is too large; write at most {LARGEST}"
    elif value is not None:
        return (
            f"a {type(value).__name__} is no setting; write text, a number, true, false, null, "
            "a list, or `key: value`"
        )
    return None


def number(text: str) -> int | float | None:
    """The finite number that a text says, by YAML 1.2 or Python; None if it says none."""
    if _INTEGER.fullmatch(text):
        return int(text, 0) if len(text) < _LONGEST_INTEGER else None
    if _FLOAT.fullmatch(text) and not re.fullmatch(r"[-+]?[0-9_]+", text):
        return float(text) if math.isfinite(float(text)) else None
    return None


def without_zeros(text: str) -> str:
    """A number without zeros at its beginning, of which some readers make octals."""
    return re.sub(r"^([-+]?)0[0_]*(?=\d)", r"\1", text)


def as_meant(value: Any, schema: Mapping[str, Any], defs: Mapping[str, Any]) -> Any:
    """A copy, with a text read as number, boolean or null where the schema allows no text.

    Snakemake's `--config` gives texts, and so does YAML 1.1 for 1e-4.
    """
    options = _options(schema, defs)
    if isinstance(value, dict):
        return {k: as_meant(child, _part(options, k), defs) for k, child in value.items()}
    items: Mapping[str, Any] = next((o["items"] for o in options if "items" in o), {})
    if isinstance(value, list):
        return [as_meant(child, items, defs) for child in value]
    if isinstance(value, str):
        kinds = {kind for option in options for kind in kinds_of(option)}
        # That a list is missing is said of what would be in it.
        return as_meant(value, items, defs) if items and value not in NULLS else _read(value, kinds)
    return value


def as_said(value: Any) -> Any:
    """A copy of what no schema describes, with texts that say number, boolean or null read so."""
    if isinstance(value, dict):
        return {key: as_said(child) for key, child in value.items()}
    if isinstance(value, list):
        return [as_said(child) for child in value]
    return _read(value, {"null", "boolean", "number"}) if isinstance(value, str) else value


def kinds_of(schema: Mapping[str, Any]) -> list[str]:
    """The types that a part of the schema names; all of its `enum`s are of text."""
    if "enum" in schema:
        return ["string"]
    kinds = schema.get("type", [])
    return [kinds] if isinstance(kinds, str) else kinds


def _options(schema: Mapping[str, Any], defs: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """A part of the schema as it says without `$ref`, then its alternatives."""
    if "$ref" in schema:
        schema = {**defs[schema["$ref"].rpartition("/")[2]], **schema}
    inner = [_options(option, defs) for option in schema.get("oneOf", [])]
    return [schema, *(option for options in inner for option in options)]


def _part(options: list[Mapping[str, Any]], key: str) -> Mapping[str, Any]:
    """What the schema says of one key's value; nothing of a key that it does not know."""
    for option in options:
        part = option.get("properties", {}).get(key, option.get("additionalProperties"))
        if isinstance(part, dict):
            return part
    return {}


def _read(text: str, kinds: set[str]) -> Any:
    if "null" in kinds and text in NULLS:
        return None
    if "string" in kinds:
        return text
    if "boolean" in kinds and text.lower() in ("true", "false"):
        return text.lower() == "true"
    value = number(text)
    if "number" in kinds or ("integer" in kinds and isinstance(value, int)):
        return text if value is None else value
    return text


def what_to_write(value: Any, schema: Mapping[str, Any]) -> str:
    """In the place of a value of a wrong type."""
    kinds = kinds_of(schema)
    or_null = " or null" if "null" in kinds else ""
    for kind in kinds:
        if kind == "string":
            return _text_for(value, schema) + or_null
        if kind in ("integer", "number"):
            return _number_for(value, kind) + or_null
        if kind == "boolean":
            return "true or false" + or_null
        if kind == "array":
            return _list_for(value) + or_null
    if value is None:
        return "settings as `key: value`, or leave it out"
    return f"settings as `key: value`{or_null}"


def _text_for(value: Any, schema: Mapping[str, Any]) -> str:
    form = schema.get("pattern")
    if form and "examples" in schema:
        return " or ".join(f'"{example}"' for example in schema["examples"]) + ", in quotes"
    if form and not (isinstance(value, int | float) and re.fullmatch(form, str(value))):
        return f"a text of the form {form}"
    if isinstance(value, bool):
        return "the text in quotes (yes, no, on and off mean true and false without)"
    if isinstance(value, int):
        return f'"{value}" in quotes'
    return "the text in quotes" if isinstance(value, float) else "a text"


def _number_for(value: Any, kind: str) -> str:
    meant = number(without_zeros(value)) if isinstance(value, str) else value
    if type(meant) is float and meant.is_integer() and kind == "integer" and meant <= LARGEST:
        return str(int(meant))
    if isinstance(value, str) and meant is not None and (kind == "number" or type(meant) is int):
        return str(meant)
    return "a whole number" if kind == "integer" else "a number"


def _list_for(value: Any) -> str:
    if isinstance(value, str) and value.startswith("["):
        return f"{value} without quotes" if len(value) < 60 else "it without quotes"
    return "a list, as [a, b]" if value is None or isinstance(value, dict) else f"[{shown(value)}]"
