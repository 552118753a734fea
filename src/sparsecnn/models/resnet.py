"""ResNet-18 (arXiv 1512.03385) with the stem for 32x32 images: 3x3, stride 1, no max-pool."""

from torch import Tensor, nn
from torch.nn import functional

from sparsecnn.models.layers import scaled

STAGES = ((64, 1), (128, 2), (256, 2), (512, 2))
"""Output channels of each stage and the stride of its first block; two blocks each."""


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, projected by a 1x1 convolution where shapes change."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        y = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class ResNet(nn.Module):
    """Stem, four stages of two basic blocks, global average pooling, one linear layer.

    Maps images (N, 3, S, S) to logits (N, num_classes).
    """

    def __init__(self, num_classes: int, width: float) -> None:
        super().__init__()
        channels = scaled(STAGES[0][0], width)
        self.conv1 = nn.Conv2d(3, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        blocks: list[nn.Module] = []
        for base, stride in STAGES:
            outputs = scaled(base, width)
            blocks += [BasicBlock(channels, outputs, stride), BasicBlock(outputs, outputs, 1)]
            channels = outputs
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, num_classes) of normalised images (N, 3, S, S)."""
        x = functional.relu(self.bn1(self.conv1(images)))
        logits: Tensor = self.fc(self.blocks(x).mean(dim=(2, 3)))
        return logits


def resnet18(num_classes: int, width: float = 1.0, image_size: int = 32) -> ResNet:
    """Build ResNet-18; see `ResNet`. Any `image_size` will do."""
    return ResNet(num_classes, width)
