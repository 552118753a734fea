"""Speed of 2:4 weights on sparse tensor cores: every layer of the study's networks, dense or not.

Each layer shape runs as cuDNN or cuBLAS run it dense, and as a product with a matrix of 2:4
weights by `torch.sparse`, with the same masked weights. Linear layers and 1x1 convolutions are
such products as they are. torch has no sparse convolution, so a 3x3 convolution is one over its
unfolded inputs, and the time of unfolding is printed apart: with it is what torch can do today,
without it what a sparse convolution could at best. Columns of the matrix are kernel positions with
the input channels fastest, (O, kh, kw, I), so groups of four are groups of input channels; inputs
and outputs are channels-last. No biases, which either side would add for nothing.

Backends: cuSPARSELt, with its default algorithm, and CUTLASS (`_FORCE_CUTLASS` of
`SparseSemiStructuredTensor`), which torch has for compute capability 8.x alone. What a backend
does not take is listed with its reason and counts as dense. Results are checked against the dense
ones before anything is timed. Times are medians by CUDA events, all sides in turn, with warm
caches; the GPU is kept busy while the host launches, so that launching is not counted, as in a
CUDA graph. A network is the sum of its layers, each by its count.

    python benchmarks/sparse_speed.py                       # on a GPU
    python benchmarks/sparse_speed.py --check               # on a CPU: shapes, results, no times

The defaults are 126 cases (21 shapes, 3 batches, 2 number formats) of at most 4 sides, each run 23
times, with a millisecond of waiting: by this count 12 to 20 seconds on a fast GPU, and as much
again for the start and for cuDNN's choice of kernels. `--seconds` bounds the timed runs.
"""

import argparse
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from tabulate import tabulate
from torch import Tensor, nn
from torch.nn import functional
from torch.sparse import SparseSemiStructuredTensorCUSPARSELT, SparseSemiStructuredTensorCUTLASS

from sparsecnn.device import device_name, number_format_name, use_device
from sparsecnn.errors import UserError, in_a_line
from sparsecnn.models.network import Architecture, build_without_numbers
from sparsecnn.pruning.layouts import to_matrix, to_weight
from sparsecnn.pruning.patterns import NM

MODELS = ("custom_cnn", "vgg16", "resnet18")
PATTERN = NM(2, 4)
BACKENDS = {
    "cuSPARSELt": SparseSemiStructuredTensorCUSPARSELT,
    "CUTLASS": SparseSemiStructuredTensorCUTLASS,
}
FORMATS = {"float16": torch.float16, "bfloat16": torch.bfloat16}
TOLERANCES = {torch.float16: 0.02, torch.bfloat16: 0.16, torch.float32: 1e-4}
"""Of the largest difference, relative to the RMS of the outputs: some five times what rounding the
outputs of both sides alone can come to, where they are largest."""
WARM_UP = 3
FEWEST = 5
"""Runs of each side at least, whatever time they take."""
BUSY_CYCLES = 2_000_000
"""About a millisecond, in which the host launches what is timed."""


@dataclass(frozen=True)
class Layer:
    """The shape of a linear layer, or of a convolution with a square kernel and no groups."""

    operation: str
    """`linear` or `convolution`."""
    inputs: int
    outputs: int
    kernel: int = 1
    stride: int = 1
    padding: int = 0
    side: int = 1
    """Of the square input, in pixels."""

    def __str__(self) -> str:
        if self.operation == "linear":
            return f"linear {self.inputs} to {self.outputs}"
        step = f", stride {self.stride}" if self.stride > 1 else ""
        return f"{self.kernel}x{self.kernel} {self.inputs} to {self.outputs}{step}, {self.side} px"

    @property
    def columns(self) -> int:
        """Of the matrix of its weights, which has a row for each output."""
        return self.kernel**2 * self.inputs

    @property
    def copies(self) -> bool:
        """Whether its inputs have to be copied to be the rows of a matrix."""
        return self.kernel > 1 or self.stride > 1 or self.padding > 0


@dataclass(frozen=True)
class Times:
    """Median seconds of a layer's sides."""

    dense: float
    unfolding: float
    """0 if there is nothing to copy."""
    products: Mapping[str, float]
    """Of the backends that take it."""

    def sparse(self, backend: str, unfolding: bool) -> float:
        """The time by a backend; the dense one where it does not take the layer."""
        if backend not in self.products:
            return self.dense
        return self.products[backend] + (self.unfolding if unfolding else 0)


Counts = Mapping[str, Mapping[Layer, int]]
"""By network, how many layers of each shape it has."""


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--batches", nargs="+", type=int, help="1, 64, 1024; of a check: 2")
    parser.add_argument("--formats", nargs="+", choices=list(FORMATS), default=list(FORMATS))
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=60, help="bound of all timed runs")
    parser.add_argument("--check", action="store_true", help="on a CPU in float32, no times")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    try:
        counts = {
            name: layers(name, arguments.width, arguments.image_size) for name in arguments.models
        }
        if arguments.check:
            check(counts, arguments.batches or [2])
        else:
            measure(counts, arguments)
    except UserError as error:
        sys.exit(f"error: {error}")


def layers(name: str, width: float, image_size: int) -> Counter[Layer]:
    """The layers of a network, with how many have each shape, in the order of data."""
    found: Counter[Layer] = Counter()

    def note(module: nn.Module, arguments: tuple[Tensor]) -> None:
        if isinstance(module, nn.Linear):
            found[Layer("linear", module.in_features, module.out_features)] += 1
        elif isinstance(module, nn.Conv2d):
            shape = module.in_channels, module.out_channels
            how = module.kernel_size[0], module.stride[0], int(module.padding[0])
            found[Layer("convolution", *shape, *how, arguments[0].shape[-1])] += 1

    model = build_without_numbers(Architecture(name, width, 10, image_size)).eval()
    for module in model.modules():
        module.register_forward_pre_hook(note)
    model(torch.empty(1, 3, image_size, image_size, device="meta"))
    return found


def shapes(counts: Counts) -> list[Layer]:
    """All shapes of all networks, each once."""
    return list(dict.fromkeys(layer for own in counts.values() for layer in own))


def refusal(layer: Layer, backend: str, number_format: torch.dtype) -> str:
    """Why a backend does not take a layer's weights; empty text if it does."""
    if layer.inputs % PATTERN.group:
        return f"{layer.inputs} input channels are not a multiple of {PATTERN.group}"
    least = BACKENDS[backend]._DTYPE_SHAPE_CONSTRAINTS[number_format]
    rows, columns = least.sparse_min_rows, least.sparse_min_cols
    if layer.outputs % rows or layer.columns % columns:
        return (
            f"a matrix of {layer.outputs} x {layer.columns} is not one of multiples of "
            f"{rows} x {columns}"
        )
    return ""


def example(
    layer: Layer, batch: int, number_format: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """A weight of 2:4 along its input channels, and inputs of a layer; both random.

    Returns the weight as the layer has it, (O, I) or (O, I, kh, kw), the latter in channels-last
    memory, and inputs (N, I) or (N, H, W, I). Where the channels are no multiple of four the
    weight is dense.
    """
    kernel = () if layer.operation == "linear" else (layer.kernel, layer.kernel)
    shape = torch.Size((layer.outputs, layer.inputs, *kernel))
    matrix = torch.randn(layer.outputs, layer.columns, device=device) / layer.columns**0.5
    if layer.inputs % PATTERN.group == 0:
        matrix *= PATTERN.mask(matrix.abs())
    weight = to_weight(matrix.to(number_format), shape, "channels")
    sides = () if layer.operation == "linear" else (layer.side, layer.side)
    return weight, torch.randn(batch, *sides, layer.inputs, device=device).to(number_format)


def dense(layer: Layer, weight: Tensor, inputs: Tensor) -> Tensor:
    """What the layer computes, (N, O) or (N, H, W, O), as torch computes it densely."""
    if layer.operation == "linear":
        return functional.linear(inputs, weight)
    images = inputs.permute(0, 3, 1, 2)
    return functional.conv2d(images, weight, None, layer.stride, layer.padding).permute(0, 2, 3, 1)


def unfolded(layer: Layer, inputs: Tensor) -> Tensor:
    """The rows that a layer's weights are multiplied with: one for each of its output positions.

    Takes (N, I) or (N, H, W, I). Returns (positions, kh * kw * I), input channels fastest; without
    a copy where the layer needs none.
    """
    if layer.operation == "linear":
        return inputs
    if layer.padding:
        inputs = functional.pad(inputs, (0, 0, *4 * [layer.padding]))
    windows = inputs.unfold(1, layer.kernel, layer.stride).unfold(2, layer.kernel, layer.stride)
    return windows.permute(0, 1, 2, 4, 5, 3).reshape(-1, layer.columns)


def compare(layer: Layer, side: str, result: Tensor, reference: Tensor) -> float:
    """The largest difference of a side's results from the dense ones, relative to their RMS.

    Raises `UserError` if it is more than rounding explains.
    """
    wanted = reference.float().reshape(-1, layer.outputs)
    error = float((result.float() - wanted).abs().max() / wanted.square().mean().sqrt())
    tolerance = TOLERANCES[reference.dtype]
    if not error <= tolerance:
        raise UserError(
            f"{layer}, {number_format_name(reference.dtype)}: {side} differs from the dense layer "
            f"by {error:.2g} of its outputs' RMS, where {tolerance:g} is allowed; no time is "
            "worth anything here"
        )
    return error


def check(counts: Counts, batches: Sequence[int]) -> None:
    """Print what backends say of every shape, and that products are the layers, on a CPU."""
    print(f"torch {torch.__version__}, cpu: results in float32, batches {batches}; no times\n")
    device = torch.device("cpu")
    errors: dict[Layer, float] = {}
    for layer in shapes(counts):
        for batch in batches:
            weight, inputs = example(layer, batch, torch.float32, device)
            product = unfolded(layer, inputs) @ to_matrix(weight, 1, "channels")[0].T
            error = compare(layer, "the product", product, dense(layer, weight, inputs))
            errors[layer] = max(error, errors.get(layer, 0.0))
    print(shape_table(counts, errors))
    for number_format in FORMATS.values():
        print(refusal_lines(counts, number_format, {}))


def measure(counts: Counts, arguments: argparse.Namespace) -> None:
    """Print the times of every shape and network in each number format and batch."""
    batches, named = arguments.batches or [1, 64, 1024], arguments.formats
    all_shapes = shapes(counts)
    seconds = arguments.seconds / (len(all_shapes) * len(batches) * len(named))
    with use_device("cuda", deterministic=False) as device, torch.inference_mode():
        print(
            f"torch {torch.__version__}, {device_name(device)}, CUDA {torch.version.cuda}, cuDNN "
            f"{torch.backends.cudnn.version()}, cuSPARSELt {torch.backends.cusparselt.version()}\n"
        )
        print(shape_table(counts, {}))
        print(
            "\nOf networks: products without unfolding, all with it, best the faster of dense and "
            "sparse with unfolding for each layer; what a backend does not take is dense."
        )
        for name in named:
            missing: dict[str, str] = {
                backend: reason
                for backend in BACKENDS
                if (reason := absence(backend, FORMATS[name], device))
            }
            print("\n" + refusal_lines(counts, FORMATS[name], missing))
            for batch in batches:
                timed = {
                    layer: time_layer(
                        example(layer, batch, FORMATS[name], device),
                        layer,
                        [b for b in BACKENDS if b not in missing],
                        partial(medians, repeats=arguments.repeats, seconds=seconds),
                    )
                    for layer in all_shapes
                }
                print(f"\n{name}, batch {batch}: microseconds\n\n{layer_table(timed)}")
                print(f"\n{network_table(counts, timed)}", flush=True)


def absence(backend: str, number_format: torch.dtype, device: torch.device) -> str:
    """Why a backend does not run on this GPU at all; empty text if it does."""
    try:
        layer = Layer("linear", 128, 128)
        weight, inputs = example(layer, 128, number_format, device)
        functional.linear(inputs, BACKENDS[backend].from_dense(weight.contiguous()))
        torch.cuda.synchronize(device)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        return in_a_line(error)
    return ""


def time_layer(
    case: tuple[Tensor, Tensor],
    layer: Layer,
    backends: Sequence[str],
    clock: Callable[[list[Callable[[], object]]], list[float]],
) -> Times:
    """Check every side of a layer, then time all of them in turn."""
    weight, inputs = case
    reference, rows = dense(layer, weight, inputs), unfolded(layer, inputs)
    products: dict[str, Callable[[], Tensor]] = {}
    for backend in backends:
        if not refusal(layer, backend, weight.dtype):
            matrix = to_matrix(weight, 1, "channels")[0].contiguous()
            products[backend] = partial(
                functional.linear, rows, BACKENDS[backend].from_dense(matrix)
            )
            compare(layer, backend, products[backend](), reference)
    sides: list[Callable[[], object]] = [partial(dense, layer, weight, inputs)]
    if products and layer.copies:
        sides.append(partial(unfolded, layer, inputs))
    sides += products.values()
    first, *others = clock(sides)
    unfolding = others.pop(0) if products and layer.copies else 0.0
    return Times(first, unfolding, dict(zip(products, others, strict=True)))


def device_seconds(side: Callable[[], object]) -> float:
    """Seconds that the GPU takes for a call, without those that the host takes to launch it."""
    started, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda._sleep(BUSY_CYCLES)
    started.record()
    side()
    ended.record()
    ended.synchronize()
    return float(started.elapsed_time(ended)) / 1000


def medians(
    sides: Sequence[Callable[[], object]],
    *,
    repeats: int,
    seconds: float,
    clock: Callable[[Callable[[], object]], float] = device_seconds,
) -> list[float]:
    """Median seconds of each side by a clock, run in turn; fewer repeats when time is up."""
    for side in sides:
        for _ in range(WARM_UP):
            side()
    started = time.perf_counter()
    times: list[list[float]] = [[] for _ in sides]
    for done in range(repeats):
        if done >= FEWEST and time.perf_counter() - started > seconds:
            break
        for side, kept in zip(sides, times, strict=True):
            kept.append(clock(side))
    return [statistics.median(kept) for kept in times]


def shape_table(counts: Counts, errors: Mapping[Layer, float]) -> str:
    """Every shape with its matrix and its count in each network; errors where there are any."""
    header = ["layer", "matrix", *counts, *(["largest difference / RMS"] if errors else [])]
    rows = []
    for layer in shapes(counts):
        row = [str(layer), f"{layer.outputs} x {layer.columns}"]
        row += [str(own.get(layer, 0)) for own in counts.values()]
        rows.append(row + ([f"{errors[layer]:.1e}"] if errors else []))
    return table(header, rows)


def refusal_lines(counts: Counts, number_format: torch.dtype, missing: Mapping[str, str]) -> str:
    """For each backend, what it does not take and why; or why it does not run at all."""
    lines = []
    for backend in BACKENDS:
        title = f"{number_format_name(number_format)}, {backend}"
        if backend in missing:
            lines.append(f"{title} does not run here: {missing[backend]}")
            continue
        reasons = {layer: refusal(layer, backend, number_format) for layer in shapes(counts)}
        refused = [f"  {layer}: {reason}" for layer, reason in reasons.items() if reason]
        lines += [f"{title} takes {len(reasons) - len(refused)} of {len(reasons)} shapes", *refused]
    return "\n".join(lines)


def layer_table(timed: Mapping[Layer, Times]) -> str:
    """Microseconds of every shape: dense, unfolding, and each backend with its ratios to dense."""
    used = backends_of(timed)
    header = ["layer", "dense", "unfolding"]
    for backend in used:
        header += [backend, "dense / it", "with unfolding"]
    rows = []
    for layer, times in timed.items():
        row = [str(layer), micro(times.dense), micro(times.unfolding) if times.unfolding else "-"]
        for backend in used:
            row += (
                [
                    micro(times.products[backend]),
                    ratio(times.dense, times.sparse(backend, unfolding=False)),
                    ratio(times.dense, times.sparse(backend, unfolding=True)),
                ]
                if backend in times.products
                else ["-", "-", "-"]
            )
        rows.append(row)
    return table(header, rows)


def network_table(counts: Counts, timed: Mapping[Layer, Times]) -> str:
    """Microseconds of the layers of each network, see `sums`, and the dense sum's ratio to each."""
    header = ["network", "backend", "dense"]
    for name in ("products", "all", "best"):
        header += [name, f"dense / {name}"]
    rows = []
    for network, own in counts.items():
        total = sum(count * timed[layer].dense for layer, count in own.items())
        for backend in backends_of(timed):
            row = [network, backend, micro(total)]
            for sparse in sums(own, timed, backend):
                row += [micro(sparse), ratio(total, sparse)]
            rows.append(row)
    return table(header, rows)


def sums(
    own: Mapping[Layer, int], timed: Mapping[Layer, Times], backend: str
) -> tuple[float, float, float]:
    """Seconds of a network by a backend: products alone, with unfolding, the best of each layer."""
    products = everything = best = 0.0
    for layer, count in own.items():
        with_unfolding = timed[layer].sparse(backend, unfolding=True)
        products += count * timed[layer].sparse(backend, unfolding=False)
        everything += count * with_unfolding
        best += count * min(timed[layer].dense, with_unfolding)
    return products, everything, best


def backends_of(timed: Mapping[Layer, Times]) -> list[str]:
    """The backends that take any of the layers."""
    return [b for b in BACKENDS if any(b in times.products for times in timed.values())]


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """In Markdown."""
    return tabulate(rows, header, "github", disable_numparse=True)


def micro(seconds: float) -> str:
    """In microseconds."""
    return f"{seconds * 1e6:.1f}"


def ratio(above: float, below: float) -> str:
    """How many times as fast."""
    return f"{above / below:.2f}"


if __name__ == "__main__":
    main()
