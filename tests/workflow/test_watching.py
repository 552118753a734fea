"""What a user sees of a run: on a terminal, in a pipe, when it fails and when it is stopped."""

import os
import pty
import re
import signal
import subprocess
import sys
import sysconfig
import threading
from pathlib import Path

import pytest
from snakemake_project import SMALL, environment, merged

RUN = "results/tiny/custom_cnn/small/epochs-1/seed-0"
BROKEN = merged(SMALL, variants={"magnitude": {"method": "magnitude", "exclude": ["head"]}})
WHY = (
    "variants.magnitude: custom_cnn: exclude='head' matches no module: the layers are features.0, "
    "features.3, features.8, features.11, classifier.1, classifier.4"
)
PART = ("--until", "prune")
"""Of what `remake` leaves to be done: one training, two prunings."""


def remake(project):
    """Delete the networks, dense and pruned."""
    for path in (project / RUN).rglob("*.safetensors"):
        path.unlink()


def on_a_terminal(project, *arguments, study=SMALL, python=(sys.executable,), **changed):
    """Exit status and what a terminal of 120 columns got of a run."""
    ours, theirs = pty.openpty()
    run = subprocess.Popen(
        [*python, "-m", "snakemake", *project.arguments(arguments, study)],
        cwd=project.folder,
        env=environment() | {"COLUMNS": "120", "LINES": "50", "TERM": "xterm"} | changed,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    shown = bytearray()

    def read():
        try:
            while part := os.read(ours, 65536):
                shown.extend(part)
        except OSError:  # how a terminal that nobody writes to any more ends
            pass

    reader = threading.Thread(target=read)
    reader.start()
    status = run.wait(200)
    reader.join()
    os.close(ours)
    return status, shown.decode()


def plain(shown):
    """The text without what moves, colours and erases."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown).replace("\r", "")


def test_in_a_pipe_there_are_lines_without_noise(small):
    remake(small)
    output = small.snakemake(*PART)
    assert "] epoch 1/1: loss " in output
    assert len(re.findall(r"^\d of \d+ steps \(\d+%\) done$", output, re.M)) == 3
    for noise in ("Select jobs", "Execute ", "jobid:", "Finished job", "\x1b"):
        assert noise not in output
    only = ("--forcerun", "claims", "--until", "claims")
    assert "rule claims:" in small.snakemake("--verbose", *only)


def test_a_run_ends_with_its_numbers_and_the_report(small):
    first, again = small.snakemake("--forcerun", "claims"), small.snakemake()
    assert "Nothing to be done" in again
    for output in (first, again):
        ending = output.partition("\nTop-1 accuracy in %")[2]
        assert re.search(r"custom_cnn +1 +\d+\.\d\d ", ending)
        assert "The report: results/tiny/report/report.html" in ending
        assert ending.endswith(" quarter of the width would take\n")
    part = small.snakemake("--until", "train")
    assert "Nothing to be done" in part
    assert "The report" not in part


def test_a_failed_run_ends_with_the_line_that_matters(small):
    output = small.snakemake("--until", "check", study=BROKEN, ok=False)
    log = "logs/tiny/check.log"
    assert output.endswith(f"\ntiny/check failed: {WHY}\n  its log: {log}\n")
    assert "Error in rule check:" in output


def test_on_a_terminal_there_are_bars_and_above_them_the_lines_of_jobs(small):
    pytest.importorskip("snakemake_logger_plugin_rich")
    remake(small)
    # One job at a time: of two prunings that end together no bar would show the first.
    status, shown = on_a_terminal(small, *PART, "--cores", "1")
    assert status == 0, shown
    text = plain(shown)
    bars = re.findall(r"\b(Total Progress|train|prune|evaluate) +━+.*? +(\d+)% \d:\d\d:\d\d", text)
    assert {("train", "0"), ("prune", "50"), ("Total Progress", "67")} <= set(bars)
    lines = re.findall(r"\[tiny/custom_cnn/small/epochs-1/seed-0/train\] (.*)", text)
    assert re.fullmatch(r"training in \w+", lines[0].strip())
    assert re.match(r"epoch 1/1: loss .* images/s, 0:00:00 left", lines[1])
    # The box of bars is erased before each line, or pieces of it would be left.
    between = [part.partition("[tiny/")[0] for part in shown.split("╯") if "[tiny/" in part]
    assert len(between) > 2
    assert all("\x1b[1A\x1b[2K" in part for part in between[1:])


def test_on_a_terminal_a_failure_ends_with_the_line_that_matters(small):
    status, shown = on_a_terminal(small, "--until", "check", study=BROKEN)
    assert status == 1
    assert plain(shown).rstrip().endswith("its log: logs/tiny/check.log")
    assert f"tiny/check failed: {WHY}" in plain(shown)


def test_a_dry_run_gives_its_reasons_on_a_terminal_too(small):
    remake(small)
    status, shown = on_a_terminal(small, "-n")
    assert status == 0
    assert "reason: Missing output files: " in plain(shown)


def test_without_the_plugin_a_terminal_gets_lines(small, tmp_path):
    packages = tmp_path / "packages"
    packages.mkdir()
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if not path.name.startswith("snakemake_logger_plugin_rich"):
            (packages / path.name).symlink_to(path)
    only = ("--forcerun", "claims", "--until", "claims")
    python = (sys.executable, "-S")  # which adds no folder of packages
    status, shown = on_a_terminal(small, *only, python=python, PYTHONPATH=str(packages))
    assert status == 0, shown
    assert "━" not in shown
    assert "[tiny/report/claims] finished in " in plain(shown)
    assert " steps (" in plain(shown)


# Imports for ever, as torch does for two seconds.
SLOW = """
import sys, time
print("importing", file=sys.stderr, flush=True)
time.sleep(60)
"""


def test_ctrl_c_while_a_job_imports_prints_no_traceback(small):
    (small / "src/sparsecnn/models/custom_cnn.py").write_text(SLOW)
    remake(small)
    run = small.start("--until", "train")
    output = ""
    while "importing" not in output:
        line = run.stdout.readline()
        assert line, output
        output += line
    os.killpg(run.pid, signal.SIGINT)
    output += run.communicate(timeout=60)[0]
    assert run.returncode != 0
    assert "Traceback" not in output
    assert output.endswith("Stopped as you asked. The same command goes on where this one was.\n")
