"""The study through a scheduler of which only the commands are known: submit, ask, delete."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
import yaml
from mini_slurm import wait_for
from PIL import Image
from snakemake_project import TINY, environment

pytestmark = pytest.mark.slow

STUDY = TINY | {"variants": TINY["variants"] | {"magnitude": None, "sparsegpt_bn": None}}
PROFILE = ("--profile", "profiles/cluster-generic", "--seconds-between-status-checks", "1")

# As PBS answers, without its queue: a job is a process, its number the process's.
QSUB = """#!/bin/sh
echo "$@" >> "$SCHEDULER/submitted"
for script; do :; done
setsid "$script" > "$script.log" 2>&1 < /dev/null &
echo "$!.scheduler"
"""
QSTAT = """#!/bin/sh
if [ -e "$SCHEDULER/down" ]; then
    echo "qstat: cannot connect to server" >&2
    exit 111
fi
if grep -q '^State:.[^Z]' "/proc/$1/status" 2> /dev/null; then
    echo "$1.scheduler sparsecnn root R batch"
else
    echo "qstat: Unknown Job Id $1.scheduler" >&2
    exit 153
fi
"""
QDEL = """#!/bin/sh
for job; do kill -KILL -- "-$job"; done
"""


@pytest.fixture
def scheduler(tmp_path, monkeypatch):
    """A folder with its commands, first on the PATH, and the list of what was submitted."""
    folder = tmp_path / "scheduler"
    folder.mkdir()
    for name, text in (("qsub", QSUB), ("qstat", QSTAT), ("qdel", QDEL)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SCHEDULER", str(folder))
    return folder


def submit(project, *arguments, study=STUDY):
    (project / "study.yaml").write_text(yaml.safe_dump(study))
    return subprocess.Popen(
        [sys.executable, "-m", "snakemake", "--configfile", "study.yaml", *PROFILE, *arguments],
        cwd=project.folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def running(project, script):
    """The number of the first job of the project that runs this script, or nothing."""
    scripts = str(project / ".snakemake/scripts")
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or []
        if command and command[-1].startswith(scripts) and command[-1].endswith(script):
            return os.getpgid(process.pid)
    return None


def test_a_study_through_its_commands_with_a_job_killed_is_the_study(fresh, scheduler, finished):
    run = submit(fresh)
    (scheduler / "down").touch()
    os.killpg(wait_for(lambda: running(fresh, "train.py"), "a training", 240), signal.SIGKILL)
    time.sleep(3)
    (scheduler / "down").unlink()
    output = run.communicate(timeout=300)[0]
    assert run.returncode == 0, output
    assert "Trying to restart job" in output
    assert fresh.contents().items() <= finished.contents().items()
    assert len(fresh.contents()) == 4
    submitted = (scheduler / "submitted").read_text().splitlines()
    # For the data, two trainings and one again, what is made of them, the report.
    assert len(submitted) == 7
    # The two trainings come second and third, in either order.
    shorter = "-l select=1:ncpus=1:mem=3000mb:ngpus=0 -l walltime=0:31:0"
    assert sum(shorter in line for line in submitted[1:3]) == 1


def test_a_killed_snakemake_does_not_train_again(fresh, scheduler, finished):
    run = submit(fresh)
    submitted = scheduler / "submitted"
    wait_for(
        lambda: submitted.exists() and len(submitted.read_text().splitlines()) == 3,
        "three jobs",
        240,
    )
    run.kill()
    run.communicate()
    # Jobs go on without it. A run started before they end would submit them again.
    states = fresh / ".snakemake/cluster-generic"
    wait_for(lambda: len(list(states.glob("*.status"))) == 3, "their ends", 240)
    fresh.snakemake("--unlock", study=STUDY)
    run = submit(fresh)
    output = run.communicate(timeout=300)[0]
    assert run.returncode == 0, output
    assert fresh.contents().items() <= finished.contents().items()
    assert len(fresh.contents()) == 4
    # The data, two trainings, what is made of each, the report: none of them twice.
    assert len(submitted.read_text().splitlines()) == 6


def test_the_memory_of_the_node_that_checks_is_not_that_of_the_one_that_prunes(
    fresh, scheduler, tmp_path
):
    """So a Hessian that would not fit into it is no more than a warning."""
    for place in ("train/a", "train/b", "test/a", "test/b"):
        path = tmp_path / "images" / place / "0.png"
        path.parent.mkdir(parents=True)
        Image.effect_noise((224, 224), 100).convert("RGB").save(path)
    study = STUDY | {
        "dataset": {"name": "image_folder", "source": str(tmp_path / "images")},
        "models": {"custom_cnn": {"width": 1.0}, "vgg16": None, "resnet18": None},
        "calibration": {"images": 2},
        "diagnostics": {"images": 2},
    }
    run = submit(fresh, "--until", "check", study=study)
    output = run.communicate(timeout=120)[0]
    assert run.returncode == 0, output
    # The data and its check are one submission.
    assert len((scheduler / "submitted").read_text().splitlines()) == 1
    log = (fresh / "logs/tiny/check.log").read_text()
    assert "warning: models.custom_cnn: layer classifier.1 has 401,408 inputs" in log
