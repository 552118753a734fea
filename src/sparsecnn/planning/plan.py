"""What a study would still compute, in words: its jobs, their hours, its wall time, its disk.

What nobody has measured stays unknown, and is said to be.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd
from tabulate import tabulate

from sparsecnn.planning.estimates import Images
from sparsecnn.planning.jobs import Job
from sparsecnn.planning.schedule import longest_chain, simulate
from sparsecnn.study import layout


@dataclass(frozen=True)
class Plan:
    """A study's jobs, what is known of their seconds, and where they would run."""

    estimates: pd.DataFrame
    """Of all jobs (`sparsecnn.planning.estimates.estimate`)."""
    planned: Sequence[Job]
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

    @cached_property
    def to_do(self) -> pd.DataFrame:
        """The estimates of the planned jobs, in their order."""
        return self.estimates.loc[[job.outputs[0] for job in self.planned]]

    @cached_property
    def seconds(self) -> Mapping[Job, float]:
        """Of the planned jobs, an unknown one counted as nothing."""
        return dict(zip(self.planned, self.to_do["seconds"].fillna(0), strict=True))

    def wall_times(self, workers: Sequence[int], per_job: float) -> str:
        """A table of the wall time with so many GPUs; on CPUs, with so many jobs at once."""
        if not any(self.seconds.values()):
            return "Wall time: unknown"
        on_gpus = self.to_do["gpu"].any()
        at_least = "at least " if self.to_do["seconds"].isna().any() else ""
        rows = []
        for count in workers:
            wall = simulate(
                self.planned,
                lambda job: self.seconds[job] + per_job,
                count,
                lambda job: job.gpu > 0 or not on_gpus,
            )
            rows.append([count, at_least + duration(wall)])
        header = ["GPUs" if on_gpus else "Jobs at once", "Wall time"]
        return tabulate(rows, header, disable_numparse=True, colalign=["right", "right"])

    def _stages(self) -> str:
        total = self.estimates.assign(rule="total", source="")
        rows = []
        for rule, jobs in pd.concat([self.estimates, total]).groupby("rule", sort=False):
            to_do = jobs.loc[jobs.index.isin(self.to_do.index)]
            known = to_do["seconds"].dropna()
            time = "unknown" if known.empty and len(to_do) else duration(known.sum())
            origin = ", ".join(sorted({*to_do["source"]} - {""}))
            rows.append([rule, len(jobs), len(jobs) - len(to_do), len(to_do), time, origin])
        header = ["Stage", "Jobs", "Cached", "To do", "Time", "From"]
        align = ["left", *["right"] * 4, "left"]
        return tabulate(rows, header, disable_numparse=True, colalign=align)

    def _unknown(self) -> list[str]:
        unknown = self.to_do.loc[self.to_do["seconds"].isna()]
        if unknown.empty:
            return []
        counts = unknown.groupby("rule", sort=False).size()
        named = ", ".join(f"{count} of {rule}" for rule, count in counts.items())
        return [
            f"Unknown, and counted as nothing below: {named}. No job like them has left a "
            f"benchmark yet, and no rate was measured for such on {self.device}."
        ]

    def _foreign(self) -> list[str]:
        on_gpu = self.estimates["gpu"].any()
        here = [d for d in self.recorded_on if d == self.device or (d[:3] == "cpu" and not on_gpu)]
        if here or not self.recorded_on:
            return []
        recorded = ", ".join(self.recorded_on)
        return [f"The recorded times are of {recorded}; on {self.device} nothing was recorded."]

    def _chain(self) -> str:
        chain = longest_chain(self.planned, self.seconds.__getitem__)
        time = duration(sum(self.seconds[job] for job in chain))
        if self.to_do.loc[[job.outputs[0] for job in chain], "seconds"].isna().any():
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
