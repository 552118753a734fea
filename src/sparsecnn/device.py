"""Choosing the device, and making what it computes repeatable."""

import logging
import os
import platform

import torch

from sparsecnn.errors import UserError

logger = logging.getLogger(__name__)

ALLOWED = ("auto", "cpu", "cuda", "mps")


def choose_device(setting: str) -> torch.device:
    """The device that `setting` names: one of auto, cpu, cuda, mps.

    `auto` takes CUDA, then MPS, then the CPU. Also asks torch for deterministic algorithms.
    Raises `UserError` if the named device is not there.
    """
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if setting == "auto":
        setting = next(name for name, there in available.items() if there)
    if setting not in available:
        raise UserError(f"device {setting!r}: choose one of {', '.join(ALLOWED)}")
    if not available[setting]:
        raise UserError(f"device: {setting} was asked for but torch finds none; use device: auto")
    _make_deterministic(setting)
    return torch.device(setting)


def device_name(device: torch.device) -> str:
    """What to record in a manifest: the GPU's name, or the processor's architecture."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} ({platform.machine()})"


def _make_deterministic(device: str) -> None:
    if device == "mps":
        logger.warning("MPS has no deterministic max-pooling: equal seeds may differ in bits")
        return
    # cuBLAS reads this when its first handle is made; without it torch refuses to be exact.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # As use_deterministic_algorithms(True), which would import the compiler: 2 s a job.
    torch.set_deterministic_debug_mode("error")
    torch.backends.cudnn.benchmark = False
