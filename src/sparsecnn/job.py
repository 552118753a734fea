"""What every job does around its work: logging, and errors a user can read."""

import inspect
import logging
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from sparsecnn.artifacts import Origin, remove_leftovers
from sparsecnn.errors import UserError

logger = logging.getLogger("sparsecnn")


def run_job(job: Any, main: Callable[..., None]) -> None:
    """Call `main` with the named inputs, outputs, params and resources of a Snakemake job.

    `main` states what it needs in its signature: paths arrive as `Path` (lists of paths as
    lists), params as they are (`origins` as `Origin` objects), `threads` as an int, string
    resources such as `device` by name. What is logged goes to the terminal and to the rule's
    log file. A `UserError` ends the job with one line; any other exception with its traceback,
    also in the log. Half-written files of a killed predecessor are deleted first.
    """
    _start_logging(Path(job.log[0]))
    started = time.monotonic()
    for output in job.output:
        remove_leftovers(Path(output))
    try:
        main(**_arguments(job, main))
    except UserError as error:
        logger.error("error: %s", error)
        sys.exit(1)
    except Exception:
        logger.exception("the job failed; this is a defect, please report it with this log")
        sys.exit(1)
    logger.info("finished in %.1f s", time.monotonic() - started)


def _arguments(job: Any, main: Callable[..., None]) -> dict[str, Any]:
    available: dict[str, Any] = {"threads": job.threads, **dict(job.resources.items())}
    for group in (job.input, job.output):
        available |= {name: _paths(value) for name, value in group.items()}
    available |= dict(job.params.items())
    if "origins" in available:
        available["origins"] = {k: Origin(**v) for k, v in available["origins"].items()}
    return {n: available[n] for n in inspect.signature(main).parameters if n in available}


def _paths(value: str | Iterable[str]) -> Path | list[Path]:
    return Path(value) if isinstance(value, str) else [Path(v) for v in value]


def job_name(log: Path) -> str:
    """What a job is called in what a user sees: the path of its log without folder and suffix."""
    return "/".join(log.with_suffix("").parts[1:])


def _start_logging(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    file = logging.FileHandler(path, mode="w", encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    terminal = logging.StreamHandler(sys.stderr)
    terminal.setFormatter(logging.Formatter(f"[{job_name(path)}] %(message)s"))
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    root.handlers[:] = [file, terminal]
