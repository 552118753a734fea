"""How a network is trained, apart from length and seed: optimiser, schedule, loss, images."""

import math
from dataclasses import dataclass

SCHEDULES = ("cosine_per_epoch", "triangular")


@dataclass(frozen=True)
class Recipe:
    """Minibatch SGD on the cross-entropy of randomly cropped and mirrored images.

    The defaults are the reference study's recipe; `config.yaml` names this one and others.
    """

    batch_size: int = 128
    learning_rate: float = 0.01
    """The highest learning rate of the schedule."""
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0005
    decay_norm_and_bias: bool = True
    """Whether `weight_decay` also acts on biases and on the factors of batch norm."""
    schedule: str = "cosine_per_epoch"
    """`cosine_per_epoch`: a cosine to zero, stepped once an epoch. `triangular`: linear from zero
    to `learning_rate` over the share `warmup` of all steps, then linear to zero."""
    warmup: float = 0.0
    label_smoothing: float = 0.0
    crop_padding: int = 4
    """Pixels of zero padding around each image before a random crop of the original size."""
    horizontal_flip: bool = True
    cutout: int = 0
    """Side of a square set to the mean colour at a random place of each image, in pixels."""

    def learning_rate_at(self, step: int, steps_per_epoch: int, epochs: int) -> float:
        """Learning rate of step `step` (from 0) of a training of `epochs` epochs."""
        if self.schedule == "cosine_per_epoch":
            epoch = step // steps_per_epoch
            return self.learning_rate * 0.5 * (1 + math.cos(math.pi * epoch / epochs))
        # Between the two zeros, neither of which would move a weight.
        last = steps_per_epoch * epochs + 1
        peak = max(1.0, self.warmup * last)
        at = step + 1
        return self.learning_rate * min(at / peak, (last - at) / (last - peak))
