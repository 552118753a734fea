"""Scikit-learn's bundled handwritten digits: real images that need no download."""

from pathlib import Path

import torch
import torch.nn.functional as F

from sparsecnn.data.dataset import Dataset
from sparsecnn.errors import UserError

IMAGE_SIZE = 32
TEST_FRACTION = 0.2
SPLIT_SEED = 0
"""Fixed: the split belongs to the dataset, so that every study has the same test images."""

_MAX_INK = 16  # scikit-learn's digits run from 0 to 16


def read_digits(source: Path | None, cache: Path) -> Dataset:
    """The 1,797 digits (8x8, 0..16) as 3x32x32 uint8: bilinear upscaling, three equal channels.

    A stratified split fixed by `SPLIT_SEED`: 1,437 train and 360 test images, each in the order
    of scikit-learn. `cache` is not used; a `source` raises `UserError`.
    """
    if source is not None:
        raise UserError(
            f"dataset.source: {source} is of no use to the embedded digits; remove the setting, "
            "or set dataset.name to image_folder"
        )
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    small = torch.from_numpy(digits.images).unsqueeze(1)
    # Exact in float64 (weights are multiples of 1/64), so equal on every machine.
    large = F.interpolate(small, size=IMAGE_SIZE, mode="bilinear", align_corners=False)
    images = (large * 255 / _MAX_INK).round().to(torch.uint8).expand(-1, 3, -1, -1)
    labels = torch.from_numpy(digits.target).to(torch.int64)
    train, test = train_test_split(
        range(len(labels)), test_size=TEST_FRACTION, stratify=labels, random_state=SPLIT_SEED
    )
    train, test = sorted(train), sorted(test)
    return Dataset(
        train_images=images[train],
        train_labels=labels[train],
        test_images=images[test],
        test_labels=labels[test],
        classes=tuple(str(name) for name in digits.target_names),
    )
