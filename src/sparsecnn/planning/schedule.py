"""When jobs would run: the chain that takes longest, and a simulation of several at once."""

import heapq
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from sparsecnn.planning.jobs import Job, ordered, parents


def longest_chain(jobs: Sequence[Job], seconds: Callable[[Job], float]) -> list[Job]:
    """The chain of jobs, each needing the one before, that takes longest; of several, most jobs."""
    above = parents(jobs)
    chains: dict[Job, list[Job]] = {}

    def length(chain: list[Job]) -> tuple[float, int]:
        return sum(map(seconds, chain)), len(chain)

    for job in ordered(jobs):
        longest = max((chains[parent] for parent in above[job]), key=length, default=[])
        chains[job] = [*longest, job]
    return max((chains[job] for job in jobs), key=length, default=[])


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
    tail = _tails(jobs, seconds, below)
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
        now = running[0][0]
        while running and running[0][0] == now:  # of all that end now, before the next is chosen
            job = jobs[heapq.heappop(running)[1]]
            free += takes_worker(job)
            for child in below[job]:
                waiting[child] -= 1
                if not waiting[child]:
                    arrive(child)
    return now


def _tails(
    jobs: Sequence[Job], seconds: Callable[[Job], float], below: Mapping[Job, Sequence[Job]]
) -> dict[Job, float]:
    """Seconds of the longest chain that begins with each job."""
    tail: dict[Job, float] = {}
    for job in reversed(ordered(jobs)):
        tail[job] = seconds(job) + max((tail[child] for child in below[job]), default=0.0)
    return tail


def _children(jobs: Sequence[Job]) -> dict[Job, list[Job]]:
    children: dict[Job, list[Job]] = {job: [] for job in jobs}
    for job, own in parents(jobs).items():
        for parent in own:
            children[parent].append(job)
    return children
