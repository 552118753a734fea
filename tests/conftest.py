import os
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from tabulate import tabulate as text_table

ROW = "row of the table: "


@pytest.fixture
def tabulate(request):
    """Call with a title, and a row by column; each table is printed when the tests are done."""
    # Properties of a test are what its worker sends on.
    return lambda title, **row: request.node.user_properties.append((ROW + title, row))


@pytest.fixture
def inputs(tabulate):
    """Call with an input that people have and what the user sees of it."""

    def clipped(text, width):
        line = " ".join(str(text).split())
        return line if len(line) <= width else f"{line[: width - 4]} ..."

    return lambda given, seen: tabulate(
        "inputs", input=clipped(given, 72), the_user_sees=clipped(seen, 220)
    )


def pytest_terminal_summary(terminalreporter):
    tables = {}
    ended = [r for r in terminalreporter.getreports("") if r.when == "teardown"]
    for report in sorted(ended, key=lambda report: report.nodeid):
        for name, row in report.user_properties:
            if name.startswith(ROW):
                tables.setdefault(name.removeprefix(ROW), []).append(row)
    for title, rows in tables.items():
        terminalreporter.section(f"{title}: {len(rows)}")
        columns = [name.replace("_", " ") for name in rows[0]]
        values = [list(row.values()) for row in rows]
        terminalreporter.write_line(text_table(values, columns, disable_numparse=True))


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Many tiny operations: more threads would only wait for each other."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def made_once(tmp_path_factory, worker_id):
    """Call with a name and a function that fills a folder: the folder, made by one worker for all.

    Nobody may change what is in it.
    """
    base = tmp_path_factory.getbasetemp()
    shared = base if worker_id == "master" else base.parent

    def folder(name, make):
        path, done = shared / f"made-once-{name}", shared / f"made-once-{name}.done"
        with FileLock(f"{path}.lock"):
            if not done.exists():
                make(path)
                done.touch()
        return path

    return folder


@pytest.fixture(scope="session")
def real_images():
    """Archive of real images: train/<class>/* and test/<class>/*; skips where there is none."""
    path = os.environ.get("SPARSECNN_IMAGES")
    if not path:
        pytest.skip("SPARSECNN_IMAGES does not name an archive of images")
    return Path(path)
