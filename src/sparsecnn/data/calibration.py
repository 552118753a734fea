"""Calibration sets: the few train images that pruning looks at."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sparsecnn.artifacts import Manifest, Origin, read_tensors, write_tensors
from sparsecnn.data.augmentation import AugmentedImages, normalize
from sparsecnn.data.dataset import (
    Dataset,
    Normalization,
    class_counts,
    drawn_by_class,
    normalization_from,
    normalization_tensors,
)
from sparsecnn.errors import UserError
from sparsecnn.image_limits import calibration_problem
from sparsecnn.seeding import derive_seed


@dataclass(frozen=True)
class CalibrationSet:
    """Train images in the order drawn, on the CPU, with what normalizes them."""

    images: Tensor
    """uint8, shape (N, C, H, W)."""
    indices: Tensor
    """int64, shape (N,): positions in the train split, all different."""
    normalization: Normalization


def draw_calibration_set(
    dataset: Dataset, normalization: Normalization, size: int, seed: int, class_balanced: bool
) -> CalibrationSet:
    """Draw `size` images from the train split, without replacement, in random order.

    Class-balanced: every class gives equally many; where `size` is no multiple of the number of
    classes, the classes that give one more are drawn too.

    Raises `UserError` when `size` is below 1, or more than the train split or a class can give.
    """
    counts = class_counts(dataset.train_labels, dataset.classes)
    if problem := calibration_problem(size, class_balanced, counts):
        raise UserError(problem)
    generator = torch.Generator().manual_seed(derive_seed(seed, "calibration"))
    if class_balanced:
        indices = _balanced(dataset, size, generator)
    else:
        indices = torch.randperm(len(dataset.train_labels), generator=generator)[:size]
    return CalibrationSet(dataset.train_images[indices], indices, normalization)


def _balanced(dataset: Dataset, size: int, generator: torch.Generator) -> Tensor:
    labels, classes = dataset.train_labels, dataset.classes
    counts = torch.bincount(labels, minlength=len(classes))
    share, remainder = divmod(size, len(classes))
    with_spare = torch.nonzero(counts > share).squeeze(1)
    drawn = torch.randperm(len(with_spare), generator=generator)[:remainder]
    take = torch.full_like(counts, share)
    take[with_spare[drawn]] += 1
    indices = drawn_by_class(labels, take.tolist(), generator)
    return indices[torch.randperm(size, generator=generator)]


def save_calibration(path: Path, calibration: CalibrationSet, manifest: Manifest) -> Manifest:
    """Write a calibration set; returns the manifest as stored."""
    tensors = {
        "images": calibration.images,
        "indices": calibration.indices,
        **normalization_tensors(calibration.normalization),
    }
    return write_tensors(path, tensors, manifest)


def load_calibration(path: Path, origin: Origin | None = None) -> tuple[CalibrationSet, Manifest]:
    """Read what `save_calibration` wrote; `UserError` as in `artifacts.read_tensors`."""
    tensors, manifest = read_tensors(path, "calibration", origin)
    normalization = normalization_from(tensors)
    return CalibrationSet(tensors["images"], tensors["indices"], normalization), manifest


def batches(calibration: CalibrationSet, batch_size: int, device: torch.device) -> list[Tensor]:
    """Normalized network inputs, float32, shape (batch, C, H, W), on `device`.

    A list, because pruning iterates over them once per layer.
    """
    return [
        normalize(chunk.to(device), calibration.normalization)
        for chunk in torch.split(calibration.images, batch_size)
    ]


def augmented_batches(
    calibration: CalibrationSet,
    batch_size: int,
    device: torch.device,
    seed: int,
    *,
    crop_padding: int,
    horizontal_flip: bool,
    cutout: int,
) -> list[Tensor]:
    """As `batches`, but every image once altered at random, as `AugmentedImages` does.

    For batch-norm statistics: a network's weights are made for those of the images that it was
    trained on. On CIFAR-10 (JPEG q75) the black borders of random crops raise the variance behind
    the first convolution by about half, and even a dense network loses accuracy to statistics of
    images without them. A single image left over goes with the batch before: it may have no
    variance.
    """
    source = AugmentedImages(
        calibration.images,
        calibration.normalization,
        device,
        crop_padding=crop_padding,
        horizontal_flip=horizontal_flip,
        cutout=cutout,
    )
    count = len(calibration.images)
    generator = torch.Generator().manual_seed(derive_seed(seed, "batch norm"))
    sizes = [len(chunk) for chunk in torch.arange(count).split(batch_size)]
    if len(sizes) > 1 and sizes[-1] == 1:
        sizes[-2:] = [batch_size + 1]
    drawn = source.draw(count, generator).split(sizes)
    indices = torch.arange(count, device=device).split(sizes)
    return [source.batch(*chosen) for chosen in zip(indices, drawn, strict=True)]
