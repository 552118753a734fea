"""Test images held out of the train split."""

from dataclasses import replace

import torch

from sparsecnn.data.dataset import Dataset, drawn_by_class
from sparsecnn.errors import UserError
from sparsecnn.seeding import derive_seed


def hold_out(dataset: Dataset, count: int) -> Dataset:
    """The dataset with `count` of its train images in the place of its test split.

    Equally many of each class, always the same ones; what was the test split is dropped. Raises
    `UserError` if `count` is no multiple of the number of classes, or leaves a class without train
    images.
    """
    labels, classes = dataset.train_labels, dataset.classes
    each, rest = divmod(count, len(classes))
    fewest = int(torch.bincount(labels, minlength=len(classes)).min())
    if rest or not 1 <= each < fewest:
        raise UserError(
            f"dataset.holdout: {count} is not possible; with {len(classes)} classes, the smallest "
            f"of {fewest} train images, choose a multiple of {len(classes)} up to "
            f"{(fewest - 1) * len(classes)}"
        )
    generator = torch.Generator().manual_seed(derive_seed(0, "holdout"))
    held = drawn_by_class(labels, [each] * len(classes), generator)
    kept = torch.ones(len(labels), dtype=torch.bool)
    kept[held] = False
    return replace(
        dataset,
        train_images=dataset.train_images[kept],
        train_labels=labels[kept],
        test_images=dataset.train_images[held],
        test_labels=labels[held],
    )
