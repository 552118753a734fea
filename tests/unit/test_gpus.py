import multiprocessing
import os
import signal

import pytest

from sparsecnn.gpus import claim_gpu

GPUS = ("GPU-a", "GPU-b", "GPU-c")


def hold(folder, gpus, pipe):
    with claim_gpu(gpus, folder) as index:
        pipe.send(index)
        pipe.recv()


@pytest.fixture
def job(tmp_path):
    """Starts a process that claims a GPU; gives the process, its pipe and its GPU."""
    context = multiprocessing.get_context("forkserver")
    started = []

    def start(gpus=GPUS):
        mine, theirs = context.Pipe()
        process = context.Process(target=hold, args=(tmp_path, gpus, theirs))
        process.start()
        started.append((process, mine))
        assert mine.poll(30)
        return process, mine, mine.recv()

    yield start
    for process, _ in started:
        process.kill()
        process.join()


def test_jobs_spread_over_the_gpus_and_then_share_them(job):
    assert [job()[2] for _ in range(7)] == [0, 1, 2, 0, 1, 2, 0]


def test_a_job_that_ends_or_is_killed_frees_its_gpu(job):
    jobs = [job() for _ in range(6)]
    process, pipe, index = jobs[1]
    pipe.send("end")
    process.join()
    assert index == 1
    assert job()[2] == 1
    process = jobs[2][0]
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert job()[2] == 2


def test_the_least_loaded_gpu_is_chosen_not_the_lowest_free_slot(job):
    jobs = [job() for _ in range(6)]  # two each
    for number in (0, 1, 4):  # GPU-a keeps one, GPU-b none, GPU-c two
        jobs[number][0].kill()
        jobs[number][0].join()
    assert [job()[2] for _ in range(3)] == [1, 0, 1]


def test_gpus_are_told_apart_by_name_not_by_index(job):
    # As under Slurm, where each job sees its own GPUs alone, counted from 0.
    assert job(["GPU-b"])[2] == 0
    assert job(["GPU-a"])[2] == 0
    assert job(["GPU-b", "GPU-a", "GPU-c"])[2] == 2


def test_a_block_that_fails_frees_its_gpu(tmp_path):
    with pytest.raises(ZeroDivisionError), claim_gpu(GPUS, tmp_path):
        1 / 0  # noqa: B018
    with claim_gpu(GPUS, tmp_path) as first, claim_gpu(GPUS, tmp_path) as second:
        assert (first, second) == (0, 1)
