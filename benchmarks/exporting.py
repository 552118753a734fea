"""What an export takes: the graph with its check, and the comparison with ONNX Runtime.

Networks of this project with their weights as initialised, and made-up images, on the CPU.

    python benchmarks/exporting.py
    python benchmarks/exporting.py vgg16 --images 10000
"""

import argparse
import resource
import time

import torch

from sparsecnn.data.dataset import Normalization
from sparsecnn.device import use_device
from sparsecnn.export.agreement import compare
from sparsecnn.export.graph import check_file, to_onnx
from sparsecnn.models.network import Architecture, build
from sparsecnn.registry import names

NORMALIZATION = Normalization((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
SHAPE = (3, 32, 32)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("models", nargs="*", default=names("model"))
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--images", type=int, default=2000)
    arguments = parser.parse_args()
    print(f"{torch.get_num_threads()} threads, {arguments.images} images")
    for model in arguments.models:
        graph, comparison, size = measured(model, arguments.width, arguments.images)
        print(f"{model:>10} graph {graph:5.1f} s, comparison {comparison:5.1f} s, {size:6.1f} MB")
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"at most {most:.0f} MB of memory")


def measured(model: str, width: float, count: int) -> tuple[float, float, float]:
    """Seconds for the graph with its check and for the comparison; MB of the file."""
    network = build(Architecture(model, width, 10, SHAPE[1])).eval()
    images = torch.randint(0, 256, (count, *SHAPE), dtype=torch.uint8)
    with use_device("cpu"):
        started = time.perf_counter()
        data = to_onnx(network, SHAPE, NORMALIZATION, {})
        check_file(data, network)
        made = time.perf_counter()
        compare(data, network, images, NORMALIZATION, normalizes=True)
    return made - started, time.perf_counter() - made, len(data) / 1e6


if __name__ == "__main__":
    main()
