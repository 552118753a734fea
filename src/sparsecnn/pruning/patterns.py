"""Sparsity patterns: which weights of a row may be non-zero together."""

import re
from dataclasses import dataclass

import torch
from torch import Tensor

from sparsecnn.errors import UserError


@dataclass(frozen=True)
class NM:
    """At most `kept` non-zero weights in every `group` consecutive columns."""

    kept: int
    group: int

    def __str__(self) -> str:
        return f"{self.kept}:{self.group}"

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
        order = groups.argsort(dim=-1, descending=True, stable=True)
        mask = torch.zeros_like(groups, dtype=torch.bool)
        return mask.scatter_(-1, order[..., : self.kept], True).flatten(-2)


def parse_pattern(text: str) -> NM:
    """Parse a pattern such as "2:4"; `UserError` if it is not N:M with 1 <= N < M."""
    match = re.fullmatch(r"(\d+):(\d+)", str(text).strip())
    if match:
        kept, group = int(match[1]), int(match[2])
        if 1 <= kept < group:
            return NM(kept, group)
    raise UserError(
        f"pattern {text!r} is not valid: write N:M with 1 <= N < M, for example '2:4' to keep "
        "2 of every 4 weights"
    )
