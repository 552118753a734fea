import os
import sys

import pytest

from sparsecnn.gpus import driver_found
from sparsecnn.planning import local_gpus


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """Puts a program in nvidia-smi's place; `asked` are the arguments that it got."""

    def install(lines, fails=False):
        program = tmp_path / "nvidia-smi"
        program.write_text(
            f"#!{sys.executable}\nimport pathlib, sys\n"
            f"pathlib.Path({str(tmp_path / 'asked')!r}).write_text(' '.join(sys.argv[1:]))\n"
            f"print({chr(10).join(lines)!r})\nsys.exit({int(fails)})\n"
        )
        program.chmod(0o755)
        return tmp_path / "asked"

    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return install


@pytest.mark.parametrize(
    ("lines", "jobs"),
    [
        (["80994, Disabled, Default"], 7),
        (["24110, [N/A], Default"], 2),
        (["7900, [N/A], Default"], 1),
        (["80994, Disabled, Default", "80994, Disabled, Default"], 14),
        (["80994, Disabled, Default", "30000, Disabled, Default"], 4),
        (["80994, Enabled, Default"], 1),
        (["80994, Disabled, Exclusive_Process"], 1),
        (["[N/A], [N/A], [N/A]"], 1),
        (["No devices were found"], 1),
        ([], 1),
    ],
)
def test_jobs_share_a_gpu_as_far_as_its_memory_allows(driver, lines, jobs):
    driver(lines)
    assert driver_found()
    assert local_gpus.jobs_at_once() == jobs


def test_only_visible_gpus_count(driver, monkeypatch):
    asked = driver(["40000, Disabled, Default"])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-3f,5")
    assert local_gpus.jobs_at_once() == 3
    assert "--id=GPU-3f,5" in asked.read_text().split()


@pytest.mark.parametrize("hidden", ["", "-1"])
def test_hidden_gpus_are_none(driver, monkeypatch, hidden):
    driver(["40000, Disabled, Default"])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert not driver_found()


@pytest.mark.parametrize(("visible", "jobs"), [(None, 1), ("MIG-a,MIG-b", 2)])
def test_a_driver_that_cannot_say_means_one_job_each(driver, monkeypatch, visible, jobs):
    driver(["Unable to determine the device handle"], fails=True)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert local_gpus.jobs_at_once() == jobs


def test_no_driver(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not driver_found()
    assert local_gpus.jobs_at_once() == 1
