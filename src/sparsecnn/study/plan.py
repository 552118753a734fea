"""What a study would still compute: its jobs, their hours, its longest chain, its wall time.

The jobs are those that Snakemake's dry run lists. Their seconds come from recorded benchmarks or
from measured rates; what neither knows stays unknown, and is said to be.
"""

import csv
import heapq
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from sparsecnn.errors import UserError
from sparsecnn.study import layout
from sparsecnn.study.text import plain_table

_JOB = re.compile(r"^(?:local)?rule (\w+):\n((?:    \S.*\n)+)", re.MULTILINE)
_PROPERTY = re.compile(r"^    (\w+): (.*)$", re.MULTILINE)

TRAIN_RATES: Mapping[tuple[str, int], Mapping[str, float]] = {
    ("AMD EPYC", 2): {"custom_cnn": 443, "vgg16": 149, "resnet18": 92}
}
"""Images that a training passes in a second at full width, by device, threads and model.

Measured: docs/results/2026-11-24-training-cpu.
"""


@dataclass(frozen=True)
class Job:
    """One job as Snakemake's dry run lists it."""

    rule: str
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    benchmark: str = ""
    wildcards: Mapping[str, str] = field(default_factory=dict)
    threads: int = 1
    gpu: int = 0

    @property
    def epochs(self) -> int:
        """Of the training, in jobs that train."""
        return int(self.wildcards["epochs"]) if self.rule == "train" else 1

    def __hash__(self) -> int:
        return hash((self.rule, self.outputs))


def read_dry_run(text: str) -> list[Job]:
    """The jobs in the output of ``snakemake -n``; those without outputs (`all`) are left out."""
    jobs = []
    for rule, block in _JOB.findall(text):
        found = dict(_PROPERTY.findall(block))
        resources = _pairs(found.get("resources", ""))
        job = Job(
            rule,
            inputs=_names(found.get("input", "")),
            outputs=_names(found.get("output", "")),
            benchmark=found.get("benchmark", ""),
            wildcards=_pairs(found.get("wildcards", "")),
            threads=int(found.get("threads", 1)),
            gpu=int(resources.get("gpu", 0)),
        )
        if job.outputs:
            jobs.append(job)
    return jobs


def _names(text: str) -> tuple[str, ...]:
    return tuple(filter(None, text.split(", ")))


def _pairs(text: str) -> dict[str, str]:
    return dict(part.split("=", 1) for part in _names(text) if "=" in part)


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


def parents(jobs: Sequence[Job]) -> dict[Job, list[Job]]:
    """The jobs among these that make a job's inputs."""
    makers = {name: job for job in jobs for name in job.outputs}
    return {job: list({makers[n]: None for n in job.inputs if n in makers}) for job in jobs}


def _children(jobs: Sequence[Job]) -> dict[Job, list[Job]]:
    children: dict[Job, list[Job]] = {job: [] for job in jobs}
    for job, own in parents(jobs).items():
        for parent in own:
            children[parent].append(job)
    return children


def ordered(jobs: Sequence[Job]) -> list[Job]:
    """The jobs, each after its parents."""
    above, done = parents(jobs), dict[Job, None]()

    def add(job: Job) -> None:
        if job not in done:
            for parent in above[job]:
                add(parent)
            done[job] = None

    for job in jobs:
        add(job)
    return list(done)


def longest_chain(jobs: Sequence[Job], seconds: Callable[[Job], float]) -> list[Job]:
    """The chain of jobs, each needing the one before, that takes longest; of several, most jobs."""
    above = parents(jobs)
    # Seconds and number of jobs up to each, and the job before it.
    best: dict[Job, tuple[float, int]] = {}
    before: dict[Job, Job | None] = {}
    for job in ordered(jobs):
        before[job] = max(above[job], key=best.__getitem__, default=None)
        base = best[parent] if (parent := before[job]) else (0.0, 0)
        best[job] = (base[0] + seconds(job), base[1] + 1)
    chain: list[Job] = []
    last = max(jobs, key=best.__getitem__, default=None)
    while last:
        chain.append(last)
        last = before[last]
    return chain[::-1]


def simulate(
    jobs: Sequence[Job],
    seconds: Callable[[Job], float],
    workers: int,
    takes_worker: Callable[[Job], bool] = lambda job: True,
) -> float:
    """Seconds from the first start to the last end, by list scheduling.

    A job starts when its parents have ended and, if it takes one, a worker is free. Of several
    that could, the one goes first from which the longest chain hangs.
    """
    below = _children(jobs)
    waiting = Counter(child for children in below.values() for child in children)
    tail: dict[Job, float] = {}
    for job in reversed(ordered(jobs)):
        tail[job] = seconds(job) + max((tail[child] for child in below[job]), default=0.0)
    position = {job: i for i, job in enumerate(jobs)}
    queue: list[tuple[float, int]] = []
    running: list[tuple[float, int]] = []
    now, free = 0.0, workers

    def arrive(job: Job) -> None:
        if takes_worker(job):
            heapq.heappush(queue, (-tail[job], position[job]))
        else:
            heapq.heappush(running, (now + seconds(job), position[job]))

    for job in jobs:
        if not waiting[job]:
            arrive(job)
    while queue or running:
        while queue and free:
            index = heapq.heappop(queue)[1]
            heapq.heappush(running, (now + seconds(jobs[index]), index))
            free -= 1
        now, index = heapq.heappop(running)
        free += takes_worker(jobs[index])
        for child in below[jobs[index]]:
            waiting[child] -= 1
            if not waiting[child]:
                arrive(child)
    return now


@dataclass(frozen=True)
class Plan:
    """A study's jobs, what is known of their seconds, and where they would run."""

    everything: Sequence[Job]
    planned: Sequence[Job]
    estimates: Estimates
    device: str
    """Name of this machine's GPU where the study would use one, else of its processor."""
    recorded_on: Sequence[str]
    """Devices of the trainings that are done."""

    def __str__(self) -> str:
        """The text for the terminal, without what it takes on the disk."""
        parts = [self._stages(), *self._unknown(), *self._foreign()]
        if self.planned:
            parts += [self._chain()]
        return "\n\n".join(parts)

    def seconds(self, job: Job) -> float:
        """Of a job, an unknown one counted as nothing."""
        return self.estimates.seconds(job) or 0.0

    def wall_times(self, workers: Sequence[int], per_job: float) -> str:
        """A table of the wall time with so many GPUs; on CPUs, with so many jobs at once."""
        if not self.planned or not any(map(self.seconds, self.planned)):
            return "Wall time: unknown"
        on_gpus = any(job.gpu for job in self.planned)
        at_least = "at least " if self._missing() else ""
        rows = []
        for count in workers:
            wall = simulate(
                self.planned,
                lambda job: self.seconds(job) + per_job,
                count,
                lambda job: job.gpu > 0 or not on_gpus,
            )
            rows.append([str(count), at_least + duration(wall)])
        return plain_table(["GPUs" if on_gpus else "Jobs at once", "Wall time"], rows, left=[])

    def _missing(self) -> Counter[str]:
        return Counter(job.rule for job in self.planned if self.estimates.seconds(job) is None)

    def _stages(self) -> str:
        counts, to_do = (
            Counter(job.rule for job in jobs) for jobs in (self.everything, self.planned)
        )
        rows = []
        for rule in dict.fromkeys(job.rule for job in ordered(self.everything)):
            jobs = [job for job in self.planned if job.rule == rule]
            known = [s for job in jobs if (s := self.estimates.seconds(job)) is not None]
            time = duration(sum(known)) if known or not jobs else "unknown"
            origin = ", ".join(sorted({self.estimates.source(job) for job in jobs} - {""}))
            numbers = (counts[rule], counts[rule] - to_do[rule], to_do[rule])
            rows.append([rule, *map(str, numbers), time, origin])
        total = (len(self.everything), len(self.everything) - len(self.planned), len(self.planned))
        known = [s for job in self.planned if (s := self.estimates.seconds(job)) is not None]
        time = duration(sum(known)) if known or not self.planned else "unknown"
        rows.append(["total", *map(str, total), time, ""])
        return plain_table(["Stage", "Jobs", "Cached", "To do", "Time", "From"], rows, left=[0, 5])

    def _unknown(self) -> list[str]:
        if not (missing := self._missing()):
            return []
        named = ", ".join(f"{count} of {rule}" for rule, count in missing.items())
        return [
            f"Unknown, and counted as nothing below: {named}. No job like them has left a "
            f"benchmark yet, and no rate was measured for such on {self.device}."
        ]

    def _foreign(self) -> list[str]:
        on_gpu = any(job.gpu for job in self.everything)
        here = [d for d in self.recorded_on if d == self.device or (d[:3] == "cpu" and not on_gpu)]
        if here or not self.recorded_on:
            return []
        recorded = ", ".join(self.recorded_on)
        return [f"The recorded times are of {recorded}; on {self.device} nothing was recorded."]

    def _chain(self) -> str:
        chain = longest_chain(self.planned, self.seconds)
        time = duration(sum(map(self.seconds, chain)))
        if any(self.estimates.seconds(job) is None for job in chain):
            time = "unknown" if time == duration(0) else f"at least {time}"
        names = " > ".join(" ".join([job.rule, *_what(job)]) for job in chain)
        return f"Longest chain, {time}: {names}"


def _what(job: Job) -> list[str]:
    keys = ("model", "epochs", "variant", "network")
    return [job.wildcards[key] for key in keys if key in job.wildcards]


@dataclass(frozen=True)
class Images:
    """How many images a study has, and the bytes of one."""

    train: int
    test: int
    bytes_each: int


CIFAR = Images(train=50_000, test=10_000, bytes_each=3 * 32 * 32)


def epoch_seconds(
    job: Job, *, device: str, config: Mapping[str, Any], images: Images | None
) -> float | None:
    """Seconds of an epoch of a training by its measured rate, or None where none was measured."""
    if job.rule != "train" or images is None:
        return None
    model = job.wildcards["model"]
    rate = TRAIN_RATES.get((device, job.threads), {}).get(model)
    if rate is None or config["models"][model]["width"] != 1:
        return None
    return images.train / rate


def disk_need(
    config: Mapping[str, Any], images: Images | None, weights: Mapping[str, int]
) -> dict[str, int | None]:
    """Bytes of what a study keeps, by kind; None for what depends on images not yet read.

    `weights` gives the bytes of each model's tensors.
    """
    dense = [weights[training.model] for training in layout.trainings(config)]
    drawn = len(config["seeds"]) * config["calibration"]["images"]
    return {
        "images": (images.train + images.test) * images.bytes_each if images else None,
        "calibration sets": drawn * images.bytes_each if images else None,
        "networks": sum(dense),
        "pruned networks": sum(dense) * len(config["variants"]),
        # Two, each of weights and momenta.
        "checkpoints of a running training": 4 * max(weights.values()),
    }


def disk_text(need: Mapping[str, int | None], there: int) -> str:
    """What a study takes on the disk, in words; `there` are the bytes that it has already."""
    named = [f"{kind} {'unknown' if b is None else size(b)}" for kind, b in need.items()]
    at_least = "at least " if None in need.values() else ""
    total = size(sum(filter(None, need.values())))
    return f"Disk: {at_least}{total}, of which {size(there)} are there ({', '.join(named)})"


def size(count: float) -> str:
    """Bytes in words: ``12 MB``, ``3.4 GB``."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def duration(seconds: float) -> str:
    """Hours and minutes, or minutes and seconds below an hour: ``12:05 h``, ``3:20 min``."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600}:{whole % 3600 // 60:02} h"
    return f"{whole // 60}:{whole % 60:02} min"
