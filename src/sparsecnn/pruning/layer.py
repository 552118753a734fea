"""Prune one layer from what is known of its data, and say what came of it."""

import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparsecnn.errors import UserError
from sparsecnn.float64 import sum_in_float64
from sparsecnn.models.reparametrized import write
from sparsecnn.pruning.calibration.moments import LayerMoments, OutputError
from sparsecnn.pruning.calibration.survey import Usage
from sparsecnn.pruning.factor import Curvature, NoFactorError
from sparsecnn.pruning.layouts import prunable_columns, to_matrix, to_weight
from sparsecnn.pruning.leastsquares import refit, retargeted
from sparsecnn.pruning.model.weights import Weight
from sparsecnn.pruning.problem import Problem, Solution
from sparsecnn.pruning.result import LayerReport
from sparsecnn.pruning.settings import Settings

_KINDS = {2: "linear", 3: "conv1d", 4: "conv2d", 5: "conv3d"}
"""Of what is pruned, by dimensions of the weight."""


@dataclass(frozen=True)
class Pruned:
    """A layer that is solved and not yet changed."""

    original: Tensor
    """The dense weight as a matrix, (groups, rows, columns)."""
    solution: Solution
    moments: LayerMoments | None
    report: LayerReport


@torch.no_grad()
def solve_layer(
    weight: Weight, usage: Usage, moments: LayerMoments | None, settings: Settings
) -> Pruned:
    """Solve for a layer's pruned weight; its relative error is known if the Hessian is."""
    value = weight.value
    if value.is_cuda:  # what is still being gathered is not the solver's time
        torch.cuda.synchronize(value.device)
    started = time.perf_counter()
    layout = settings.layout
    if not value.isfinite().all():
        raise UserError(f"the weight of layer {weight.name!r} holds NaN or infinite values")
    original = to_matrix(value, usage.groups, layout)
    original = original.to(torch.promote_types(value.dtype, settings.dtype), copy=True)
    covered = prunable_columns(original.shape[-1], value.shape[1], settings.pattern.group, layout)
    report = describe(weight, usage, settings)
    if moments is None or settings.needs != "hessian":
        diagonal = None if moments is None else moments.diagonal(layout)
        problem = Problem(original, None, settings.pattern, covered, diagonal)
        solution = settings.method.solve(problem)
    else:
        solution = _solve_with_hessian(weight.name, original, covered, moments, settings, report)
    report.seconds = time.perf_counter() - started
    return Pruned(original, solution, moments, report)


def _solve_with_hessian(
    name: str,
    original: Tensor,
    covered: int,
    moments: LayerMoments,
    settings: Settings,
    report: LayerReport,
) -> Solution:
    hessian, cross = moments.hessian(settings.layout), moments.cross(settings.layout)
    curvature = Curvature(hessian, settings.damping)
    try:
        wanted = original if cross is None else retargeted(original, cross, curvature)
        problem = Problem(wanted, curvature, settings.pattern, covered)
        solution = settings.method.solve(problem)
        if settings.refit:
            solution = refit(problem, solution)
    except NoFactorError as error:
        raise UserError(
            f"layer {name!r}: {error}; raise damping (now {settings.damping:g}), use precision "
            "float64, or leave the layer out with exclude"
        ) from None
    report.relative_error = _relative_error(original, solution.weight, hessian, cross, moments)
    report.damping, notes = solution.damping, list(solution.notes)
    if curvature.factored:
        report.damping = curvature.factor.damping
        notes = list(dict.fromkeys(notes + curvature.factor.notes))
    if moments.count < hessian.shape[-1]:
        notes.append(f"rank-deficient: {moments.count} samples for {hessian.shape[-1]} columns")
    report.notes = "; ".join(notes)
    report.samples = moments.count
    return solution


def error_of(weight: Weight, pruned: Pruned, settings: Settings) -> OutputError:
    """What measures the error of a solved layer on its inputs."""
    shape, layout = weight.value.shape, settings.layout
    return OutputError(
        weight.name,
        to_weight(pruned.original, shape, layout),
        to_weight(pruned.solution.weight, shape, layout),
    )


@torch.no_grad()
def store_layer(
    weight: Weight, usage: Usage, pruned: Pruned, settings: Settings
) -> tuple[Tensor, LayerReport]:
    """Put a solved layer in place; its mask (bool, the weight's shape) and its report."""
    value, report, layout = weight.value, pruned.report, settings.layout
    matrix = pruned.solution.weight
    if settings.bias_correction and pruned.moments and usage.bias is not None:
        change = pruned.moments.mean_output_change(pruned.original, matrix, layout)
        write(usage.bias, usage.bias + change)
    elif settings.bias_correction:
        report.notes = "; ".join(filter(None, (report.notes, "no bias of its own to correct")))
    write(value, to_weight(matrix, value.shape, layout))
    report.sparsity = _zeros(value)
    return to_weight(pruned.solution.mask, value.shape, layout).contiguous(), report


def describe(
    weight: Weight, usage: Usage | None, settings: Settings, reason: str = ""
) -> LayerReport:
    """The report of a layer as it now is; with a reason, of one that stays dense."""
    value = weight.value
    groups = usage.groups if usage and usage.calls else getattr(weight.module, "groups", 1)
    kind = _kind(weight, usage)
    kernel = value.shape[2:] if kind.startswith("conv") else [1, 1] if kind == "linear" else []
    return LayerReport(
        layer=weight.layer,
        tensor=weight.tensor,
        kind=kind,
        out_channels=value.shape[0],
        in_channels=value.shape[1] * groups,
        kernel="x".join(str(size) for size in kernel),
        groups=groups,
        weights=value.numel(),
        share=0.0,
        status="dense" if reason else "pruned",
        reason=reason,
        pattern="" if reason else str(settings.pattern),
        layout="" if reason else settings.layout,
        sparsity=_zeros(value),
    )


def _kind(weight: Weight, usage: Usage | None) -> str:
    if usage and usage.calls:
        return _KINDS[weight.value.dim()]
    for kind in (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d):
        if isinstance(weight.module, kind):
            return kind.__name__.lower()
    return type(weight.module).__name__.lower()


def _zeros(value: Tensor) -> float:
    value = value if value.layout == torch.strided else value.to_dense()
    return int((value == 0).sum()) / value.numel() if value.numel() else 0.0


def _relative_error(
    original: Tensor, pruned: Tensor, hessian: Tensor, cross: Tensor | None, moments: LayerMoments
) -> float:
    """||Y - Q X||^2 / ||Y||^2, with Y = W X unless other outputs were wanted."""
    if cross is None:
        deviation = original - pruned
        error = _sum(deviation @ hessian, deviation)
        energy = _sum(original @ hessian, original)
    else:
        energy = moments.output_energy
        error = energy + _sum(pruned @ hessian - 2 * cross, pruned)
    return max(error, 0.0) / energy if energy > 0 else 0.0


def _sum(left: Tensor, right: Tensor) -> float:
    return sum_in_float64(left.mul(right))
