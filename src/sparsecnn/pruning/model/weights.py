"""The weights of a model, and which of them cannot be pruned whatever reads them."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from sparsecnn.errors import UserError
from sparsecnn.models.reparametrized import Computed

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass(frozen=True, eq=False)
class Weight:
    """A tensor of two dimensions or more that a module owns, pruned or left dense as one."""

    module: nn.Module
    layer: str
    """Dotted name of the module."""
    tensor: str
    """Its name there, mostly ``weight``."""
    problem: str = ""
    """Why it cannot be pruned; empty if it can."""
    others: tuple[str, ...] = ()
    """Names by which other layers own the same tensor."""

    @property
    def name(self) -> str:
        """The layer's name; with the tensor's, where that is not ``weight``."""
        return self.layer if self.tensor == "weight" else f"{self.layer}.{self.tensor}".lstrip(".")

    @property
    def value(self) -> Tensor:
        """The tensor as it is now; of a quantized module, which packs it, a copy."""
        value = getattr(self.module, self.tensor)
        return cast(Tensor, value if isinstance(value, Tensor) else value().dequantize())


def find_weights(
    model: nn.Module, computed: Collection[Computed] = (), ingredients: Collection[int] = ()
) -> dict[str, Weight]:
    """Every weight by name, in module order.

    Parameters
    ----------
    computed, ingredients
        Of `plain_weights`: weights that are computed from other parameters, and the ids of these,
        which are left out.
    """
    reasons = {(id(one.module), one.tensor): one.reason for one in computed}
    shared = names_of_tensors(model)
    sharing = overlapping(model)
    found: dict[str, Weight] = {}
    seen: set[int] = set()
    for layer, module in model.named_modules():
        for tensor, value in _tensors(module, [name for key, name in reasons if key == id(module)]):
            if id(value) in seen or id(value) in ingredients:
                continue
            seen.add(id(value))
            own = f"{layer}.{tensor}".lstrip(".")
            others = tuple(name for name in shared[id(value)] if name != own)
            problem = (
                reasons.get((id(module), tensor))
                or (f"it is also {others[0]}" if others else "")
                or sharing.get(id(value))
                or _unfit(module, value)
            )
            weight = Weight(module, layer, tensor, problem, others)
            found[weight.name] = weight
    return found


def require_module(model: object) -> None:
    """Raise `UserError`, with what to do, unless layers of the model can be changed one by one."""
    kind = type(model).__name__
    if isinstance(model, torch.jit.ScriptModule):
        raise UserError(
            f"the model is a {kind}, whose operations cannot be seen or changed one by one: prune "
            "the module that it was made from, then script or trace that"
        )
    if isinstance(model, torch.export.ExportedProgram):
        raise UserError(
            "the model is an ExportedProgram, which is fixed: prune the module that it was "
            "exported from, then export that"
        )
    if not isinstance(model, nn.Module):
        raise UserError(f"the model is a {kind}; it has to be a torch.nn.Module")


def require_values(model: nn.Module) -> None:
    """Raise `UserError` if a parameter has no values: of a lazy module, or on the meta device."""
    for name, parameter in model.named_parameters():
        if isinstance(parameter, UninitializedParameter):
            raise UserError(
                f"parameter {name!r} has no shape yet (its module is lazy): call the model once on "
                "a batch, and load its weights, before pruning it"
            )
        if parameter.device.type == "meta":
            raise UserError(
                f"parameter {name!r} is on the meta device, where there are no values: load the "
                "model's weights before pruning it"
            )


def _tensors(module: nn.Module, computed: list[str]) -> Iterator[tuple[str, Tensor]]:
    for name, parameter in module._parameters.items():
        if parameter is not None and parameter.dim() >= 2:
            yield name, parameter
    for name in computed:
        yield name, getattr(module, name)
    if _is_quantized(module):
        yield "weight", module.weight()  # type: ignore[operator]


def _is_quantized(module: nn.Module) -> bool:
    """Whether its weight is packed, behind a method."""
    return ".quantized" in type(module).__module__ and callable(getattr(module, "weight", None))


def _unfit(module: nn.Module, value: Tensor) -> str:
    if _is_quantized(module):
        return "it is quantized"
    if isinstance(module, torch.jit.ScriptModule):
        return "it is part of a ScriptModule, whose operations cannot be seen"
    if hasattr(value, "__tensor_flatten__"):  # made of other tensors: sharded, quantized, packed
        return f"it is a {type(value).__name__}, not a plain tensor"
    if value.layout != torch.strided:
        return f"it is stored as {str(value.layout)[6:]}"
    if value.dtype not in DTYPES:
        return f"it is {str(value.dtype)[6:]}, not a floating-point number that can be solved for"
    return ""


def names_of_tensors(model: nn.Module) -> dict[int, list[str]]:
    """All names of each parameter and buffer, by its id."""
    names: dict[int, list[str]] = defaultdict(list)
    for layer, module in model.named_modules():
        for name, value in (*module._parameters.items(), *module._buffers.items()):
            if value is not None:
                names[id(value)].append(f"{layer}.{name}".lstrip("."))
    return names


class Memory:
    """Where in memory some tensors lie, by name."""

    def __init__(self, tensors: Iterable[tuple[str, Tensor]]) -> None:
        self._extents: dict[object, list[tuple[int, int, str]]] = defaultdict(list)
        for name, value in tensors:
            if place := _place(value):
                storage, start, stop = place
                self._extents[storage].append((start, stop, name))

    def of(self, value: Tensor) -> list[str]:
        """Names of those that a tensor has memory in common with."""
        storage, start, stop = _place(value) or (None, 0, 0)
        return [
            name
            for other_start, other_stop, name in self._extents.get(storage, ())
            if start < other_stop and other_start < stop
        ]


def _place(value: Tensor) -> tuple[object, int, int] | None:
    """Its storage, and the first address and the one behind the last; None if it has none."""
    if hasattr(value, "__tensor_flatten__") or value.is_nested:
        return None
    if value.is_meta or value.layout != torch.strided:
        return None
    try:
        start = value.data_ptr()
    except RuntimeError:  # what torch.func makes of a tensor
        return None
    if not start:
        return None
    span = sum((n - 1) * s for n, s in zip(value.shape, value.stride(), strict=True))
    storage = value.device, value.untyped_storage().data_ptr()
    return storage, start, start + (span + 1) * value.itemsize


def overlapping(model: nn.Module) -> dict[int, str]:
    """By the id of a tensor, why changing it would change another: they share memory."""
    tensors = {id(value): (name, value) for name, value in _all(model)}
    memory = Memory(tensors.values())
    met = {key: [n for n in memory.of(value) if n != own] for key, (own, value) in tensors.items()}
    return {key: f"it shares memory with {names[0]}" for key, names in met.items() if names}


def _all(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_buffers()
    yield from model.named_parameters()
