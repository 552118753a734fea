"""Re-estimate batch-norm statistics: no weight changes, no label, no gradient."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sparsecnn.device import full_precision
from sparsecnn.errors import UserError
from sparsecnn.float64 import in_float64
from sparsecnn.pruning.calibration.batches import CalibrationData, Forward, NoBatchesError
from sparsecnn.pruning.state import evaluating


def recalibrate_batchnorm(
    model: nn.Module,
    batches: Iterable[Any] | Tensor | Mapping[str, Any],
    forward: Forward | None = None,
) -> int:
    """Set every running mean and variance to those of the given batches, in place.

    One pass. Each batch-norm layer normalises by its batch (the layers before it are being
    re-estimated too); every other layer, dropout included, runs in eval mode. The mean and the
    variance are exact over all batches together: batches weigh by their size and the spread
    between batch means is counted.

    Parameters
    ----------
    batches
        Any iterable of input batches, read once: tensors, pairs of inputs and labels, tuples or
        mappings of inputs. One tensor or mapping is one batch. Equal large batches serve best.
    forward
        Called as ``forward(model, batch)`` in place of the model, for batches of any form.

    Returns
    -------
    int
        Number of layers re-estimated; layers that keep no statistics are left out.

    Raises
    ------
    UserError
        If there is no batch or one of a form that needs `forward`, the model cannot be run on a
        batch, or a batch-norm layer saw no data or, in some batch, a single value per channel.
    """
    data = _read(model, batches, forward)
    layers = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and module.track_running_stats
    }
    totals = {name: _Totals() for name in layers}
    handles = [
        layer.register_forward_pre_hook(lambda _, args, name=name: totals[name].add(args[0]))
        for name, layer in layers.items()
    ]
    saved = {name: _copied_state(layer) for name, layer in layers.items()}
    try:
        with full_precision(), evaluating(model):
            for layer in layers.values():
                layer.training = True
            for index in range(len(data)):
                _run(data, index)
    finally:
        for handle in handles:
            handle.remove()
        for name, layer in layers.items():
            layer.load_state_dict(saved[name])
    statistics = {name: total.statistics(name) for name, total in totals.items()}
    for name, layer in layers.items():
        assert layer.running_mean is not None
        assert layer.running_var is not None
        mean, variance = statistics[name]
        layer.running_mean.copy_(mean)
        layer.running_var.copy_(variance)
    return len(layers)


def _read(model: nn.Module, batches: Any, forward: Forward | None) -> CalibrationData:
    try:
        return CalibrationData(model, batches, forward)
    except NoBatchesError:
        raise UserError("no batches were given to re-estimate batch-norm statistics from") from None


def _run(data: CalibrationData, index: int) -> None:
    try:
        data.run(index)
    except UserError as error:
        if "more than 1 value per channel" not in str(error.__cause__):
            raise
        raise UserError(
            f"a batch of {data.size(index)} gives a batch-norm layer a single value per channel, "
            "which has no variance; give batches of two images or more"
        ) from None


class _Totals:
    """Count, mean and sum of squared deviations per channel, merged batch by batch.

    Chan, Golub and LeVeque (1983), equation 2.1: exact and stable, in float64.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean: Tensor | None = None
        self.squares: Tensor | None = None

    def add(self, inputs: Tensor) -> None:
        """Merge the inputs of one call, shape (N, C, ...)."""
        values = inputs.detach().transpose(0, 1).flatten(1)
        count = values.shape[1]
        variance, mean = torch.var_mean(
            values.to(torch.promote_types(values.dtype, torch.float32)), dim=1, correction=0
        )
        mean, squares = in_float64(mean), in_float64(variance) * count
        if self.mean is None or self.squares is None:
            self.count, self.mean, self.squares = count, mean, squares
            return
        total, shift = self.count + count, mean - self.mean
        self.squares = self.squares + squares + shift.square() * (self.count * count / total)
        self.mean = self.mean + shift * (count / total)
        self.count = total

    def statistics(self, name: str) -> tuple[Tensor, Tensor]:
        """Mean and unbiased variance, as batch norm itself keeps them."""
        if self.mean is None or self.squares is None or self.count < 2:
            raise UserError(
                f"batch-norm layer {name!r} saw {self.count} values per channel: at least 2 are "
                "needed to re-estimate its statistics"
            )
        return self.mean, self.squares / (self.count - 1)


def _copied_state(layer: _BatchNorm) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in layer.state_dict().items()}
