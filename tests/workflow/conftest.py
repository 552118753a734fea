import os
import shutil

import pytest
from snakemake_project import Project, copy_project

from sparsecnn.study.text import plain_table


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A project with the finished tiny study; tests leave it as it is."""
    project = copy_project(tmp_path_factory.mktemp("finished") / "project")
    project.snakemake()
    return project


@pytest.fixture
def fresh(tmp_path):
    """A project in which nothing has run."""
    return copy_project(tmp_path / "project")


@pytest.fixture
def copied(finished, tmp_path):
    """The finished project, copied with its results and Snakemake's records."""
    shutil.copytree(finished.folder, tmp_path / "copy")
    return Project(tmp_path / "copy")


@pytest.fixture
def edited(finished):
    """The finished project; files edited through it are restored."""
    saved = {}

    def edit(path, change):
        file = finished / path
        saved.setdefault(file, (file.read_text(), file.stat()))
        file.write_text(change(file.read_text()))
        return finished

    yield edit
    for file, (text, stat) in saved.items():
        file.write_text(text)
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))


FAULTS = pytest.StashKey()


@pytest.fixture
def faults(request):
    """Call with a fault, what the user sees and what was lost; printed when the tests are done."""
    rows = request.config.stash.setdefault(FAULTS, [])
    return lambda fault, seen, lost: rows.append((fault, seen, lost))


def pytest_terminal_summary(terminalreporter, config):
    rows = config.stash.get(FAULTS, [])
    if rows:
        terminalreporter.section("faults: what the user sees, what is lost")
        terminalreporter.write_line(plain_table(["Fault", "The user sees", "Lost"], rows, left=3))
