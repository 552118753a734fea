"""The reference study's Custom CNN: four convolutions, two linear layers."""

from torch import Tensor, nn

from sparsecnn.errors import UserError
from sparsecnn.models.layers import scaled


class CustomCNN(nn.Module):
    """Two blocks of two 3x3 convolutions (with bias) and a two-layer classifier.

    Maps images (N, 3, S, S), S divisible by 4, to logits (N, num_classes).
    """

    def __init__(self, num_classes: int, width: float, image_size: int) -> None:
        super().__init__()
        if image_size % 4:
            raise UserError(f"custom_cnn needs an image side divisible by 4, not {image_size}")
        first, second, hidden = scaled(64, width), scaled(128, width), scaled(256, width)
        self.features = nn.Sequential(
            *_block(3, first, dropout=0.3),
            *_block(first, second, dropout=0.4),
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(second * (image_size // 4) ** 2, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
            nn.Linear(hidden, num_classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, num_classes) of normalised images (N, 3, S, S)."""
        logits: Tensor = self.classifier(self.features(images))
        return logits


def custom_cnn(num_classes: int, width: float = 1.0, image_size: int = 32) -> CustomCNN:
    """Build the Custom CNN; see `CustomCNN`."""
    return CustomCNN(num_classes, width, image_size)


def _block(inputs: int, outputs: int, dropout: float) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, 3, padding=1),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, 3, padding=1),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Dropout(dropout),
    ]
