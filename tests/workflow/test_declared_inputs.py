"""No job reads what it does not declare: each runs in a folder that holds only that.

So jobs can run where no file system is shared, and inputs be brought to them.
"""

import shutil

import pytest
from snakemake_project import TINY, copy_project

from sparsecnn.study.jobs import ordered, read_dry_run

pytestmark = pytest.mark.slow

STUDY = TINY | {
    "regimes": {"under_trained": None, "fully_trained": TINY["regimes"]["under_trained"]},
    "variants": TINY["variants"] | {"magnitude": None, "sparsegpt_bn": None},
}


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def bring(names, source, target):
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source / name, target / name)


def test_every_job_runs_with_its_declared_inputs_alone(fresh, tmp_path):
    jobs = ordered(read_dry_run(fresh.snakemake("-n", "--forceall", study=STUDY)))
    assert {job.rule for job in jobs} >= {"dataset", "train", "prune", "evaluate", "report"}
    store = tmp_path / "store"
    for number, job in enumerate(jobs):
        sandbox = copy_project(tmp_path / str(number))
        # What is not under results/ is code: the report's template and the reference's numbers.
        bring([name for name in job.inputs if name.startswith("results/")], store, sandbox.folder)
        code = files(sandbox.folder)
        only = ("--allowed-rules", job.rule, "--force", "--", job.outputs[0])
        sandbox.snakemake(*only, study=STUDY)
        made = files(sandbox / "results")
        declared = {name.removeprefix("results/") for name in (*job.outputs, job.benchmark)}
        before = {name.removeprefix("results/") for name in code if name.startswith("results/")}
        assert made - before == declared, job
        bring(job.outputs, sandbox.folder, store)
    assert (store / "results/tiny/report/report.md").exists()
