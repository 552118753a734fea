"""The plan of a study: reading a dry run, knowing and not knowing times, list scheduling."""

import itertools
import math
import random
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsecnn.errors import UserError
from sparsecnn.planning.estimates import CIFAR, epoch_seconds, estimate, read_benchmark
from sparsecnn.planning.jobs import Job, ordered, parents, read_dry_run
from sparsecnn.planning.plan import Plan, disk_need, disk_text, duration
from sparsecnn.planning.schedule import longest_chain, simulate

DRY_RUN = """
Job stats:
total 3

[Wed Nov 25 03:51:35 2026]
rule dataset:
    output: data/a.safetensors, data/a.json
    jobid: 3
    benchmark: .benchmarks/data.tsv
    resources: tmpdir=/tmp, runtime=60, mem_mb=4000, mem=4 GB
[Wed Nov 25 03:51:35 2026]
rule train:
    input: data/a.safetensors
    output: m/dense.safetensors, m/history.csv
    jobid: 2
    benchmark: .benchmarks/m/train.tsv
    reason: Missing output files: m/dense.safetensors
    wildcards: model=vgg16, recipe=small, epochs=12, seed=0
    threads: 2
    resources: tmpdir=<TBD>, gpu=1, device=cuda, runtime=720

[Wed Nov 25 03:51:35 2026]
localrule all:
    input: m/dense.safetensors
    jobid: 0
    reason: Rules with neither input nor output files are always run
"""


def train(model="vgg16", epochs=1, seed=0, **given):
    wildcards = {"model": model, "recipe": "r", "epochs": str(epochs), "seed": str(seed)}
    name = f"{model}-{epochs}-{seed}"
    return Job("train", outputs=(name,), benchmark=f"{name}.tsv", wildcards=wildcards, **given)


def recorded(folder, job, seconds):
    (folder / job.benchmark).write_text(f"s\th:m:s\n{seconds}\t0:00:00\n")
    return job


def no_rate(job):
    return None


def test_a_dry_run_is_read():
    dataset, training = read_dry_run(DRY_RUN)
    assert dataset == Job(
        "dataset", (), ("data/a.safetensors", "data/a.json"), ".benchmarks/data.tsv"
    )
    assert training.inputs == ("data/a.safetensors",)
    assert (training.rule, training.epochs, training.threads, training.gpu) == ("train", 12, 2, 1)
    assert training.wildcards["model"] == "vgg16"
    assert parents([training, dataset]) == {training: [dataset], dataset: []}
    assert ordered([training, dataset]) == [dataset, training]


def test_what_is_recorded_comes_first_then_its_likes_then_a_rate(tmp_path):
    done = [recorded(tmp_path, train(epochs=n, seed=n), 10 * n) for n in (1, 2, 4)]
    new, other = train(epochs=8), train("resnet18", epochs=3)
    estimates = estimate([*done, new, other], tmp_path, no_rate)
    assert list(estimates["seconds"])[1:4] == [20, 40, 80]
    assert math.isnan(estimates.at["resnet18-3-0", "seconds"])
    assert estimates.at["resnet18-3-0", "source"] == ""
    with_rate = estimate([*done, new, other], tmp_path, lambda job: 7.0)
    assert with_rate.at["resnet18-3-0", "seconds"] == 21
    assert list(with_rate["source"]) == ["recorded"] * 4 + ["rate"]


def test_a_variant_is_like_itself_before_it_is_like_others(tmp_path):
    def prune(variant, seed):
        w = {"model": "vgg16", "variant": variant}
        return Job(
            "prune", outputs=(f"{variant}{seed}",), benchmark=f"{variant}{seed}", wildcards=w
        )

    recorded(tmp_path, prune("fast", 0), 1)
    recorded(tmp_path, prune("slow", 0), 9)
    jobs = [prune(variant, seed) for variant in ("fast", "slow", "new") for seed in (0, 1)]
    assert list(estimate(jobs, tmp_path, no_rate)["seconds"]) == [1, 1, 9, 9, 5, 5]


def test_a_rate_is_of_its_device_threads_and_width_alone():
    config = {"models": {"vgg16": {"width": 1.0}, "resnet18": {"width": 0.5}}}
    of = partial(epoch_seconds, config=config)
    here = {"device": "AMD EPYC", "images": CIFAR}
    assert of(train(threads=2), precision="float32", **here) == pytest.approx(50_000 / 168)
    assert of(train(threads=2), precision="bfloat16", **here) == pytest.approx(50_000 / 295)
    for job, device, images in (
        (train(threads=2), "NVIDIA H100", CIFAR),
        (train(threads=4), "AMD EPYC", CIFAR),
        (train("resnet18", threads=2), "AMD EPYC", CIFAR),
        (train(threads=2), "AMD EPYC", None),
        (Job("prune", threads=2, wildcards={"model": "vgg16"}), "AMD EPYC", CIFAR),
    ):
        assert of(job, device=device, precision="float32", images=images) is None


def test_a_benchmark_is_the_mean_of_its_seconds(tmp_path):
    path = tmp_path / "train.tsv"
    assert math.isnan(read_benchmark(path))
    for killed in ("", "s\th:m:s\n"):
        path.write_text(killed)
        assert math.isnan(read_benchmark(path))
    path.write_text("s\th:m:s\tmax_rss\n1.5\t0:00:01\tNA\n2.5\t0:00:02\t7\n")
    assert read_benchmark(path) == 2


def test_a_file_that_is_no_benchmark_is_refused_in_a_line(tmp_path):
    path = tmp_path / "train.tsv"
    for other in ("nothing\n1\n", "s\th:m:s\nNA\t0:00:01\n"):
        path.write_text(other)
        with pytest.raises(UserError, match=r"train\.tsv: no benchmark of .* \(column s\)"):
            read_benchmark(path)


def test_what_nobody_measured_is_said_to_be_unknown(tmp_path):
    job = train(gpu=1)
    plan = Plan(estimate([job], tmp_path, no_rate), [job], "NVIDIA H100", ["cpu (x86_64)"])
    text = str(plan)
    assert "unknown" in text
    assert "1 of train" in text
    assert "no rate was measured for such on NVIDIA H100" in text
    assert "The recorded times are of cpu (x86_64); on NVIDIA H100 nothing was recorded." in text
    assert plan.wall_times([1, 4], 0) == "Wall time: unknown"


def test_a_partly_known_wall_time_is_a_lower_bound(tmp_path):
    jobs = [recorded(tmp_path, train(gpu=1), 60), train("resnet18", gpu=1)]
    plan = Plan(estimate(jobs, tmp_path, no_rate), jobs, "NVIDIA H100", [])
    rows = plan.wall_times([1, 2], 1).splitlines()
    assert rows[0].split() == ["GPUs", "Wall", "time"]
    assert rows[2].strip() == "1  at least 1:02 min"
    assert rows[3].strip() == "2  at least 1:01 min"


@st.composite
def graphs(draw):
    """Jobs in an order in which each comes after those it needs, with whole seconds."""
    n = draw(st.integers(1, 12))
    jobs = []
    for i in range(n):
        needs = draw(st.lists(st.integers(0, i - 1), unique=True, max_size=3)) if i else []
        jobs.append(
            Job("r", tuple(f"o{j}" for j in needs), (f"o{i}",), threads=draw(st.integers(1, 9)))
        )
    return jobs


def seconds(job):
    return float(job.threads)


def simulated_by_steps(jobs, workers):
    """Second by second, the obvious way."""
    above, left = parents(jobs), {job: job.threads for job in jobs}
    tail = {}
    for job in reversed(jobs):
        tail[job] = job.threads + max((tail[j] for j in jobs if job in above[j]), default=0)
    running, now = set(), 0
    while any(left.values()):
        ready = [
            j for j in jobs if left[j] and j not in running and not any(left[p] for p in above[j])
        ]
        ready.sort(key=lambda j: (-tail[j], jobs.index(j)))
        running |= set(ready[: workers - len(running)])
        for job in running:
            left[job] -= 1
        running = {job for job in running if left[job]}
        now += 1
    return now


@given(graphs(), st.integers(1, 5))
def test_the_simulation_is_list_scheduling(jobs, workers):
    shuffled = random.Random(0).sample(jobs, len(jobs))
    wall = simulate(jobs, seconds, workers)
    assert wall == simulated_by_steps(jobs, workers)
    chain = longest_chain(shuffled, seconds)
    assert all(a in parents(jobs)[b] for a, b in itertools.pairwise(chain))
    longest = sum(map(seconds, chain))
    assert longest == simulate(shuffled, seconds, len(jobs))
    # Graham's bound.
    work = sum(map(seconds, jobs))
    assert max(longest, work / workers) <= wall <= work / workers + longest
    assert simulate(jobs, seconds, 1) == work


def test_of_jobs_that_end_together_all_are_seen_before_the_next_is_chosen():
    """Else a short job would take the place of one that becomes ready at that very moment."""
    short = [Job("r", outputs=(f"o{i}",), threads=1) for i in range(5)]
    below = [Job("r", ("o2",), (f"below{i}",), threads=2) for i in range(2)]
    assert simulate([*short, *below], seconds, workers=3) == 3


@given(graphs())
def test_jobs_that_take_no_worker_wait_for_none(jobs):
    longest = sum(map(seconds, longest_chain(jobs, seconds)))
    assert simulate(jobs, seconds, 1, lambda job: False) == longest


def test_disk():
    config = {
        "regimes": {"only": {"recipe": "r", "vgg16": 1, "resnet18": 2}},
        "seeds": [0, 1],
        "variants": {"a": {}, "b": {}, "c": {}},
        "calibration": {"images": 1000},
    }
    need = disk_need(config, CIFAR, {"vgg16": 30_000_000, "resnet18": 10_000_000})
    assert need == {
        "images": 60_000 * 3072,
        "calibration sets": 2000 * 3072,
        "networks": 80_000_000,
        "pruned networks": 240_000_000,
        "checkpoints of a running training": 120_000_000,
    }
    assert disk_text(need, 0).startswith("Disk: 630 MB, of which 0 MB are there (images 184 MB, ")
    unknown = disk_need(config, None, {"vgg16": 1, "resnet18": 1})
    assert disk_text(unknown, 0).startswith("Disk: at least 0 MB")
    assert "images unknown" in disk_text(unknown, 0)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0:00 min"), (61.4, "1:01 min"), (3599.6, "1:00 h"), (36_061, "10:01 h")],
)
def test_durations(value, text):
    assert duration(value) == text
