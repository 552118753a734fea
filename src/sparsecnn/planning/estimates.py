"""What jobs will take: seconds from recorded benchmarks of Snakemake's, or from measured rates.

What neither knows stays unknown.
"""

import csv
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from sparsecnn.errors import UserError
from sparsecnn.planning.jobs import Job

TRAIN_RATES: Mapping[tuple[str, int, str], Mapping[str, float]] = {
    ("AMD EPYC", 2, "float32"): {"custom_cnn": 477, "vgg16": 168, "resnet18": 114},
    ("AMD EPYC", 2, "bfloat16"): {"custom_cnn": 891, "vgg16": 295, "resnet18": 201},
}
"""Images that a training passes in a second at full width, by device, threads, format and model.

Measured: docs/results/2026-11-26-bfloat16-training-cpu.
"""


@dataclass(frozen=True)
class Images:
    """How many images a study has, and the bytes of one."""

    train: int
    test: int
    bytes_each: int


CIFAR = Images(train=50_000, test=10_000, bytes_each=3 * 32 * 32)


class Estimates:
    """Seconds of jobs.

    A job's own benchmark comes first, then those of its likes: same rule, model, variant; without
    the variant; the rule alone. Trainings are compared by their seconds per epoch. Without
    any, a training may have a measured rate.

    Parameters
    ----------
    jobs
        All jobs of the study, also those that are done.
    folder
        That benchmarks' paths start from.
    rate
        Seconds of an epoch of a training by a measured rate, or None.
    """

    def __init__(
        self, jobs: Iterable[Job], folder: Path, rate: Callable[[Job], float | None]
    ) -> None:
        self._rate = rate
        self._own: dict[Job, float] = {}
        self._likes: dict[tuple[str, ...], list[float]] = {}
        for job in jobs:
            seconds = read_benchmark(folder / job.benchmark) if job.benchmark else None
            if seconds is not None:
                self._own[job] = seconds
                for key in _likeness(job):
                    self._likes.setdefault(key, []).append(seconds / job.epochs)

    def seconds(self, job: Job) -> float | None:
        """Of a job, or None where nothing is known."""
        if job in self._own:
            return self._own[job]
        for key in _likeness(job):
            if key in self._likes:
                return median(self._likes[key]) * job.epochs
        rate = self._rate(job)
        return None if rate is None else rate * job.epochs

    def source(self, job: Job) -> str:
        """Where a job's seconds are from: recorded, rate or nothing."""
        if job in self._own or any(key in self._likes for key in _likeness(job)):
            return "recorded"
        return "" if self._rate(job) is None else "rate"


def _likeness(job: Job) -> list[tuple[str, ...]]:
    """What jobs of about equal cost have in common, the closest first."""
    w = job.wildcards
    model, variant = w.get("model", ""), w.get("variant", w.get("network", ""))
    keys = [(job.rule, model, variant), (job.rule, model)]
    # Models differ too much to stand in for each other where they are trained.
    return keys if job.rule == "train" else [*keys, (job.rule,)]


def read_benchmark(path: Path) -> float | None:
    """Mean seconds in a benchmark of Snakemake's, or None if there is none."""
    if not path.is_file():
        return None
    with path.open(newline="") as file:
        try:
            seconds = [float(row["s"]) for row in csv.DictReader(file, delimiter="\t")]
        except (KeyError, ValueError):
            raise UserError(f"{path}: no benchmark of Snakemake's; delete it") from None
    return sum(seconds) / len(seconds) if seconds else None


def epoch_seconds(
    job: Job, *, device: str, precision: str, config: Mapping[str, Any], images: Images | None
) -> float | None:
    """Seconds of an epoch of a training by its measured rate, or None where none was measured.

    `precision` is the number format of trainings, float32 or bfloat16.
    """
    if job.rule != "train" or images is None:
        return None
    model = job.wildcards["model"]
    rate = TRAIN_RATES.get((device, job.threads, precision), {}).get(model)
    if rate is None or config["models"][model]["width"] != 1:
        return None
    return images.train / rate
