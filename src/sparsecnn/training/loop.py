"""Train a network: images stay on the device, augmentation is vectorised there."""

import logging
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, nn
from torch.nn import functional

from sparsecnn.data.augmentation import augment, normalize
from sparsecnn.data.dataset import Dataset, Normalization
from sparsecnn.errors import UserError
from sparsecnn.seeding import derive_seed
from sparsecnn.training.recipe import Recipe

logger = logging.getLogger(__name__)

_REPORT_SECONDS = 30.0


@dataclass(frozen=True)
class EpochRecord:
    """One row of `history.csv`."""

    epoch: int
    """Counted from 1."""
    learning_rate: float
    loss: float
    """Mean cross-entropy over the epoch's augmented images, in nats."""
    train_top1: float
    """Accuracy on the same images as they were trained on, in percent."""
    seconds: float
    images_per_second: float


def train(
    model: nn.Module,
    dataset: Dataset,
    normalization: Normalization,
    recipe: Recipe,
    epochs: int,
    seed: int,
    device: torch.device,
) -> list[EpochRecord]:
    """Train `model` in place on the train split; it ends on `device`, in eval mode.

    The weights of the last epoch are the result: nothing is selected. The data's order and
    augmentation depend on (seed, epoch) alone, so a longer budget's first epochs see the same
    images as a shorter one's. Raises `UserError` when the loss is no longer finite.
    """
    model.to(device).to(memory_format=torch.channels_last)
    images, labels = dataset.train_images.to(device), dataset.train_labels.to(device)
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        foreach=True,
    )
    history = []
    started = time.monotonic()
    for epoch in range(epochs):
        rate = recipe.learning_rate_at(epoch, epochs)
        for group in optimizer.param_groups:
            group["lr"] = rate
        label = f"epoch {epoch + 1}/{epochs}"
        begun = time.monotonic()
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(derive_seed(seed, "dropout", epoch))
            batches = _batches(images, labels, normalization, recipe, seed, epoch)
            loss, top1 = _train_epoch(model, optimizer, batches, len(labels), label)
        seconds = time.monotonic() - begun
        if not math.isfinite(loss):
            raise UserError(
                f"training diverged in {label} (loss {loss}): lower training.learning_rate "
                f"(now {recipe.learning_rate})"
            )
        speed = len(labels) / seconds
        history.append(EpochRecord(epoch + 1, rate, loss, top1, seconds, speed))
        left = (time.monotonic() - started) / (epoch + 1) * (epochs - epoch - 1)
        logger.info(
            "%s: loss %.4f, train accuracy %.1f %%, %.0f images/s, %s left",
            *(label, loss, top1, speed, timedelta(seconds=round(left))),
        )
    model.eval()
    return history


def _batches(
    images: Tensor,
    labels: Tensor,
    normalization: Normalization,
    recipe: Recipe,
    seed: int,
    epoch: int,
) -> Iterator[tuple[Tensor, Tensor]]:
    order = torch.randperm(len(labels), generator=_generator(seed, "order", epoch))
    augmentation = _generator(seed, "augmentation", epoch)
    for indices in order.to(images.device).split(recipe.batch_size):
        if len(indices) == 1:  # batch norm cannot take the variance of a single value
            continue
        batch = augment(images[indices], augmentation, recipe.crop_padding, recipe.horizontal_flip)
        inputs = normalize(batch, normalization).contiguous(memory_format=torch.channels_last)
        yield inputs, labels[indices]


def _train_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterator[tuple[Tensor, Tensor]],
    total: int,
    label: str,
) -> tuple[float, float]:
    """One pass over the data; returns its mean loss and its accuracy in percent."""
    model.train()
    # Summed on the device and read once, at the end: reading would wait for each step.
    device = next(model.parameters()).device
    loss_sum, correct = torch.zeros((), device=device), torch.zeros((), device=device)
    seen = 0
    begun = reported = time.monotonic()
    for inputs, targets in batches:
        logits = model(inputs)
        loss = functional.cross_entropy(logits, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss_sum += loss.detach() * len(targets)
        correct += (logits.detach().argmax(1) == targets).sum()
        seen += len(targets)
        now = time.monotonic()
        if now - reported > _REPORT_SECONDS:
            reported = now
            logger.info("%s: %d of %d images, %.0f/s", label, seen, total, seen / (now - begun))
    return float(loss_sum) / seen, 100 * float(correct) / seen


def _generator(seed: int, purpose: str, epoch: int) -> torch.Generator:
    return torch.Generator().manual_seed(derive_seed(seed, purpose, epoch))
