"""Check a study's configuration without running anything.

    python scripts/check_config.py                                     # config.yaml alone
    python scripts/check_config.py studies/small.yaml mine.yaml        # as --configfile takes them
    python scripts/check_config.py mine.yaml --config 'seeds=[0, 1]'   # as --config takes them

Names every mistake as a run does: by file and line where a file can be read and says something
that no setting can be, and else by key, with what is allowed. Snakemake reads the files of
`--configfile` before any of this project's code runs, so what a run says of one that is no YAML
names neither file nor line.
"""

import argparse
import sys
from pathlib import Path

from snakemake.common.configfile import load_configfile

from sparsecnn.errors import UserError
from sparsecnn.study.config import GIVEN
from sparsecnn.study.config_files import read_study
from sparsecnn.study.layout import trainings
from sparsecnn.study.own_networks import code_problems, weights_problems

PROJECT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Print what the study would be, or each mistake in a line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("files", type=Path, nargs="*", help="what --configfile would name")
    parser.add_argument("--config", nargs="+", default=[], metavar="KEY=VALUE", help="likewise")
    arguments = parser.parse_args()
    try:
        print(check(arguments.files, arguments.config))
    except UserError as error:
        sys.exit(f"error: {error}")


def check(files: list[Path], entries: list[str]) -> str:
    """The study in a sentence; `UserError` with a line per mistake."""
    study = read_study([PROJECT / "config.yaml", *files], entries, load_configfile)
    if wrong := [*code_problems(study), *weights_problems(study)]:
        raise UserError("\n".join(wrong))
    recipes = [training.recipe for training in trainings(study)]
    came, pruned = recipes.count(GIVEN), len(recipes) * len(study["variants"])
    dense = f"{len(recipes) - came} trainings" + (f", {came} given networks" if came else "")
    return f"study {study['study']}: valid; {dense}, {pruned} pruned networks"


if __name__ == "__main__":
    main()
