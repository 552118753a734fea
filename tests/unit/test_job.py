import logging
from pathlib import Path
from types import SimpleNamespace

import pytest

from sparsecnn.errors import UserError
from sparsecnn.job import run_job


@pytest.fixture(autouse=True)
def logging_restored():
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    for handler in set(root.handlers) - set(before):
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

    run_job(job, main)
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
        run_job(job, main)
    assert error.value.code == 1
    for text in (log(job), capsys.readouterr().err):
        assert "error: calibration.images: 0 is not possible" in text
        assert "Traceback" not in text


def test_a_defect_leaves_its_traceback_in_the_log(job):
    def main():
        raise ZeroDivisionError("by zero")

    with pytest.raises(SystemExit):
        run_job(job, main)
    assert "ZeroDivisionError: by zero" in log(job)


def test_what_the_rule_does_not_give_is_a_defect(job):
    def main(weights):
        raise AssertionError("must not be called")

    with pytest.raises(SystemExit):
        run_job(job, main)
    assert "missing 1 required positional argument: 'weights'" in log(job)
