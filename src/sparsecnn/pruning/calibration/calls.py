"""The operations that a model computes with its weights, seen as they happen.

A layer's class says little about what it computes: it may normalise its weight, pad by the size
of its input, scale what comes out. So what is solved for is never a module but the call of
`torch.nn.functional.linear` or a convolution that gets the weight itself, wherever in the model's
code it stands; and whatever else is done with a weight is seen too.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import FunctionType
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from sparsecnn.pruning.calibration.nested import leaves, tensors_in


def _overloads(name: str) -> list[Callable[..., Any]]:
    """The same as modules call it that come from an exported program."""
    packet = getattr(torch.ops.aten, name)
    return [getattr(packet, overload) for overload in packet.overloads() if overload != "out"]


OPERATIONS: dict[Callable[..., Any], str] = {
    functional.linear: "linear",
    torch.conv1d: "conv1d",
    torch.conv2d: "conv2d",
    torch.conv3d: "conv3d",
    **{
        overload: name
        for name in ("linear", "conv1d", "conv2d", "conv3d")
        for overload in _overloads(name)
    },
}
"""What can be pruned for, by the function that computes it."""

_NO_VALUES = (
    *(bool, int, str, type(None)),
    *(torch.dtype, torch.device, torch.layout, torch.Size, torch.memory_format),
)
"""Types of what functions say of a tensor without looking at its values."""

_COMPARISONS = {torch.equal, torch.allclose, Tensor.equal, Tensor.allclose, Tensor.is_nonzero}
"""Functions that return a bool and look at values, for all that."""

_OF_FORM = {
    *(torch.empty_like, torch.zeros_like, torch.ones_like, torch.full_like),
    *(torch.rand_like, torch.randn_like, torch.randint_like),
    *(Tensor.new_empty, Tensor.new_zeros, Tensor.new_ones, Tensor.new_full, Tensor.new_tensor),
}
"""Functions that look at nothing of a tensor but its shape, dtype and device."""

_OF_FORM_OF_OTHER = {Tensor.to, Tensor.type_as, Tensor.view_as, Tensor.expand_as, Tensor.reshape_as}
"""The same, of a tensor that is not their first."""

_ARGUMENTS = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")


@dataclass(frozen=True)
class Convolution:
    """How a convolution walks over its inputs; a number for each axis of the kernel."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    """Zeros before and behind each axis."""
    dilation: tuple[int, ...]
    groups: int


@dataclass(frozen=True)
class Call:
    """One use of a weight."""

    inputs: Tensor
    """(..., in_features) of a linear layer; (N, C, ...) or (C, ...) of a convolution."""
    bias: Tensor | None
    convolution: Convolution | None
    """None of a linear layer."""

    @property
    def groups(self) -> int:
        """Of the convolution; 1 of a linear layer."""
        return self.convolution.groups if self.convolution else 1

    def apply(self, weight: Tensor) -> Tensor:
        """What it gives for another weight and without a bias, in that weight's dtype."""
        inputs = self.inputs.to(weight.dtype)
        if self.convolution is None:
            return functional.linear(inputs, weight)
        how = self.convolution
        operation = (torch.conv1d, torch.conv2d, torch.conv3d)[len(how.kernel) - 1]
        padded = functional.pad(inputs, pad_sides(how))
        return operation(padded, weight, None, how.stride, 0, how.dilation, how.groups)


@dataclass(frozen=True)
class Outcome:
    """What an operation gave."""

    output: Tensor
    bias: Tensor | None
    """The bias that is in it."""


def pad_sides(convolution: Convolution) -> list[int]:
    """Padding as `torch.nn.functional.pad` takes it: the last axis first."""
    return [side for pair in reversed(convolution.padding) for side in pair]


@dataclass(frozen=True)
class Running:
    """A function that is being computed."""

    function: str
    given: frozenset[int] = frozenset()
    """Ids of the tensors it got."""
    is_call: bool = False
    """Whether it is one of the `OPERATIONS`, with a tensor watched as its weight."""


NOTHING = Running("")


class Watch(TorchFunctionMode):
    """Sees what is done with some tensors in the thread that it is entered in; subclasses act.

    Functions of torch that are written in Python, as that of multi-head attention, are looked
    into: what they do with the tensors inside is seen, not their own call.
    """

    def __init__(self, names: Mapping[int, str]) -> None:
        """Watch the tensors of these ids, which have these names."""
        super().__init__()
        self._names = names
        self._inside: list[Callable[..., Any]] = []
        self.running = NOTHING

    def before(self, name: str, call: Call) -> None:
        """One of the `OPERATIONS` is about to use the tensor of this name as its weight."""

    def after(self, name: str, call: Call, output: Tensor) -> None:
        """It has been used."""

    def read(self, name: str, function: str) -> None:
        """Another function computed something from the tensor."""

    def computed(self, result: Tensor) -> None:
        """Any function returned a tensor."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        given = list(tensors_in((args, kwargs)))
        read = [value for value in given if id(value) in self._names]
        if read and isinstance(func, FunctionType) and func not in self._inside:
            return self._looked_into(func, args, kwargs)
        self.running = Running(function_name(func), frozenset(map(id, given)))
        try:
            return self._watched(func, args, kwargs, read)
        finally:
            self.running = NOTHING

    def _watched(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        read: list[Tensor],
    ) -> Any:
        function = self.running.function
        found = _as_call(func, args, kwargs) if read and func in OPERATIONS else None
        if found is not None and id(found[0]) in self._names:
            weight, call = found
            function += (unusual := _unusual(call.inputs))
            if not unusual:
                read = _without_one_each(read, weight, call.bias)
                return self._called(weight, call, lambda: func(*args, **kwargs), read)
        result = func(*args, **kwargs)
        self._tell(result, [v for v in read if _looks_at(func, args, v, result)], function)
        return result

    def _called(
        self, weight: Tensor, call: Call, compute: Callable[[], Tensor], read: list[Tensor]
    ) -> Tensor:
        """`read` are tensors watched that are more to it than its weight and bias."""
        name, running = self._names[id(weight)], self.running
        self.before(name, call)
        self.running = replace(running, is_call=True)
        result = compute()
        self.running = running
        self.after(name, call, result)
        self._tell(result, read, running.function)
        return result

    def _tell(self, result: Any, read: list[Tensor], function: str) -> None:
        for value in tensors_in(result):
            if not is_functorch_wrapped_tensor(value):
                self.computed(value)
        for value in read:
            self.read(self._names[id(value)], function)

    def _looked_into(
        self, func: FunctionType, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        self._inside.append(func)
        try:
            with self:
                return _without_override(func)(*args, **kwargs)
        finally:
            self._inside.pop()


def _looks_at(
    function: Callable[..., Any], args: tuple[Any, ...], value: Tensor, result: Any
) -> bool:
    """Whether a function that was given a tensor and returned this looked at its values."""
    if function in _OF_FORM or (function in _OF_FORM_OF_OTHER and args[0] is not value):
        return False
    if function in _COMPARISONS:
        return True
    return any(
        leaf is not value if isinstance(leaf, Tensor) else not isinstance(leaf, _NO_VALUES)
        for leaf in leaves(result)
    )


def _unusual(inputs: Tensor) -> str:
    """What inputs are if they are no plain numbers that can be kept and looked at."""
    if is_functorch_wrapped_tensor(inputs):
        return " with inputs that torch.func transforms"
    if inputs.is_nested or is_traceable_wrapper_subclass(inputs):
        return f" with a nested or wrapped {type(inputs).__name__}"
    return "" if inputs.layout == torch.strided else f" with {str(inputs.layout)[6:]} inputs"


def _without_one_each(values: list[Tensor], *gone: Tensor | None) -> list[Tensor]:
    left = list(values)
    for one in gone:
        for index, value in enumerate(left):
            if value is one:
                del left[index]
                break
    return left


def _without_override(function: FunctionType) -> FunctionType:
    """The same function, which does not ask again whether a mode or a subclass takes it over."""
    names = ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic")
    scope = {**function.__globals__, **dict.fromkeys(names, lambda *_: False)}
    copied = FunctionType(
        function.__code__, scope, function.__name__, function.__defaults__, function.__closure__
    )
    copied.__kwdefaults__ = function.__kwdefaults__
    return copied


def function_name(function: Callable[..., Any]) -> str:
    """As users know it."""
    name: str = resolve_name(function) or getattr(function, "__name__", str(function))
    return name.removesuffix(".__get__").removeprefix("torch.")


def _as_call(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[Tensor, Call]:
    given = {**dict(zip(_ARGUMENTS, args, strict=False)), **kwargs}
    weight, bias = given["weight"], given.get("bias")
    if OPERATIONS[function] == "linear":
        return weight, Call(given["input"], bias, None)
    kernel = tuple(weight.shape[2:])
    dilation = _each_axis(given.get("dilation", 1), kernel)
    convolution = Convolution(
        kernel,
        _each_axis(given.get("stride", 1), kernel),
        _padding(given.get("padding", 0), kernel, dilation),
        dilation,
        given.get("groups", 1),
    )
    return weight, Call(given["input"], bias, convolution)


def _padding(
    padding: Any, kernel: tuple[int, ...], dilation: tuple[int, ...]
) -> tuple[tuple[int, int], ...]:
    if padding == "same":
        totals = [step * (size - 1) for size, step in zip(kernel, dilation, strict=True)]
        return tuple((total // 2, total - total // 2) for total in totals)
    sides = _each_axis(0 if padding == "valid" else padding, kernel)
    return tuple((side, side) for side in sides)


def _each_axis(value: int | Sequence[int], kernel: tuple[int, ...]) -> tuple[int, ...]:
    values = [value] if isinstance(value, int) else list(value)
    return tuple(int(one) for one in (values * len(kernel) if len(values) == 1 else values))
