"""The few lines that a finished study ends with."""

import sys
from pathlib import Path

from sparsecnn.analysis.results import read_results
from sparsecnn.errors import UserError
from sparsecnn.report.tables import headline
from sparsecnn.study import layout


def summary(results: Path) -> str:
    """The main table of a study's results folder, the paths of the report, what to do next.

    Raises `UserError` if there is no report.
    """
    report = results / layout.PAGE
    if not report.is_file():
        raise UserError(
            f"{report} does not exist: run the study first, e.g. "
            "`snakemake --cores all --configfile studies/demo.yaml`"
        )
    translated = sorted(results.glob(layout.TRANSLATED_PAGE.format(language="*")))
    return "\n".join(
        [
            headline(read_results(results / layout.TABLE)),
            "",
            f"The report: {', '.join(map(str, [report, *translated]))}",
            "",
            "Try next:",
            f"  {_python()} scripts/verify.py {results}",
            "      whether every file is what code and settings would make, read anew",
            f"  {_python()} scripts/plan.py --configfile studies/small.yaml",
            "      what the study of real images at a quarter of the width would take",
        ]
    )


def _python() -> str:
    """How to call the interpreter that runs now: by its path if it lies in the present folder."""
    path = Path(sys.executable)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else "python"
