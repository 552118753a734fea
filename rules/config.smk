# Needs: config.yaml, the files that --configfile names, and --config.
# Makes: the library importable here and in every job, and `study`, the checked configuration.

import os
import sys

from snakemake.common.configfile import load_configfile
from snakemake.exceptions import WorkflowError

# Snakemake does not quote it in the commands of jobs.
if len(sys.executable.split()) > 1:
    raise WorkflowError(
        f"no job can start: the path of Python, {sys.executable}, has a space in it; move the "
        "environment (or, if it is in .venv, the project's folder) to a path without"
    )

SOURCE = Path(workflow.basedir) / "src"
sys.path.insert(0, str(SOURCE))
# Jobs import the library from here, with or without an installation, on any node, and begin with
# startup/sitecustomize.py.
for_jobs = [SOURCE, Path(workflow.basedir) / "scripts" / "startup"]
os.environ.update(
    PYTHONPATH=os.pathsep.join(
        [*map(str, for_jobs), os.environ.get("PYTHONPATH", "")]
    ).rstrip(os.pathsep)
)
# Else glibc returns every large tensor to the system, to fault it in anew a moment later: a tenth to
# a quarter of a training on CPUs (docs/results/2026-11-26-bfloat16-training-cpu). Only together: the
# second without the first makes it worse. 32 MiB is the most that every glibc takes.
os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(32 * 2**20))
os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", str(2**30))

from sparsecnn.errors import UserError
from sparsecnn.study.config_files import read_study

# Read here a second time: Snakemake, which read the files before, names no place of a mistake, takes
# 2:4 for a number and gives nested settings of --config as text. `config`, its own, goes unused.
files = list(map(Path, workflow.configfiles))
if not workflow.config_settings.replace_workflow_config:
    files.insert(0, Path(workflow.basedir) / "config.yaml")
try:
    study = read_study(files, workflow.config_settings.config_args, load_configfile)
except UserError as error:  # shown as Snakemake's own are, without a traceback
    raise WorkflowError(f"wrong configuration\n{error}") from None


configfile: Path(workflow.basedir) / "config.yaml"
