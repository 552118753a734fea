"""Snakemake's command line, in processes forked from one that has already imported it.

Each call is the same program with the same arguments in a process of its own, so nothing is
carried from one to the next; importing Snakemake, most of a dry run's time, is done once. That the
command itself says the same is tested in test_reruns.py. Nothing of the project is imported here:
what a call imports is its own copy, edits and all.
"""

import gc
import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile

IMPORTED = (
    *("snakemake.cli", "snakemake.executors.dryrun", "snakemake.executors.local"),
    *("snakemake.report.html_reporter", "snakemake_logger_plugin_rich"),
    *("snakemake_executor_plugin_slurm", "snakemake_executor_plugin_cluster_generic"),
    *("filelock", "grimp", "jinja2", "jsonschema", "yaml"),
)


class PreloadedSnakemake:
    """The process that has imported Snakemake; it ends with the one that started it."""

    def __init__(self):
        self._server = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __call__(self, arguments, cwd, environment, timeout=300):
        """Exit status and output of `python -m snakemake` with these arguments."""
        with tempfile.NamedTemporaryFile("r") as output:
            call = {
                "arguments": arguments,
                "cwd": str(cwd),
                "environment": environment,
                "timeout": timeout,
                "output": output.name,
            }
            print(json.dumps(call), file=self._server.stdin, flush=True)
            return int(self._server.stdout.readline()), output.read()

    def close(self):
        self._server.communicate()


def serve():
    """Fork a process for every call that comes in, and answer with its exit status."""
    for name in IMPORTED:
        importlib.import_module(name)
    gc.freeze()
    for line in sys.stdin:
        number = os.fork()
        if number == 0:
            run(**json.loads(line))
        status = os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])
        print(status, flush=True)


def run(arguments, cwd, environment, timeout, output):
    """Become `python -m snakemake`."""
    signal.alarm(timeout)
    for target, name, flags in ((0, os.devnull, os.O_RDONLY), (1, output, os.O_WRONLY)):
        os.dup2(os.open(name, flags), target)
    os.dup2(1, 2)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[0] = cwd
    sys.argv = ["snakemake", *arguments]
    runpy.run_module("snakemake", run_name="__main__", alter_sys=True)
    sys.exit()


if __name__ == "__main__":
    serve()
