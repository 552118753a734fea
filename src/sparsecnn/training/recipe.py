"""The settings of a training run, apart from its length and seed."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """SGD with momentum, cosine decay stepped per epoch, random crop and flip."""

    batch_size: int
    learning_rate: float
    momentum: float
    weight_decay: float
    crop_padding: int
    """Pixels of zero padding around each image before a random crop of the original size."""
    horizontal_flip: bool

    def learning_rate_at(self, epoch: int, epochs: int) -> float:
        """Learning rate of epoch `epoch` (from 0) of `epochs`: a cosine that ends near zero."""
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * epoch / epochs))
