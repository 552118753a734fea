"""Normalization, random crop, flip and cutout, for whole batches on the device of the images."""

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
    float32, shape (N, C, H, W), on the device of `images`, in their memory format.
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


class AugmentedImages:
    """A set of images on a device, from which randomly altered batches are taken.

    Each image is cropped at random from itself padded with black, then mirrored with
    probability one half, normalized, and loses one square (cutout, arXiv 1708.04552).
    What is drawn comes from a CPU generator, so it does not depend on the device.

    Parameters
    ----------
    images
        uint8, shape (N, C, H, W); copied to `device`, padded there once.
    crop_padding
        Pixels of padding on each side; crops are uniform over the 2 * crop_padding + 1 offsets
        of each axis.
    cutout
        Side of the square, in pixels, its centre anywhere in the image; 0 for none.
    """

    def __init__(
        self,
        images: Tensor,
        normalization: Normalization,
        device: torch.device,
        *,
        crop_padding: int,
        horizontal_flip: bool,
        cutout: int,
    ) -> None:
        _, self._channels, self._height, self._width = images.shape
        self._padding, self._flip, self._cutout = crop_padding, horizontal_flip, cutout
        self._normalization = normalization
        padded = F.pad(images.to(device), (crop_padding,) * 4)
        self._padded_height, self._padded_width = padded.shape[2:]
        # Pixels in rows: a batch is one gather, and comes out in channels-last order.
        self._pixels = padded.permute(0, 2, 3, 1).reshape(-1, self._channels)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Random choices for `count` images, int64, shape (count, 5), on the device of the images.

        Columns: offset from the top and from the left, 1 to mirror, row and column of the
        centre of the square.
        """
        limits = (
            *(2 * self._padding + 1,) * 2,
            2 if self._flip else 1,
            *((self._height, self._width) if self._cutout else (1, 1)),
        )
        columns = [torch.randint(0, limit, (count,), generator=generator) for limit in limits]
        return torch.stack(columns, dim=1).to(self._pixels.device)

    def batch(self, indices: Tensor, drawn: Tensor) -> Tensor:
        """Images `indices`, altered as `drawn` (rows of `draw`) says, ready for a network.

        Returns float32, shape (N, C, H, W), in channels-last memory format.
        """
        device = self._pixels.device
        top, left, flip, row, column = drawn.unsqueeze(2).unbind(1)  # each (N, 1)
        across = torch.arange(self._width, device=device)
        rows = indices[:, None] * self._padded_height + top
        rows = rows + torch.arange(self._height, device=device)
        columns = left + torch.where(flip.bool(), across.flip(0), across)
        positions = rows[:, :, None] * self._padded_width + columns[:, None, :]  # (N, H, W)
        pixels = self._pixels.index_select(0, positions.flatten())
        images = pixels.view(*positions.shape, self._channels).permute(0, 3, 1, 2)
        inputs = normalize(images, self._normalization)
        if self._cutout:
            inputs.masked_fill_(self._square(row, column), 0)  # 0 is the mean colour
        return inputs

    def _square(self, row: Tensor, column: Tensor) -> Tensor:
        """Where the square lies: bool, shape (N, 1, H, W); cut off at the image's border."""
        start = self._cutout // 2
        inside = []
        for centre, length in ((row, self._height), (column, self._width)):
            first = centre - start
            at = torch.arange(length, device=row.device)
            inside.append((at >= first) & (at < first + self._cutout))
        return (inside[0][:, :, None] & inside[1][:, None, :]).unsqueeze(1)
