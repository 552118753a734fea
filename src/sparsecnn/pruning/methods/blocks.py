"""A block of columns of one layer, as SparseGPT hands it to what prunes it."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class Block:
    """B consecutive columns, transposed: columns lie along axis 1, rows along axis 2.

    With Q the pruned weights, those of group g when its turn comes, updated for all pruning
    before it, are `base[g] - reaction[g, :first] @ Q[:first]`; `first` is the first column of g.
    """

    base: Tensor
    """(groups, B, rows)."""
    reaction: Tensor
    """(groups, B, B), of which the part left of each group is used."""
    inverse: Tensor
    """Transposed U_gg of each group on the diagonal, zero elsewhere: (groups, B, B)."""

    def group_inverses(self, size: int) -> Tensor:
        """Transposed U_gg of each group of `size` columns, (groups, B / size, size, size)."""
        count = self.inverse.shape[-1] // size
        tiles = self.inverse.view(len(self.inverse), count, size, count, size)
        return tiles.diagonal(dim1=1, dim2=3).permute(0, 3, 1, 2)


class BlockPruner(Protocol):
    """Prunes the blocks of one layer in turn."""

    width: int
    """Columns that are pruned together, M; divides the width of all blocks but the last."""

    def prune(self, block: Block, pruned: Tensor, mask: Tensor) -> None:
        """Fill in the pruned weights and their mask, both (groups, B, rows)."""
        ...
