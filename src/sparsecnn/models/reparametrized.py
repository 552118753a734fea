"""Weights that a module computes from other tensors, made plain parameters for a while.

What is known of the insides of torch.nn.utils is in `_Parametrized`, `_WeightNormed`, `_find` and
the two functions after it.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import reduce
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from sparsecnn.errors import UserError

# How far a weight may be from what was written, relative to it. Norms of long rows are summed in
# another order when a weight is written than when it is read.
ROUNDING = {torch.float64: 1e-13, torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 5e-2}


@dataclass(frozen=True)
class Computed:
    """A weight that is computed from other tensors and cannot be set exactly."""

    module: nn.Module
    tensor: str
    reason: str


@contextmanager
def plain_weights(model: nn.Module) -> Iterator[tuple[list[Computed], set[int]]]:
    """Every weight that is computed from other tensors is a plain parameter inside, if it can be.

    Weights are tensors of two or more dimensions. It is tried out which of them can be set: one
    half of whose entries are zero is written and read back. The plain parameters may be changed in
    place. On leaving they are written into the tensors that they were computed from, which stay
    the same objects; those of a parameter that nobody changed are not touched, and none if
    anything was raised inside.

    Parameters
    ----------
    model
        In eval mode: some weights are computed differently in training.

    Yields
    ------
    The weights that cannot be set, and the ids of all parameters from which weights of either
    kind are computed. These are not themselves weights in use.

    Raises
    ------
    UserError
        On leaving, if a changed weight cannot be written exactly (weight normalisation cannot give
        a row of zeros). Every computed weight of the model is then as it was before.
    """
    with torch.no_grad():
        computed, plain, made_from = _survey(model)
    with ExitStack() as stack:
        for weight in plain:
            stack.enter_context(weight.source.replaced_by(weight.parameter))
        yield computed, made_from
    # What is raised inside leaves above.
    with torch.no_grad():
        _write_back(plain)


def write(tensor: Tensor, value: Tensor) -> None:
    """Copy values into a tensor of a model, which may have been made in inference mode."""
    with torch.inference_mode(tensor.is_inference()), torch.no_grad():
        tensor.copy_(value)


@dataclass(frozen=True)
class _Source:
    """What a weight of a module is computed from.

    `remover` names the function that makes the weight a plain parameter for good. `obstacle` says
    why the weight cannot be set, where that is known without a trial; this class itself is for
    those alone.
    """

    name: str
    module: nn.Module
    tensor: str
    made_by: str
    parameters: list[nn.Parameter]
    remover: str = ""
    obstacle: str = ""

    def owners(self) -> list[nn.Module]:
        """The modules whose tensors and attributes `compute` and `set` may change."""
        return []

    def written(self) -> list[Tensor]:
        """The tensors that `set` writes."""
        return []

    def compute(self) -> Tensor:
        """The weight as the tensors that it is made from give it."""
        return cast(Tensor, getattr(self.module, self.tensor))

    def set(self, weight: Tensor) -> None:
        """Write in place the tensors that this weight would be computed from."""
        raise NotImplementedError

    def replaced_by(self, parameter: nn.Parameter) -> AbstractContextManager[None]:
        """Inside, the module has this parameter instead of a computed weight."""
        raise NotImplementedError


class _Parametrized(_Source):
    """A weight with parametrizations of torch.nn.utils.parametrize."""

    def _steps(self) -> parametrize.ParametrizationList:
        every = cast(nn.ModuleDict, self.module.parametrizations)
        return cast(parametrize.ParametrizationList, every[self.tensor])

    def owners(self) -> list[nn.Module]:
        return list(self._steps().modules())

    def written(self) -> list[Tensor]:
        steps = self._steps()
        if steps.is_tensor:
            return [steps.original]
        return [getattr(steps, f"original{i}") for i in range(steps.ntensors)]

    def compute(self) -> Tensor:
        return cast(Tensor, self._steps()())

    def set(self, weight: Tensor) -> None:
        value: Any = weight.clone()
        # The list has a method for this, which moves the tensors to other memory, though.
        for step in reversed(list(self._steps())):
            value = step.right_inverse(value)  # type: ignore[operator]
        values = [value] if self._steps().is_tensor else value
        for target, part in zip(self.written(), values, strict=True):
            write(target, part)
        # If the caller has parametrize.cached() on.
        parametrize._cache.pop((id(self.module), self.tensor), None)

    @contextmanager
    def replaced_by(self, parameter: nn.Parameter) -> Iterator[None]:
        module, tensor, kind = self.module, self.tensor, type(self.module)
        # Not changed in the class that has the property: copies of a module share it.
        module.__class__ = type(
            kind.__name__, (kind,), {tensor: property(lambda self: self._parameters[tensor])}
        )
        module._parameters[tensor] = parameter
        try:
            yield
        finally:
            del module._parameters[tensor]
            module.__class__ = kind


class _WeightNormed(_Source):
    """A weight that a forward pre-hook of torch.nn.utils.weight_norm computes."""

    def _hook(self) -> tuple[int, WeightNorm]:
        hooks = self.module._forward_pre_hooks.items()
        return next(
            (key, hook)
            for key, hook in hooks
            if isinstance(hook, WeightNorm) and hook.name == self.tensor
        )

    def owners(self) -> list[nn.Module]:
        return [self.module]

    def written(self) -> list[Tensor]:
        return [getattr(self.module, f"{self.tensor}_{part}") for part in "gv"]

    def compute(self) -> Tensor:
        return cast(Tensor, self._hook()[1].compute_weight(self.module))

    def set(self, weight: Tensor) -> None:
        norm, direction = self.written()
        write(norm, torch.norm_except_dim(weight, 2, self._hook()[1].dim))
        write(direction, weight)
        vars(self.module)[self.tensor] = self.compute()

    @contextmanager
    def replaced_by(self, parameter: nn.Parameter) -> Iterator[None]:
        key, hook = self._hook()
        attributes, hooks = vars(self.module), self.module._forward_pre_hooks
        before = attributes[self.tensor]
        # Overwritten, not removed, so that all stays in its order.
        attributes[self.tensor] = self.module._parameters[self.tensor] = parameter
        hooks[key] = _do_nothing
        try:
            yield
        finally:
            hooks[key] = hook
            del self.module._parameters[self.tensor]
            attributes[self.tensor] = before


def _do_nothing(*_: object) -> None:
    pass


def _find(model: nn.Module) -> Iterator[_Source]:
    """Every parameter that is computed from others, in the order of modules."""
    for name, module in model.named_modules():
        if parametrize.is_parametrized(module):
            for tensor, steps in cast(nn.ModuleDict, module.parametrizations).items():
                # Without any parameter it is a buffer that is computed.
                if any(True for _ in steps.parameters()):
                    yield _parametrized(name, module, tensor, steps)
        for hook in module._forward_pre_hooks.values():
            if isinstance(hook, WeightNorm | SpectralNorm | BasePruningMethod):
                yield _hooked(name, module, hook)


def _parametrized(name: str, module: nn.Module, tensor: str, steps: nn.Module) -> _Source:
    kinds = list(steps.children())
    made_by = " and ".join(type(kind).__name__.lstrip("_") for kind in kinds)
    obstacle = ""
    if not all(hasattr(kind, "right_inverse") for kind in kinds):
        obstacle = f"its {tensor} is computed by {made_by} without a right_inverse to set it by"
    remover = "torch.nn.utils.parametrize.remove_parametrizations"
    parameters = list(steps.parameters())
    return _Parametrized(name, module, tensor, made_by, parameters, remover, obstacle)


def _hooked(
    name: str, module: nn.Module, hook: WeightNorm | SpectralNorm | BasePruningMethod
) -> _Source:
    tensor = hook._tensor_name if isinstance(hook, BasePruningMethod) else hook.name
    parts = [module._parameters.get(f"{tensor}_{part}") for part in ("g", "v", "orig")]
    parameters = [part for part in parts if part is not None]
    known = (name, module, tensor, type(hook).__name__, parameters)
    if isinstance(hook, BasePruningMethod):
        remover = "torch.nn.utils.prune.remove"
        return _Source(*known, remover, f"its {tensor} is masked: call {remover} first")
    if isinstance(hook, SpectralNorm):
        return _Source(*known, obstacle=_misfit(tensor, "SpectralNorm"))
    obstacle = "" if len(parameters) == 2 else f"its {tensor} is computed from computed tensors"
    return _WeightNormed(*known, "torch.nn.utils.remove_weight_norm", obstacle)


def _misfit(tensor: str, made_by: str) -> str:
    return f"its {tensor} is computed by {made_by}, which cannot give every {tensor}"


@dataclass(frozen=True)
class _Plain:
    """The parameter that stands for a computed weight, and the weight's value before."""

    source: _Source
    before: Tensor
    parameter: nn.Parameter

    def changed(self) -> bool:
        return not torch.allclose(self.parameter, self.before, rtol=0, atol=0, equal_nan=True)

    def write(self) -> None:
        """Set the weight to the parameter. Raises `UserError` if that cannot be done."""
        try:
            self.source.set(self.parameter.detach())
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            raise self._refusal() from error

    def check(self) -> None:
        """Raise `UserError` if the weight is not the parameter."""
        if not _gives(self.source, self.parameter.detach()):
            raise self._refusal()

    def _refusal(self) -> UserError:
        name, tensor = self.source.name, self.source.tensor
        return UserError(
            f"layer {name!r} computes its {tensor} by {self.source.made_by}, which cannot give the "
            f"pruned {tensor} (a row of zeros, perhaps): leave it out with exclude=[{name!r}], or "
            f"make the {tensor} a plain parameter first ({self.source.remover})"
        )


def _survey(model: nn.Module) -> tuple[list[Computed], list[_Plain], set[int]]:
    """The weights that cannot be set, those that can, and ids of what both are made from."""
    computed: list[Computed] = []
    plain: list[_Plain] = []
    made_from: set[int] = set()
    sources = list(_find(model))
    shared = _shared(model, sources)
    for source in sources:
        with _undone([source]):
            weight = source.compute().detach().clone()
            if weight.dim() < 2:
                continue
            reason = source.obstacle or _obstacle(source, weight, shared)
        made_from.update(map(id, source.parameters))
        if reason:
            computed.append(Computed(source.module, source.tensor, reason))
        else:
            trained = any(parameter.requires_grad for parameter in source.parameters)
            plain.append(_Plain(source, weight, nn.Parameter(weight.clone(), trained)))
    return computed, plain, made_from


def _shared(model: nn.Module, sources: list[_Source]) -> set[int]:
    """The ids of tensors that are in two modules, or from which two weights are computed."""
    owned = Counter(id(p) for module in model.modules() for p in module._parameters.values())
    written = Counter(id(tensor) for source in sources for tensor in source.written())
    return {tensor for uses in (owned, written) for tensor, n in uses.items() if n > 1}


def _obstacle(source: _Source, weight: Tensor, shared: set[int]) -> str:
    """Why the source cannot give every weight like this one; empty text if it can."""
    if any(id(tensor) in shared for tensor in source.written()):
        return f"its {source.tensor} is computed from tensors that are used elsewhere, too"
    try:
        wanted = _trial_weight(weight)
        source.set(wanted)
        fits = _gives(source, wanted)
    except torch.OutOfMemoryError:
        raise
    except Exception:
        # Anything may come out of a parametrization of the user's that is given such a weight.
        fits = False
    return "" if fits else _misfit(source.tensor, source.made_by)


def _trial_weight(like: Tensor) -> Tensor:
    """A weight of this shape and magnitude, random but ever the same, every other entry zero.

    The zeros are a checkerboard, so that every row, column and channel keeps other entries.
    """
    axes = [
        torch.arange(n).remainder(2).bool().view(-1, *[1] * (like.dim() - 1 - axis))
        for axis, n in enumerate(like.shape)
    ]
    zero = reduce(torch.logical_xor, axes)
    values = 2 * torch.rand(like.shape, generator=torch.Generator().manual_seed(0)) - 1
    size = like.abs().mean().item()
    if 0 < size < float("inf"):
        values *= size
    return torch.empty_like(like).copy_(values.masked_fill_(zero, 0))


def _gives(source: _Source, wanted: Tensor) -> bool:
    """Whether the source gives this weight: its zeros exactly, the rest to rounding."""
    given = source.compute()
    if given.shape != wanted.shape or given.dtype != wanted.dtype or given[wanted == 0].any():
        return False
    # Of the smallest numbers there are, rounding is no longer relative.
    numbers = torch.finfo(wanted.dtype)
    absolute = max(4 * numbers.smallest_normal * numbers.eps, 1e-37)
    relative = ROUNDING[wanted.dtype]
    return torch.allclose(given, wanted, rtol=relative, atol=absolute, equal_nan=True)


def _write_back(plain: list[_Plain]) -> None:
    """Write the parameters that were changed. If one cannot be written, none is."""
    changed = [weight for weight in plain if weight.changed()]
    with _undone([weight.source for weight in plain], keep_if_done=True):
        for weight in changed:
            weight.write()
        # Only now: what two weights have in common shows when both are written.
        for weight in plain:
            weight.check()


@contextmanager
def _undone(sources: list[_Source], *, keep_if_done: bool = False) -> Iterator[None]:
    """Put back what is done inside to the sources' tensors and attributes.

    With `keep_if_done`, only if anything is raised. Random numbers (of the CPU and of CUDA) go on
    as if none had been drawn.
    """
    owners = [owner for source in sources for owner in source.owners()]
    places = [at for owner in owners for at in (vars(owner), owner._parameters, owner._buffers)]
    attributes = [(place, dict(place)) for place in places]
    tensors = [
        (value, value.detach().clone())
        for _, saved in attributes
        for value in saved.values()
        if isinstance(value, Tensor)
    ]
    gpus = {p.device for source in sources for p in source.parameters if p.is_cuda}
    try:
        with torch.random.fork_rng(gpus, device_type="cuda"):
            yield
    except BaseException:
        _restore(attributes, tensors)
        raise
    if not keep_if_done:
        _restore(attributes, tensors)


def _restore(
    attributes: list[tuple[dict[str, Any], dict[str, Any]]], tensors: list[tuple[Tensor, Tensor]]
) -> None:
    for place, saved in attributes:
        place.clear()
        place.update(saved)
    for tensor, value in tensors:
        # Some cannot be written at all, such as expanded ones.
        if not torch.equal(tensor, value):
            write(tensor, value)
