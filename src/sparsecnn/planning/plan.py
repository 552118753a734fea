"""What a study would still compute, in words: its jobs, their hours, its wall time, its disk.

What nobody has measured stays unknown, and is said to be.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sparsecnn.planning.estimates import Estimates, Images
from sparsecnn.planning.jobs import Job, ordered
from sparsecnn.planning.schedule import longest_chain, simulate
from sparsecnn.report.text import plain_table
from sparsecnn.study import layout


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
