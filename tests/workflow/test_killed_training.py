"""A study whose training is killed or stopped goes on from its last checkpoint."""

import os
import signal
import subprocess
import sys
import time

import pytest
import yaml
from snakemake_project import TINY, copy_project

from sparsecnn.artifacts import read_tensors

STUDY = TINY | {"regimes": {"only": {"recipe": "small", "custom_cnn": 5}}}
RUN = "results/tiny/custom_cnn/small/epochs-5/seed-0"
TRAIN = ("--until", "train")
LOG = "logs/tiny/custom_cnn/small/epochs-5/seed-0/train.log"


def interrupted(project, number):
    """Start the study, send its process group a signal in the third epoch; what it printed."""
    (project / "study.yaml").write_text(yaml.safe_dump(STUDY))
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--configfile", "study.yaml"]
    run = subprocess.Popen(
        [*command, *TRAIN],
        cwd=project.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
    )
    second = project / RUN / "checkpoints/epoch-00002-step-0000000.safetensors"
    deadline = time.monotonic() + 250
    while not second.exists():
        assert run.poll() is None, run.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(run.pid, number)
    return run.communicate(timeout=60)[0]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_an_interrupted_study_goes_on_and_ends_with_the_same_bits(fresh, uninterrupted, number):
    output = interrupted(fresh, number)
    assert not (fresh / RUN / "dense.safetensors").exists()
    if number == signal.SIGKILL:
        fresh.snakemake("--unlock", study=STUDY)
    else:
        assert f"stopped by {number.name} after 2 epochs" in output
        assert "Traceback" not in output
    fresh.snakemake(*TRAIN, study=STUDY)
    assert "going on after 2 epochs" in (fresh / LOG).read_text()
    _, manifest = read_tensors(fresh / RUN / "dense.safetensors", "dense")
    assert manifest.content == uninterrupted
    assert not (fresh / RUN / "checkpoints").exists()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """Content of the network trained without interruption."""
    project = copy_project(tmp_path_factory.mktemp("uninterrupted") / "project")
    project.snakemake(*TRAIN, study=STUDY)
    return read_tensors(project / RUN / "dense.safetensors", "dense")[1].content
