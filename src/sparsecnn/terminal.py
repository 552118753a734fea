"""What a run shows besides Snakemake's own words: no noise, the lines of jobs, what failed."""

import atexit
import logging
import os
import re
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from sparsecnn.job import job_name

_NOISE = ("job_info", "job_started", "job_finished")
"""Events of every job, which says of itself what it does."""
_TIME = re.compile(r"^\d\d:\d\d:\d\d ", re.M)
_ERROR = re.compile(r"^error: (.*)", re.M)
"""Of a job's log (`sparsecnn.job`)."""
_SHOWN = 3
"""Failures that are told; more would hide them."""


def no_noise(record: logging.LogRecord) -> bool:
    """Whether a record of Snakemake's tells what the lines of its jobs do not."""
    selecting = record.getMessage().startswith("Select jobs to execute")
    return not selecting and getattr(record, "event", None) not in _NOISE


class Ending:
    """How a run ends; a filter of Snakemake's logger, which lets all records pass."""

    def __init__(self) -> None:
        self.nothing_to_do = False
        self._stopped = False
        self._failed: dict[Path, None] = {}  # their logs, each once though tried again

    def filter(self, record: logging.LogRecord) -> bool:
        """Note a job that failed, that there is nothing to be done, or that the user stops it."""
        if getattr(record, "event", None) == "job_error":
            log = Path(vars(record)["log"][0])
            # Displays show it, and one of them (rich 0.5) fails where it is not.
            log.parent.mkdir(parents=True, exist_ok=True)
            log.touch()
            self._failed[log] = None
        message = record.getMessage()
        self.nothing_to_do |= message.startswith("Nothing to be done")
        self._stopped |= message.startswith("Terminating processes on user request")
        return True

    def failures(self) -> str:
        """The line that matters of each failed job, with the path of its log."""
        if self._stopped:
            return "Stopped as you asked. The same command goes on where this one was."
        lines = [f"{job_name(log)} failed: {_reason(log)}" for log in self._failed]
        more = len(lines) - _SHOWN
        return "\n".join([*lines[:_SHOWN], *([f"... and {more} more"] if more > 0 else [])])


def _reason(log: Path) -> str:
    text = _TIME.sub("", log.read_text("utf-8", "replace")).strip()
    last = text.rpartition("\n")[2]
    if errors := _ERROR.findall(text):
        last = "\n  ".join(errors)
    elif "Traceback" not in text:
        # Before its first line a job imports packages; what is wrong with these is not in its log.
        last = "it ended without an error of its own: stopped, killed, or out of memory" + (
            f"; its last line: {last}" if last else ", or a package is missing (as said above)"
        )
    return f"{last}\n  its log: {log}"


def relay_stderr(say: Callable[[str], None]) -> None:
    """Hand each line that child processes write to stderr to `say`, until this process ends.

    For a display that draws on the terminal again and again: what others write in between would
    break it. What this process itself writes to `sys.stderr` goes where it went before.
    """
    terminal = os.dup(2)
    reading, writing = os.pipe()
    os.dup2(writing, 2)
    os.close(writing)
    sys.stderr = os.fdopen(terminal, "w", buffering=1, errors="backslashreplace")

    def relay() -> None:
        with os.fdopen(reading, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                say(line.rstrip("\n"))

    thread = threading.Thread(target=relay, daemon=True)
    thread.start()

    def restore() -> None:
        os.dup2(terminal, 2)  # the last that could write to the pipe, but for jobs that still run
        thread.join(timeout=1)

    atexit.register(restore)
