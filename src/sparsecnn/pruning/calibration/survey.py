"""What a model does with its weights, found out by one forward pass."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from sparsecnn.pruning.calibration.calls import Call, Watch, function_name
from sparsecnn.pruning.calibration.nested import tensors_in
from sparsecnn.pruning.calibration.surroundings import Surroundings
from sparsecnn.pruning.calibration.trajectory import Passes
from sparsecnn.pruning.model.weights import Memory, Weight, names_of_tensors, overlapping

_NAMED = 3
"""Functions that a reason names."""


@dataclass
class Usage:
    """What a forward pass did with one weight."""

    calls: int = 0
    """How often a convolution or linear layer was computed with it."""
    groups: int = 1
    """Of the convolution."""
    bias: nn.Parameter | None = None
    """The bias of each of these calls, if changing it would change nothing else."""
    problem: str = ""
    """Why it cannot be pruned; empty if it can."""
    functions: list[str] = field(default_factory=list)
    """What else read it."""


@dataclass(frozen=True)
class Survey:
    """Of one forward pass."""

    usages: dict[str, Usage]
    """Of every weight that was read, in the order in which data reached them."""
    order: list[str]
    """Of every call of a convolution or linear layer, the weight's name."""

    def positions(self, names: Mapping[str, object]) -> dict[str, list[int]]:
        """At which stops of a pass that pauses at these weights each of them is."""
        found: dict[str, list[int]] = {name: [] for name in names}
        for number, name in enumerate(name for name in self.order if name in found):
            found[name].append(number)
        return found


def survey(
    model: nn.Module,
    weights: Mapping[str, Weight],
    run: Callable[[], object],
    surroundings: Surroundings,
) -> Survey:
    """Watch one forward pass, which `run` makes, in a thread in these surroundings.

    Raises what `run` raises.
    """
    parameters = {id(value): name for name, value in model.named_parameters()}
    watched = {id(one.value): name for name, one in weights.items() if id(one.value) in parameters}
    watch = _Recorder(parameters | watched)
    memory = Memory((name, one.value) for name, one in weights.items() if id(one.value) in watched)
    versions = {name: _version(one.value) for name, one in weights.items()}

    def watched_run(_: int) -> None:
        with watch, _HiddenReads(watch, memory):
            run()

    for _ in Passes(watched_run, surroundings, {}).stops(0):
        pass
    usages: dict[str, Usage] = {}
    for name in watch.first_read:
        if name in weights:
            usages[name] = _usage(weights[name], name, watch)
            if _version(weights[name].value) != versions[name]:
                usages[name].problem = "the model changes it in its forward pass"
    names, shared = names_of_tensors(model), overlapping(model)
    biases = {
        id(one): one
        for one in model.parameters()
        if len(names[id(one)]) == 1 and id(one) not in shared
    }
    for name, usage in usages.items():
        usage.bias = _free_bias(name, watch, biases)
    return Survey(usages, [name for name, _ in watch.calls])


class _Recorder(Watch):
    def __init__(self, names: Mapping[int, str]) -> None:
        super().__init__(names)
        self.calls: list[tuple[str, Call]] = []
        self.reads: dict[str, list[str]] = {}
        self.hidden: dict[str, list[str]] = {}
        """What read it by other ways than functions of torch that were given it."""
        self.first_read: dict[str, None] = {}

    def before(self, name: str, call: Call) -> None:
        self.first_read.setdefault(name)
        none = call.inputs.new_empty(0)  # a view would keep all inputs until the pass ends
        self.calls.append((name, Call(none, call.bias, call.convolution)))

    def read(self, name: str, function: str) -> None:
        self.first_read.setdefault(name)
        self.reads.setdefault(name, []).append(function)

    def read_hidden(self, name: str, function: str) -> None:
        """A function that was not given this tensor itself read it."""
        self.first_read.setdefault(name)
        self.hidden.setdefault(name, []).append(function)

    @property
    def read_ids(self) -> set[int]:
        """Of the tensors that another function read."""
        return {key for key, name in self._names.items() if name in self.reads}


class _HiddenReads(TorchDispatchMode):
    """Tells the recorder of reads that cannot be seen in what functions of torch are given.

    These are by views that were made before the pass, in torch.func, and in compiled code.
    """

    def __init__(self, watch: _Recorder, memory: Memory) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._watch, self._memory = watch, memory

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # or torch imports its compiler here, 3 s, to keep it out of this method

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs, running = kwargs or {}, self._watch.running
        with torch._C.DisableTorchFunction():
            for value in () if running.is_call else tensors_in((args, kwargs)):
                if id(value) not in running.given:
                    function = (
                        f"{running.function} of a view of it"
                        if running.function
                        else f"{function_name(func)} in compiled code"
                    )
                    for name in self._memory.of(value):
                        self._watch.read_hidden(name, function)
            return func(*args, **kwargs)


def _usage(weight: Weight, name: str, watch: _Recorder) -> Usage:
    calls = [call for called, call in watch.calls if called == name]
    functions = list(dict.fromkeys(watch.reads.get(name) or watch.hidden.get(name, [])))
    usage = Usage(len(calls), calls[0].groups if calls else 1, functions=functions)
    kind = type(weight.module).__name__
    shown = ", ".join(functions[:_NAMED]) + (", ..." if len(functions) > _NAMED else "")
    if functions and calls:
        usage.problem = f"{kind} also uses it in {shown}, which would change if it were pruned"
    elif functions:
        usage.problem = (
            f"{kind} uses it in {shown}, not as the weight of a plain linear layer or convolution"
        )
    elif len({call.groups for call in calls}) > 1:
        usage.problem = "it is used with different numbers of groups"
    return usage


def _free_bias(
    name: str, watch: _Recorder, owned_once: Mapping[int, nn.Parameter]
) -> nn.Parameter | None:
    used = {id(call.bias) for called, call in watch.calls if called == name}
    elsewhere = {id(call.bias) for called, call in watch.calls if called != name}
    bias = owned_once.get(used.pop()) if len(used) == 1 else None
    free = bias is not None and id(bias) not in elsewhere and id(bias) not in watch.read_ids
    return bias if free else None


def _version(value: Tensor) -> tuple[int, int]:
    """Differs once it has been changed; the changes of an inference tensor do not count."""
    place = value.data_ptr() if value.layout == torch.strided else 0
    return 0 if value.is_inference() else value._version, place
