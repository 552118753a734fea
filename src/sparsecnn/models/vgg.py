"""VGG-16 with batch normalisation (arXiv 1409.1556), with the reference study's head."""

from itertools import pairwise

from torch import Tensor, nn

from sparsecnn.errors import UserError
from sparsecnn.models.layers import scaled

STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"""Output channels and number of 3x3 convolutions of each stage; a 2x2 max-pool ends each."""


class VGG(nn.Module):
    """Convolutions with bias, global average pooling, a three-layer classifier.

    Maps images (N, 3, S, S), S at least 32, to logits (N, num_classes).
    """

    def __init__(self, num_classes: int, width: float, image_size: int) -> None:
        super().__init__()
        if image_size < 32:
            raise UserError(f"vgg16 halves images five times: side 32 or more, not {image_size}")
        channels = [3, *(scaled(c, width) for c, repeats in STAGES for _ in range(repeats))]
        stage_ends = {sum(repeats for _, repeats in STAGES[: i + 1]) for i in range(len(STAGES))}
        features: list[nn.Module] = []
        for depth, (inputs, outputs) in enumerate(pairwise(channels), start=1):
            features += [
                nn.Conv2d(inputs, outputs, 3, padding=1),
                nn.BatchNorm2d(outputs),
                nn.ReLU(inplace=True),
            ]
            if depth in stage_ends:
                features.append(nn.MaxPool2d(2))
        hidden = scaled(4096, width)
        self.features = nn.Sequential(*features)
        self.classifier = nn.Sequential(
            nn.Linear(channels[-1], hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
            nn.Linear(hidden, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
            nn.Linear(hidden, num_classes),
        )
        _initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, num_classes) of normalised images (N, 3, S, S)."""
        logits: Tensor = self.classifier(self.features(images).mean(dim=(2, 3)))
        return logits


def vgg16(num_classes: int, width: float = 1.0, image_size: int = 32) -> VGG:
    """Build VGG-16; see `VGG`."""
    return VGG(num_classes, width, image_size)


def _initialise(model: nn.Module) -> None:
    # As torchvision initialises its VGG features; the classifier keeps torch's default.
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
