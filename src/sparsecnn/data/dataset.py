"""The canonical dataset: what every source yields and every later stage reads."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from sparsecnn.artifacts import Manifest, Origin, read_tensors, write_tensors
from sparsecnn.errors import UserError
from sparsecnn.image_limits import shape_problem

_CHUNK = 4096
_LISTED = 5


@dataclass(frozen=True)
class Normalization:
    """Per-channel mean and standard deviation of pixels scaled to [0, 1].

    Raises `UserError` when the two differ in length or a deviation is not positive.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or not self.mean:
            raise UserError(
                f"normalization: {len(self.mean)} means and {len(self.std)} standard deviations; "
                "give one of each per channel"
            )
        if not all(s > 0 for s in self.std):
            raise UserError(
                f"normalization: standard deviations {self.std} must all be positive; "
                "zero means a channel that is the same in every image"
            )


@dataclass(frozen=True)
class Dataset:
    """Images and labels of both splits, on the CPU.

    Images are uint8, shape (N, C, H, W); labels are int64, shape (N,), indices into `classes`.
    """

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    classes: tuple[str, ...]


def check(dataset: Dataset) -> None:
    """Raise `UserError` unless dtypes, shapes, labels and classes are as `Dataset` states.

    Both splits must hold images of one shape, and at least one image of every class.
    """
    if len(set(dataset.classes)) < max(2, len(dataset.classes)):
        raise UserError(f"dataset: classes {dataset.classes} must be two or more different names")
    for split, images, labels in _splits(dataset):
        _check_split(split, images, labels, dataset.classes)
    train, test = dataset.train_images.shape[1:], dataset.test_images.shape[1:]
    if train != test:
        raise UserError(
            f"dataset: train images have shape {tuple(train)} and test images {tuple(test)} "
            "(channels, height, width); both splits must have the same"
        )


def _check_split(split: str, images: Tensor, labels: Tensor, classes: tuple[str, ...]) -> None:
    if images.dtype != torch.uint8 or images.ndim != 4 or 0 in images.shape[1:]:
        raise UserError(
            f"dataset: {split} images are {images.dtype} of shape {tuple(images.shape)}; "
            "expected uint8 of shape (images, channels, height, width)"
        )
    if labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
        raise UserError(
            f"dataset: {split} labels are {labels.dtype} of shape {tuple(labels.shape)}; "
            f"expected int64 of shape ({len(images)},)"
        )
    wrong = labels[(labels < 0) | (labels >= len(classes))]
    if len(wrong):
        raise UserError(
            f"dataset: {split} holds the label {wrong[0].item()}; "
            f"with {len(classes)} classes labels run from 0 to {len(classes) - 1}"
        )
    empty = [name for name, n in class_counts(labels, classes).items() if n == 0]
    if empty:
        shown = ", ".join(empty[:_LISTED]) + (", ..." if len(empty) > _LISTED else "")
        raise UserError(f"dataset: {split} has no image of class {shown}; every class needs one")


def square_side(images: Tensor) -> int:
    """Side of images of shape (N, C, H, W), in pixels; `UserError` unless they are square."""
    height, width = images.shape[-2:]
    if problem := shape_problem(height, width):
        raise UserError(problem)
    return int(height)


def class_counts(labels: Tensor, classes: tuple[str, ...]) -> dict[str, int]:
    """Number of images per class name; `labels` int64, shape (N,)."""
    counts = torch.bincount(labels, minlength=len(classes)).tolist()
    return dict(zip(classes, counts, strict=True))


def drawn_by_class(labels: Tensor, counts: Sequence[int], generator: torch.Generator) -> Tensor:
    """Indices of so many images of each class, drawn without replacement; int64, class by class."""
    order = torch.randperm(len(labels), generator=generator)
    classes_in_order = labels[order]
    return torch.cat([order[classes_in_order == c][:n] for c, n in enumerate(counts)])


def channel_statistics(images: Tensor) -> Normalization:
    """Exact mean and (population) standard deviation per channel, in float64.

    `images` is uint8, shape (N, C, H, W). Pixels are counted by value, so no float copy of the
    set is made. Raises `UserError` when a channel is constant.
    """
    channels = images.shape[1]
    counts = torch.zeros(channels, 256, dtype=torch.int64)
    for chunk in torch.split(images, _CHUNK):
        for channel in range(channels):
            counts[channel] += torch.bincount(chunk[:, channel].reshape(-1), minlength=256)
    weights = counts.double() / counts.sum(1, keepdim=True)
    values = torch.arange(256, dtype=torch.float64) / 255
    mean = weights @ values
    variance = (weights * (values - mean[:, None]).square()).sum(1)
    return Normalization(tuple(mean.tolist()), tuple(variance.sqrt().tolist()))


def save_dataset(
    path: Path, dataset: Dataset, normalization: Normalization, manifest: Manifest
) -> Manifest:
    """Check the dataset and write it; returns the manifest as stored.

    Raises `UserError` as `check` does, or when `normalization` is not for as many channels as
    the images have.
    """
    check(dataset)
    channels = dataset.train_images.shape[1]
    if len(normalization.mean) != channels:
        raise UserError(
            f"dataset.normalization: {len(normalization.mean)} values for images of {channels} "
            "channels; give one mean and one std per channel"
        )
    tensors = {
        "train_images": dataset.train_images,
        "train_labels": dataset.train_labels,
        "test_images": dataset.test_images,
        "test_labels": dataset.test_labels,
        "classes": torch.tensor(list(json.dumps(dataset.classes).encode()), dtype=torch.uint8),
        **normalization_tensors(normalization),
    }
    return write_tensors(path, tensors, manifest)


def load_dataset(
    path: Path, origin: Origin | None = None, split: Literal["train", "test"] | None = None
) -> tuple[Dataset, Normalization, Manifest]:
    """Read what `save_dataset` wrote; `UserError` as in `artifacts.read_tensors`.

    With `split` nothing is read of the other one, which then holds no image: shape (0, C, H, W).
    """
    parts = ("images", "labels")
    names = split and [*(f"{split}_{part}" for part in parts), "classes", "mean", "std"]
    tensors, manifest = read_tensors(path, "dataset", origin, names)
    if split:
        other = "test" if split == "train" else "train"
        tensors |= {f"{other}_{part}": tensors[f"{split}_{part}"][:0] for part in parts}
    dataset = Dataset(
        train_images=tensors["train_images"],
        train_labels=tensors["train_labels"],
        test_images=tensors["test_images"],
        test_labels=tensors["test_labels"],
        classes=tuple(json.loads(bytes(tensors["classes"].tolist()))),
    )
    return dataset, normalization_from(tensors), manifest


def normalization_tensors(normalization: Normalization) -> dict[str, Tensor]:
    """The normalization as float64 tensors `mean` and `std`, shape (C,), for an artifact."""
    return {
        "mean": torch.tensor(normalization.mean, dtype=torch.float64),
        "std": torch.tensor(normalization.std, dtype=torch.float64),
    }


def normalization_from(tensors: dict[str, Tensor]) -> Normalization:
    """Inverse of `normalization_tensors`; other tensors are ignored."""
    return Normalization(tuple(tensors["mean"].tolist()), tuple(tensors["std"].tolist()))


def summary(
    dataset: Dataset, normalization: Normalization, source: str, content: str
) -> dict[str, Any]:
    """What the report says of a dataset, as plain JSON values.

    Parameters
    ----------
    dataset, normalization
        The dataset, and the normalization that the study uses (which need not be the measured
        one: that is recorded beside it).
    source
        The registry name of the source.
    content
        `content` of the dataset artifact.
    """
    measured = channel_statistics(dataset.train_images)
    return {
        "source": source,
        "n_train": len(dataset.train_labels),
        "n_test": len(dataset.test_labels),
        "image_shape": list(dataset.train_images.shape[1:]),
        "classes": list(dataset.classes),
        "class_counts": {
            split: class_counts(labels, dataset.classes) for split, _, labels in _splits(dataset)
        },
        "measured_mean": list(measured.mean),
        "measured_std": list(measured.std),
        "normalization": {"mean": list(normalization.mean), "std": list(normalization.std)},
        "content": content,
    }


def _splits(dataset: Dataset) -> tuple[tuple[str, Tensor, Tensor], ...]:
    return (
        ("train", dataset.train_images, dataset.train_labels),
        ("test", dataset.test_images, dataset.test_labels),
    )
