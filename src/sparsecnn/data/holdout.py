"""Test images held out of the train split."""

from dataclasses import replace

import torch

from sparsecnn.data.dataset import Dataset, class_counts, drawn_by_class
from sparsecnn.errors import UserError
from sparsecnn.image_limits import holdout_problem
from sparsecnn.seeding import derive_seed


def hold_out(dataset: Dataset, count: int) -> Dataset:
    """The dataset with `count` of its train images in the place of its test split.

    Equally many of each class, always the same ones; what was the test split is dropped. Raises
    `UserError` if `count` is no multiple of the number of classes, or leaves a class without train
    images.
    """
    labels, classes = dataset.train_labels, dataset.classes
    if problem := holdout_problem(count, class_counts(labels, classes)):
        raise UserError(problem)
    each = count // len(classes)
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
