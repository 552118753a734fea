"""Accuracy and loss of a network on a labelled set."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from sparsecnn.data.augmentation import normalize
from sparsecnn.data.dataset import Normalization
from sparsecnn.device import full_precision
from sparsecnn.float64 import sum_in_float64


@dataclass(frozen=True)
class Accuracy:
    """What `evaluate` measures."""

    top1: float
    """Percent of images whose highest logit is their class."""
    loss: float
    """Mean cross-entropy in nats."""
    per_class: tuple[float, ...]
    """Percent correct among the images of each class."""
    n: int
    """Number of images."""


def evaluate(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    normalization: Normalization,
    num_classes: int,
    device: torch.device,
    batch_size: int = 1000,
) -> Accuracy:
    """Evaluate `model` (set to eval mode, moved to `device`).

    Parameters
    ----------
    images
        uint8, (N, C, H, W).
    labels
        int64, (N,); every class below `num_classes` occurs.
    """
    model.to(device).to(memory_format=torch.channels_last).eval()
    correct = torch.zeros(num_classes, dtype=torch.int64, device=device)
    losses = []
    # Only now: a model moved in inference mode could not be trained any more.
    with full_precision(), torch.inference_mode():
        for batch, target in zip(images.split(batch_size), labels.split(batch_size), strict=True):
            target = target.to(device)
            inputs = normalize(batch.to(device), normalization)
            logits = model(inputs.contiguous(memory_format=torch.channels_last)).float()
            losses.append(functional.cross_entropy(logits, target, reduction="sum"))
            correct += torch.bincount(target[logits.argmax(1) == target], minlength=num_classes)
    counts = torch.bincount(labels, minlength=num_classes)
    return Accuracy(
        top1=100 * int(correct.sum()) / len(labels),
        loss=sum_in_float64(torch.stack(losses)) / len(labels),
        per_class=tuple((100 * correct.cpu() / counts).tolist()),
        n=len(labels),
    )
