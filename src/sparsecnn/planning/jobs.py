"""The jobs that Snakemake's dry run lists, and which makes what another needs."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

_JOB = re.compile(r"^(?:local)?rule (\w+):\n((?:    \S.*\n)+)", re.MULTILINE)
_PROPERTY = re.compile(r"^    (\w+): (.*)$", re.MULTILINE)


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


def parents(jobs: Sequence[Job]) -> dict[Job, list[Job]]:
    """The jobs among these that make a job's inputs."""
    makers = {name: job for job in jobs for name in job.outputs}
    return {job: list({makers[n]: None for n in job.inputs if n in makers}) for job in jobs}


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
