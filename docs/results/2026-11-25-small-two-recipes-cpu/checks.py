"""Numbers of the README checked by code that shares only the networks' definitions with the study.

    PYTHONPATH=src python docs/results/2026-11-25-small-two-recipes-cpu/checks.py results/small

after the commands of the README. Prints: accuracies of four pruned networks beside metrics.csv, and
their groups of four with more than two non-zero weights; the variance behind first convolutions
for images with training's random crops and without; VGG-16 pruned with four times the images.
"""

import csv
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

from sparsecnn import prune
from sparsecnn.models.network import Architecture, build

Tensors = dict[str, torch.Tensor]

CELLS = (
    ("resnet18", 1, "sparsegpt"),
    ("vgg16", 2, "sparsegpt"),
    ("custom_cnn", 0, "static_obs"),
    ("resnet18", 2, "sparsegpt_bn"),
)
MEAN = torch.tensor([0.4914, 0.4822, 0.4465]).view(1, 3, 1, 1)
STD = torch.tensor([0.2023, 0.1994, 0.2010]).view(1, 3, 1, 1)


def normalized(images: torch.Tensor) -> torch.Tensor:
    return (images.float() / 255 - MEAN) / STD


def cropped(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Each image shifted by up to four pixels, black coming in, and mirrored half the time."""
    padded, out = functional.pad(images, (4, 4, 4, 4)), torch.empty_like(images)
    for i in range(len(images)):
        top, left = torch.randint(0, 9, (2,), generator=generator).tolist()
        out[i] = padded[i, :, top : top + 32, left : left + 32]
        if torch.rand(1, generator=generator) < 0.5:
            out[i] = out[i].flip(-1)
    return out


def network(model: str, weights: Path) -> nn.Module:
    built = build(Architecture(model, 0.25, 10, 32))
    built.load_state_dict(load_file(weights))
    return built.eval()


@torch.inference_mode()
def accuracy(model: nn.Module, data: Tensors) -> float:
    right = 0
    for images, labels in zip(
        data["test_images"].split(500), data["test_labels"].split(500), strict=True
    ):
        right += int((model(normalized(images)).argmax(1) == labels).sum())
    return 100 * right / len(data["test_labels"])


def crowded_groups(model: nn.Module) -> int:
    found = 0
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer.weight.shape[1] % 4 == 0:
            groups = layer.weight.detach().movedim(1, -1).reshape(-1, 4)
            found += int(((groups != 0).sum(1) > 2).sum())
    return found


def check_accuracies(study: Path, data: Tensors) -> None:
    table = Path(__file__).with_name("metrics.csv")
    with table.open() as file:
        known = {
            (r["model"], r["epochs"], r["seed"], r["variant"]): r["top1"]
            for r in csv.DictReader(file)
            if r["recipe"] == "reference"
        }
    for model, seed, variant in CELLS:
        folder = study / model / "reference/epochs-12" / f"seed-{seed}" / variant
        pruned = network(model, folder / "pruned.safetensors")
        theirs = float(known[model, "12", str(seed), variant])
        print(
            f"{model}, 12 epochs, seed {seed}, {variant}: {accuracy(pruned, data):.2f} %, "
            f"metrics.csv {theirs:.2f} %, groups with more than two: {crowded_groups(pruned)}"
        )


def check_borders(study: Path, data: Tensors) -> None:
    generator = torch.Generator().manual_seed(0)
    chosen = torch.randperm(len(data["train_images"]), generator=generator)[:1024]
    plain = data["train_images"][chosen]
    altered = cropped(plain, generator)
    for model in ("custom_cnn", "vgg16", "resnet18"):
        for epochs in (2, 12):
            folder = study / model / "reference" / f"epochs-{epochs}" / "seed-0"
            dense = network(model, folder / "dense.safetensors")
            first = next(layer for layer in dense.modules() if isinstance(layer, nn.Conv2d))
            norm = next(layer for layer in dense.modules() if isinstance(layer, nn.BatchNorm2d))
            with torch.inference_mode():
                variances = [
                    first(normalized(images)).var((0, 2, 3)) for images in (altered, plain)
                ]
            with_crops, without = (float((norm.running_var / v).median()) for v in variances)
            print(
                f"{model}, {epochs} epochs, seed 0: variance that training left, over that of "
                f"cropped images {with_crops:.2f}, of images as they are {without:.2f} (medians)"
            )


def check_more_images(study: Path, data: Tensors) -> None:
    drawn = load_file(study / "calibration/seed-0.safetensors")["indices"]
    generator = torch.Generator().manual_seed(11)
    others = torch.randperm(len(data["train_images"]), generator=generator)
    for count in (1024, 4096):
        chosen = torch.cat([drawn, others[: count - len(drawn)]])
        pruned = network("vgg16", study / "vgg16/reference/epochs-12/seed-0/dense.safetensors")
        batches = data["train_images"][chosen].split(256)
        prune(pruned, [normalized(images) for images in batches])
        print(f"vgg16, 12 epochs, seed 0, {count} images: {accuracy(pruned, data):.2f} %")


if __name__ == "__main__":
    torch.set_num_threads(1)
    results = Path(sys.argv[1])
    dataset = load_file(results / "data/dataset.safetensors")
    check_accuracies(results, dataset)
    check_borders(results, dataset)
    check_more_images(results, dataset)
