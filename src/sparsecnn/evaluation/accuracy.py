"""Accuracy and loss of a network on a labelled set, and how near it is to another network."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from sparsecnn.data.augmentation import normalize
from sparsecnn.data.dataset import Normalization
from sparsecnn.device import full_precision
from sparsecnn.float64 import in_float64, sum_in_float64


@dataclass(frozen=True)
class Accuracy:
    """What `evaluate` measures."""

    top1: float
    """Percent of images whose highest logit is their class."""
    loss: float
    """Mean cross-entropy in nats."""
    kl: float
    """Mean over images of the KL divergence from the reference's predictions, in nats."""
    agreement: float
    """Percent of images whose highest logit is the reference's."""
    per_class: tuple[float, ...]
    """Percent correct among the images of each class."""
    chance: float
    """Percent of images that the best guess gets right, the share of the largest class."""
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
    reference: nn.Module | None = None,
) -> Accuracy:
    """Evaluate `model` (set to eval mode, moved to `device`, and so is `reference`).

    Parameters
    ----------
    images
        uint8, (N, C, H, W).
    labels
        int64, (N,); every class below `num_classes` occurs.
    reference
        The network that `kl` and `agreement` compare with, the dense one of a pruned. Without it
        the model is its own reference: 0 and 100 by definition.
    """
    for network in [model] if reference is None else [model, reference]:
        network.to(device).to(memory_format=torch.channels_last).eval()
    correct = torch.zeros(num_classes, dtype=torch.int64, device=device)
    losses, divergences, agreed = [], [], []
    # Only now: a model moved in inference mode could not be trained any more.
    with full_precision(), torch.inference_mode():
        for batch, target in zip(images.split(batch_size), labels.split(batch_size), strict=True):
            batch, target = batch.to(device), target.to(device)
            logits = _logits(model, batch, normalization)
            expected = logits if reference is None else _logits(reference, batch, normalization)
            losses.append(functional.cross_entropy(logits, target, reduction="sum"))
            divergences.append(_divergence(logits, expected))
            agreed.append((logits.argmax(1) == expected.argmax(1)).sum())
            correct += torch.bincount(target[logits.argmax(1) == target], minlength=num_classes)
    counts = torch.bincount(labels, minlength=num_classes)
    return Accuracy(
        top1=100 * int(correct.sum()) / len(labels),
        loss=sum_in_float64(torch.stack(losses)) / len(labels),
        kl=sum_in_float64(torch.stack(divergences)) / len(labels),
        agreement=100 * int(torch.stack(agreed).sum()) / len(labels),
        per_class=tuple((100 * correct.cpu() / counts).tolist()),
        chance=100 * int(counts.max()) / len(labels),
        n=len(labels),
    )


def _logits(network: nn.Module, batch: Tensor, normalization: Normalization) -> Tensor:
    """float32, (N, classes), of uint8 images; from inputs of its own, which it may overwrite."""
    inputs = normalize(batch, normalization)
    logits: Tensor = network(inputs.contiguous(memory_format=torch.channels_last))
    return logits.float()


def _divergence(logits: Tensor, expected: Tensor) -> Tensor:
    """Sum over images of KL(expected || logits) in nats, float64; both (N, classes).

    In float64 throughout, since near networks differ by less than float32 leaves of their
    log-probabilities.
    """
    ours, theirs = (in_float64(one).log_softmax(1) for one in (logits, expected))
    probability = theirs.exp()
    # Where it is 0, even infinite logarithms count nothing.
    terms = (probability * (theirs - ours)).masked_fill(probability == 0, 0)
    # By rounding alone is a sum below zero.
    return terms.sum().clamp(min=0)
