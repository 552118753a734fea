"""Tensors nested in lists, tuples and dictionaries."""

import copy
from collections import UserDict
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor
from torch.nn.utils.rnn import PackedSequence


def changed(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same with every tensor changed, in new containers of the same types."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict | UserDict):
        copied = copy.copy(value)
        for key, item in value.items():
            copied[key] = changed(item, change)
        return copied
    if isinstance(value, list):
        copied_list = copy.copy(value)
        copied_list[:] = [changed(item, change) for item in value]
        return copied_list
    if _is_plain_tuple(value):
        items = [changed(item, change) for item in value]
        return value._make(items) if hasattr(value, "_make") else tuple(items)
    return value


def leaves(value: Any) -> Iterator[Any]:
    """All that is not a container which `changed` goes into, in order."""
    if isinstance(value, dict | UserDict):
        value = list(value.values())
    if isinstance(value, list) or _is_plain_tuple(value):
        for item in value:
            yield from leaves(item)
    else:
        yield value


def tensors_in(value: Any) -> Iterator[Tensor]:
    """All tensors among its `leaves`."""
    return (leaf for leaf in leaves(value) if isinstance(leaf, Tensor))


def _is_plain_tuple(value: Any) -> bool:
    """A tuple or named tuple; others, as torch.Size, cannot be built from any items."""
    named = isinstance(value, tuple) and hasattr(value, "_make")
    return type(value) is tuple or (named and not isinstance(value, PackedSequence))
