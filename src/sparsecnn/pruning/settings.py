"""How to prune, read and made whole."""

from dataclasses import dataclass, fields
from typing import Any

import torch

from sparsecnn.errors import UserError
from sparsecnn.pruning.layouts import check_layout
from sparsecnn.pruning.patterns import NM, Pattern, parse_pattern
from sparsecnn.pruning.problem import Companions, Method
from sparsecnn.registry import resolve

CALIBRATIONS = ("independent", "sequential")
TARGETS = ("own", "dense")
PRECISIONS = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class Settings:
    """What holds for every layer alike; see `sparsecnn.pruning.driver.prune`."""

    method: Method
    pattern: Pattern
    layout: str
    calibration: str
    target: str
    refit: bool
    bias_correction: bool
    damping: float
    dtype: torch.dtype
    """To solve in."""
    positions_per_image: int | None = None
    """Of each image that a convolution is shown, at most."""
    permute_channels: bool = False
    """First put channels into an order that suits the pattern, which is N:M."""

    @property
    def needs(self) -> str:
        """What has to be known of the data: nothing, the diagonal of the Hessian, or all of it."""
        own: str = getattr(self.method, "needs", "hessian")
        if self.refit or self.target == "dense":
            return "hessian"
        return "diagonal" if self.bias_correction and own == "nothing" else own


def read_settings(
    *,
    method: str = "admm",
    pattern: str = "2:4",
    layout: str = "channels",
    calibration: str | None = None,
    target: str | None = None,
    refit: bool | None = None,
    bias_correction: bool = False,
    damping: float = 0.01,
    precision: str = "float32",
    positions_per_image: int | None = None,
    permute_channels: bool = False,
    **options: Any,
) -> Settings:
    """Settings as `prune` takes them, with what serves the method best for None.

    Raises `UserError` for what does not exist or does not go together.
    """
    if precision not in PRECISIONS:
        raise UserError(f"unknown precision {precision!r}: choose float32 or float64")
    if positions_per_image is not None and positions_per_image < 1:
        raise UserError(
            f"positions_per_image must be at least 1, or null for all: {positions_per_image}"
        )
    if damping < 0:
        raise UserError(f"damping must not be negative: {damping}")
    check_layout(layout)
    built = _build_method(method, options)
    best: Companions = getattr(built, "companions", Companions())
    calibration = best.calibration if calibration is None else calibration
    if target is None:
        target = best.target if calibration == "sequential" else "own"
    _check_calibration(calibration, target)
    parsed = parse_pattern(pattern)
    if permute_channels and (layout != "channels" or not isinstance(parsed, NM)):
        raise UserError(
            "permute_channels is for N:M patterns with groups along the channels (layout "
            f"'channels'), not for {parsed} with layout {layout!r}"
        )
    return Settings(
        method=built,
        pattern=parsed,
        layout=layout,
        calibration=calibration,
        target=target,
        refit=best.refit if refit is None else refit,
        bias_correction=bias_correction,
        damping=damping,
        dtype=PRECISIONS[precision],
        positions_per_image=positions_per_image,
        permute_channels=permute_channels,
    )


def _check_calibration(calibration: str, target: str) -> None:
    """Raise `UserError` for what does not exist or does not go together."""
    if calibration not in CALIBRATIONS:
        raise UserError(
            f"unknown calibration {calibration!r}: choose one of {', '.join(CALIBRATIONS)}"
        )
    if target not in TARGETS:
        raise UserError(f"unknown target {target!r}: choose one of {', '.join(TARGETS)}")
    if target == "dense" and calibration != "sequential":
        raise UserError("target 'dense' differs from 'own' only with calibration 'sequential'")


def _build_method(name: str, options: dict[str, Any]) -> Method:
    method = resolve("method", name)
    allowed = [field.name for field in fields(method)]
    for option in options:
        if option not in allowed:
            listed = f"it takes {', '.join(allowed)}" if allowed else "it takes none"
            raise UserError(f"method {name!r} has no option {option!r}: {listed}")
    built: Method = method(**options)
    return built
