"""Numbers and tables as text, for Markdown and for the terminal."""

import re
from collections.abc import Sequence
from unicodedata import east_asian_width


def signed(value: float, digits: int = 2) -> str:
    """A difference with its sign; what rounds to zero has none: ``+1.20``, ``-0.35``, ``0.00``."""
    rounded = round(value, digits)
    return f"{rounded:+.{digits}f}" if rounded else f"{0:.{digits}f}"


def signed_interval(low: float, high: float) -> str:
    """An interval of differences: ``[-0.35, +1.20]``."""
    return f"[{signed(low)}, {signed(high)}]"


def p_text(p: float) -> str:
    """A p-value to three decimals: ``0.042``, ``< 0.001``."""
    return f"{p:.3f}" if p >= 0.0005 else "< 0.001"


def escaped(text: str) -> str:
    """Text that Markdown shows as it is, in a table too: on one line, without HTML or markup."""
    return re.sub(r"([\\`*_\[\]<>|&~$])", r"\\\1", " ".join(text.split()))


def anchor(heading: str) -> str:
    """The anchor that GitHub gives a heading: ``Run it again`` is at ``#run-it-again``."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def markdown_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], left: int | Sequence[int] = 1
) -> str:
    """A Markdown table, padded so that its source is a table too.

    `left` says which columns are left-aligned: the first so many, or a list of their indices.
    """
    is_left = _left_columns(left, len(header))
    widths = _widths([header, *rows])
    rule = [
        "-" * width if to_left else "-" * (width - 1) + ":"
        for width, to_left in zip(widths, is_left, strict=True)
    ]
    lines = [_aligned(header, widths, is_left), rule]
    lines += [_aligned(row, widths, is_left) for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def plain_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], left: int | Sequence[int] = 1
) -> str:
    """A table for the terminal; `left` as in `markdown_table`."""
    is_left = _left_columns(left, len(header))
    widths = _widths([header, *rows])
    lines = [_aligned(line, widths, is_left) for line in [header, *rows]]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join("  ".join(line).rstrip() for line in lines)


def _left_columns(left: int | Sequence[int], n: int) -> list[bool]:
    indices = range(left) if isinstance(left, int) else left
    return [i in indices for i in range(n)]


def _widths(lines: Sequence[Sequence[str]]) -> list[int]:
    return [max(3, *map(_columns, column)) for column in zip(*lines, strict=True)]


def _columns(text: str) -> int:
    """Columns of a terminal that a text takes; Hangul and the like take two each."""
    return sum(2 if east_asian_width(c) in "WF" else 1 for c in text)


def _aligned(line: Sequence[str], widths: Sequence[int], is_left: Sequence[bool]) -> list[str]:
    spaces = [" " * (width - _columns(text)) for text, width in zip(line, widths, strict=True)]
    return [
        text + space if to_left else space + text
        for text, space, to_left in zip(line, spaces, is_left, strict=True)
    ]
