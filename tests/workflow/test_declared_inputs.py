"""No job reads what it does not declare: each runs in a folder that holds only that.

So jobs can run where no file system is shared, and inputs be brought to them.
"""

import shutil

import pytest
from snakemake_project import TINY, copy_project

from sparsecnn.planning.jobs import ordered, read_dry_run

STUDY = TINY | {
    "regimes": {"under_trained": None, "fully_trained": TINY["regimes"]["under_trained"]},
    "variants": TINY["variants"] | {"magnitude": None, "sparsegpt_bn": None},
    "export": {"variants": ["dense", "sparsegpt"]},
}


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def bring(names, source, target):
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source / name, target / name)


def run_alone(project, job, source, study):
    """Run one job in a folder that has no results but its inputs; what it made besides."""
    # What is not under results/ is code: the report's template and the reference's numbers.
    inputs = {name for name in job.inputs if name.startswith("results/")}
    bring(inputs, source, project.folder)
    only = ("--allowed-rules", job.rule, "--force", "--", job.outputs[0])
    project.snakemake(*only, study=study)
    made = {f"results/{name}" for name in files(project / "results")}
    return made - inputs


def test_the_tables_are_made_of_their_declared_inputs_alone(finished, tmp_path):
    jobs = read_dry_run(finished.snakemake("-n", "--forceall"))
    (collect,) = (job for job in jobs if job.rule == "collect")
    made = run_alone(copy_project(tmp_path / "project"), collect, finished.folder, TINY)
    assert made == {*collect.outputs, collect.benchmark}


@pytest.mark.slow
def test_every_job_runs_with_its_declared_inputs_alone(fresh, tmp_path):
    jobs = ordered(read_dry_run(fresh.snakemake("-n", "--forceall", study=STUDY)))
    assert {job.rule for job in jobs} >= {
        "dataset",
        "train",
        "prune",
        "evaluate",
        "export",
        "report",
    }
    store = tmp_path / "store"
    for number, job in enumerate(jobs):
        sandbox = copy_project(tmp_path / str(number))
        assert run_alone(sandbox, job, store, STUDY) == {*job.outputs, job.benchmark}, job
        bring(job.outputs, sandbox.folder, store)
    assert (store / "results/tiny/report/report.md").exists()
