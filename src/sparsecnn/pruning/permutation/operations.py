"""What torch computes, as it is dispatched."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sparsecnn.pruning.calibration.nested import tensors_in


@dataclass(frozen=True)
class Operation:
    """One call of an ATen operation, after it was computed."""

    name: str
    """Without overload, and without the underscore of those that work in place."""
    function: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    named: dict[str, Any]
    """All arguments that were given, by name."""
    tensors: list[Tensor]
    """Among the arguments."""
    results: list[Tensor]
    pointwise: bool
    """Whether each element of the result comes of one element of each tensor."""
    in_place: bool

    @classmethod
    def of(
        cls, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any
    ) -> "Operation":
        """The operation that `function` computed from these arguments."""
        schema = function._schema
        names = [argument.name for argument in schema.arguments]
        return cls(
            name=schema.name.split("::")[-1].removesuffix("_"),
            function=function,
            args=args,
            kwargs=kwargs,
            named={**dict(zip(names, args, strict=False)), **kwargs},
            tensors=list(tensors_in([args, dict(kwargs)])),
            results=list(tensors_in(result)),
            pointwise=torch.Tag.pointwise in function.tags,
            in_place=schema.is_mutable,
        )

    @property
    def input(self) -> Tensor:
        """The first tensor."""
        return self.tensors[0]
