"""A fixed sample of the train split, with labels."""

import torch
from torch import Tensor

from sparsecnn.data.augmentation import normalize
from sparsecnn.data.dataset import Dataset, Normalization
from sparsecnn.errors import UserError
from sparsecnn.image_limits import sample_problem
from sparsecnn.seeding import derive_seed


def train_sample(
    dataset: Dataset,
    normalization: Normalization,
    size: int,
    device: torch.device,
    batch_size: int = 128,
) -> list[tuple[Tensor, Tensor]]:
    """Batches of `size` train images without augmentation, the same for every network and seed.

    Each is a pair of normalized inputs, float32 (batch, C, H, W), and labels, int64 (batch,), on
    `device`. Raises `UserError` if the train split has fewer images.
    """
    available = len(dataset.train_labels)
    if problem := sample_problem(size, available):
        raise UserError(problem)
    generator = torch.Generator().manual_seed(derive_seed(0, "diagnostics"))
    chosen = torch.randperm(available, generator=generator)[:size]
    return [
        (
            normalize(dataset.train_images[part].to(device), normalization),
            dataset.train_labels[part].to(device),
        )
        for part in chosen.split(batch_size)
    ]
