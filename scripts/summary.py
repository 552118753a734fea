"""Say where a study's report is, and print its main table: ``summary.py results/demo``."""

import argparse
import sys
from pathlib import Path

from sparsecnn.errors import UserError
from sparsecnn.study import layout
from sparsecnn.study.metrics import read_results
from sparsecnn.study.tables import headline


def summary(results: Path) -> str:
    """The main table and the paths of the report in a study's results folder."""
    report = results / layout.PAGE
    if not report.is_file():
        raise UserError(
            f"{report} does not exist: run the study first, e.g. "
            "`snakemake --cores all --configfile studies/demo.yaml`"
        )
    translated = sorted(results.glob(layout.TRANSLATED_PAGE.format(language="*")))
    reports = ", ".join(map(str, [report, *translated]))
    return f"{headline(read_results(results / 'metrics.csv'))}\n\nThe report: {reports}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, help="results folder of a study, as results/demo")
    try:
        print(summary(parser.parse_args().results))
    except UserError as error:
        sys.exit(f"error: {error}")
