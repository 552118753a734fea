"""Check a pruned network's pattern on its tensors themselves.

Deliberately shares no code with `sparsecnn.pruning`: what pruned a weight must not vouch for it.
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from torch import Tensor

from sparsecnn.errors import UserError


class PatternError(UserError):
    """A layer that claims a sparsity pattern does not have it."""


def verify_pattern(
    state_dict: Mapping[str, Tensor], layers: Sequence[Mapping[str, Any]]
) -> dict[str, float]:
    """Fraction of zero weights of every layer, after checking those said to be pruned.

    Parameters
    ----------
    state_dict
        The network's tensors.
    layers
        Rows of the table of layers; read are `layer`, `tensor`, `status`, `pattern` and `layout`.

    Raises
    ------
    PatternError
        Naming the first layer with more than N non-zero weights in a group of M.
    """
    for row in layers:
        if row["status"] == "pruned":
            _check_layer(_name(row), stored_weight(state_dict, row), row["pattern"], row["layout"])
    return {_name(row): _zeros(stored_weight(state_dict, row)) for row in layers}


def network_sparsity(
    state_dict: Mapping[str, Tensor], layers: Sequence[Mapping[str, Any]]
) -> dict[str, float]:
    """Fractions of zero weights over the pruned layers, and over all layers of the table.

    Keys `sparsity_pruned_layers` (0 if none is pruned) and `sparsity_network`.
    """
    weights = [stored_weight(state_dict, row) for row in layers]
    pruned = [stored_weight(state_dict, row) for row in layers if row["status"] == "pruned"]
    return {
        "sparsity_pruned_layers": _joint_zeros(pruned),
        "sparsity_network": _joint_zeros(weights),
    }


def _check_layer(name: str, weight: Tensor, pattern: str, layout: str) -> None:
    if "%" in pattern:
        _check_unstructured(name, weight, pattern)
        return
    kept, size = (int(part) for part in pattern.split(":"))
    if layout == "channels":
        slices = [weight[:, start : start + size] for start in range(0, weight.shape[1], size)]
        if weight.shape[1] % size:
            raise PatternError(f"layer {name!r}: its input channels do not divide by {size}")
    else:
        rows = weight.flatten(1)
        full = rows.shape[1] - rows.shape[1] % size
        slices = [rows[:, start : start + size] for start in range(0, full, size)]
    most = max(int((part != 0).sum(dim=1).max()) for part in slices) if slices else 0
    if most > kept:
        raise PatternError(
            f"layer {name!r} is said to be pruned {pattern} ({layout}), but {most} of {size} "
            "weights of a group are not zero; prune the network again"
        )


def _check_unstructured(name: str, weight: Tensor, pattern: str) -> None:
    """Up to one weight per 128 columns may be missing: masks are chosen block by block."""
    rate, _, scope = pattern.partition("%")
    rows = weight.flatten(1) if scope else weight.reshape(1, -1)
    blocks = -(-weight[0].numel() // 128)
    wanted = int(Fraction(rate) * rows.shape[1] / 100) - blocks
    fewest = int((rows == 0).sum(1).min())
    if fewest < wanted:
        raise PatternError(
            f"layer {name!r} is said to be pruned {pattern}, but only {fewest} of "
            f"{rows.shape[1]} weights are zero; prune the network again"
        )


def _name(row: Mapping[str, Any]) -> str:
    """The layer's name, with the tensor's where that is not ``weight``."""
    name: str = row["layer"]
    return name if row["tensor"] == "weight" else f"{name}.{row['tensor']}".lstrip(".")


def stored_weight(state_dict: Mapping[str, Tensor], row: Mapping[str, Any]) -> Tensor:
    """The tensor that a row of the table of layers is of; `PatternError` if it is not there."""
    key = f"{row['layer']}.{row['tensor']}".lstrip(".")
    if key not in state_dict:
        raise PatternError(f"layer {row['layer']!r} of the table is not in the network")
    return state_dict[key]


def _zeros(weight: Tensor) -> float:
    return int((weight == 0).sum()) / weight.numel()


def _joint_zeros(weights: Sequence[Tensor]) -> float:
    total = sum(weight.numel() for weight in weights)
    return sum(int((weight == 0).sum()) for weight in weights) / total if total else 0.0
