"""Permute the channels of a whole model."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch import nn

from sparsecnn.pruning.calibration.batches import CalibrationData
from sparsecnn.pruning.calibration.surroundings import Surroundings, undisturbed
from sparsecnn.pruning.model.weights import require_module, require_values
from sparsecnn.pruning.permutation.arrange import arranged
from sparsecnn.pruning.result import Permutation
from sparsecnn.pruning.selection import choice
from sparsecnn.pruning.settings import read_settings


def permute_channels(
    model: nn.Module,
    calibration_batches: Iterable[Any],
    *,
    pattern: str = "2:4",
    coverage: str = "all",
    include: str | Sequence[str] = (),
    exclude: str | Sequence[str] = (),
    forward: Callable[[nn.Module, Any], object] | None = None,
) -> Permutation:
    """Reorder a model's channels in place, for what N:M pruning will then keep.

    Which channels make a group of the pattern depends on their order, which the outputs of the
    network do not depend on: the outputs of layers are permuted as the inputs of those that read
    them, with biases and batch norms. One forward pass is followed, operation by operation;
    channels that meet an operation which is not understood keep their order, as those of the
    model's inputs and outputs do. Afterwards the outputs for the first batch are compared with
    what they were. `prune` does all this itself with ``permute_channels=True``.

    Parameters are as those of `prune`; `pattern` must be N:M.

    Raises
    ------
    UserError
        As `prune`; if the first batch does not reach every parameter; and if outputs are no longer
        the same, in which case all is put back.
    """
    require_module(model)
    require_values(model)
    settings = read_settings(method="magnitude", pattern=pattern, permute_channels=True)
    data = CalibrationData(model, calibration_batches, forward)
    surroundings = Surroundings.here({p.device.type for p in model.parameters()})
    choose = choice(model, settings, coverage, include, exclude)
    with (
        undisturbed(model, surroundings),
        arranged(model, data, surroundings, settings, choose) as permutation,
    ):
        return permutation
