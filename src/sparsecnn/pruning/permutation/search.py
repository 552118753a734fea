"""The order of channels in which N:M pruning keeps most of what is important.

The search of "Channel permutations for N:M sparsity" (Pool and Yu, NeurIPS 2021), without its
escapes: swaps of two channels of different groups, the best first, until none gains. All swaps of
two groups are valued at once, from how each group would do with one channel replaced.
"""

import torch
from torch import Tensor

from sparsecnn.pruning.patterns import NM

PASSES = 200
"""Of swaps; far more than are needed as a rule."""

_LEAST = 1e-6
"""Gain of a swap, as a fraction of what two groups keep, below which it is taken for rounding."""

_WORK = 2**31
"""Comparisons that value all swaps once, at most: of more rows so many are looked at, drawn at
random. Of 1,024 channels a sixteenth of 1,024 rows gave the same gain over all."""

_PARTNERS = 8
"""Of each channel that are tried in a pass: its best may be that of many."""

_NUMBERS = 2**24
"""Held at a time while groups are valued."""

_CACHED = 2**17
"""Of these, that a core's cache holds."""


def kept(importance: Tensor, order: Tensor, pattern: NM) -> float:
    """What is kept of the importance if channels are in this order.

    Parameters
    ----------
    importance
        Shape (channels, rows): of each channel, what each row of the weights that read it has
        there.
    order
        int64, (channels,), a multiple of `pattern.group`.
    """
    total = 0.0
    for group in order.reshape(-1, pattern.group):
        total += float(importance[group].topk(pattern.kept, dim=0).values.sum(dtype=torch.float64))
    return total


def best_order(importance: Tensor, pattern: NM, passes: int = PASSES) -> Tensor:
    """An order of channels in which no swap of two keeps more; int64, (channels,).

    `importance` is as in `kept`. Channels beyond a multiple of `pattern.group` stay last.
    """
    count = len(importance) // pattern.group * pattern.group
    order = torch.arange(len(importance))
    groups = order[:count].view(-1, pattern.group)
    if len(groups) > 1:
        rows = _sampled(importance[:count])
        replaced = importance.new_empty(count, count)
        changed = torch.arange(len(groups))
        for _ in range(passes):
            _value(rows, groups, changed, replaced, pattern)
            changed = _swap(groups, replaced)
            if not len(changed):
                break
    first = torch.arange(len(order))
    better = kept(importance, groups, pattern) > kept(importance, first[:count], pattern)
    return order if better else first


def _sampled(importance: Tensor) -> Tensor:
    """So many rows that valuing all swaps of them is not more than `_WORK`."""
    channels, rows = importance.shape
    most = max(1, _WORK // channels**2)
    if rows <= most:
        return importance
    drawn = torch.randperm(rows, generator=torch.Generator().manual_seed(0))[:most]
    return importance[:, drawn.sort().values]


def _value(
    importance: Tensor, groups: Tensor, changed: Tensor, replaced: Tensor, pattern: NM
) -> None:
    """What each changed group would keep with channel j in the place of its channel i.

    Written to row i and column j of `replaced`. N of M are kept: of the others of the group the
    N - 1 largest, and the larger of the next one and of j.
    """
    size = pattern.group
    step = max(1, _NUMBERS // (size * importance[0].numel()))
    for part in changed.split(step):
        for place in range(size):
            members = groups[part]
            others = torch.cat([members[:, :place], members[:, place + 1 :]], dim=1)
            best = importance[others].topk(pattern.kept, dim=1).values
            sure = best[:, :-1].sum((1, 2))[:, None]
            replaced[members[:, place]] = sure + _sums_of_larger(best[:, -1], importance)


def _sums_of_larger(left: Tensor, right: Tensor) -> Tensor:
    """Sums over k of max(left[i, k], right[j, k]), shape (i, j)."""
    sums = left.new_zeros(len(left), len(right))
    width = max(1, _CACHED // len(right))
    for ones, others in zip(left.split(width, 1), right.split(width, 1), strict=True):
        others = others.contiguous()
        larger = torch.empty_like(others)
        for number, one in enumerate(ones):
            sums[number] += torch.maximum(others, one, out=larger).sum(1)
    return sums


def _swap(groups: Tensor, replaced: Tensor) -> Tensor:
    """Swap channels of pairs of groups, the best pairs first, each group once; which changed."""
    size, count = groups.shape[1], len(replaced)
    of_each = torch.arange(len(groups)).repeat_interleave(size)
    home = torch.empty(count, dtype=torch.int64).scatter_(0, groups.flatten(), of_each)
    now = replaced.diagonal()
    pairs = now[:, None] + now
    gains = replaced + replaced.T - pairs
    gains[home[:, None] == home] = 0
    gains[gains <= _LEAST * pairs] = 0
    best, partner = gains.topk(min(_PARTNERS, count), dim=1)
    flat, homes, partners = groups.view(-1), home.tolist(), partner.flatten().tolist()
    slots = torch.empty(count, dtype=torch.int64).scatter_(0, flat, torch.arange(count)).tolist()
    changed: set[int] = set()
    worthwhile = int((best > 0).sum())
    for pair in best.flatten().argsort(descending=True, stable=True)[:worthwhile].tolist():
        one, other = pair // best.shape[1], partners[pair]
        if changed.isdisjoint((homes[one], homes[other])):
            changed.update((homes[one], homes[other]))
            flat[slots[one]], flat[slots[other]] = other, one
    return torch.tensor(sorted(changed), dtype=torch.int64)
