"""A study through a real Slurm, whatever befalls its jobs: the metrics of a run without one."""

import contextlib
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass

import pytest
import yaml
from mini_slurm import wait_for
from snakemake_project import TINY, Project, copy_project

from sparsecnn.artifacts import read_tensors

pytestmark = pytest.mark.slurm

VARIANTS = {"magnitude": None, "magnitude_bn": None, "sparsegpt_bn": None}
STUDY = TINY | {"variants": TINY["variants"] | VARIANTS, "device": "auto"}
# Trainings of several seconds, so that something can happen to them.
LONG = STUDY | {
    "regimes": {
        "under_trained": None,
        "fully_trained": None,
        "only": {"recipe": "small", "custom_cnn": 10},
    },
    "seeds": [0, 1],
    "device": "cpu",
}
ONE = LONG | {"seeds": [0]}
RUN = "results/tiny/custom_cnn/small/epochs-10/seed-{}"
LOG = "logs/tiny/custom_cnn/small/epochs-10/seed-{}/train.log"
PROFILE = ("--profile", "profiles/slurm", "--slurm-init-seconds-before-status-checks", "2")


@dataclass(frozen=True)
class Submitted:
    """A snakemake that submits to the cluster, and what it has printed so far."""

    process: subprocess.Popen
    output: object

    def ended(self, seconds=400):
        """Its exit status and all it printed."""
        try:
            status = self.process.wait(seconds)
        finally:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGINT)
        return status, self.output.read_text()


@pytest.fixture
def submit(slurm):
    def start(project, study, *arguments):
        (project / "study.yaml").write_text(yaml.safe_dump(study))
        output = project / f"output-{time.monotonic_ns()}.txt"
        command = [sys.executable, "-m", "snakemake", "--configfile", "study.yaml", *PROFILE]
        with output.open("w") as file:
            process = subprocess.Popen(
                [*command, *arguments],
                cwd=project.folder,
                env={k: v for k, v in slurm.env.items() if k != "PYTHONPATH"},
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        return Submitted(process, output)

    yield start
    slurm("scancel", "--user=root")
    wait_for(lambda: not slurm.jobs(), "the last jobs", 90)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The study of long trainings, finished without a cluster."""
    project = copy_project(tmp_path_factory.mktemp("undisturbed") / "project")
    project.snakemake(study=LONG)
    return project


@pytest.fixture
def prepared(undisturbed, tmp_path):
    """A project with the data and calibration sets of that study, and nothing trained."""
    shutil.copytree(undisturbed.folder, tmp_path / "project")
    shutil.rmtree(tmp_path / "project/results/tiny/custom_cnn")
    return Project(tmp_path / "project")


def training(slurm, project, seed, epoch=2):
    """Number of the job that trains with a seed, once it has saved this epoch.

    The training is held there: it must not end before what befalls it, and a job that ends well
    after its time is over is a timeout to Slurm.
    """
    folder = project / RUN.format(seed) / "checkpoints"
    wait_for(lambda: list(folder.glob(f"epoch-*{epoch}-step-0000000.*")), "a checkpoint", 240)
    number = next(n for n, comment in slurm.jobs().items() if comment.endswith(f"_{seed}"))
    slurm.pause(number, "train.py")
    return number


def dense(project, seed):
    """Manifest of the network that was trained with a seed."""
    return read_tensors(project / RUN.format(seed) / "dense.safetensors", "dense")[1]


def submitted(slurm):
    """What Slurm was asked for, of every job since it began: {comment: its record}."""
    records = slurm("scontrol", "--oneliner", "show", "jobs").splitlines()
    fields = [dict(re.findall(r"(\w+)=(\S*)", record)) for record in records]
    return {record["Comment"]: record for record in fields}


def test_a_study_through_slurm_is_the_study(slurm, submit, tmp_path):
    alone, through = (copy_project(tmp_path / name) for name in ("alone", "through"))
    run = submit(through, STUDY)
    alone.snakemake(study=STUDY)
    status, output = run.ended()
    assert status == 0, output
    assert through.contents() == alone.contents()
    assert (through / "results/tiny/metrics.csv").exists()
    assert through.planned(study=STUDY) == {}

    # One submission each for the data, the two trainings, what is made of them, the report.
    assert output.count("has been submitted with SLURM jobid") == 6
    jobs = submitted(slurm)
    train = jobs["rule_train_wildcards_custom_cnn_small_2_0"]
    assert (train["TresPerJob"], train["NumCPUs"], train["Requeue"]) == ("gres:gpu:1", "1", "1")
    assert train["MinMemoryNode"] == "3000M"
    network = next(job for comment, job in jobs.items() if "_evaluate_prune" in comment)
    assert network["TresPerJob"] == "gres:gpu:1"
    data = next(job for comment, job in jobs.items() if "_calibrate_check_dataset" in comment)
    assert "TresPerJob" not in data


def test_a_cancelled_job_a_restarted_controller_and_a_dead_node(
    slurm, submit, prepared, undisturbed
):
    run = submit(prepared, LONG, "--until", "train")
    first, second = (training(slurm, prepared, seed) for seed in LONG["seeds"])
    slurm("scancel", str(first))
    slurm.stop_controller()
    time.sleep(12)
    slurm.start_controller()
    node = slurm("squeue", "-h", "-j", str(second), "-o", "%N").strip()
    slurm.crash_node(node)
    slurm.wait_requeued(second)
    status, output = run.ended()
    slurm.start_node(node)
    assert status == 0, output
    assert f"SLURM-job '{first}' failed, SLURM status is: 'CANCELLED'" in output
    assert output.count("has been submitted with SLURM jobid") == 3
    for seed in LONG["seeds"]:
        assert "going on after" in (prepared / LOG.format(seed)).read_text()
    trained = [dense(prepared, seed) for seed in LONG["seeds"]]
    prepared.snakemake(study=LONG)
    assert [dense(prepared, seed) for seed in LONG["seeds"]] == trained
    assert prepared.contents() == undisturbed.contents()


def test_a_job_over_its_memory_and_then_over_its_time(slurm, submit, prepared, undisturbed):
    memory = "train:mem_mb=150 if attempt == 1 else 3000"
    run = submit(prepared, ONE, "--until", "train", "--set-resources", memory)
    number = training(slurm, prepared, 0)
    slurm("scontrol", "update", f"jobid={number}", "EndTime=now")
    status, output = run.ended()
    assert status == 0, output
    # With cgroups Slurm would say OUT_OF_MEMORY.
    states = re.findall(r"SLURM-job '\d+' failed, SLURM status is: '(\w+)'", output)
    assert states == ["FAILED", "TIMEOUT"]
    assert "exceeded memory limit" in slurm.node_logs()
    assert "going on after" in (prepared / LOG.format(0)).read_text()
    assert dense(prepared, 0).content == dense(undisturbed, 0).content


def test_a_killed_snakemake_does_not_train_again(slurm, submit, prepared, undisturbed):
    run = submit(prepared, ONE, "--until", "train")
    number = training(slurm, prepared, 0)
    run.process.kill()
    run.process.wait()
    slurm.resume(number)
    wait_for(lambda: not slurm.jobs(), "the end of the job that was left", 240)
    trained = dense(prepared, 0)
    assert trained.content == dense(undisturbed, 0).content
    prepared.snakemake("--unlock", study=ONE)
    status, output = submit(prepared, ONE, "--until", "train").ended()
    assert status == 0, output
    assert "has been submitted" not in output
    assert dense(prepared, 0) == trained
