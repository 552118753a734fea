import os
from pathlib import Path

import pytest
import torch

from sparsecnn.study.text import plain_table

TABLES = pytest.StashKey()


@pytest.fixture
def tabulate(request):
    """Call with a title, and a row by column; each table is printed when the tests are done."""
    tables = request.config.stash.setdefault(TABLES, {})
    return lambda title, **row: tables.setdefault(title, []).append(row)


def pytest_terminal_summary(terminalreporter, config):
    for title, rows in config.stash.get(TABLES, {}).items():
        terminalreporter.section(f"{title}: {len(rows)}")
        columns = [name.replace("_", " ") for name in rows[0]]
        table = plain_table(columns, [list(row.values()) for row in rows], left=len(columns))
        terminalreporter.write_line(table)


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Many tiny operations: more threads would only wait for each other."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def real_images():
    """Archive of real images: train/<class>/* and test/<class>/*; skips where there is none."""
    path = os.environ.get("SPARSECNN_IMAGES")
    if not path:
        pytest.skip("SPARSECNN_IMAGES does not name an archive of images")
    return Path(path)
