import logging
from pathlib import Path
from types import SimpleNamespace

import pytest

from sparsecnn.errors import UserError
from sparsecnn.job import run_job


def run(job, main):
    """run_job as in a process of its own, where logging is not set up yet."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    root.handlers.clear()
    try:
        run_job(job, main)
    finally:
        for handler in root.handlers:
            handler.close()
        root.handlers[:] = before
        root.setLevel(level)


@pytest.fixture
def job(tmp_path):
    return SimpleNamespace(
        input={"dataset": "in.safetensors", "metrics": ["a.json", "b.json"], "none": []},
        output={"table": "out.csv"},
        params={"settings": {"seed": 1}, "code": "abc"},
        resources={"device": "cpu", "mem_mb": 100},
        log=[str(tmp_path / "logs" / "job.log")],
        threads=1,
    )


def log(job):
    return Path(job.log[0]).read_text(encoding="utf-8")


def test_main_gets_what_it_names(job, tmp_path):
    got = {}

    def main(dataset, metrics, none, table, settings, code, device, layers=None):
        got.update(locals())

    run(job, main)
    assert str(got["dataset"]) == "in.safetensors"
    assert [path.name for path in got["metrics"]] == ["a.json", "b.json"]
    assert got["none"] == []
    assert got["table"].name == "out.csv"
    assert (got["settings"], got["code"], got["device"]) == ({"seed": 1}, "abc", "cpu")
    assert got["layers"] is None
    assert "finished in" in log(job)


def test_a_users_mistake_ends_in_one_line(job, capsys):
    def main():
        raise UserError("calibration.images: 0 is not possible")

    with pytest.raises(SystemExit) as error:
        run(job, main)
    assert error.value.code == 1
    for text in (log(job), capsys.readouterr().err):
        assert "error: calibration.images: 0 is not possible" in text
        assert "Traceback" not in text


def test_a_defect_leaves_its_traceback_in_the_log(job):
    def main():
        raise ZeroDivisionError("by zero")

    with pytest.raises(SystemExit):
        run(job, main)
    assert "ZeroDivisionError: by zero" in log(job)
