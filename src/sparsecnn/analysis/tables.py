"""Tables of a study as pandas DataFrames, read from CSV and checked."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from sparsecnn.artifacts import write_text
from sparsecnn.errors import UserError

Columns = Mapping[str, type]
"""Columns of one kind of table, in order, with what each holds: str, int, float or bool."""


def read_csv(
    path: Path,
    kind: str,
    columns: Columns,
    missing: tuple[str, ...] = (),
    added: tuple[str, ...] = (),
) -> pd.DataFrame:
    """Read a table; of more columns than asked for, the others are left out.

    Parameters
    ----------
    kind
        What the table is of, for messages.
    missing
        Columns of numbers in which an empty field is allowed; it becomes NaN.
    added
        Those of `missing` that tables of earlier versions lack altogether, which is as if empty.

    Raises
    ------
    UserError
        The file cannot be read, has no rows or lacks a column, or a field is empty or not what its
        column holds; one line with file and column.
    """
    try:
        text = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    except (OSError, ValueError) as error:
        raise _wrong(path, kind, f"{type(error).__name__}: {error}") from None
    if text.empty:
        raise _wrong(path, kind, "it has no rows")
    text = text.assign(**{name: "" for name in added if name not in text})
    absent = [name for name in columns if name not in text]
    if absent:
        raise _wrong(path, kind, f"it lacks the column {absent[0]}")
    return pd.DataFrame(
        {
            name: _parsed(path, kind, text[name], _PARSERS[holds], name in missing)
            for name, holds in columns.items()
        }
    )


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Write a table, atomically, with numbers in full."""
    write_text(path, table.to_csv(index=False, lineterminator="\n"))


def in_order(frame: pd.DataFrame, *names: str, first: tuple[str, ...] = ()) -> pd.DataFrame:
    """The frame with these columns as ordered categories: as they come, those of `first` before."""
    kept = frame.copy()
    for name in names:
        found = list(dict.fromkeys(frame[name].astype(str)))
        ordered = [value for value in first if value in found]
        categories = [*ordered, *(value for value in found if value not in ordered)]
        kept[name] = pd.Categorical(frame[name].astype(str), categories, ordered=True)
    return kept


def _bool(text: str) -> bool:
    return {"True": True, "False": False}[text]


_PARSERS: Mapping[type, Callable[[str], Any]] = {str: str, int: int, float: float, bool: _bool}


def _parsed(
    path: Path, kind: str, texts: "pd.Series[str]", parse: Callable[[str], Any], may_miss: bool
) -> list[Any]:
    values = []
    for line, text in enumerate(texts, start=2):
        if may_miss and text == "":
            values.append(float("nan"))
            continue
        try:
            values.append(parse(text))
        except (KeyError, ValueError):
            where = f"column {texts.name}, line {line}: {text!r} is no"
            raise _wrong(path, kind, f"{where} {parse.__name__.strip('_')}") from None
    return values


def _wrong(path: Path, kind: str, why: str) -> UserError:
    why = " ".join(why.split())
    return UserError(
        f"{path}: not a table of {kind} ({why}); "
        "delete the file and run snakemake again to make it anew"
    )
