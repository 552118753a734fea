"""Prune a whole model, layer by layer."""

import logging
import time
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor, nn

from sparsecnn.errors import UserError
from sparsecnn.pruning.hessian import InputMoments
from sparsecnn.pruning.inputs import PrunableLayer
from sparsecnn.pruning.layouts import check_layout, prunable_columns, to_matrix, to_weight
from sparsecnn.pruning.patterns import parse_pattern
from sparsecnn.pruning.problem import Problem, Solution
from sparsecnn.pruning.result import LayerReport, PruningResult
from sparsecnn.pruning.selection import data_order, find_layers, reasons_to_stay_dense
from sparsecnn.pruning.state import evaluating, full_precision, restored_on_error
from sparsecnn.registry import resolve

logger = logging.getLogger(__name__)


def prune(
    model: nn.Module,
    calibration_batches: Sequence[Tensor],
    *,
    method: str = "sparsegpt",
    pattern: str = "2:4",
    layout: str = "channels",
    coverage: str = "all",
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    damping: float = 0.01,
    memory_mb: float = 512,
    **options: Any,
) -> PruningResult:
    """Prune the Conv2d and Linear layers of a model in place.

    Parameters
    ----------
    model
        Called as ``model(batch)``. Its training flags, device, dtypes and memory formats stay
        as they are; if anything is raised, so do its weights.
    calibration_batches
        Input batches on the model's device. No label is used.
    method
        A name of the registry of methods.
    pattern
        "N:M" keeps at most N of every M weights.
    layout
        ``channels`` (groups along the input channels, what sparse tensor cores run) or
        ``flattened`` (along the flattened weight of an output channel).
    coverage
        ``all`` layers, or ``skip_first_last`` in the order data passes through them.
    include, exclude
        Shell-style patterns of layer names. Without `include` every layer is included.
    damping
        Added to the diagonal of each Hessian, as a fraction of its mean.
    memory_mb
        Bound on the memory for unfolded inputs, in MiB.
    **options
        Settings of the method.

    Raises
    ------
    UserError
        For a setting that does not exist or does not fit the model, a layer that no calibration
        batch reaches, and inputs that are NaN or infinite.
    """
    started = time.perf_counter()
    solver, rule = _build_method(method, options), parse_pattern(pattern)
    check_layout(layout)
    if not calibration_batches:
        raise UserError("no calibration batches were given: at least one is needed")
    found = find_layers(model, exclude)
    layers = {name: found[name] for name in data_order(model, calibration_batches[0], found)}
    reasons = reasons_to_stay_dense(
        layers, pattern=rule, layout=layout, coverage=coverage, include=include, exclude=exclude
    )
    chosen = {name: layer for name, layer in layers.items() if not reasons[name]}
    reports, masks = {}, {}
    with full_precision(), restored_on_error(chosen):
        moments = gather_moments(model, calibration_batches, chosen, memory_mb)
        for name, layer in chosen.items():
            collected = moments.pop(name)
            begun = time.perf_counter()
            problem = _problem(layer, collected.hessian(layout), rule, layout, damping)
            solution = solver.solve(problem)
            report = _report(name, layer, layout, pattern=str(rule))
            masks[name] = _apply(layer, solution, layout)
            report.relative_error = _relative_error(problem, solution)
            report.damping, report.notes = solution.damping, "; ".join(solution.notes)
            report.sparsity = 1 - masks[name].float().mean().item()
            report.samples, report.seconds = collected.count, time.perf_counter() - begun
            reports[name] = report
            logger.info("%s: relative error %.4f", name, report.relative_error)
    rows = [
        reports.get(name) or _report(name, layer, layout, reason=reasons[name])
        for name, layer in layers.items()
    ]
    return PruningResult(masks, rows, time.perf_counter() - started)


def gather_moments(
    model: nn.Module,
    batches: Sequence[Tensor],
    layers: dict[str, PrunableLayer],
    memory_mb: float,
) -> dict[str, InputMoments]:
    """Second moments of the inputs of every layer, in one pass of the batches."""
    moments = {name: InputMoments(name, layer, memory_mb) for name, layer in layers.items()}

    def hook(name: str) -> Any:
        return lambda _, args, kwargs: moments[name].add(args[0] if args else kwargs["input"])

    handles = [
        layer.register_forward_pre_hook(hook(name), with_kwargs=True)
        for name, layer in layers.items()
    ]
    try:
        with evaluating(model):
            for batch in batches:
                model(batch)
    finally:
        for handle in handles:
            handle.remove()
    return moments


def _build_method(name: str, options: dict[str, Any]) -> Any:
    method = resolve("method", name)
    allowed = [field.name for field in fields(method)]
    for option in options:
        if option not in allowed:
            listed = f"it takes {', '.join(allowed)}" if allowed else "it takes none"
            raise UserError(f"method {name!r} has no option {option!r}: {listed}")
    return method(**options)


def _problem(
    layer: PrunableLayer, hessian: Tensor, rule: Any, layout: str, damping: float
) -> Problem:
    groups = layer.groups if isinstance(layer, nn.Conv2d) else 1
    weight = to_matrix(layer.weight.detach(), groups, layout).to(hessian.dtype, copy=True)
    columns = weight.shape[-1]
    prunable = prunable_columns(columns, layer.weight.shape[1], rule.group, layout)
    return Problem(weight, hessian, rule, prunable, damping)


@torch.no_grad()
def _apply(layer: PrunableLayer, solution: Solution, layout: str) -> Tensor:
    layer.weight.copy_(to_weight(solution.weight, layer.weight.shape, layout))
    return to_weight(solution.mask, layer.weight.shape, layout).contiguous()


def _relative_error(problem: Problem, solution: Solution) -> float:
    deviation = problem.weight - solution.weight
    error = (deviation @ problem.hessian).mul_(deviation).sum()
    energy = (problem.weight @ problem.hessian).mul_(problem.weight).sum()
    return (error / energy).item() if energy > 0 else 0.0


def _report(
    name: str, layer: PrunableLayer, layout: str, pattern: str = "", reason: str = ""
) -> LayerReport:
    height, width, groups = 1, 1, 1
    if isinstance(layer, nn.Conv2d):
        (height, width), groups = layer.kernel_size, layer.groups
    return LayerReport(
        layer=name,
        kind="conv2d" if isinstance(layer, nn.Conv2d) else "linear",
        out_channels=layer.weight.shape[0],
        in_channels=layer.weight.shape[1] * groups,
        kernel=f"{height}x{width}",
        groups=groups,
        status="dense" if reason else "pruned",
        reason=reason,
        pattern=pattern,
        layout="" if reason else layout,
        sparsity=(layer.weight == 0).float().mean().item(),
    )
