"""Calibration data as people have it: read once, and how the model is called with it."""

import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.nn.utils.rnn import PackedSequence
from torch.optim.swa_utils import AveragedModel

from sparsecnn.errors import UserError
from sparsecnn.pruning.calibration.nested import changed, leaves, tensors_in

Forward = Callable[[nn.Module, Any], object]
"""Calls the model with a batch; what it returns is dropped."""

T = TypeVar("T")

ADVICE = "say how the model is called with forward=lambda model, batch: ..."


class NoBatchesError(UserError):
    """The data hold no batch, not even an empty one."""


class CalibrationData:
    """Batches, read once, and how a model is called with each.

    A batch is a tensor (``model(batch)``), a tuple or list (``model(*batch)``) or a mapping
    (``model(**batch)``). The second of a pair is left out where it can only be a target: where it
    is class labels, an integer for each example, and the model can do without, or where the
    model's forward takes one positional argument. Empty batches are left out.

    Each call gets copies of the tensors, on the model's device if it has only one, and in the
    dtype of its weights if they share one and autocast is off; tensors that are not floating
    keep their dtype. So a device holds one batch at a time, and a model that alters its inputs
    in place alters nothing of the caller's.

    Parameters
    ----------
    model
        Called through ``.module`` where it is wrapped for data parallelism.
    batches
        Any iterable of batches, read once and kept; or one tensor or one mapping, which is one
        batch.
    forward
        Called as ``forward(model, batch)`` in place of the model, for batches of any form. Their
        tensors are copied but neither moved nor cast.

    Raises
    ------
    UserError
        If `batches` is no iterable, holds no data, or holds a batch of another form (without
        `forward`). What reading it raises is let through.
    """

    def __init__(
        self,
        model: nn.Module,
        batches: Iterable[Any] | Tensor | Mapping[str, Any],
        forward: Forward | None = None,
    ) -> None:
        self._model, self._forward = model, forward
        tensors = list(chain(model.parameters(), model.buffers()))
        dtypes = (p.dtype for p in model.parameters() if p.dtype.is_floating_point)
        self._only_device = _only(tensor.device for tensor in tensors)
        self._dtype = _only(dtypes)
        self._calls = self._read(batches)

    def __len__(self) -> int:
        """Number of batches that are not empty."""
        return len(self._calls)

    @property
    def device(self) -> torch.device | None:
        """Where the model's first floating parameter lies; None if it has none."""
        floating = (p.device for p in self._model.parameters() if p.dtype.is_floating_point)
        return next(floating, None)

    def size(self, index: int) -> int:
        """Length of the first tensor of batch `index`; 1 if no tensor is seen in it."""
        return next((len(t) for t in self._calls[index].tensors() if t.dim()), 1)

    def run(self, index: int) -> object:
        """What the model, or `forward`, returns when called with batch `index`, counted from 0.

        Raises
        ------
        UserError
            One line for whatever exception the model, or moving the batch to its device, raises;
            that exception is its cause.
        """
        call = self._calls[index]
        try:
            call = call.changed(self._placed if self._forward is None else _copied)
            if self._forward is None:
                return _without_parallelism(self._model)(*call.args, **call.kwargs)
            return self._forward(self._model, *call.args)
        except UserError:
            raise
        except Exception as error:
            raise UserError(self._failure(call, error)) from error

    def _read(self, batches: Iterable[Any] | Tensor | Mapping[str, Any]) -> list["_Call"]:
        needed, taken = _positional_arguments(self._model)
        calls, number = [], 0
        for number, batch in enumerate(_each(batches), start=1):
            if self._forward is None:
                call = _call_with(number, batch, needed, taken)
            else:
                call = _Call(number, (batch,), {})
            if not call.is_empty():
                calls.append(call.changed(_normal))
        if not number:
            raise NoBatchesError("no calibration batches were given: at least one is needed")
        if not calls:
            raise UserError("every calibration batch is empty: at least one with data is needed")
        return calls

    def _placed(self, tensor: Tensor) -> Tensor:
        device = self._only_device or tensor.device
        dtype = tensor.dtype
        if self._dtype and dtype.is_floating_point and not _autocasts(device.type):
            dtype = self._dtype
        return tensor.to(device, dtype, copy=True)

    def _failure(self, call: "_Call", error: Exception) -> str:
        called = "the model" if self._forward is None else "forward"
        said = str(error).strip().splitlines()[:1]
        reason = ": ".join([type(error).__name__, *said])
        line = f"batch {call.number}: {called}, called with {call.described()}, raised {reason}"
        if self._forward is not None:
            return line
        first = next(call.tensors(), None)
        if first is not None and first.dtype == torch.uint8 and self._dtype:
            line += f" (the model's weights are {_short(self._dtype)}: normalise the images first?)"
        return f"{line}; {ADVICE}" if isinstance(error, TypeError) else line


@dataclass(frozen=True)
class _Call:
    """What a batch, the `number`-th that was read, gives to the model."""

    number: int
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def tensors(self) -> Iterator[Tensor]:
        return tensors_in([self.args, self.kwargs])

    def is_empty(self) -> bool:
        """Whether there is nothing in it, or only tensors without examples beside settings."""
        lengths = [len(tensor) for tensor in self.tensors() if tensor.dim()]
        return not any(lengths) if lengths else not list(leaves([self.args, self.kwargs]))

    def changed(self, change: Callable[[Tensor], Tensor]) -> "_Call":
        once = cache(change)  # attention goes by whether two of its inputs are one object
        return _Call(self.number, changed(self.args, once), changed(self.kwargs, once))

    def described(self) -> str:
        if self.kwargs:
            return f"keywords {', '.join(map(str, self.kwargs))}"
        inputs = ", ".join(_described(value) for value in self.args)
        return inputs if len(self.args) == 1 else f"{len(self.args)} inputs: {inputs}"


def _each(batches: Any) -> Iterator[Any]:
    if isinstance(batches, Tensor | Mapping):
        return iter([batches])
    if isinstance(batches, Iterable) and not isinstance(batches, str | bytes):
        return iter(batches)
    if hasattr(batches, "__getitem__") and not isinstance(batches, str | bytes):
        # By Python's own protocol a data set is read until IndexError, which it need not raise.
        sized = hasattr(batches, "__len__")
        return (batches[i] for i in range(len(batches))) if sized else iter(batches)
    raise UserError(
        "calibration batches are given in a list, a DataLoader or another iterable, "
        f"not as {_named(batches)}"
    )


def _call_with(number: int, batch: Any, needed: int, taken: float) -> _Call:
    if isinstance(batch, Tensor):
        return _Call(number, (batch,), {})
    if isinstance(batch, Mapping):
        return _Call(number, (), dict(batch))
    if not isinstance(batch, tuple | list) or isinstance(batch, PackedSequence):
        raise UserError(
            f"batch {number} is {_named(batch)}: a batch is a tensor, a tuple or list of inputs, "
            f"or a mapping of keyword arguments; for any other, {ADVICE}"
        )
    inputs = tuple(batch)
    if len(inputs) == 2 and needed < 2 and (taken < 2 or _is_labels(inputs[1], inputs[0])):
        inputs = inputs[:1]
    return _Call(number, inputs, {})


def _is_labels(second: Any, first: Any) -> bool:
    """Whether the second of a pair is an integer tensor, (N,) or (), for N examples."""
    if not isinstance(second, Tensor) or second.dtype == torch.bool:
        return False
    if second.is_floating_point() or second.is_complex() or second.dim() > 1:
        return False
    return not second.dim() or len(second) in _lengths(first)


def _lengths(value: Any) -> set[int]:
    """What may be the number of examples: images come in one tensor, or in a list of tensors."""
    lengths = {len(tensor) for tensor in tensors_in(value) if tensor.dim()}
    return lengths | {len(value)} if isinstance(value, tuple | list) else lengths


def _positional_arguments(model: nn.Module) -> tuple[int, float]:
    """How many positional arguments the model's forward needs, and takes at most."""
    try:
        parameters = inspect.signature(_innermost(model).forward).parameters.values()
    except (TypeError, ValueError):
        return 0, math.inf
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    endless = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    needed = sum(p.default is p.empty for p in positional)
    return needed, math.inf if endless else len(positional)


def _without_parallelism(model: nn.Module) -> nn.Module:
    while isinstance(model, DataParallel | DistributedDataParallel):
        model = model.module
    return model


def _innermost(model: nn.Module) -> nn.Module:
    """The model whose forward tells what it takes; wrappers take anything and hand it on."""
    while True:
        if isinstance(model, DataParallel | DistributedDataParallel | AveragedModel):
            model = model.module
        elif isinstance(compiled := getattr(model, "_orig_mod", None), nn.Module):
            model = compiled
        else:
            return model


def _normal(tensor: Tensor) -> Tensor:
    """An inference tensor's copy that may be used outside inference mode."""
    with torch.inference_mode(False):
        return tensor.clone() if tensor.is_inference() else tensor


def _copied(tensor: Tensor) -> Tensor:
    return tensor.clone()


def _autocasts(device_type: str) -> bool:
    return torch.amp.is_autocast_available(device_type) and torch.is_autocast_enabled(device_type)


def _only(items: Iterable[T]) -> T | None:
    """The one value that all items have, or None."""
    values = set(items)
    return values.pop() if len(values) == 1 else None


def _described(value: Any) -> str:
    if not isinstance(value, Tensor):
        return _named(value)
    return f"{_with_article(_short(value.dtype))} tensor of shape {tuple(value.shape)}"


def _named(value: Any) -> str:
    kind = type(value)
    prefix = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return "None" if value is None else _with_article(f"{prefix}{kind.__qualname__}")


def _with_article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeioAEIO" else f"a {noun}"


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
