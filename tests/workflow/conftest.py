import os
import shutil

import pytest
from snakemake_project import EXPORTING, SMALL, Project, copy_project


@pytest.fixture(scope="session")
def finished(made_once, tmp_path_factory):
    """A project with the finished tiny study; tests leave it as it is."""
    original = made_once("finished", lambda folder: copy_project(folder).snakemake())
    folder = tmp_path_factory.mktemp("finished") / "project"
    shutil.copytree(original, folder)
    return Project(folder)


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
def small(finished, made_once, tmp_path):
    """A copy of the finished project in which its smaller part is the finished study."""

    def make(folder):
        shutil.copytree(finished.folder, folder)
        Project(folder, SMALL).snakemake()

    shutil.copytree(made_once("small", make), tmp_path / "small")
    return Project(tmp_path / "small", SMALL)


@pytest.fixture
def exporting(small, made_once, tmp_path):
    """A copy of that in which two networks are exported."""

    def make(folder):
        shutil.copytree(small.folder, folder)
        Project(folder, EXPORTING).snakemake()

    shutil.copytree(made_once("exporting", make), tmp_path / "exporting")
    return Project(tmp_path / "exporting", EXPORTING)


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


@pytest.fixture
def faults(tabulate):
    """Call with a fault, what the user sees and what was lost."""
    return lambda fault, seen, lost: tabulate("faults", fault=fault, the_user_sees=seen, lost=lost)


@pytest.fixture
def reruns(tabulate):
    """Call with a change and the jobs, {rule: count}, that it makes run again."""

    def record(change, jobs):
        listed = ", ".join(f"{count} {rule}" for rule, count in jobs.items())
        tabulate("changes and what they rerun", change=change, jobs=listed or "nothing")

    return record
