"""Print a finished study's main table and where its report is: ``summary.py results/demo``."""

import argparse
import sys
from pathlib import Path

from sparsecnn.errors import UserError
from sparsecnn.report.summary import summary

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, help="results folder of a study, as results/demo")
    try:
        print(summary(parser.parse_args().results))
    except UserError as error:
        sys.exit(f"error: {error}")
