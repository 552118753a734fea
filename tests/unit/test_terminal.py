"""What a run shows: without noise, with the lines of its jobs, and what failed at the end."""

import logging
import subprocess
import sys

import pytest

from sparsecnn.terminal import Ending, no_noise


def record(message="", **extra):
    made = logging.LogRecord("snakemake", logging.INFO, "", 0, message, None, None)
    made.__dict__ |= extra
    return made


@pytest.mark.parametrize(
    ("shown", "told"),
    [
        (record("Select jobs to execute..."), False),
        (record("Execute 1 jobs...", event="job_started"), False),
        (record("", event="job_info"), False),
        (record("Finished jobid: 3 (Rule: train)", event="job_finished"), False),
        (record("3 of 4 steps", event="progress"), True),
        (record("Error in rule train", event="job_error"), True),
        (record("something else"), True),
    ],
)
def test_noise_is_left_out(shown, told):
    assert no_noise(shown) == told


@pytest.fixture
def ended(tmp_path, monkeypatch):
    """Call with the text of each failed job's log, None for none: what is said at the end."""
    monkeypatch.chdir(tmp_path)

    def say(*logs, also=()):
        ending = Ending()
        for i, text in enumerate(logs):
            log = tmp_path / "logs" / "study" / f"{i}.log"
            if text is not None:
                log.parent.mkdir(parents=True, exist_ok=True)
                log.write_text(text)
            relative = str(log.relative_to(tmp_path))
            assert ending.filter(record("Error in rule", event="job_error", log=[relative]))
            assert log.exists()
        for other in also:
            ending.filter(other)
        return ending.failures()

    return say


def test_the_line_that_matters_and_the_log_are_told(ended):
    said = ended("12:00:00 training in float32\n12:00:01 error: it diverged; lower it\n")
    assert said == "study/0 failed: it diverged; lower it\n  its log: logs/study/0.log"


def test_of_several_mistakes_every_one_is_told(ended):
    said = ended("12:00:01 error: one thing; mend it\n12:00:01 error: another\n")
    assert said == "study/0 failed: one thing; mend it\n  another\n  its log: logs/study/0.log"


def test_of_a_defect_the_end_of_the_traceback_is_told(ended):
    traceback = "Traceback (most recent call last):\n  File ...\nValueError: CUDA error: no\n"
    said = ended(f"12:00:00 the job failed; this is a defect\n{traceback}")
    assert said.startswith("study/0 failed: ValueError: CUDA error: no\n")


def test_a_job_that_ended_without_a_word_is_said_to_have(ended):
    assert "stopped, killed, or out of memory, or a package is missing" in ended(None)
    assert "out of memory; its last line: epoch 1/2" in ended("12:00:00 epoch 1/2\n")


def test_of_many_failures_three_are_told(ended):
    said = ended(*(f"12:00:00 error: number {i}\n" for i in range(5)))
    assert [line.split(" failed")[0] for line in said.splitlines()[::2]] == [
        *("study/0", "study/1", "study/2"),
        "... and 2 more",
    ]


def test_what_the_user_stopped_has_not_failed(ended):
    stopping = record("Terminating processes on user request, this might take some time.")
    assert ended(None, also=[stopping]).startswith("Stopped as you asked. The same command")


RELAY = r"""
import subprocess, sys
from sparsecnn.terminal import relay_stderr
relay_stderr(lambda line: print("said", line, flush=True))
subprocess.run(["sh", "-c", r"printf 'one\ntw\377o\n' >&2"], check=True)
print("own", file=sys.stderr)
subprocess.run(["sh", "-c", "echo last >&2"], check=True)
"""


def test_lines_of_children_are_handed_on_and_its_own_are_not():
    run = subprocess.run([sys.executable, "-c", RELAY], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == ["said one", "said tw\ufffdo", "said last"]
    assert run.stderr == "own\n"
