"""Speed of pruning: the SparseGPT solver, the Hessian, and a whole model.

Solver: against the published algorithm as a loop over columns with one rank-1 update each, on
every layer shape of VGG-16 and ResNet-18, with the same Hessians in the same dtype. Both sides
run in turn in this process; printed are medians, ratios, and the distance to the floor: the
operations of one Cholesky factorisation and of the updates of all later columns, at the rate
that a plain matrix product reaches here. Beside it, timed apart, the refit of the kept weights and
the mask by ADMM (without SparseGPT's to compare it with), and their ratios to the solver. Hessian:
against that plain matrix product. Whole model: `prune` by SparseGPT and by ADMM, of all positions
of each image and of some; against the time of two forward passes, which it cannot do without.

    python benchmarks/pruning.py --models resnet18 --threads 2 --repeats 5
    python benchmarks/pruning.py --parts model --images 1024
"""

import argparse
import copy
import statistics
import time
from collections import Counter
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from sparsecnn import prune
from sparsecnn.device import device_name, full_precision, use_device
from sparsecnn.models.resnet import resnet18
from sparsecnn.models.vgg import vgg16
from sparsecnn.pruning.batchnorm import recalibrate_batchnorm
from sparsecnn.pruning.calibration.calls import Call, Convolution
from sparsecnn.pruning.calibration.moments import LayerMoments
from sparsecnn.pruning.factor import Curvature
from sparsecnn.pruning.leastsquares import refit
from sparsecnn.pruning.methods.admm import ADMM
from sparsecnn.pruning.methods.sparsegpt import SparseGPT
from sparsecnn.pruning.patterns import NM
from sparsecnn.pruning.problem import Problem

MODELS = {"resnet18": resnet18, "vgg16": vgg16}
DAMPING = 0.01
PARTS = ("solver", "hessian", "model")
BATCH, GPU_BATCH = 128, 1024
POSITIONS = 64
"""Of each image, where not all are taken: as in config.yaml."""


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--images", type=int, default=1024, help="calibration images of a model")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda", "mps"])
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    with use_device(arguments.device) as device, full_precision():
        rate = product_rate(device, arguments.repeats)
        print(
            f"torch {torch.__version__}, {device_name(device)}, {arguments.threads} threads, "
            f"{rate / 1e9:.0f} GFLOP/s"
        )
        if "solver" in arguments.parts:
            for model in arguments.models:
                compare_solvers(model, arguments.width, device, arguments.repeats, rate)
        if "hessian" in arguments.parts:
            compare_hessians(arguments.width, device, arguments.repeats)
        if "model" in arguments.parts:
            for model in arguments.models:
                time_model(model, arguments.width, device, arguments.images)


def compare_solvers(
    name: str, width: float, device: torch.device, repeats: int, rate: float
) -> None:
    """Print a line for every layer shape of a model, and one for the whole model."""
    print(f"\n{name} x {width:g}: seconds per layer, SparseGPT 2:4, float32")
    print(
        f"{'rows x columns':>16} {'layers':>6} {'loop':>8} {'ours':>8} {'ratio':>6} {'floor':>8} "
        f"{'refit':>8} {'/ ours':>6} {'admm':>8} {'/ ours':>6}"
    )
    totals = [0.0, 0.0, 0.0, 0.0, 0.0]
    for (rows, columns), count in sorted(shapes(name, width).items()):
        weight, hessian = example(rows, columns, device)
        problem = problem_of(weight, hessian)
        sides: list[Callable[[], object]] = [
            partial(textbook, weight, hessian),
            partial(ours, weight, hessian),
            partial(refit, problem, SparseGPT().solve(problem)),
            partial(ADMM().settled, problem),
        ]
        loop, mine, refitting, masking = interleaved(sides, device, repeats)
        floor = (columns**3 / 3 + rows * columns**2) / rate
        row = [loop, mine, floor, refitting, masking]
        totals = [total + count * seconds for total, seconds in zip(totals, row, strict=True)]
        print(line(f"{rows} x {columns}", count, row), flush=True)
    print(line("whole model", sum(shapes(name, width).values()), totals))


def compare_hessians(width: float, device: torch.device, repeats: int) -> None:
    """Print the throughput of Hessian accumulation against a plain product of that size."""
    print("\nHessian accumulation, 3x3 convolutions: seconds, and plain product / ours")
    for channels, side in ((64, 32), (128, 16), (256, 8), (512, 4)):
        channels = max(8, round(channels * width))
        layer = nn.Conv2d(channels, 8, 3, padding=1).to(device)
        images = torch.randn(64, channels, side, side, device=device)
        matrix = torch.randn(64 * side * side, 9 * channels, device=device)
        call = Call(images, layer.bias, Convolution((3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1))
        moments = LayerMoments("conv", layer.weight)
        product, mine = interleaved(
            [partial(torch.mm, matrix.T, matrix), partial(moments.add, call)], device, repeats
        )
        print(f"{channels:>5} channels {side:>3} px {mine:8.3f} s {product / mine:6.2f}")


def time_model(name: str, width: float, device: torch.device, images: int) -> None:
    """Print the seconds of calls of `prune`, of their solvers, and of two forward passes."""
    coarse = torch.randn(images, 3, 8, 8, device=device)
    smooth = functional.interpolate(coarse, scale_factor=4, mode="bilinear")
    batches = smooth.split(GPU_BATCH if device.type == "cuda" else BATCH)
    model = MODELS[name](num_classes=10, width=width).to(device).eval()
    recalibrate_batchnorm(model, batches)
    with torch.no_grad():
        (forward,) = interleaved([lambda: [model(batch) for batch in batches]], device, 1)
    print(f"\nprune({name} x {width:g}), {images} images; two forward passes {2 * forward:.1f} s")
    if device.type == "cuda":  # libraries load, kernels are compiled
        prune(copy.deepcopy(model), batches)
    for method in ("sparsegpt", "admm"):
        for positions in (None, POSITIONS):
            chosen = {"method": method, "positions_per_image": positions}
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
            result = prune(copy.deepcopy(model), batches, **chosen)
            solving = sum(layer.seconds for layer in result.layers)
            memory = ""
            if device.type == "cuda":
                memory = f"; at most {torch.cuda.max_memory_allocated(device) / 1e9:.1f} GB"
            print(
                f"{method:>10}, {positions or 'all'} positions: {result.seconds:.1f} s, of which "
                f"inputs and Hessians {result.seconds - solving:.1f}, solving {solving:.1f}"
                f"{memory}",
                flush=True,
            )


def shapes(name: str, width: float) -> Counter[tuple[int, int]]:
    """(rows, columns) of every prunable layer, with how many layers have it."""
    model = MODELS[name](num_classes=10, width=width)
    weights = [m.weight for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    return Counter((len(w), w[0].numel()) for w in weights if w.shape[1] % 4 == 0)


def example(rows: int, columns: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """A weight, and the Hessian of non-negative inputs with a spectrum that falls as in CNNs."""
    strengths = torch.arange(1, columns + 1, device=device) ** -0.7
    sources = torch.randn(2 * columns, columns, device=device) * strengths
    inputs = (sources @ torch.randn(columns, columns, device=device)).relu()
    weight = torch.randn(rows, columns, device=device) / columns**0.5
    return weight, inputs.T @ inputs / columns


def problem_of(weight: Tensor, hessian: Tensor) -> Problem:
    """The question that both the solver and the refit answer; nothing is factored yet."""
    curvature = Curvature(hessian.unsqueeze(0), DAMPING)
    return Problem(weight.unsqueeze(0), curvature, NM(2, 4), weight.shape[1])


def ours(weight: Tensor, hessian: Tensor) -> Tensor:
    """The solver of this project."""
    return SparseGPT().solve(problem_of(weight, hessian)).weight[0]


def textbook(weight: Tensor, hessian: Tensor, block: int = 128) -> Tensor:
    """The published algorithm: three factorisations, a loop over columns inside blocks."""
    weight, hessian = weight.clone(), hessian.clone()
    columns = weight.shape[1]
    hessian.diagonal().add_(DAMPING * hessian.diagonal().mean())
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(hessian))
    upper = torch.linalg.cholesky(inverse, upper=True)
    for start in range(0, columns, block):
        stop = min(start + block, columns)
        part, local = weight[:, start:stop].clone(), upper[start:stop, start:stop]
        pruned, errors = torch.zeros_like(part), torch.zeros_like(part)
        removed = torch.zeros_like(part, dtype=torch.bool)
        for j in range(stop - start):
            if j % 4 == 0:
                scores = part[:, j : j + 4] ** 2 / local.diagonal()[j : j + 4] ** 2
                lowest = torch.topk(scores, 2, dim=1, largest=False).indices
                removed.scatter_(1, j + lowest, True)
            column = part[:, j]
            final = column.masked_fill(removed[:, j], 0)
            error = (column - final) / local[j, j]
            part[:, j:] -= error.unsqueeze(1).matmul(local[j, j:].unsqueeze(0))
            pruned[:, j], errors[:, j] = final, error
        weight[:, start:stop] = pruned
        weight[:, stop:] -= errors @ upper[start:stop, stop:]
    return weight


def product_rate(device: torch.device, repeats: int) -> float:
    """Floating point operations per second of a plain float32 matrix product."""
    matrix = torch.randn(2048, 2048, device=device)
    (seconds,) = interleaved([partial(torch.mm, matrix, matrix)], device, repeats)
    return 2 * 2048**3 / seconds


def interleaved(
    sides: list[Callable[[], object]], device: torch.device, repeats: int
) -> list[float]:
    """Median seconds of each side, run in turn after one warm-up each."""
    times: list[list[float]] = [[] for _ in sides]
    for round_ in range(repeats + 1):
        for side, kept in zip(sides, times, strict=True):
            started = time.perf_counter()
            side()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if round_:
                kept.append(time.perf_counter() - started)
    return [statistics.median(kept) for kept in times]


def line(label: str, count: int, seconds: list[float]) -> str:
    """One row of the solvers' table."""
    loop, mine, floor, refitting, masking = seconds
    return (
        f"{label:>16} {count:>6} {loop:8.3f} {mine:8.3f} {loop / mine:6.1f} {floor:8.3f} "
        f"{refitting:8.3f} {refitting / mine:6.1f} {masking:8.3f} {masking / mine:6.1f}"
    )


if __name__ == "__main__":
    main()
