"""Speed of training: our loop against the one that people write, and what starting costs.

Throughput: images per second of one epoch, after one epoch of warm-up, of `train` and of a plain
loop: torchvision transforms on PIL images, a DataLoader with a worker per core, float32, plain
SGD, loss and accuracy read at every step. Ours trains in each number format asked for. All sides
run in turn in this process, on the same random images; printed are medians and ratios, and the
share of this machine's rate of matrix products in that format that our loop turns into training.
Modes: images per second of our loop as it is and replayed from a CUDA graph, with --compile each
with the network compiled too, in batches of 128 and 512; beside it what getting ready takes.
Sharing: images per second of one training with all cores, and of trainings of fewer threads at
once. Start-up: seconds from the start of a process to the end of its first step.

    python benchmarks/training.py --threads 2
    python benchmarks/training.py --parts throughput --batch 512 --images 50000 --device cuda
    python benchmarks/training.py --parts modes --images 12800 --device cuda
    python benchmarks/training.py --parts modes --models resnet18 --compile --device cuda
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from torch.utils.flop_counter import FlopCounterMode
from torchvision import transforms

from sparsecnn.artifacts import Manifest
from sparsecnn.data.dataset import Dataset, Normalization, save_dataset
from sparsecnn.device import device_name, number_format_name, precision, use_device
from sparsecnn.models.network import Architecture, build
from sparsecnn.training.loop import train
from sparsecnn.training.recipe import Recipe

PARTS = ("throughput", "modes", "sharing", "startup")
MODELS = ("custom_cnn", "vgg16", "resnet18")
FORMATS = ("float32", "bfloat16")
HALF = Normalization((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
CLASSES = tuple("abcdefghij")


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    usual = [part for part in PARTS if part != "modes"]
    parser.add_argument(
        "--parts", nargs="+", choices=PARTS, default=usual, help="not modes, unless asked for"
    )
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--images", type=int, default=1280, help="images of an epoch")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--precision",
        nargs="+",
        choices=FORMATS,
        help="on a CPU both, else what auto is, by default",
    )
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda", "mps"])
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with use_device(arguments.device) as device:
        auto = number_format_name(precision("auto", device))
        threads = f"{arguments.threads} threads"
        print(f"torch {torch.__version__}, {device_name(device)}, {threads}, auto is {auto}")
        arguments.precision = arguments.precision or (FORMATS if device.type == "cpu" else [auto])
        if "throughput" in arguments.parts:
            compare_loops(arguments, device)
        if "modes" in arguments.parts:
            compare_modes(arguments, device)
    if "sharing" in arguments.parts:
        compare_sharing(arguments)
    if "startup" in arguments.parts:
        compare_startup(arguments.repeats, arguments.device)


def compare_loops(arguments: argparse.Namespace, device: torch.device) -> None:
    """Print a line for every network and number format: rates, their ratio, the utilisation."""
    formats = [precision(name, device) for name in arguments.precision]
    products = {number_format: product_rate(device, number_format) for number_format in formats}
    data = random_images(arguments.images)
    print(f"\nimages/s at width {arguments.width:g}, batches of {arguments.batch}, ", end="")
    print(f"{len(data.train_labels)} images; matrix products reach ", end="")
    print(
        ", ".join(f"{r / 1e12:.2f} TFLOP/s in {number_format_name(f)}" for f, r in products.items())
    )
    print(f"{'':>12} {'':>9} {'plain':>9} {'ours':>9} {'ratio':>6} {'utilisation':>12}")
    for model in arguments.models:
        network = partial(build, Architecture(model, arguments.width, len(CLASSES), 32))
        sides: list[Callable[[], float]] = [
            partial(plain_loop, network, data, arguments.batch, arguments.threads, device),
            *(partial(ours, network, data, arguments, device, f) for f in formats),
        ]
        rates: list[list[float]] = [[] for _ in sides]
        for _ in range(arguments.repeats):
            for side, kept in zip(sides, rates, strict=True):
                kept.append(side())
        plain, *mine = (statistics.median(kept) for kept in rates)
        for number_format, rate in zip(formats, mine, strict=True):
            share = rate * flops_per_image(network()) / products[number_format]
            name, ratio = number_format_name(number_format), rate / plain
            print(
                f"{model:>12} {name:>9} {plain:9.0f} {rate:9.0f} {ratio:6.2f} {share:11.0%}",
                flush=True,
            )


def compare_modes(arguments: argparse.Namespace, device: torch.device) -> None:
    """Print images/s of every network, batch and mode, and the seconds of its first epoch."""
    graphs = [False, True] if device.type == "cuda" else [False]
    modes = list(product([False, True] if arguments.compile else [False], graphs))
    data, number_format = random_images(arguments.images), precision("auto", device)
    print(f"\nimages/s of the third epoch (seconds of the first), {arguments.images} images")
    for model in arguments.models:
        architecture = Architecture(model, arguments.width, len(CLASSES), 32)
        for batch in (128, 512):
            measured = []
            for compiled, replayed in modes:
                history = train(
                    build(architecture),
                    *(data, HALF, Recipe(batch_size=batch), 3, 0, device),
                    precision=number_format,
                    compiled=compiled,
                    cuda_graphs=replayed,
                )
                name = ("graphs" if replayed else "eager") + (", compiled" if compiled else "")
                rate, first = history[-1].images_per_second, history[0].seconds
                measured.append(f"{name} {rate:.0f} ({first:.1f})")
            print(f"{model:>12} batch {batch}: {', '.join(measured)}", flush=True)


def compare_sharing(arguments: argparse.Namespace) -> None:
    """Print the total images/s of as many trainings at once as `threads` allows."""
    print("\nimages/s in total: trainings at once x threads of each")
    for model in arguments.models:
        rates = []
        for jobs in sorted({1, arguments.threads // 2, arguments.threads} - {0}):
            threads = arguments.threads // jobs
            work = (arguments, model, threads)
            with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
                total = sum(pool.map(one_of_many, [work] * jobs))
            rates.append(f"{jobs} x {threads}: {total:.0f}")
        print(f"{model:>12} {', '.join(rates)}", flush=True)


def compare_startup(repeats: int, device: str) -> None:
    """Print the seconds from the start of a process to the end of its first step."""
    print("\nseconds from process start to the end of the first step of custom_cnn x 0.25")
    data = random_images(50000)
    with TemporaryDirectory() as folder:
        stored, arrays = Path(folder) / "dataset.safetensors", Path(folder) / "dataset.npz"
        save_dataset(stored, data, HALF, Manifest("dataset", {}, ""))
        np.savez(arrays, images=data.train_images.permute(0, 2, 3, 1), labels=data.train_labels)
        sides = {"plain": (PLAIN_START, arrays), "ours": (OUR_START, stored)}
        seconds: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(repeats):
            for name, (code, path) in sides.items():
                begun = time.perf_counter()
                subprocess.run([sys.executable, "-c", code, str(path), device], check=True)
                seconds[name].append(time.perf_counter() - begun)
    for name, kept in seconds.items():
        print(f"{name:>12} {statistics.median(kept):.2f}")


OUR_START = """
import os, sys
from pathlib import Path
import torch
from sparsecnn.data.dataset import load_dataset
from sparsecnn.device import precision, use_device
from sparsecnn.models.network import Architecture, build
from sparsecnn.training.loop import train
from sparsecnn.training.recipe import Recipe
data, normalization, _ = load_dataset(Path(sys.argv[1]))
model = build(Architecture("custom_cnn", 0.25, 10, 32))
def stop():
    if sys.argv[2] == "cuda":
        torch.cuda.synchronize()
    os._exit(0)
with use_device(sys.argv[2]) as device:
    train(
        model, data, normalization, Recipe(), 1, 0, device,
        precision=precision("auto", device), stop=stop,
    )
"""
PLAIN_START = """
import os, sys
import numpy as np, torch, torchvision
from PIL import Image
from torchvision import transforms
from sparsecnn.models.network import Architecture, build
class Images(torch.utils.data.Dataset):
    def __init__(self, arrays, transform):
        self.images, self.labels, self.transform = arrays["images"], arrays["labels"], transform
    def __len__(self):
        return len(self.labels)
    def __getitem__(self, i):
        return self.transform(Image.fromarray(self.images[i])), int(self.labels[i])
transform = transforms.Compose([
    transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip(),
    transforms.ToTensor(), transforms.Normalize((0.5,) * 3, (0.25,) * 3),
])
data = Images(np.load(sys.argv[1]), transform)
loader = torch.utils.data.DataLoader(data, 128, shuffle=True, num_workers=os.cpu_count())
model = build(Architecture("custom_cnn", 0.25, 10, 32)).to(sys.argv[2])
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
for images, labels in loader:
    logits = model(images.to(sys.argv[2]))
    torch.nn.functional.cross_entropy(logits, labels.to(sys.argv[2])).backward()
    optimizer.step()
    break
if sys.argv[2] == "cuda":
    torch.cuda.synchronize()
"""


def ours(
    network: Callable[[], nn.Module],
    data: Dataset,
    arguments: argparse.Namespace,
    device: torch.device,
    number_format: torch.dtype,
) -> float:
    """Images per second of the second epoch of `train`."""
    torch.set_deterministic_debug_mode("error")
    history = train(
        network(),
        *(data, HALF, Recipe(batch_size=arguments.batch), 2, 0, device),
        precision=number_format,
        compiled=arguments.compile,
    )
    return history[-1].images_per_second


def plain_loop(
    network: Callable[[], nn.Module],
    data: Dataset,
    batch: int,
    workers: int,
    device: torch.device,
) -> float:
    """Images per second of the second epoch of the loop that people write."""
    torch.set_deterministic_debug_mode("default")
    model = network().to(device).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    loader = DataLoader(
        PlainImages(data),
        batch,
        shuffle=True,
        num_workers=workers,
        pin_memory=device.type == "cuda",
    )
    for _ in range(2):
        seen, begun = 0, 0.0
        loss_sum = correct = 0.0
        for images, labels in loader:
            images, labels = images.to(device), labels.to(device)
            optimizer.zero_grad()
            logits = model(images)
            loss = functional.cross_entropy(logits, labels)
            loss.backward()
            optimizer.step()
            loss_sum += loss.item() * len(labels)
            correct += (logits.argmax(1) == labels).sum().item()
            # From the end of the first step: starting the workers is not charged.
            seen += len(labels) if begun else 0
            begun = begun or time.perf_counter()
    return seen / (time.perf_counter() - begun)


class PlainImages(TorchDataset[tuple[Tensor, int]]):
    """As torchvision's CIFAR10: an array, a PIL image made of each item, transforms on that."""

    def __init__(self, data: Dataset) -> None:
        self._images = data.train_images.permute(0, 2, 3, 1).numpy()
        self._labels = data.train_labels.tolist()
        self._transform = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(HALF.mean, HALF.std),
            ]
        )

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self._transform(Image.fromarray(self._images[index])), self._labels[index]


def one_of_many(work: tuple[argparse.Namespace, str, int]) -> float:
    """Images per second of one training among others, in a process of its own."""
    arguments, model, threads = work
    torch.set_num_threads(threads)
    network = build(Architecture(model, arguments.width, len(CLASSES), 32))
    recipe, images = Recipe(batch_size=arguments.batch), random_images(arguments.images)
    with use_device(arguments.device) as device:
        number_format = precision("auto", device)
        history = train(network, images, HALF, recipe, 3, 0, device, precision=number_format)
    return history[1].images_per_second  # the last one may have run alone


def random_images(count: int) -> Dataset:
    """`count` random training images of ten classes."""
    labels = torch.arange(count) % len(CLASSES)
    images = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8)
    return Dataset(images, labels, images[:10].clone(), labels[:10].clone(), CLASSES)


def flops_per_image(model: nn.Module) -> float:
    """Floating point operations of one forward and backward pass, as torch counts them."""
    with FlopCounterMode(display=False) as counter:
        model(torch.randn(2, 3, 32, 32)).sum().backward()
    return float(counter.get_total_flops()) / 2


def product_rate(device: torch.device, number_format: torch.dtype) -> float:
    """Floating point operations per second of a plain matrix product: the best of ten."""
    size = 8192 if device.type == "cuda" else 2048
    matrix = torch.randn(size, size, device=device, dtype=number_format)
    seconds = []
    for _ in range(10):
        begun = time.perf_counter()
        matrix @ matrix
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - begun)
    return 2 * size**3 / min(seconds)


if __name__ == "__main__":
    main()
