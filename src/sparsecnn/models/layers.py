"""What the three networks share: channel counts under a width factor."""

from sparsecnn.errors import UserError


def scaled(channels: int, width: float) -> int:
    """`channels` x `width`, rounded to a multiple of 8 (at least 8).

    Multiples of 8 keep every hidden layer prunable to N:M for M = 2, 4 and 8.
    """
    if width <= 0:
        raise UserError(f"width must be positive, not {width}")
    return max(8, round(channels * width / 8) * 8)
