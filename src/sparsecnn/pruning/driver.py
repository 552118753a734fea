"""Prune a whole model."""

import logging
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from sparsecnn.errors import UserError
from sparsecnn.models.reparametrized import plain_weights
from sparsecnn.pruning.calibration.batches import CalibrationData
from sparsecnn.pruning.calibration.gathering import (
    Round,
    Walks,
    independent,
    sequential,
)
from sparsecnn.pruning.calibration.moments import LayerMoments
from sparsecnn.pruning.calibration.surroundings import Surroundings, undisturbed
from sparsecnn.pruning.calibration.survey import Survey, survey
from sparsecnn.pruning.calibration.trajectory import Passes
from sparsecnn.pruning.layer import (
    Pruned,
    describe,
    error_of,
    solve_layer,
    store_layer,
)
from sparsecnn.pruning.memory import MIB, Budget, layer_need, usable
from sparsecnn.pruning.model.weights import Weight, find_weights, require_module, require_values
from sparsecnn.pruning.permutation.arrange import arranged
from sparsecnn.pruning.result import LayerReport, PruningResult
from sparsecnn.pruning.selection import UNREACHED, choice
from sparsecnn.pruning.settings import Settings, read_settings
from sparsecnn.pruning.state import TwoStates, module_by_module

logger = logging.getLogger(__name__)

REPORT_SECONDS = 10.0

_NAMED = 5
"""Layers that a warning names."""


def prune(
    model: nn.Module,
    calibration_batches: Iterable[Any],
    *,
    method: str = "admm",
    pattern: str = "2:4",
    layout: str = "channels",
    coverage: str = "all",
    include: str | Sequence[str] = (),
    exclude: str | Sequence[str] = (),
    calibration: str | None = None,
    target: str | None = None,
    refit: bool | None = None,
    bias_correction: bool = False,
    damping: float = 0.01,
    precision: str = "float32",
    positions_per_image: int | None = None,
    permute_channels: bool = False,
    memory_mb: float | None = None,
    forward: Callable[[nn.Module, Any], object] | None = None,
    **options: Any,
) -> PruningResult:
    """Prune a model in place: the weights of its linear layers and convolutions.

    What is pruned are parameters that nothing reads but `torch.nn.functional.linear`, `conv1d`,
    `conv2d` or `conv3d`, as their weight, whatever module they belong to and whatever it does
    before or after; one forward pass shows which. Every other weight stays as it is, and is listed
    with the reason.

    The model runs in threads that are in the caller's autocast, inference mode, default device and
    function modes, not in dispatch modes, and without compiled code. Threads that prune wait for
    each other.

    Parameters
    ----------
    model
        Its training flags, hooks, buffers, device, dtypes and memory formats stay as they are; if
        anything is raised, so do its weights.
    calibration_batches
        Any iterable of batches, read once; a single tensor is one batch. A batch is a tensor, a
        tuple of inputs, or a mapping of keyword arguments. Of a pair the second element is dropped
        if it is integer class labels, or if the model takes one input. Tensors are moved to the
        model's device and, if floating, cast to its dtype.
    method
        A name of the registry of methods.
    pattern
        "N:M" keeps at most N of every M weights.
    layout
        ``channels`` (groups along the input channels, what sparse tensor cores run) or
        ``flattened`` (along the flattened weight of an output channel).
    coverage
        ``all`` layers, ``skip_first_last`` in the order data passes through them, or
        ``hardware``: those whose shape sparse tensor cores accept.
    include, exclude
        Shell-style patterns of names of layers or of modules around them. Without `include` every
        layer is included.
    calibration
        ``independent``: every layer's inputs come from the dense network. ``sequential``: from
        the network as pruned so far; all batches are then in the model at once, so that it must
        not hold a lock in its forward pass.
    target
        The outputs a layer shall reproduce: its ``own`` on the inputs it gets, or those it has
        in the ``dense`` network (with sequential calibration), which lets it make up for the
        errors of the layers before it.
    refit
        Once the mask is final, replace the kept weights by the least-squares solution.
        Of these three, None stands for what serves the method best: ``sequential``, ``dense``
        and True for admm and sparsegpt, and ``independent``, ``own`` and False for every other. The
        published SparseGPT is ``method="sparsegpt", calibration="independent", refit=False``.
    bias_correction
        Shift biases so that the mean output is the wanted one (of use where no batch norm that
        will be re-estimated follows).
    damping
        Added to the diagonal of each Hessian, as a fraction of its mean.
    precision
        ``float32`` or ``float64``: dtype of the Hessians and all that is solved with them.
    positions_per_image
        Of each image the Hessian of a convolution is of at most so many positions, spread evenly
        and others in each image; None: all. Neighbours say nearly the same, so that many images
        with some positions each tell more than few with all, for the same time.
    permute_channels
        Before anything is pruned, put the channels between layers into an order in which the
        groups of the pattern keep more of what is important (see `permute_channels` of this
        package). The dense network computes the same; those of its weights and buffers that
        stay dense may have another order, too.
    memory_mb
        Bound on the memory for Hessians, what is solved with them, and activations, in MiB; the
        model, a copy of its weights and the batches come besides. None: three quarters of what is
        free on the model's device. What does not fit is computed in parts, or again.
    forward
        Called as ``forward(model, batch)`` in the place of what is said of batches above.
    **options
        Settings of the method.

    Raises
    ------
    UserError
        For a setting that does not exist or does not fit the model, a model or batches that cannot
        be used, a layer named by `include` that cannot be pruned, inputs that are NaN or infinite,
        and Hessians that do not fit into memory.
    """
    started = time.perf_counter()
    require_module(model)
    require_values(model)
    settings = read_settings(
        method=method,
        pattern=pattern,
        layout=layout,
        calibration=calibration,
        target=target,
        refit=refit,
        bias_correction=bias_correction,
        damping=damping,
        precision=precision,
        positions_per_image=positions_per_image,
        permute_channels=permute_channels,
        **options,
    )
    data = CalibrationData(model, calibration_batches, forward)
    if precision == "float64" and data.device and data.device.type == "mps":
        raise UserError("precision: MPS has no float64; choose float32, or prune on the CPU")
    surroundings = Surroundings.here({p.device.type for p in model.parameters()})
    choose = choice(model, settings, coverage, include, exclude)
    with undisturbed(model, surroundings), ExitStack() as stack:
        permutation = None
        if settings.permute_channels:
            arranging = arranged(model, data, surroundings, settings, choose)
            permutation = stack.enter_context(arranging)
        stack.enter_context(module_by_module(model))
        states = stack.enter_context(TwoStates())  # left last: writing back may fail, too
        computed, ingredients = stack.enter_context(plain_weights(model))
        weights = find_weights(model, computed, ingredients)
        seen = survey(model, weights, lambda: data.run(0), surroundings)
        reasons = choose(weights, seen)
        _warn_of_unreached(reasons)
        reports = {
            name: describe(weights[name], seen.usages.get(name), settings, reason)
            for name, reason in reasons.items()
        }
        chosen = {name: weights[name] for name, reason in reasons.items() if not reason}
        task = _Task(
            chosen, seen, settings, _budget(chosen, seen, settings, memory_mb, data.device)
        )
        states.add(task.changing())
        masks = {}
        for name, mask, report in _pruned(task, _rounds(task, data, surroundings, states)):
            masks[name], reports[name] = mask, report
    for stream in permutation.streams if permutation else ():
        for name in stream.readers:
            notes = (reports[name].notes, "input channels permuted")
            reports[name].notes = "; ".join(filter(None, notes))
    total = sum(report.weights for report in reports.values())
    for report in reports.values():
        report.share = report.weights / total
    seconds = time.perf_counter() - started
    return PruningResult(masks, list(reports.values()), seconds, permutation)


@dataclass(frozen=True)
class _Task:
    """What is pruned, and how."""

    weights: dict[str, Weight]
    seen: Survey
    settings: Settings
    budget: Budget

    def changing(self) -> list[Tensor]:
        """The tensors that pruning changes."""
        biases = [self.seen.usages[name].bias for name in self.weights]
        return [
            *(weight.value for weight in self.weights.values()),
            *(bias for bias in biases if self.settings.bias_correction and bias is not None),
        ]

    def moments(self, name: str) -> LayerMoments:
        """What is to be known of the data of one layer, without any data yet."""
        return LayerMoments(
            name,
            self.weights[name].value,
            chunk=self.budget.chunk,
            dtype=self.settings.dtype,
            diagonal_only=self.settings.needs != "hessian",
            positions_per_image=self.settings.positions_per_image,
        )

    def solve(self, name: str, moments: LayerMoments | None) -> Pruned:
        """The pruned weight of one layer, not yet in place."""
        return solve_layer(self.weights[name], self.seen.usages[name], moments, self.settings)


def _rounds(
    task: _Task, data: CalibrationData, surroundings: Surroundings, states: TwoStates
) -> Generator[Round, None, None]:
    """The layers in the order in which they are pruned, with what shows their data."""
    names = {id(weight.value): name for name, weight in task.weights.items()}
    before = Passes(data.run, surroundings, names)
    walks = Walks(before, replace(before, after=True), len(data), states)
    if task.settings.calibration == "independent":
        return independent(walks, task.budget.groups())
    return sequential(
        walks, task.seen, list(task.weights), task.settings.target, task.budget.left()
    )


def _pruned(
    task: _Task, rounds: Generator[Round, None, None]
) -> Iterator[tuple[str, Tensor, LayerReport]]:
    """Prune each layer when its round comes; its name, mask and report."""
    reported, count = time.perf_counter(), 0
    with closing(rounds):
        for one in rounds:
            for name, pruned in _solved(task, one):
                usage = task.seen.usages[name]
                yield name, *store_layer(task.weights[name], usage, pruned, task.settings)
                count += 1
                if time.perf_counter() - reported > REPORT_SECONDS:
                    reported = time.perf_counter()
                    logger.info("pruned %d of %d layers, last %s", count, len(task.weights), name)


def _solved(task: _Task, one: Round) -> Iterator[tuple[str, Pruned]]:
    """The layers of a round, solved one after the other, with their errors."""
    needs = task.settings.needs
    moments = {} if needs == "nothing" else {name: task.moments(name) for name in one.names}
    if moments:
        one.feed(moments)
    if needs == "hessian":
        for name in one.names:
            yield name, task.solve(name, moments.pop(name))
        return
    solved = {name: task.solve(name, moments.get(name)) for name in one.names}
    errors = {name: error_of(task.weights[name], solved[name], task.settings) for name in solved}
    one.feed(errors)
    for name, pruned in solved.items():
        pruned.report.relative_error = errors[name].relative()
        pruned.report.samples = errors[name].count
        yield name, pruned


def _warn_of_unreached(reasons: Mapping[str, str]) -> None:
    names = [name for name, reason in reasons.items() if reason == UNREACHED]
    if names:
        shown = ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
        logger.warning(
            "weights that the first calibration batch did not reach stay dense (%d): %s",
            *(len(names), shown),
        )


def _budget(
    chosen: Mapping[str, Weight],
    seen: Survey,
    settings: Settings,
    memory_mb: float | None,
    device: torch.device | None,
) -> Budget:
    """What there is and what the chosen layers take; `UserError` if one does not fit."""
    total = usable(device or torch.device("cpu")) if memory_mb is None else int(memory_mb * MIB)
    needs = {
        name: layer_need(settings, weight.value.shape, seen.usages[name].groups)
        for name, weight in chosen.items()
    }
    budget = Budget(total, needs, given=memory_mb is not None)
    budget.check({name: weight.value.shape[1:].numel() for name, weight in chosen.items()})
    return budget
