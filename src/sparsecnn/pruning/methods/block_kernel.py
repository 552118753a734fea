"""The block pruner for groups of four as one Triton kernel: each program walks some rows alone.

On a GPU the launch of six operations per group of columns would take most of the time of
`sparsecnn.pruning.methods.block_pruners`, whose masks this gives in one launch per block.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from sparsecnn.pruning.methods.blocks import Block
from sparsecnn.pruning.patterns import NM

_ROWS = 32
"""Rows of one program: a warp, a row a thread, for there are few rows and many columns."""


class FusedPruner:
    """Prunes by the published score; for N:4 patterns on a CUDA device."""

    width = 4

    def __init__(self, pattern: NM) -> None:
        self._kept = pattern.kept

    def prune(self, block: Block, pruned: Tensor, mask: Tensor) -> None:
        """As `sparsecnn.pruning.methods.blocks.BlockPruner.prune`."""
        groups, columns, rows = block.base.shape
        grid = (triton.cdiv(rows, _ROWS), groups)
        with torch.cuda.device_of(block.base):  # Triton launches on the current device
            _prune_block[grid](
                *(block.base.contiguous(), block.reaction.contiguous()),
                *(block.inverse.contiguous(), pruned, pruned.stride(0), mask, mask.stride(0)),
                *(rows, columns, self._kept, _ROWS),
                num_warps=1,
                enable_fp_fusion=True,
            )


@triton.jit  # type: ignore[untyped-decorator]
def _prune_block(  # type: ignore[no-untyped-def]
    base,
    reaction,
    inverse,
    pruned,
    pruned_stride,
    mask,
    mask_stride,
    rows,
    columns,
    kept: tl.constexpr,
    tile: tl.constexpr,
):
    """Prune `tile` rows of one convolution group; columns and rows are the last two axes."""
    group = tl.program_id(1).to(tl.int64)
    row = tl.program_id(0) * tile + tl.arange(0, tile)
    inside = row < rows
    base += group * columns * rows + row
    reaction += group * columns * columns
    inverse += group * columns * columns
    pruned += group * pruned_stride + row
    mask += group * mask_stride + row
    for first in range(0, columns, 4):
        w0 = tl.load(base + first * rows, inside, 0)
        w1 = tl.load(base + (first + 1) * rows, inside, 0)
        w2 = tl.load(base + (first + 2) * rows, inside, 0)
        w3 = tl.load(base + (first + 3) * rows, inside, 0)
        reaction_0 = reaction + first * columns
        for earlier in range(first):
            q = tl.load(pruned + earlier * rows, inside, 0)
            w0 -= tl.load(reaction_0 + earlier) * q
            w1 -= tl.load(reaction_0 + columns + earlier) * q
            w2 -= tl.load(reaction_0 + 2 * columns + earlier) * q
            w3 -= tl.load(reaction_0 + 3 * columns + earlier) * q

        corner = inverse + first * columns + first
        d0 = tl.load(corner)
        d1 = tl.load(corner + columns + 1)
        d2 = tl.load(corner + 2 * columns + 2)
        d3 = tl.load(corner + 3 * columns + 3)
        s0, s1, s2, s3 = w0 / d0, w1 / d1, w2 / d2, w3 / d3
        s0, s1, s2, s3 = s0 * s0, s1 * s1, s2 * s2, s3 * s3
        # The rank of a weight is how many come before it; of equal scores the earlier column.
        a, b, c = (s1 > s0).to(tl.int32), (s2 > s0).to(tl.int32), (s3 > s0).to(tl.int32)
        d, e, f = (s2 > s1).to(tl.int32), (s3 > s1).to(tl.int32), (s3 > s2).to(tl.int32)
        keep_0 = a + b + c < kept
        keep_1 = 1 - a + d + e < kept
        keep_2 = 2 - b - d + f < kept
        keep_3 = 3 - c - e - f < kept

        error = tl.where(keep_0, 0.0, w0 / d0)
        w1 -= tl.load(corner + columns) * error
        w2 -= tl.load(corner + 2 * columns) * error
        w3 -= tl.load(corner + 3 * columns) * error
        error = tl.where(keep_1, 0.0, w1 / d1)
        w2 -= tl.load(corner + 2 * columns + 1) * error
        w3 -= tl.load(corner + 3 * columns + 1) * error
        error = tl.where(keep_2, 0.0, w2 / d2)
        w3 -= tl.load(corner + 3 * columns + 2) * error

        out, keep = pruned + first * rows, mask + first * rows
        tl.store(out, tl.where(keep_0, w0, 0.0), inside)
        tl.store(out + rows, tl.where(keep_1, w1, 0.0), inside)
        tl.store(out + 2 * rows, tl.where(keep_2, w2, 0.0), inside)
        tl.store(out + 3 * rows, tl.where(keep_3, w3, 0.0), inside)
        tl.store(keep, keep_0, inside)
        tl.store(keep + rows, keep_1, inside)
        tl.store(keep + 2 * rows, keep_2, inside)
        tl.store(keep + 3 * rows, keep_3, inside)
        # What is stored above is loaded again in the next rounds.
        tl.debug_barrier()
