"""Prune one layer from its moments and say what came of it."""

import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparsecnn.errors import UserError
from sparsecnn.float64 import sum_in_float64
from sparsecnn.pruning.calibration.moments import LayerMoments
from sparsecnn.pruning.factor import Curvature, NoFactorError
from sparsecnn.pruning.layouts import PrunableLayer, prunable_columns, to_matrix, to_weight
from sparsecnn.pruning.leastsquares import refit, retargeted
from sparsecnn.pruning.patterns import Pattern
from sparsecnn.pruning.problem import Method, Problem, Solution
from sparsecnn.pruning.result import LayerReport


@dataclass(frozen=True)
class LayerSettings:
    """What holds for every layer alike; see `sparsecnn.pruning.driver.prune`."""

    method: Method
    pattern: Pattern
    layout: str
    damping: float
    refit: bool
    bias_correction: bool


@torch.no_grad()
def prune_layer(
    name: str, layer: PrunableLayer, moments: LayerMoments, settings: LayerSettings
) -> tuple[Tensor, LayerReport]:
    """Prune one layer in place; its mask (bool, the weight's shape) and its report."""
    if layer.weight.is_cuda:  # what is still being gathered is not the solver's time
        torch.cuda.synchronize(layer.weight.device)
    started = time.perf_counter()
    layout = settings.layout
    if not layer.weight.isfinite().all():
        raise UserError(f"the weight of layer {name!r} holds NaN or infinite values")
    hessian, cross = moments.hessian(layout), moments.cross(layout)
    original = to_matrix(layer.weight, _groups(layer), layout).to(hessian.dtype, copy=True)
    covered = prunable_columns(
        original.shape[-1], layer.weight.shape[1], settings.pattern.group, layout
    )
    curvature = Curvature(hessian, settings.damping)
    try:
        weight = original if cross is None else retargeted(original, cross, curvature)
        problem = Problem(weight, curvature, settings.pattern, covered)
        solution = settings.method.solve(problem)
        if settings.refit:
            solution = refit(problem, solution)
    except NoFactorError as error:
        raise UserError(
            f"layer {name!r}: {error}; raise damping (now {settings.damping:g}), use precision "
            "float64, or leave the layer out with exclude"
        ) from None
    _store(layer, moments, original, solution, settings)
    mask = to_weight(solution.mask, layer.weight.shape, layout).contiguous()
    report = describe(name, layer, settings)
    report.relative_error = _relative_error(original, solution.weight, hessian, cross, moments)
    report.samples = moments.count
    report.damping, notes = solution.damping, list(solution.notes)
    if curvature.factored:
        report.damping = curvature.factor.damping
        notes = list(dict.fromkeys(notes + curvature.factor.notes))
    if moments.count < hessian.shape[-1]:
        notes.append(f"rank-deficient: {moments.count} samples for {hessian.shape[-1]} columns")
    report.notes = "; ".join(notes)
    report.seconds = time.perf_counter() - started
    return mask, report


def describe(
    name: str, layer: PrunableLayer, settings: LayerSettings, reason: str = ""
) -> LayerReport:
    """The report of a layer as it now is; with a reason, of one that stays dense."""
    height, width = layer.kernel_size if isinstance(layer, nn.Conv2d) else (1, 1)
    return LayerReport(
        layer=name,
        kind="conv2d" if isinstance(layer, nn.Conv2d) else "linear",
        out_channels=layer.weight.shape[0],
        in_channels=layer.weight.shape[1] * _groups(layer),
        kernel=f"{height}x{width}",
        groups=_groups(layer),
        status="dense" if reason else "pruned",
        reason=reason,
        pattern="" if reason else str(settings.pattern),
        layout="" if reason else settings.layout,
        sparsity=int((layer.weight == 0).sum()) / layer.weight.numel(),
    )


def _groups(layer: PrunableLayer) -> int:
    return layer.groups if isinstance(layer, nn.Conv2d) else 1


def _store(
    layer: PrunableLayer,
    moments: LayerMoments,
    original: Tensor,
    solution: Solution,
    settings: LayerSettings,
) -> None:
    if settings.bias_correction and layer.bias is not None:
        change = moments.mean_output_change(original, solution.weight, settings.layout)
        layer.bias.add_(change)
    layer.weight.copy_(to_weight(solution.weight, layer.weight.shape, settings.layout))


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
