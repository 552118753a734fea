"""What submitting costs: trivial jobs run here, through Slurm one by one, grouped, and as an array.

Seconds from the command to its end, and how much of them each job costs beyond a run of none.
Uses the Slurm that `sbatch` finds; the second form starts one of two nodes on this machine first.

    python benchmarks/cluster.py --jobs 8
    python tests/slurm/mini_slurm.py python benchmarks/cluster.py --jobs 8
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SNAKEFILE = """
rule all:
    input: expand("done/{i}", i=range(int(config["jobs"])))
    localrule: True

rule trivial:
    output: "done/{i}"
    shell: "touch {output}"
"""
SLURM = (
    *("--executor", "slurm", "--jobs", "100", "--slurm-status-command", "squeue"),
    *("--slurm-init-seconds-before-status-checks", "2", "--latency-wait", "20"),
    *("--default-resources", "mem_mb=1000", "runtime=5"),
)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--jobs", type=int, default=8)
    parser.add_argument("--cores", default=str(os.cpu_count()), help="of the local run")
    jobs = parser.parse_args().jobs
    ways = {
        "here": ("--cores", parser.parse_args().cores),
        "Slurm, one by one": SLURM,
        "Slurm, one array": (*SLURM, "--slurm-array-jobs", "trivial"),
        "Slurm, one group": (
            *(*SLURM, "--cores", "1"),
            *("--groups", "trivial=short", "--group-components", f"short={jobs}"),
        ),
    }
    print(f"{jobs} trivial jobs")
    print(f"{'':18} {'none':>7} {'all':>7} {'per job':>9}")
    for name, options in ways.items():
        none, everything = seconds(0, options), seconds(jobs, options)
        each = (everything - none) / jobs
        print(f"{name:18} {none:5.1f} s {everything:5.1f} s {each:7.2f} s", flush=True)


def seconds(jobs: int, options: tuple[str, ...]) -> float:
    """Wall time of a workflow of so many trivial jobs."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        (Path(folder) / "Snakefile").write_text(SNAKEFILE)
        command = [sys.executable, "-m", "snakemake", "--config", f"jobs={jobs}", *options]
        begun = time.perf_counter()
        run = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)
        took = time.perf_counter() - begun
        if run.returncode or len(list(Path(folder).glob("done/*"))) != jobs:
            sys.exit(f"it failed:\n{run.stdout}{run.stderr}")
        return took


if __name__ == "__main__":
    main()
