"""Follow the channels of a network through one forward pass."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from sparsecnn.pruning.model.weights import Memory, overlapping
from sparsecnn.pruning.permutation.channels import Axis, Ledger
from sparsecnn.pruning.permutation.operations import Operation

INPUT = "it reads an input of the model"


@dataclass(frozen=True)
class _Label:
    """What is known of a tensor."""

    axis: Axis | None
    """Where its channels lie; None if it has none that could move."""
    reason: str
    """Why it has none."""
    number: int


@dataclass(frozen=True)
class Origin:
    """The weight, of two dimensions or more, that a tensor is."""

    leaf: Tensor
    flipped: bool
    """Whether its first two dimensions have changed places."""


Rule = Callable[["Tracer", Operation], None]


class Tracer(TorchDispatchMode):
    """Gives each tensor that is computed its channels, and notes where those of parameters lie."""

    def __init__(self, model: nn.Module, rule: Callable[[str], Rule]) -> None:
        """`rule` says what an operation of a name does with channels."""
        super().__init__()  # type: ignore[no-untyped-call]
        named = [*model.named_parameters(), *model.named_buffers()]
        self.ledger = Ledger()
        self.leaves = {id(leaf): (name, leaf) for name, leaf in named}
        self.axes: dict[tuple[int, int], Axis] = {}
        """By id of a parameter or buffer and its dimension."""
        self.reading: set[tuple[int, int]] = set()
        """Those of them along which a weight reads its inputs."""
        self.inputs: dict[int, str] = {}
        """By id of a weight that reads what has no channels, why it has none."""
        self.still: dict[int, str] = overlapping(model)
        """By id of a parameter or buffer that has to stay as it is, the reason."""
        self.unread: dict[int, Axis] = {}
        """What no operation has read: by number of label."""
        self.unreached = {id(one): name for name, one in model.named_parameters()}
        self._rule, self._memory = rule, Memory(named)
        self._labels: Any = WeakTensorKeyDictionary()
        self._origins: Any = WeakTensorKeyDictionary()
        self._count = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # or torch imports its compiler here, 3 s, to keep it out of this method

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        with torch._C.DisableTorchFunction():
            result = func(*args, **kwargs)
            operation = Operation.of(func, args, kwargs, result)
            for tensor in operation.tensors:
                self._reached(tensor, operation)
            if operation.tensors:
                self._rule(operation.name)(self, operation)
        return result

    def _reached(self, tensor: Tensor, operation: Operation) -> None:
        self.unreached.pop(id(tensor), None)
        if tensor in self._labels or tensor in self._origins or id(tensor) in self.leaves:
            return
        for name in self._memory.of(tensor):  # a view that was made before the pass
            leaf = next(key for key, (own, _) in self.leaves.items() if own == name)
            self.unreached.pop(leaf, None)
            self.still.setdefault(leaf, f"{operation.name} reads a view of it")

    def axis(self, tensor: Tensor) -> Axis | None:
        """Where the channels of a tensor lie; None if none of it could move."""
        if tensor not in self._labels:
            long = [dim for dim, size in enumerate(tensor.shape) if size > 1]
            if id(tensor) not in self.leaves or len(long) != 1 or not tensor.is_floating_point():
                return None
            self.give(tensor, self.ledger.new(long[0], tensor.shape[long[0]]))
            self.place(tensor, self._labels[tensor].axis)
        label: _Label = self._labels[tensor]
        self.unread.pop(label.number, None)
        return label.axis

    def give(self, tensor: Tensor, axis: Axis | None, reason: str = "") -> None:
        """Say where the channels of a tensor lie, or why it has none."""
        self._count += 1
        self._labels[tensor] = _Label(axis, reason, self._count)
        if axis is not None and id(tensor) not in self.leaves:
            self.unread[self._count] = axis

    def reason(self, tensor: Tensor) -> str:
        """Why a tensor has no channels."""
        label: _Label | None = self._labels.get(tensor)
        return label.reason if label else INPUT

    def place(self, leaf: Tensor, axis: Axis) -> Axis:
        """Say which channels lie along a dimension of a parameter or buffer."""
        key = id(leaf), axis.dim
        if key in self.axes:
            axis = self.ledger.merged(self.axes[key], axis)
        self.axes[key] = axis
        return axis

    def along(self, tensor: Tensor | None, axis: Axis | None, reason: str) -> None:
        """Say that a tensor, mostly a parameter, has these channels."""
        if tensor is None:
            return
        own = self.axis(tensor)
        if own is None or axis is None or own.dim != axis.dim or len(own) != len(axis):
            for one in filter(None, (own, axis)):
                self.ledger.fix(one, reason)
            self.fix(tensor, reason)
        elif id(tensor) in self.leaves:
            self.place(tensor, axis)
        else:
            self.ledger.merged(own, axis)

    def fix(self, tensor: Tensor, reason: str) -> None:
        """Keep all of a tensor where it is."""
        axis, origin = self.axis(tensor), self.origin(tensor)
        if axis is not None:
            self.ledger.fix(axis, reason)
        if origin is not None:
            self.still.setdefault(id(origin.leaf), reason)

    def leave(self, operation: Operation, reason: str) -> None:
        """Keep all that an operation reads where it is, and what it gives."""
        for tensor in operation.tensors:
            self.fix(tensor, reason)
        self.leave_results(operation, reason)

    def leave_results(self, operation: Operation, reason: str) -> None:
        """Say that what an operation gives has no channels that could move."""
        for result in operation.results:
            self.give(result, None, reason)

    def origin(self, tensor: Tensor) -> Origin | None:
        """The weight that a tensor is; None if it is none."""
        if id(tensor) in self.leaves and tensor.dim() > 1:
            return Origin(tensor, False)
        origin: Origin | None = self._origins.get(tensor)
        return origin

    def derive(self, tensor: Tensor, origin: Origin) -> None:
        """Say that a tensor is a weight."""
        self._origins[tensor] = origin
