"""The GPUs of the machine that a study runs on, as their driver tells: torch would take seconds."""

import os
import subprocess

JOB_MEMORY = 10_240
"""MiB of a GPU for each job: the main memory that the largest asks for, and a quarter more."""


def jobs_at_once() -> int:
    """How many jobs the GPUs hold together, at least one each.

    Networks as small as these leave a large GPU idle while a job starts or waits for Python, so
    jobs share one, as many as its free memory allows; of unequal GPUs the fullest decides, since
    jobs spread evenly (`sparsecnn.gpus`). A GPU that is split into instances (MIG), or is in a
    compute mode that admits one process alone, gets one job. `CUDA_VISIBLE_DEVICES` says which GPUs
    there are.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    query = ["nvidia-smi", "--query-gpu=memory.free,mig.mode.current,compute_mode"]
    query += ["--format=csv,noheader,nounits", *([f"--id={visible}"] if visible else [])]
    try:
        listed = subprocess.run(query, check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):  # as for instances: they have no such id
        return len(visible.split(",")) if visible else 1
    fitting = [_fitting(line) for line in listed.splitlines()]
    return len(fitting) * min(fitting) if fitting else 1


def _fitting(line: str) -> int:
    free, *modes = line.split(", ")
    alone = any(mode == "Enabled" or mode.startswith("Exclusive") for mode in modes)
    if alone or not free.isdigit():
        return 1
    return max(1, int(free) // JOB_MEMORY)
