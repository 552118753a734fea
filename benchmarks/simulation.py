"""The plan's simulation against real runs: a part of the demo study on one core and on two.

Each run leaves benchmarks of its jobs; from them, wall times are simulated and compared with the
run's own, from its first job's start to its last one's end.

    python benchmarks/simulation.py
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from sparsecnn.planning.estimates import estimate
from sparsecnn.planning.jobs import read_dry_run
from sparsecnn.planning.schedule import simulate

ROOT = Path(__file__).parents[1]
PART = {"models": {"vgg16": None, "resnet18": None}, "seeds": [0]}


def main() -> None:
    """Run the study with each number of cores and print both times."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--cores", type=int, nargs="+", default=[1, 2])
    for cores in parser.parse_args().cores:
        with tempfile.TemporaryDirectory() as folder:
            compare(Path(folder), cores)


def compare(folder: Path, cores: int) -> None:
    """One run and its simulation, in a line."""
    (folder / "part.yaml").write_text(yaml.safe_dump(PART))
    jobs = read_dry_run(snakemake(folder, "-n", "--cores", str(cores)))
    nothing = time.perf_counter()
    snakemake(folder, "-n", "--quiet", "--cores", str(cores))
    begun = time.perf_counter()
    snakemake(folder, "--cores", str(cores))
    ended = time.perf_counter()
    wall = (ended - begun) - (begun - nothing)  # without the start of Snakemake
    table = estimate(jobs, folder, lambda job: None)
    missing = table.loc[table["seconds"].isna(), "benchmark"]
    assert missing.empty, f"{', '.join(missing)}: missing"
    simulated = simulate(jobs, lambda job: table["seconds"][job.outputs[0]], cores)
    print(
        f"{len(jobs)} jobs, {cores} at once: {wall:.1f} s, simulated {simulated:.1f} s, "
        f"ratio {simulated / wall:.2f}",
        flush=True,
    )


def snakemake(folder: Path, *arguments: str) -> str:
    """Run Snakemake on the part of the study; its output."""
    study = ["--configfile", str(ROOT / "studies/demo.yaml"), "part.yaml"]
    command = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile"), *study, *arguments]
    run = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    return run.stdout + run.stderr


if __name__ == "__main__":
    main()
