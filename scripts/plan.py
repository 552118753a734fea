"""Print what a study would take, before anything runs.

    python scripts/plan.py
    python scripts/plan.py --configfile studies/small.yaml --workers 1 2 8

Jobs of each stage and how many are cached, their time, the longest chain, disk, and how the wall
time falls with GPUs (of a study on CPUs, with jobs at once). Times come from the benchmarks that
jobs leave in results/<study>/.benchmarks, or from measured rates of this device; what neither knows
is said to be unknown.
"""

import argparse
import os
import platform
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from snakemake.common.configfile import load_configfile

from sparsecnn.artifacts import read_json, read_manifest
from sparsecnn.errors import UserError
from sparsecnn.gpus import driver_found
from sparsecnn.planning.estimates import CIFAR, Images, epoch_seconds, estimate
from sparsecnn.planning.jobs import read_dry_run
from sparsecnn.planning.plan import Plan, disk_need, disk_text
from sparsecnn.study import layout
from sparsecnn.study.config_files import read_study

PROJECT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Print the plan of the study that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--configfile", nargs="+", default=[], help="as for snakemake")
    parser.add_argument("--config", nargs="+", default=[], metavar="KEY=VALUE", help="likewise")
    parser.add_argument(
        "--workers", type=int, nargs="+", default=[1, 4, 16, 64], help="GPUs, or jobs at once"
    )
    parser.add_argument(
        "--per-job", type=float, default=0, metavar="SECONDS", help="that each job costs besides"
    )
    arguments = parser.parse_args()
    try:
        print(plan(arguments))
    except UserError as error:
        sys.exit(f"error: {error}")


def plan(arguments: argparse.Namespace) -> str:
    """The whole text."""
    options = [
        *(["--configfile", *arguments.configfile] if arguments.configfile else []),
        *(["--config", *arguments.config] if arguments.config else []),
    ]
    everything = read_dry_run(dry_run([*options, "--forceall"]))
    planned = read_dry_run(dry_run(options))
    config = study_config(arguments.configfile, arguments.config)
    images, device = images_of(config), this_device(config)
    rate = partial(
        epoch_seconds,
        device=device,
        precision=number_format(config),
        config=config,
        images=images,
    )
    result = Plan(estimate(everything, Path(), rate), planned, device, recorded_on(config))
    made = [Path(name) for job in everything for name in job.outputs]
    there = sum(path.stat().st_size for path in made if path.is_file())
    return "\n\n".join(
        [
            str(result),
            disk_text(disk_need(config, images, weights(config)), there),
            result.wall_times(arguments.workers, arguments.per_job),
        ]
    )


def dry_run(options: list[str]) -> str:
    """Output of `snakemake -n`; `UserError` with its last line if it refuses."""
    command = [sys.executable, "-m", "snakemake", "-n", "--cores", "all", "--nolock"]
    run = subprocess.run(
        [*command, "-s", str(PROJECT / "Snakefile"), *options],
        check=False,
        capture_output=True,
        text=True,
        env={k: v for k, v in os.environ.items() if k != "SNAKEMAKE_PROFILE"},
    )
    if run.returncode:
        raise UserError((run.stdout + run.stderr).strip())
    return run.stdout + run.stderr


def study_config(files: list[str], values: list[str]) -> dict[str, Any]:
    """The checked configuration, read as the Snakefile reads it."""
    paths = [PROJECT / "config.yaml", *map(Path, files)]
    return read_study(paths, values, load_configfile)


def images_of(config: dict[str, Any]) -> Images | None:
    """How many images there are: read from the dataset if it is made, known for CIFAR."""
    summary = Path("results") / layout.baselines(config) / layout.DATASET_SUMMARY
    if summary.is_file():
        value = read_json(summary, "dataset_summary")[0]
        channels, height, width = value["image_shape"]
        return Images(value["n_train"], value["n_test"], channels * height * width)
    if not config["dataset"]["name"].startswith("cifar"):
        return None
    held = config["dataset"]["holdout"]
    return replace(CIFAR, train=CIFAR.train - held, test=held) if held else CIFAR


def this_device(config: dict[str, Any]) -> str:
    """The GPU's name where the study would use one, else the processor's."""
    if config["device"] in ("auto", "cuda") and driver_found():
        query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        listed = subprocess.run(query, check=False, capture_output=True, text=True).stdout
        if listed.strip():
            return listed.splitlines()[0].strip()
    cpus = Path("/proc/cpuinfo")
    lines = cpus.read_text().splitlines() if cpus.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def number_format(config: dict[str, Any]) -> str:
    """What trainings would compute in here."""
    import torch

    from sparsecnn.device import number_format_name, precision

    gpu = config["device"] in ("auto", "cuda") and torch.cuda.is_available()
    device = torch.device("cuda" if gpu else "cpu")
    return number_format_name(precision(config["training"]["precision"], device))


def recorded_on(config: dict[str, Any]) -> list[str]:
    """Devices of the trainings that are done."""
    folder = Path("results") / layout.baselines(config)
    files = [folder / name for name in layout.paths(layout.DENSE, config, ["dense"])]
    return sorted({read_manifest(path, "dense").device for path in files if path.is_file()})


def weights(config: dict[str, Any]) -> dict[str, int]:
    """Bytes of each model's tensors."""
    from sparsecnn.models.network import architecture_of, build_without_numbers

    found = {}
    for name, model in config["models"].items():
        network = build_without_numbers(architecture_of({**model, "model": name}, 10, 32))
        found[name] = sum(t.nbytes for t in network.state_dict().values())
    return found


if __name__ == "__main__":
    main()
