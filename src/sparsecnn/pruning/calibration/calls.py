"""The operations that a model computes with its weights, seen as they happen.

A layer's class says little about what it computes: it may normalise its weight, pad by the size
of its input, scale what comes out. So what is solved for is never a module but the call of
`torch.nn.functional.linear` or a convolution that gets the weight itself, wherever in the model's
code it stands; and whatever else is done with a weight is seen too.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode, resolve_name

from sparsecnn.pruning.calibration.nested import leaves

OPERATIONS: dict[Callable[..., Any], str] = {
    functional.linear: "linear",
    torch.conv1d: "conv1d",
    torch.conv2d: "conv2d",
    torch.conv3d: "conv3d",
}
"""What can be pruned for, by the function that computes it."""

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


class Watch(TorchFunctionMode):
    """Sees what is done with some tensors in the thread that it is entered in; subclasses act.

    Functions of torch that are written in Python, as that of multi-head attention, are looked
    into: what they do with the tensors inside is seen, not their own call.
    """

    def __init__(self, names: Mapping[int, str]) -> None:
        """Watch the tensors of these ids, which have these names."""
        super().__init__()
        self._names = names

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
        read = [value for value in _tensors((args, kwargs)) if id(value) in self._names]
        if read and isinstance(func, FunctionType):
            with self:
                return _without_override(func)(*args, **kwargs)
        found = _as_call(func, args, kwargs) if read and func in OPERATIONS else None
        if found is None or id(found[0]) not in self._names:
            result = func(*args, **kwargs)
        else:
            weight, call = found
            name = self._names[id(weight)]
            self.before(name, call)
            result = func(*args, **kwargs)
            self.after(name, call, result)
            read = _without_one_each(read, weight, call.bias)
        for value in _tensors(result):
            self.computed(value)
        for value in read:
            if any(given is not value for given in _tensors(result)):
                self.read(self._names[id(value)], _function_name(func))
        return result


def _tensors(value: Any) -> Iterator[Tensor]:
    """All tensors in it."""
    return (leaf for leaf in leaves(value) if isinstance(leaf, Tensor))


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


def _function_name(function: Callable[..., Any]) -> str:
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
