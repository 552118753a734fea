# Needs: config.yaml, and the files that --configfile names.
# Makes: the library importable here and in every job, and `study`, the checked configuration.

import os
import sys

import yaml
from snakemake.exceptions import WorkflowError

SOURCE = Path(workflow.basedir) / "src"
# Jobs import the library from here, with or without an installation, on any node.
sys.path.insert(0, str(SOURCE))
os.environ.update(
    PYTHONPATH=os.pathsep.join([str(SOURCE), os.environ.get("PYTHONPATH", "")]).rstrip(
        os.pathsep
    )
)

from sparsecnn.errors import UserError
from sparsecnn.study.config import complete_config
from sparsecnn.study.config_files import read_config


def check_files(*paths):
    """Name the place of a mistake, which Snakemake's own reader does not."""
    for path in paths:
        try:
            read_config(Path(path))
        except UserError as error:
            raise WorkflowError(f"wrong configuration\n{error}") from None


def checked_config():
    schema = Path(workflow.basedir) / "schemas/config.schema.yaml"
    try:
        return complete_config(config, yaml.safe_load(schema.read_text()))
    except UserError as error:
        raise WorkflowError(f"wrong configuration\n{error}") from None


check_files(Path(workflow.basedir) / "config.yaml", *workflow.configfiles)


configfile: Path(workflow.basedir) / "config.yaml"


study = checked_config()
