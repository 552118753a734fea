"""Products and solves with the factor of a Hessian, within another mask for each row of weights.

With H = V V^T, V upper triangular, a deviation E from the dense weight costs ||E V||^2. All is held
transposed, (groups, columns, rows), so that columns lie contiguous, and is swept block of columns
by block: nearly all work is two halves of a matrix product, one forwards and one backwards.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

_BLOCK = 32
"""Columns at once. Within a block is solved by iteration, which costs more in larger ones; but on a
GPU, where an operation on a few columns takes as long as on many, a block is a panel."""

_PANEL = 256
"""Columns whose products with all others are computed at once; a multiple of `_BLOCK`."""

_TERMS = 5
"""Of the Neumann series that inverts the triangle within a block: with fewer, conjugate gradients
take up to twice the steps; the series ends by itself after a block's columns."""


@dataclass(frozen=True)
class _Block:
    """Some columns of V, with the triangle that lies on its diagonal."""

    here: slice
    triangle: Tensor
    """V of these columns, (groups, size, size)."""

    @cached_property
    def scale(self) -> Tensor:
        """Inverse diagonal, (groups, size, 1)."""
        return 1 / self.triangle.diagonal(dim1=-2, dim2=-1).unsqueeze(-1)

    @cached_property
    def above(self) -> Tensor:
        """What is above the diagonal, rows scaled: for the transposed triangle's inverse."""
        return self.triangle.triu(1) * self.scale

    @cached_property
    def below(self) -> Tensor:
        """The same transposed, rows scaled."""
        return self.triangle.triu(1).mT * self.scale


@dataclass(frozen=True)
class MaskedFactor:
    """V with the weights that each row keeps, S; those removed are R.

    K is nearly the inverse of V_SS and linear: exact between blocks, a polynomial within one. As
    H_SS = V_SS V_SS^T + V_SR V_SR^T, the eigenvalues of K^T H_SS K are about 1 or more, most of
    them close to 1. SparseGPT's weights (arXiv 2301.00774) are those where (E V)_S = 0.
    """

    upper: Tensor
    """V: (groups, columns, columns). Below the diagonal lies anything."""
    kept: Tensor
    """1 for kept weights and 0 for others, (groups, columns, rows), of V's dtype."""

    @cached_property
    def _panels(self) -> list[tuple[slice, list[_Block]]]:
        size = _PANEL if self.upper.is_cuda else _BLOCK
        return [
            (
                panel,
                [_Block(here, self.upper[:, here, here].triu()) for here in _cut(panel, size)],
            )
            for panel in _cut(slice(0, self.upper.shape[-1]), _PANEL)
        ]

    def outputs(self, deviation: Tensor) -> Tensor:
        """E V, whose squares add up to the error of E."""
        result = torch.empty_like(deviation)
        for block, earlier in self._forwards(deviation):
            result[:, block.here] = earlier.baddbmm_(block.triangle.mT, deviation[:, block.here])
        return result

    def forward(self, start: Tensor) -> tuple[Tensor, Tensor]:
        """E = K v, and its E V, for v that is zero outside S."""
        deviation, result = torch.empty_like(start), torch.empty_like(start)
        for block, earlier in self._forwards(deviation):
            here, kept = block.here, self.kept[:, block.here]
            right = torch.addcmul(start[:, here], earlier, kept, value=-1).mul_(block.scale)
            deviation[:, here] = solved = _inverse(block.below, right, kept)
            result[:, here] = earlier.baddbmm_(block.triangle.mT, solved)
        return deviation, result

    def backward(self, outputs: Tensor) -> Tensor:
        """K^T (V outputs)_S. Overwrites the outputs."""
        result = torch.empty_like(outputs)
        for panel, blocks in reversed(self._panels):
            behind = slice(panel.stop, None)
            later = self.upper[:, panel, behind] @ outputs[:, behind]
            for block in reversed(blocks):
                here, kept = block.here, self.kept[:, block.here]
                rest = slice(here.start, panel.stop)
                right = later[:, _within(here, panel)]
                right.baddbmm_(self.upper[:, here, rest].triu(), outputs[:, rest])
                right.mul_(kept).mul_(block.scale)
                result[:, here] = solved = _inverse(block.above, right, kept)
                outputs[:, here] -= solved  # so that earlier blocks get both terms by one product
        return result

    def _forwards(self, deviation: Tensor) -> Iterator[tuple[_Block, Tensor]]:
        """Each block, and what the columns before it contribute to its outputs."""
        for panel, blocks in self._panels:
            before = slice(0, panel.start)
            earlier = self.upper[:, before, panel].mT @ deviation[:, before]
            for block in blocks:
                own, here = slice(panel.start, block.here.start), block.here
                part = earlier[:, _within(here, panel)]
                yield block, part.baddbmm_(self.upper[:, own, here].mT, deviation[:, own])


def _cut(columns: slice, size: int) -> list[slice]:
    starts = range(columns.start, columns.stop, size)
    return [slice(start, min(start + size, columns.stop)) for start in starts]


def _within(here: slice, panel: slice) -> slice:
    return slice(here.start - panel.start, here.stop - panel.start)


def _inverse(triangle: Tensor, right: Tensor, kept: Tensor) -> Tensor:
    """About (I + triangle)^-1 right within each row's mask, the triangle strict."""
    solution = right
    for _ in range(min(_TERMS, triangle.shape[-1] - 1)):
        solution = torch.addcmul(right, triangle @ solution, kept, value=-1)
    return solution
