"""Check a study's configuration without running anything.

    python scripts/check_config.py                                     # config.yaml alone
    python scripts/check_config.py studies/small.yaml mine.yaml        # as --configfile takes them

Names every mistake by file and line where a file cannot be read, and else by key, with what is
allowed. Snakemake reads the files of `--configfile` before any of this project's code runs, so
what it says of one that is no YAML names neither file nor line.
"""

import argparse
import sys
from pathlib import Path

from snakemake.utils import update_config

from sparsecnn.errors import UserError
from sparsecnn.study.config import complete_config
from sparsecnn.study.config_files import read_config, read_schema
from sparsecnn.study.layout import trainings

PROJECT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Print what the study would be, or each mistake in a line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("files", type=Path, nargs="*", help="what --configfile would name")
    try:
        print(check(parser.parse_args().files))
    except UserError as error:
        sys.exit(f"error: {error}")


def check(files: list[Path]) -> str:
    """The study in a sentence; `UserError` with a line per mistake."""
    config = read_config(PROJECT / "config.yaml")
    for file in files:
        update_config(config, read_config(file))
    study = complete_config(config, read_schema())
    dense = len(trainings(study))
    pruned = dense * len(study["variants"])
    return f"study {study['study']}: valid; {dense} trainings, {pruned} pruned networks"


if __name__ == "__main__":
    main()
