"""Prune a whole model."""

import logging
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor, nn

from sparsecnn.device import full_precision
from sparsecnn.errors import UserError
from sparsecnn.pruning.calibration.gathering import gather
from sparsecnn.pruning.layer import LayerSettings, describe, prune_layer
from sparsecnn.pruning.layouts import check_layout
from sparsecnn.pruning.patterns import parse_pattern
from sparsecnn.pruning.problem import Companions, Method
from sparsecnn.pruning.result import PruningResult
from sparsecnn.pruning.selection import count_uses, find_layers, reasons_to_stay_dense
from sparsecnn.pruning.state import evaluating, restored_on_error
from sparsecnn.registry import resolve

logger = logging.getLogger(__name__)

REPORT_SECONDS = 10.0

PRECISIONS = {"float32": torch.float32, "float64": torch.float64}


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
    calibration: str | None = None,
    target: str | None = None,
    refit: bool | None = None,
    bias_correction: bool = False,
    damping: float = 0.01,
    precision: str = "float32",
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
        ``all`` layers, ``skip_first_last`` in the order data passes through them, or
        ``hardware``: those whose shape sparse tensor cores accept.
    include, exclude
        Shell-style patterns of layer names. Without `include` every layer is included.
    calibration
        ``independent``: every layer's inputs come from the dense network. ``sequential``: from
        the network as pruned so far.
    target
        The outputs a layer shall reproduce: its ``own`` on the inputs it gets, or those it has
        in the ``dense`` network (with sequential calibration), which lets it make up for the
        errors of the layers before it.
    refit
        Once the mask is final, replace the kept weights by the exact least-squares solution.
        Of these three, None stands for what serves the method best: ``sequential``, ``dense``
        and True for sparsegpt, and ``independent``, ``own`` and False for every other. The
        published SparseGPT is ``calibration="independent", refit=False``.
    bias_correction
        Shift biases so that the mean output is the wanted one (of use where no batch norm that
        will be re-estimated follows).
    damping
        Added to the diagonal of each Hessian, as a fraction of its mean.
    precision
        ``float32`` or ``float64``: dtype of the Hessians and all that is solved with them.
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
    if not calibration_batches:
        raise UserError("no calibration batches were given: at least one is needed")
    if precision not in PRECISIONS:
        raise UserError(f"unknown precision {precision!r}: choose float32 or float64")
    if precision == "float64" and calibration_batches[0].device.type == "mps":
        raise UserError("precision: MPS has no float64; choose float32, or prune on the CPU")
    if damping < 0:
        raise UserError(f"damping must not be negative: {damping}")
    check_layout(layout)
    built = _build_method(method, options)
    best: Companions = getattr(built, "companions", Companions())
    calibration = best.calibration if calibration is None else calibration
    if target is None:
        target = best.target if calibration == "sequential" else "own"
    settings = LayerSettings(
        method=built,
        pattern=parse_pattern(pattern),
        layout=layout,
        damping=damping,
        refit=best.refit if refit is None else refit,
        bias_correction=bias_correction,
    )
    found = find_layers(model, exclude)
    uses = count_uses(model, calibration_batches[0], found)
    layers = {name: found[name] for name in uses}
    reasons = reasons_to_stay_dense(
        layers,
        pattern=settings.pattern,
        layout=layout,
        coverage=coverage,
        include=include,
        exclude=exclude,
    )
    chosen = {name: layer for name, layer in layers.items() if not reasons[name]}
    _check_reached(chosen, uses)
    reports = {
        name: describe(name, layers[name], settings, reason) for name, reason in reasons.items()
    }
    masks = {}
    with full_precision(), restored_on_error(chosen), evaluating(model):
        gathered = gather(
            model,
            calibration_batches,
            chosen,
            uses=uses,
            calibration=calibration,
            target=target,
            memory_mb=memory_mb,
            dtype=PRECISIONS[precision],
        )
        with closing(gathered):
            reported = time.perf_counter()
            for name, moments in gathered:
                masks[name], reports[name] = prune_layer(name, layers[name], moments, settings)
                if time.perf_counter() - reported > REPORT_SECONDS:
                    reported = time.perf_counter()
                    logger.info("pruned %d of %d layers, last %s", len(masks), len(chosen), name)
    return PruningResult(masks, list(reports.values()), time.perf_counter() - started)


def _build_method(name: str, options: dict[str, Any]) -> Method:
    method = resolve("method", name)
    allowed = [field.name for field in fields(method)]
    for option in options:
        if option not in allowed:
            listed = f"it takes {', '.join(allowed)}" if allowed else "it takes none"
            raise UserError(f"method {name!r} has no option {option!r}: {listed}")
    built: Method = method(**options)
    return built


def _check_reached(layers: dict[str, Any], uses: dict[str, int]) -> None:
    for name in layers:
        if not uses[name]:
            raise UserError(
                f"layer {name!r} saw no calibration data: the model never calls it as a module; "
                f"leave it out with exclude=[{name!r}]"
            )
