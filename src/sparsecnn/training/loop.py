"""Train a network: images stay on the device, and the device is never waited for in an epoch."""

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from sparsecnn.data.augmentation import AugmentedImages
from sparsecnn.data.dataset import Dataset, Normalization
from sparsecnn.device import memory_explained
from sparsecnn.errors import UserError
from sparsecnn.seeding import derive_seed
from sparsecnn.training.checkpoint import Checkpoint, Checkpoints
from sparsecnn.training.recipe import Recipe
from sparsecnn.training.replay import Replayed
from sparsecnn.training.sgd import SGD
from sparsecnn.training.watch import FirstBadStep

logger = logging.getLogger(__name__)

_REPORT_SECONDS = 30.0

_TakeStep = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class EpochRecord:
    """One row of `history.csv`."""

    epoch: int
    """Counted from 1."""
    learning_rate: float
    """Of the epoch's first step."""
    loss: float
    """Mean of the loss that was minimised, over the epoch's augmented images, in nats."""
    train_top1: float
    """Accuracy on the same images as they were trained on, in percent."""
    seconds: float
    images_per_second: float


@dataclass
class _Run:
    """A training under way: what it does, and all that changes, which a checkpoint holds."""

    model: nn.Module
    network: Callable[[Tensor], Tensor]
    """The model, compiled if so asked."""
    optimizer: SGD
    feed: "_Feed"
    recipe: Recipe
    epochs: int
    precision: torch.dtype
    totals: Tensor
    """Sum of losses and number of correct images in this epoch so far; float32, shape (2,)."""
    epoch: int = 0
    """Whole epochs done."""
    step: int = 0
    """Steps of the next epoch done."""
    seconds: float = 0.0
    """Time that these steps took before an interruption."""
    history: list[EpochRecord] = field(default_factory=list)

    @property
    def learning_rate(self) -> float:
        """Of the next step."""
        steps = len(self.feed)
        return self.recipe.learning_rate_at(self.epoch * steps + self.step, steps, self.epochs)


def train(
    model: nn.Module,
    dataset: Dataset,
    normalization: Normalization,
    recipe: Recipe,
    epochs: int,
    seed: int,
    device: torch.device,
    *,
    precision: torch.dtype = torch.float32,
    compiled: bool = False,
    cuda_graphs: bool = False,
    checkpoints: Checkpoints | None = None,
    stop: Callable[[], str | None] = lambda: None,
) -> list[EpochRecord]:
    """Train `model` in place on the train split; it ends on `device`, in eval mode.

    The weights of the last epoch are the result: nothing is selected. The data's order and
    augmentation depend on (seed, epoch) alone, so a longer budget's first epochs see the same
    images as a shorter one's.

    Parameters
    ----------
    precision
        Number format of forward and backward pass (autocast); weights are float32 always.
    compiled
        Whether `torch.compile` builds the network.
    cuda_graphs
        Whether a GPU's steps are replayed from a CUDA graph, to the same bits; elsewhere they are
        not.
    checkpoints
        Where each epoch is saved, and what is resumed from; the end is bit for bit that of an
        uninterrupted training.
    stop
        Asked after every step; when it gives a reason, the moment is saved and training ends.

    Raises
    ------
    UserError
        The loss or the weights are no longer finite; the device has too little memory; a
        checkpoint cannot be written; or `stop` gave a reason.
    """
    fewer = f"lower batch_size in the recipe (now {recipe.batch_size}), or run fewer jobs at once"
    with memory_explained(f"{fewer} (--resources gpu=1)"), _own_random_state(device):
        model.to(device).to(memory_format=torch.channels_last)
        run = _Run(
            model,
            torch.compile(model) if compiled else model,
            SGD(model, recipe),
            _Feed(dataset, normalization, recipe, seed, device),
            recipe,
            epochs,
            precision,
            totals=torch.zeros(2, device=device),
        )
        saved = checkpoints.latest() if checkpoints else None
        if saved:
            _restore(run, saved)
            logger.info("going on after %s", saved.position)
        take_step: _TakeStep = partial(_take_step, run)
        if cuda_graphs and device.type == "cuda":
            take_step = Replayed(take_step)
        clock = _Clock(run)
        while run.epoch < epochs:
            if run.step == 0:
                torch.manual_seed(derive_seed(seed, "dropout", run.epoch))
            _train_epoch(run, take_step, clock, checkpoints, stop)
            if checkpoints:
                checkpoints.save(_checkpoint(run))
    model.eval()
    return run.history


def _train_epoch(
    run: _Run,
    take_step: _TakeStep,
    clock: "_Clock",
    checkpoints: Checkpoints | None,
    stop: Callable[[], str | None],
) -> None:
    """The steps of an epoch that are still to be done, and its row in the history."""
    run.model.train()
    first_rate = run.recipe.learning_rate_at(run.epoch * len(run.feed), len(run.feed), run.epochs)
    bad = FirstBadStep(run.totals.device)
    for images in run.feed.draws(run.epoch, run.step):
        run.optimizer.set_learning_rate(run.learning_rate)
        loss = take_step(*images)
        run.step += 1
        bad.add(loss, run.step)
        _refuse_divergence(run, bad.poll())
        clock.report()
        reason = stop()
        if reason:
            _stop(reason, run, clock, checkpoints)
    _refuse_divergence(run, bad.wait())
    if not torch.stack([t.isfinite().all() for t in run.model.state_dict().values()]).all():
        _refuse_divergence(run, run.step)
    loss_sum, hits = run.totals.tolist()
    seconds, n = clock.lap(), run.feed.images_per_epoch
    run.epoch, run.step, run.seconds = run.epoch + 1, 0, 0.0
    run.totals.zero_()
    run.history.append(
        EpochRecord(run.epoch, first_rate, loss_sum / n, 100 * hits / n, seconds, n / seconds)
    )
    clock.report_epoch()


def _take_step(run: _Run, indices: Tensor, drawn: Tensor) -> Tensor:
    """One step of SGD on images as `_Feed.draws` gives them; returns their mean loss, a scalar.

    All of it on the device, and nothing of it waits: so that it can be replayed.
    """
    inputs, targets = run.feed.batch(indices, drawn)
    with torch.autocast(inputs.device.type, run.precision, run.precision != torch.float32):
        logits = run.network(inputs)
    logits = logits.float()
    loss = functional.cross_entropy(logits, targets, label_smoothing=run.recipe.label_smoothing)
    loss.backward()
    run.optimizer.step()
    # Summed on the device and read once an epoch: reading would wait for each step.
    loss = loss.detach()
    correct = (logits.detach().argmax(1) == targets).sum()
    run.totals += torch.stack([loss * len(targets), correct])
    return loss


class _Feed:
    """The batches of every epoch, the same whenever and however often they are asked for."""

    def __init__(
        self,
        dataset: Dataset,
        normalization: Normalization,
        recipe: Recipe,
        seed: int,
        device: torch.device,
    ) -> None:
        self._images = AugmentedImages(
            dataset.train_images,
            normalization,
            device,
            crop_padding=recipe.crop_padding,
            horizontal_flip=recipe.horizontal_flip,
            cutout=recipe.cutout,
        )
        self._labels = dataset.train_labels.to(device)
        self._seed, self._size = seed, recipe.batch_size
        # Batch norm cannot take the variance of a single value, so one image left over is left out.
        count = len(self._labels)
        self.images_per_epoch = count - (count % self._size == 1)

    def __len__(self) -> int:
        return math.ceil(self.images_per_epoch / self._size)

    def draws(self, epoch: int, first: int) -> Iterator[tuple[Tensor, Tensor]]:
        """What `batch` takes for each step of an epoch from step `first` on, on the device.

        Indices of images, int64, shape (N,), and how each is altered, int64, shape (N, 5).
        """
        count = len(self._labels)
        order = torch.randperm(count, generator=self._generator("order", epoch))
        order = order.to(self._labels.device)
        drawn = self._images.draw(count, self._generator("augmentation", epoch))
        for step in range(first, len(self)):
            at = slice(step * self._size, (step + 1) * self._size)
            yield order[at], drawn[at]

    def batch(self, indices: Tensor, drawn: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs, float32, (N, C, H, W), and labels, int64, (N,), of one step."""
        return self._images.batch(indices, drawn), self._labels[indices]

    def _generator(self, purpose: str, epoch: int) -> torch.Generator:
        return torch.Generator().manual_seed(derive_seed(self._seed, purpose, epoch))


class _Clock:
    """Times an epoch, over interruptions too, and tells the log how far the training is."""

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._before = self._done()
        self._started = self._begun = self._reported = time.monotonic()

    def seconds(self) -> float:
        """Time spent on this epoch."""
        return self._run.seconds + time.monotonic() - self._begun

    def lap(self) -> float:
        """Time spent on this epoch, which is over."""
        seconds = self.seconds()
        self._begun = self._reported = time.monotonic()
        return seconds

    def report(self) -> None:
        """A line within a long epoch, now and then."""
        now = time.monotonic()
        if now - self._reported > _REPORT_SECONDS:
            self._reported = now
            run = self._run
            logger.info(
                "epoch %d/%d: step %d of %d, %s left",
                *(run.epoch + 1, run.epochs, run.step, len(run.feed), self._left()),
            )

    def report_epoch(self) -> None:
        """The line of an epoch that is over."""
        last = self._run.history[-1]
        logger.info(
            "epoch %d/%d: loss %.4f, train accuracy %.1f %%, %.0f images/s, %s left",
            *(last.epoch, self._run.epochs, last.loss, last.train_top1, last.images_per_second),
            self._left(),
        )

    def _done(self) -> int:
        """Steps done since the training began."""
        return self._run.epoch * len(self._run.feed) + self._run.step

    def _left(self) -> timedelta:
        done, total = self._done(), self._run.epochs * len(self._run.feed)
        each = (time.monotonic() - self._started) / max(1, done - self._before)
        return timedelta(seconds=round(each * (total - done)))


def _checkpoint(run: _Run) -> Checkpoint:
    value = {"seconds": run.seconds, "history": [asdict(record) for record in run.history]}
    tensors = {
        **{f"model.{name}": tensor for name, tensor in run.model.state_dict().items()},
        **{f"momentum.{i}": tensor for i, tensor in enumerate(run.optimizer.momenta)},
        "totals": run.totals,
        "random_state": _random_state(run.totals.device),
    }
    return Checkpoint(run.epoch, run.step, value, tensors)


def _restore(run: _Run, saved: Checkpoint) -> None:
    tensors = saved.tensors
    run.model.load_state_dict(
        {n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")}
    )
    for i, momentum in enumerate(run.optimizer.momenta):
        momentum.copy_(tensors[f"momentum.{i}"])
    run.totals.copy_(tensors["totals"])
    _set_random_state(run.totals.device, tensors["random_state"])
    run.epoch, run.step, run.seconds = saved.epoch, saved.step, saved.value["seconds"]
    run.history[:] = [EpochRecord(**record) for record in saved.value["history"]]


def _random_state(device: torch.device) -> Tensor:
    """State of the generator that dropout draws from."""
    if device.type == "cuda":
        return torch.cuda.get_rng_state(device)
    return torch.mps.get_rng_state() if device.type == "mps" else torch.get_rng_state()


def _set_random_state(device: torch.device, state: Tensor) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    elif device.type == "mps":
        torch.mps.set_rng_state(state)
    else:
        torch.set_rng_state(state)


def _stop(reason: str, run: _Run, clock: _Clock, checkpoints: Checkpoints | None) -> None:
    if not checkpoints:
        raise UserError(f"stopped by {reason}")
    run.seconds = clock.seconds()
    moment = _checkpoint(run)
    checkpoints.save(moment)
    checkpoints.flush()
    raise UserError(
        f"stopped by {reason} after {moment.position}; all saved, the same command goes on there"
    )


def _refuse_divergence(run: _Run, step: int | None) -> None:
    if step is not None:
        raise UserError(
            f"training diverged in epoch {run.epoch + 1}/{run.epochs}, step {step}: the loss or "
            f"the weights are not finite; lower learning_rate (now {run.recipe.learning_rate}) "
            "in the recipe"
        )


@contextmanager
def _own_random_state(device: torch.device) -> Iterator[None]:
    """Leave the global generators, which dropout draws from, as they were."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield
