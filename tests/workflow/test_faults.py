"""Faults on a whole study: what the user sees, and that nothing is lost.

After each, the plain command (or the one that the error names) completes the study, with the
metrics of an undisturbed run. The table of what was tried is printed at the end of the tests.
"""

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml
from snakemake_project import TINY

from sparsecnn.artifacts import read_json

pytestmark = pytest.mark.slow

STUDY = "results/tiny"
RUN = f"{STUDY}/custom_cnn/small/epochs-2/seed-0"
RULES = (
    "dataset",
    "calibrate",
    "train",
    "prune",
    "evaluate",
    "collect",
    "claims",
    "figures",
    "report",
)


def contents(project):
    """Hash of the metrics of every network, by file."""
    return {
        path.relative_to(project.folder): read_json(path, "metrics")[1].content
        for path in sorted((project / STUDY).rglob("metrics.json"))
    }


def started(project, *arguments, **limits):
    """Snakemake on the tiny study, in a process group of its own."""
    (project / "study.yaml").write_text(yaml.safe_dump(TINY))
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--configfile", "study.yaml"]
    return subprocess.Popen(
        [*command, *arguments],
        cwd=project.folder,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
        **limits,
    )


def job_of(run, rule):
    """The process of the first job of a rule, once it runs."""
    parent, deadline = psutil.Process(run.pid), time.monotonic() + 120
    while time.monotonic() < deadline:
        assert run.poll() is None, run.stdout.read()
        for process in parent.children(recursive=True):
            try:
                script = process.cmdline()[-1:]
            except psutil.Error:
                continue
            if script and script[0].endswith(f".{rule}.py") and "-c" not in process.cmdline():
                return process
        time.sleep(0.005)
    raise AssertionError(f"no {rule} ran")


def test_every_kind_of_job_killed_in_turn(fresh, finished, faults):
    for rule in RULES:
        run = started(fresh, "--until", rule)
        job_of(run, rule).send_signal(signal.SIGKILL)
        output = run.communicate(timeout=120)[0]
        assert run.returncode != 0, f"{rule}\n{output}"
        assert f"Error in rule {rule}:" in output
    fresh.snakemake()
    assert contents(fresh) == contents(finished)
    assert not list((fresh / "results").rglob(".*.safetensors.*"))
    faults(
        "kill -9 of a job, each kind in turn", f"Error in rule {RULES[0]}, ...", "the job's work"
    )


def test_power_cut(fresh, finished, faults):
    run = started(fresh)
    job_of(run, "prune")
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate(timeout=60)
    output = fresh.snakemake(ok=False)
    assert "snakemake --unlock" in output or "--unlock" in output
    fresh.snakemake("--unlock")
    fresh.snakemake()
    assert contents(fresh) == contents(finished)
    faults("power cut (all processes killed)", "Directory cannot be locked ... --unlock", "nothing")


def test_two_snakemakes_on_one_study(fresh, finished, faults):
    run = started(fresh)
    job_of(run, "train")
    output = fresh.snakemake(ok=False)
    assert "cannot be locked" in output
    output = run.communicate(timeout=200)[0]
    assert run.returncode == 0, output
    assert contents(fresh) == contents(finished)
    faults("two Snakemakes at once", "the second: Directory cannot be locked", "nothing")


def test_full_disk(fresh, finished, faults):
    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))

    run = started(fresh, preexec_fn=limit)
    output = run.communicate(timeout=120)[0]
    assert run.returncode != 0
    assert "error: cannot write results/tiny/data/dataset.safetensors: File too large" in output
    assert "Traceback" not in output
    assert not list((fresh / "results").rglob("*.safetensors*"))
    fresh.snakemake()
    assert contents(fresh) == contents(finished)
    faults("disk full", "error: cannot write results/...: No space left", "the job's work")


STAGES = [
    (f"{STUDY}/data/dataset.safetensors", "calibrate"),
    (f"{STUDY}/calibration/seed-0.safetensors", "prune"),
    (f"{RUN}/dense.safetensors", "prune"),
    (f"{RUN}/sparsegpt/pruned.safetensors", "evaluate"),
    (f"{RUN}/sparsegpt/layers.csv", "evaluate"),
    (f"{RUN}/sparsegpt/metrics.json", "collect"),
]


def test_a_corrupted_artifact_at_each_stage(copied, finished, faults):
    for name, reader in STAGES:
        path = copied / name
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        output = copied.snakemake("--forcerun", reader, "--", reader_target(reader), ok=False)
        assert f"error: {name}: " in output
        assert "delete the file and run snakemake again" in output
        path.unlink()
        copied.snakemake()
        assert contents(copied) == contents(finished), name
    faults(
        "a corrupted artifact, at each stage", "error: <file>: its content differs ...", "nothing"
    )


def reader_target(rule):
    """A file that one job of a rule makes from the artifacts in `STAGES`."""
    return {
        "calibrate": f"{STUDY}/calibration/seed-0.safetensors",
        "prune": f"{RUN}/sparsegpt/pruned.safetensors",
        "evaluate": f"{RUN}/sparsegpt/metrics.json",
        "collect": f"{STUDY}/metrics.csv",
    }[rule]


def test_deleted_artifacts_in_the_middle(copied, finished, faults):
    (copied / RUN / "dense.safetensors").unlink()
    shutil.rmtree(copied / RUN / "magnitude")
    copied.snakemake()
    assert contents(copied) == contents(finished)
    faults("artifacts in the middle deleted", "nothing: they are made again", "nothing")


def test_clocks_that_disagree(copied, faults):
    moments = random.Random(0)
    for path in Path(copied / "results").rglob("*"):
        moment = time.time() - moments.uniform(-1e6, 1e6)
        os.utime(path, (moment, moment))
    assert copied.planned() == {}
    faults("clocks that disagree (random dates)", "nothing: content decides", "nothing")
