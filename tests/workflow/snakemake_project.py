"""Runs the workflow as a user does: a copy of the project, the snakemake command, its output."""

import atexit
import functools
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from preloaded import PreloadedSnakemake

from sparsecnn.artifacts import read_json

ROOT = Path(__file__).parents[2]
PARTS = (
    *("Snakefile", "config.yaml", "requirements.lock"),
    *("envs", "profiles", "report", "rules", "schemas", "scripts"),
)

TINY = {
    "study": "tiny",
    "dataset": {"name": "digits", "label": "digits", "normalization": None},
    "models": {"custom_cnn": {"width": 0.125}, "vgg16": None, "resnet18": None},
    "recipes": {"small": {"batch_size": 32, "crop_padding": 1, "horizontal_flip": False}},
    "regimes": {
        "under_trained": {"recipe": "small", "custom_cnn": 1},
        "fully_trained": {"recipe": "small", "custom_cnn": 2},
    },
    "seeds": [0],
    "calibration": {"images": 64},
    "diagnostics": {"images": 32},
    "variants": {
        "magnitude_bn": None,
        "sparsegpt_published": None,
        "wanda": None,
        "imitation": None,
        "admm": None,
        "sparsegpt_bn": {"method": "sparsegpt", "bn_recalibration": True},
    },
    "device": "cpu",
    "threads": 1,
}
SMALL = TINY | {
    "regimes": {**TINY["regimes"], "fully_trained": None},
    "variants": {**TINY["variants"], "sparsegpt_bn": None},
    "diagnostics": None,
    "report": {"language": ["en"]},
}
"""A part of it: one training, and two networks pruned from it."""
EXPORTING = SMALL | {"export": {"variants": ["dense", "sparsegpt"]}}
"""The same, with two of its three networks exported."""
REPORTING = {"collect": 1, "claims": 1, "figures": 1, "report": 1, "page": 1}
"""The jobs that a change of what was measured makes run."""


def merged(base, **changes):
    """A study with parts of it changed: each key of `changes` is a section."""
    return base | {key: base.get(key, {}) | value for key, value in changes.items()}


@dataclass(frozen=True)
class Project:
    """A copy of the project in a folder of its own, and the study that it runs by default."""

    folder: Path
    study: dict = field(default_factory=lambda: TINY)

    def snakemake(self, *arguments, study=None, cwd=None, ok=True):
        """Run snakemake on its or another study; its output. `ok` says whether it must succeed."""
        command = self.arguments(arguments, study)
        status, output = preloaded()(command, cwd or self.folder, environment())
        assert (status == 0) == ok, output
        return output

    def command_line(self, *arguments, study=None):
        """Exit status and output of the command itself, with the same arguments."""
        run = self.start(*arguments, study=study)
        output = run.communicate(timeout=300)[0]
        return run.returncode, output

    def start(self, *arguments, study=None, **options):
        """The command itself as a process, in a group of its own, with its output in a pipe."""
        return subprocess.Popen(
            [sys.executable, "-m", "snakemake", *self.arguments(arguments, study)],
            cwd=self.folder,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            text=True,
            **options,
        )

    def arguments(self, arguments, study):
        """Of the snakemake command; the study is written beside the project's files."""
        overlay = self.folder / "study.yaml"
        overlay.write_text(yaml.safe_dump(self.study if study is None else study))
        return ["--cores", "2", "--configfile", str(overlay), *map(str, arguments)]

    def planned(self, *arguments, study=None, cwd=None):
        """Jobs that a run would start, as {rule: count}."""
        output = self.snakemake("-n", *arguments, study=study, cwd=cwd)
        table = re.search(r"^job +count\n-+ +-+\n(.*?)^total", output, re.M | re.S)
        if table is None:
            assert "Nothing to be done" in output, output
            return {}
        counts = dict(line.split() for line in table[1].splitlines())
        return {rule: int(n) for rule, n in counts.items() if rule != "all"}

    def script(self, name, *arguments, study=None):
        """Output and exit status of one of its scripts; the study's file is written for it."""
        self.arguments((), study)
        run = subprocess.run(
            [sys.executable, f"scripts/{name}", *map(str, arguments)],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": "src"},
            capture_output=True,
            text=True,
        )
        assert "Traceback" not in run.stderr
        return run.stdout + run.stderr, run.returncode

    def contents(self):
        """Hash of the metrics of every network of the study, by file."""
        return {
            path.relative_to(self.folder): read_json(path, "metrics")[1].content
            for path in sorted((self / "results/tiny").rglob("metrics.json"))
        }

    def __truediv__(self, path):
        return self.folder / path


@functools.cache
def load_script(name):
    """A script of the project as a module."""
    path = ROOT / "scripts" / name
    spec = importlib.util.spec_from_file_location(f"script_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@functools.cache
def preloaded():
    """The process of Snakemake that this one uses."""
    snakemake = PreloadedSnakemake()
    atexit.register(snakemake.close)
    return snakemake


def environment():
    """What a user's shell would have: the project's own code is found by its Snakefile."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def copy_project(folder, study=TINY):
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, folder / part)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, folder / part)
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "src" / "sparsecnn", folder / "src" / "sparsecnn", ignore=ignore)
    return Project(folder, study)
