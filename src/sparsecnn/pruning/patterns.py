"""Sparsity patterns: which weights may be non-zero together."""

import re
from dataclasses import dataclass

import torch
from torch import Tensor

from sparsecnn.errors import UserError

_COMPARED = 8
"""Up to this many weights of a group are compared with each other: that is faster than to sort."""

_ROUNDING = 1e-9
"""0.29 * 100 is a little less than 29 in binary."""


@dataclass(frozen=True)
class NM:
    """At most `kept` non-zero weights in every `group` consecutive columns."""

    kept: int
    group: int

    per_row = True
    """A row fits the pattern whatever the others are."""

    def __str__(self) -> str:
        return f"{self.kept}:{self.group}"

    def most_kept(self, columns: int) -> int:
        """How many of so many weights a row keeps at most; a tail shorter than a group stays."""
        return columns // self.group * self.kept + columns % self.group

    def mask(self, scores: Tensor) -> Tensor:
        """True for the `kept` highest scores of every group; the earlier column wins a tie.

        Parameters
        ----------
        scores
            Shape (..., columns), columns a multiple of `group`.

        Returns
        -------
        Tensor
            bool, the shape of `scores`.
        """
        groups = scores.reshape(*scores.shape[:-1], -1, self.group)
        highest = _highest if self.group > _COMPARED else _highest_of_few
        return highest(groups, self.kept).reshape(scores.shape)


@dataclass(frozen=True)
class Unstructured:
    """A fraction `rate` of the weights is zero, anywhere in the layer or in each row."""

    rate: float
    per_row: bool

    group = 1
    """Any number of columns can be pruned."""

    def __str__(self) -> str:
        return f"{100 * self.rate:g}%" + (" per row" if self.per_row else "")

    def removed(self, size: int) -> int:
        """How many of so many weights are zero: the fraction `rate`, rounded down."""
        return int(self.rate * size + _ROUNDING)

    def most_kept(self, columns: int) -> int:
        """How many of so many weights a row keeps at most: all, if others can make up for it."""
        return columns - self.removed(columns) if self.per_row else columns

    def mask(self, scores: Tensor) -> Tensor:
        """False for the fraction `rate`, rounded down, of lowest scores.

        Parameters
        ----------
        scores
            Shape (..., rows, columns); together, or row by row if `per_row`.

        Returns
        -------
        Tensor
            bool, the shape of `scores`.
        """
        compared = scores if self.per_row else scores.reshape(-1)
        size = compared.shape[-1]
        return _highest(compared, size - self.removed(size)).reshape(scores.shape)


Pattern = NM | Unstructured


def parse_pattern(text: str) -> Pattern:
    """Parse "2:4", "50%" (of a layer) or "50% per row"; `UserError` for anything else."""
    if match := re.fullmatch(r"(\d+):(\d+)", str(text)):
        kept, group = int(match[1]), int(match[2])
        if 1 <= kept < group:
            return NM(kept, group)
    elif match := re.fullmatch(r"(\d+(?:\.\d+)?)%( per row)?", str(text)):
        rate = float(match[1]) / 100
        if 0 < rate < 1:
            return Unstructured(rate, bool(match[2]))
    raise UserError(
        f"pattern {text!r} is not valid: write N:M with 1 <= N < M, for example '2:4' to keep "
        "2 of every 4 weights, or the part to remove, '50%' or '50% per row'"
    )


def _highest(scores: Tensor, kept: int) -> Tensor:
    order = scores.argsort(dim=-1, descending=True, stable=True)
    mask = torch.zeros_like(scores, dtype=torch.bool)
    return mask.scatter_(-1, order[..., :kept], True)


def _highest_of_few(scores: Tensor, kept: int) -> Tensor:
    """As `_highest`: kept is what fewer than `kept` others of its group come before."""
    columns = scores.unbind(-1)
    before = [torch.zeros_like(column, dtype=torch.int8) for column in columns]
    for later in range(1, len(columns)):
        for earlier in range(later):
            loses = columns[later] > columns[earlier]
            before[earlier] += loses
            before[later] += ~loses
    return torch.stack([count < kept for count in before], -1)
