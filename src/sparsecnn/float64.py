"""Sums that want float64, on devices that have none."""

import torch
from torch import Tensor


def in_float64(tensor: Tensor) -> Tensor:
    """The tensor in float64, where it is; one on MPS, which has no float64, on the CPU."""
    return _beside_float64(tensor).double()


def sum_in_float64(tensor: Tensor) -> float:
    """Sum of all elements, added up in float64."""
    return _beside_float64(tensor).sum(dtype=torch.float64).item()


def _beside_float64(tensor: Tensor) -> Tensor:
    return tensor.cpu() if tensor.device.type == "mps" else tensor
