"""The plan of a real study: what is cached, what is to be done, how long it would take."""

import re
import subprocess
import sys

import yaml
from snakemake_project import TINY


def plan(project, study, *arguments):
    (project / "study.yaml").write_text(yaml.safe_dump(study))
    return subprocess.run(
        [sys.executable, "scripts/plan.py", "--configfile", "study.yaml", *arguments],
        cwd=project.folder,
        env={"PYTHONPATH": str(project / "src"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def stages(text):
    """Jobs, cached and to do, by stage."""
    rows = re.findall(r"^(\w+) +(\d+) +(\d+) +(\d+) ", text, re.M)
    return {rule: tuple(map(int, numbers)) for rule, *numbers in rows}


def test_one_more_seed_is_planned_by_what_was_recorded(finished):
    run = plan(finished, TINY | {"seeds": [0, 1]}, "--workers", "1", "2")
    assert run.returncode == 0, run.stderr
    text = run.stdout
    found = stages(text)
    assert found["train"] == (4, 2, 2)
    assert found["prune"] == (12, 6, 6)
    assert found["evaluate"] == (16, 8, 8)
    assert found["total"] == (45, 21, 24)
    assert "unknown" not in text
    chain = re.search(r"^Longest chain, .*: (.*)", text, re.M)[1]
    assert chain.startswith("train custom_cnn 2 > prune custom_cnn 2 ")
    assert chain.endswith(" > collect > figures > report > page")
    assert re.search(r"^Disk: \d+ MB, of which \d+ MB are there", text, re.M)
    assert text.splitlines()[-4].split() == ["Jobs", "at", "once", "Wall", "time"]


def test_a_study_of_which_nothing_ran_is_of_unknown_length(fresh):
    run = plan(fresh, TINY)
    assert run.returncode == 0, run.stderr
    assert stages(run.stdout)["total"] == (26, 0, 26)
    assert "Wall time: unknown" in run.stdout
    assert "No job like them has left a benchmark yet" in run.stdout


def test_a_wrong_study_is_refused_without_a_traceback(fresh):
    run = plan(fresh, TINY | {"seedz": [1]})
    assert run.returncode == 1
    assert "seedz: unknown key" in run.stderr
    assert "Traceback" not in run.stderr
