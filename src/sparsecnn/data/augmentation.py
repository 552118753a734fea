"""Normalization and random crop with flip, for whole batches on the device of the images."""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from sparsecnn.data.dataset import Normalization


def normalize(images: Tensor, normalization: Normalization) -> Tensor:
    """Pixels to network input: (pixel / 255 - mean) / std, per channel.

    Parameters
    ----------
    images
        uint8, shape (N, C, H, W), on any device.

    Returns
    -------
    float32, shape (N, C, H, W), on the device of `images`.
    """
    scale, shift = _affine(normalization, images.device)
    return images.to(torch.float32).mul_(scale).add_(shift)


@lru_cache(maxsize=16)
def _affine(normalization: Normalization, device: torch.device) -> tuple[Tensor, Tensor]:
    # Cached: training normalizes every batch, and a copy to a GPU each time would stall it.
    mean = torch.tensor(normalization.mean, dtype=torch.float64).view(-1, 1, 1)
    std = torch.tensor(normalization.std, dtype=torch.float64).view(-1, 1, 1)
    scale, shift = 1 / (255 * std), -mean / std
    return scale.to(device, torch.float32), shift.to(device, torch.float32)


def augment(
    images: Tensor, generator: torch.Generator, crop_padding: int, horizontal_flip: bool
) -> Tensor:
    """Random crop from the zero-padded image, then random horizontal flip, per image.

    Offsets are uniform over the 2 * crop_padding + 1 positions of each axis; half of the images
    are flipped. All images move by one gather, without a loop.

    Parameters
    ----------
    images
        Shape (N, C, H, W), any dtype and device. Padded with 0, so before normalization.
    generator
        A CPU generator: what is drawn does not depend on the device of the images.

    Returns
    -------
    A new tensor of the same shape, dtype and device.
    """
    n, channels, height, width = images.shape
    device, padded_width = images.device, width + 2 * crop_padding
    offsets = torch.randint(0, 2 * crop_padding + 1, (2, n), generator=generator)
    flips = torch.randint(0, 2, (1, n), generator=generator) * int(horizontal_flip)
    top, left, flip = torch.cat([offsets, flips]).to(device).unsqueeze(2)  # each (N, 1)

    rows = top + torch.arange(height, device=device)
    columns = torch.arange(width, device=device)
    columns = left + torch.where(flip.bool(), columns.flip(0), columns)
    positions = rows[:, :, None] * padded_width + columns[:, None, :]  # (N, H, W)

    padded = F.pad(images, (crop_padding,) * 4).view(n, channels, -1)
    index = positions.view(n, 1, -1).expand(-1, channels, -1)
    return padded.gather(2, index).view_as(images)
