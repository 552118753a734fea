"""A study whose training is killed or stopped goes on from its last checkpoint."""

import os
import re
import shutil
import signal
import time

import pytest
from snakemake_project import TINY, Project

from sparsecnn.artifacts import read_tensors

ONLY = {"only": {"recipe": "small", "custom_cnn": 8}}
STUDY = TINY | {"regimes": {"under_trained": None, "fully_trained": None, **ONLY}}
RUN = "results/tiny/custom_cnn/small/epochs-8/seed-0"
TRAIN = ("--until", "train")
LOG = "logs/tiny/custom_cnn/small/epochs-8/seed-0/train.log"


def interrupted(project, number):
    """Start the study, send its process group a signal in the third epoch; what it printed."""
    run = project.start(*TRAIN, study=STUDY)
    second = project / RUN / "checkpoints/epoch-00002-step-0000000.safetensors"
    deadline = time.monotonic() + 250
    while not second.exists():
        assert run.poll() is None, run.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(run.pid, number)
    return run.communicate(timeout=60)[0]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_an_interrupted_study_goes_on_and_ends_with_the_same_bits(copied, uninterrupted, number):
    output = interrupted(copied, number)
    assert not (copied / RUN / "dense.safetensors").exists()
    if number == signal.SIGKILL:
        copied.snakemake("--unlock", study=STUDY)
        saved = "[2-8] epochs"
    else:
        saved = re.search(f"stopped by {number.name} after (.*);", output)[1]
        assert "Traceback" not in output
    copied.snakemake(*TRAIN, study=STUDY)
    assert re.search(f"going on after {saved}", (copied / LOG).read_text())
    assert dense_content(copied) == dense_content(uninterrupted)
    assert not (copied / RUN / "checkpoints").exists()


@pytest.fixture(scope="session")
def uninterrupted(made_once, finished):
    """A project with the network trained without interruption."""

    def make(folder):
        shutil.copytree(finished.folder, folder)
        Project(folder).snakemake(*TRAIN, study=STUDY)

    return Project(made_once("uninterrupted", make))


def dense_content(project):
    return read_tensors(project / RUN / "dense.safetensors", "dense")[1].content
