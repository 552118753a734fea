"""Faults on a whole study: what the user sees, and that nothing is lost.

After each, the plain command (or the one that the error names) completes the study, with the
metrics of an undisturbed run. The table of what was tried is printed at the end of the tests.
"""

import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from snakemake_project import ROOT, SMALL, TINY, copy_project, environment

from cifar_archive import Server, members_of, write_archive
from sparsecnn.artifacts import read_tensors
from sparsecnn.data.cifar import CIFAR10

pytestmark = pytest.mark.slow

STUDY = "results/tiny"
RUN = f"{STUDY}/custom_cnn/small/epochs-1/seed-0"
NETWORKS = ("dense", "magnitude", "sparsegpt")
RULES = (
    "dataset",
    "check",
    "calibrate",
    "train",
    "prune",
    "evaluate",
    "collect",
    "claims",
    "figures",
    "report",
)


@pytest.fixture
def fresh(tmp_path):
    """A project in which nothing has run, of the smaller study."""
    return copy_project(tmp_path / "project", SMALL)


@pytest.fixture
def whole(finished):
    """Call with a project: whether its study has the metrics of an undisturbed run."""
    names = [Path(RUN) / network / "metrics.json" for network in NETWORKS]
    undisturbed = finished.contents()

    def check(project):
        made = project.contents()
        return {name: made.get(name) for name in names} == {n: undisturbed[n] for n in names}

    return check


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


def test_every_kind_of_job_killed_in_turn(fresh, whole, faults):
    for rule in RULES:
        run = fresh.start("--until", rule)
        job_of(run, rule).send_signal(signal.SIGKILL)
        output = run.communicate(timeout=120)[0]
        assert run.returncode != 0, f"{rule}\n{output}"
        assert f"Error in rule {rule}:" in output
    fresh.snakemake()
    assert whole(fresh)
    assert not list((fresh / "results").rglob(".*.safetensors.*"))
    faults(
        "kill -9 of a job, each kind in turn", f"Error in rule {RULES[0]}, ...", "the job's work"
    )


def test_power_cut(fresh, whole, faults):
    run = fresh.start()
    job_of(run, "prune")
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate(timeout=60)
    output = fresh.snakemake(ok=False)
    assert "snakemake --unlock" in output or "--unlock" in output
    fresh.snakemake("--unlock")
    fresh.snakemake()
    assert whole(fresh)
    faults("power cut (all processes killed)", "Directory cannot be locked ... --unlock", "nothing")


def test_two_snakemakes_on_one_study(fresh, whole, faults):
    run = fresh.start()
    job_of(run, "train")
    output = fresh.snakemake(ok=False)
    assert "cannot be locked" in output
    output = run.communicate(timeout=200)[0]
    assert run.returncode == 0, output
    assert whole(fresh)
    faults("two Snakemakes at once", "the second: Directory cannot be locked", "nothing")


def test_full_disk(fresh, whole, faults):
    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))

    run = fresh.start(preexec_fn=limit)
    output = run.communicate(timeout=120)[0]
    assert run.returncode != 0
    assert "error: cannot write results/tiny/data/dataset.safetensors: File too large" in output
    assert "Traceback" not in output
    assert not list((fresh / "results").rglob("*.safetensors*"))
    fresh.snakemake()
    assert whole(fresh)
    faults("disk full", "error: cannot write results/...: No space left", "the job's work")


STAGES = [
    (f"{STUDY}/data/dataset.safetensors", "calibrate"),
    (f"{STUDY}/calibration/seed-0.safetensors", "prune"),
    (f"{RUN}/dense.safetensors", "prune"),
    (f"{RUN}/sparsegpt/pruned.safetensors", "evaluate"),
    (f"{RUN}/sparsegpt/layers.csv", "evaluate"),
    (f"{RUN}/sparsegpt/metrics.json", "collect"),
]


@pytest.mark.parametrize(("name", "reader"), STAGES, ids=[Path(name).stem for name, _ in STAGES])
def test_a_corrupted_artifact_at_each_stage(small, whole, faults, name, reader):
    path = small / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    output = small.snakemake("--forcerun", reader, "--", reader_target(reader), ok=False)
    assert f"error: {name}: " in output
    assert "delete the file and run snakemake again" in output
    path.unlink()
    small.snakemake()
    assert whole(small)
    faults(f"{path.name} corrupted", "error: <file>: its content differs ...", "nothing")


def reader_target(rule):
    """A file that one job of a rule makes from the artifacts in `STAGES`."""
    return {
        "calibrate": f"{STUDY}/calibration/seed-0.safetensors",
        "prune": f"{RUN}/sparsegpt/pruned.safetensors",
        "evaluate": f"{RUN}/sparsegpt/metrics.json",
        "collect": f"{STUDY}/metrics.csv",
    }[rule]


def test_deleted_artifacts_in_the_middle(small, whole, faults):
    (small / RUN / "dense.safetensors").unlink()
    shutil.rmtree(small / RUN / "magnitude")
    small.snakemake()
    assert whole(small)
    faults("artifacts in the middle deleted", "nothing: they are made again", "nothing")


def in_a_mount_namespace(project, setup, *arguments):
    """Snakemake on its study, with file systems of its own; output and exit status."""
    if os.geteuid() != 0 or not shutil.which("unshare"):
        pytest.skip("mounting a file system needs root and unshare")
    snakemake = [sys.executable, "-m", "snakemake", *project.arguments(arguments, None)]
    script = f'set -e; {setup}; exec "$@"'
    run = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", *snakemake],
        cwd=project.folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=200,
    )
    if "unshare" in run.stderr or "mount:" in run.stderr:
        pytest.skip(f"mounting is not permitted here: {run.stderr.splitlines()[0]}")
    return run.stdout + run.stderr, run.returncode


def test_read_only_results(small, whole, faults):
    (small / RUN / "sparsegpt/metrics.json").unlink()
    read_only = "mount --bind results results; mount -o remount,ro,bind results"
    output, status = in_a_mount_namespace(small, read_only)
    assert status != 0
    assert re.search(r"Write-protected output files .*\n.*results/tiny|Read-only file sys", output)
    small.snakemake()
    assert whole(small)
    faults("read-only results", "Write-protected output files for rule ...", "nothing")


def test_a_full_tmp(small, whole, faults):
    """Nothing is written there: a study does not notice."""
    for name in ("dense.safetensors", "sparsegpt/pruned.safetensors"):
        (small / RUN / name).unlink()
    full = (
        "mount -t tmpfs -o size=64k tmpfs /var/tmp; "
        "dd if=/dev/zero of=/var/tmp/filler bs=4k 2>/dev/null || true; export TMPDIR=/var/tmp"
    )
    output, status = in_a_mount_namespace(small, full)
    assert status == 0, output
    assert whole(small)
    faults("a full /tmp", "nothing: nothing is written there", "nothing")


def test_clocks_that_disagree(small, faults):
    moments = random.Random(0)
    for path in Path(small / "results").rglob("*"):
        moment = time.time() - moments.uniform(-1e6, 1e6)
        os.utime(path, (moment, moment))
    assert small.planned() == {}
    faults("clocks that disagree (random dates)", "nothing: content decides", "nothing")


DOWNLOADS = {
    "down": "Connection refused",
    "absent": "HTTP Error 404",
    "wrong": "corrupted",
    "cut": "corrupted|IncompleteRead|retrieval incomplete",
    "stalled": "timed out",
}


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A server of a small archive, and a function that makes a project download from it."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    layout = write_archive(tmp_path / "origin.tar.gz", CIFAR10, members_of(CIFAR10))
    server = Server((tmp_path / "origin.tar.gz").read_bytes())

    def use(project, kind):
        url = "http://127.0.0.1:9" if kind == "down" else server.url(kind)
        shutil.copy(ROOT / "src/sparsecnn/data/cifar.py", project / "src/sparsecnn/data/cifar.py")
        source = project / "src/sparsecnn/data/cifar.py"
        text = source.read_text().replace(CIFAR10.md5, layout.md5)
        text = re.sub(r"^MIRRORS = .*$", f'MIRRORS = ("{url}",)', text, flags=re.M)
        source.write_text(text.replace("STALLED_SECONDS = 60.0", "STALLED_SECONDS = 1.0"))

    yield use
    server.stop()


def test_downloads_that_fail(fresh, mirror, faults):
    study = TINY | {"dataset": {"name": "cifar10"}}
    target = ("--until", "dataset")
    for kind, reason in DOWNLOADS.items():
        mirror(fresh, kind)
        output = fresh.snakemake(*target, study=study, ok=False)
        line = re.search(r"error: cannot download .*$", output, re.M)[0]
        assert re.search(reason, line)
        assert "Traceback" not in output
        assert not list((fresh / "results/downloads").iterdir())
        faults(f"download: {kind}", "error: cannot download cifar-10-python.tar.gz ...", "nothing")
    mirror(fresh, "slow")
    fresh.snakemake(*target, study=study)
    name = f"{STUDY}/data/dataset.safetensors"
    images, manifest = read_tensors(fresh / name, "dataset")
    assert images["train_images"].shape == (20, 3, 32, 32)
    mirror(fresh, "absent")  # the archive is kept: nobody is asked again
    fresh.snakemake("--forcerun", "dataset", *target, study=study)
    assert read_tensors(fresh / name, "dataset")[1].content == manifest.content
    faults("download: slow", "its progress", "nothing")


def test_a_download_killed_in_the_middle(fresh, mirror, faults):
    study = TINY | {"dataset": {"name": "cifar10"}}
    mirror(fresh, "stalled")
    run = fresh.start("--until", "dataset", study=study)
    job = job_of(run, "dataset")
    while not list(fresh.folder.glob("results/downloads/.download-*/*")):
        assert run.poll() is None
        time.sleep(0.005)
    job.send_signal(signal.SIGKILL)
    run.communicate(timeout=60)
    mirror(fresh, "ok")
    fresh.snakemake("--until", "dataset", study=study)
    images, _ = read_tensors(fresh / f"{STUDY}/data/dataset.safetensors", "dataset")
    assert images["test_images"].shape == (4, 3, 32, 32)
    faults("download: killed", "Error in rule dataset", "what had been downloaded")
