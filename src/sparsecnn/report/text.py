"""Numbers and tables as text, for Markdown and for the terminal."""

import re
from collections.abc import Collection

import pandas as pd

ABSENT = "\N{EN DASH}"
"""In a table, what was not measured."""


def signed(value: float, digits: int = 2) -> str:
    """A difference with its sign; what rounds to zero has none: ``+1.20``, ``-0.35``, ``0.00``."""
    rounded = round(value, digits)
    return f"{rounded:+.{digits}f}" if rounded else f"{0:.{digits}f}"


def signed_interval(low: float, high: float) -> str:
    """An interval of differences: ``[-0.35, +1.20]``."""
    return f"[{signed(low)}, {signed(high)}]"


def signed_estimate(value: float, low: float, high: float) -> str:
    """A difference with its interval: ``+0.40 [-0.35, +1.20]``."""
    return f"{signed(value)} {signed_interval(low, high)}"


def p_text(p: float) -> str:
    """A p-value to three decimals: ``p = 0.042``, ``p < 0.001``."""
    return f"p = {p:.3f}" if p >= 0.0005 else "p < 0.001"


def escaped(text: str) -> str:
    """Text that Markdown shows as it is, in a table too: on one line, without HTML or markup."""
    return re.sub(r"([\\`*_\[\]<>|&~$])", r"\\\1", " ".join(text.split()))


def anchor(heading: str) -> str:
    """The anchor that GitHub gives a heading: ``Run it again`` is at ``#run-it-again``."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def table(frame: pd.DataFrame, left: Collection[int] = (0,), style: str = "pipe") -> str:
    """A frame of texts as a Markdown table, padded so that its source is a table too.

    `left` are the columns that are left-aligned; `style` is one of tabulate's.
    """
    sides = ["left" if i in left else "right" for i in range(frame.shape[1])]
    return str(
        frame.to_markdown(index=False, tablefmt=style, disable_numparse=True, colalign=sides)
    )
