"""The table of the zoo as Markdown: every network in a process of its own.

    python tests/zoo/table.py -j 2 > table.md
    python tests/zoo/table.py torchvision-resnet18 timm-coat_tiny

Peak memory is what the process took beyond what it had before the network was built; code that is
loaded meanwhile, some 40 MB, is in it.
"""

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from platform import python_version
from typing import Any

import torch
from networks import NETWORKS
from trials import METHODS, dense_network, prune_copy, table_row


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-j", "--jobs", type=int, default=1, help="processes at once")
    parser.add_argument("names", nargs="*", help=f"of {', '.join(NETWORKS)}; all if none is given")
    given = parser.parse_args(arguments)
    if unknown := set(given.names) - NETWORKS.keys():
        parser.error(f"no network of the zoo: {', '.join(sorted(unknown))}")
    names = [name for name in NETWORKS if name in given.names or not given.names]
    print(markdown(measure_all(names, given.jobs)))
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "torchvision", "timm"))
    print(f"\nPython {python_version()}, {packages}; one thread for each network.")


def measure_all(names: Sequence[str], jobs: int) -> list[dict[str, Any]]:
    """A row for each network, in order."""
    pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), max_tasks_per_child=1)
    rows = []
    with pool:
        for name, row in zip(names, pool.map(measure, names), strict=True):
            print(f"{len(rows) + 1} of {len(names)}: {name}", file=sys.stderr)
            rows.append(row)
    return rows


def measure(name: str) -> dict[str, Any]:
    torch.set_num_threads(1)
    network = NETWORKS[name]
    before = peak_megabytes()
    dense = dense_network(network)
    trials = {method: prune_copy(network, dense, method)[1] for method in METHODS}
    peak = peak_megabytes() - before
    return table_row(network, trials) | {"peak_memory_in_MB": f"{peak:.0f}"}


def peak_megabytes() -> float:
    """The most memory that this process has had; getrusage would begin with its parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    columns = [column.replace("_", " ") for column in rows[0]]
    texts = {"library", "network", "dense_and_why"}
    rule = ["---" if column in texts else "---:" for column in rows[0]]
    lines = [columns, rule, *(list(row.values()) for row in rows)]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


if __name__ == "__main__":
    main()
