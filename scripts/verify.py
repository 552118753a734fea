"""Check that a study's files are whole and are what the code here would make of its settings.

    python scripts/verify.py results/<study>
    python scripts/verify.py results/<study> --export study.zip
    python scripts/verify.py study.zip
    snakemake --cores 1 verify                  # the first of these, as a rule

Reads every artifact, compares its content with its hash, and its manifest with the study's
configuration, the present code and the artifacts that it was made from. Prints what is not whole;
the exit status is 0 if all is, 1 if not. `--export` writes a study that is whole as an RO-Crate;
given such a crate, the files in it are compared with their hashes.
"""

import argparse
import logging
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from sparsecnn.artifacts import Manifest, read_json
from sparsecnn.digest import CodeDigest
from sparsecnn.errors import UserError
from sparsecnn.job import run_job
from sparsecnn.study import layout
from sparsecnn.study.config import complete_config
from sparsecnn.study.config_files import read_schema
from sparsecnn.study.crate import check_crate, export_crate
from sparsecnn.study.lineage import WHOLE, Finding, Lineage

if TYPE_CHECKING:
    from snakemake.script import snakemake

logger = logging.getLogger("sparsecnn")


def main() -> int:
    """Print the findings and their number; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("study", type=Path, help="results/<study>, or a crate of one")
    parser.add_argument("--export", type=Path, metavar="CRATE.zip", help="write an RO-Crate")
    arguments = parser.parse_args()
    try:
        if arguments.study.is_file():
            return _print([Finding(Path(k), v) for k, v in check_crate(arguments.study).items()])
        folder = arguments.study.resolve()
        status = _print(verify(folder), folder.parent)
        if arguments.export:
            _export(folder, arguments.export, status)
    except UserError as error:
        sys.exit(f"error: {error}")
    return status


def verify(folder: Path) -> list[Finding]:
    """What is to be said of every artifact; `UserError` if the folder holds no finished study."""
    # Completed again: an older version may have recorded fewer keys than there are now.
    config = complete_config(_provenance(folder).settings["config"], read_schema())
    return list(Lineage(folder.parent, config, CodeDigest.of_this_project(), thorough=True).check())


def _provenance(folder: Path) -> Manifest:
    path = folder / layout.PROVENANCE
    if not path.exists():
        raise UserError(f"{folder}: no finished study (there is no provenance.json); run it first")
    return read_json(path, "provenance")[1]


def _export(folder: Path, target: Path, status: int) -> None:
    if status:
        raise UserError("not exported: the study is not whole")
    project = Path(__file__).resolve().parents[1]
    count = export_crate(folder, _provenance(folder), project, target)
    print(f"{target}: an RO-Crate of {count} files")


def job(table: Path) -> None:
    """The same as a job: log the findings; `UserError` unless all is whole."""
    folder = table.parent.resolve()
    findings = verify(folder)
    for line in _lines(findings, folder.parent):
        logger.info("%s", line)
    if not _whole(findings):
        raise UserError(f"{table.parent} is not whole; delete the files named above and run again")


def _print(findings: list[Finding], root: Path = Path()) -> int:
    print("\n".join(_lines(findings, root)))
    if _whole(findings):
        return 0
    if root.parts:
        print("To mend: delete the files named here and run snakemake again.")
    return 1


def _lines(findings: list[Finding], root: Path) -> Iterator[str]:
    for finding in findings:
        if finding.state != WHOLE:
            path = finding.path.relative_to(root)
            yield f"{finding.state:8} {path}{': ' if finding.reason else ''}{finding.reason}"
    counts = Counter(finding.state for finding in findings)
    yield ", ".join(f"{count} {state}" for state, count in counts.most_common())


def _whole(findings: list[Finding]) -> bool:
    return all(finding.state == WHOLE for finding in findings)


if __name__ == "__main__":
    if "snakemake" in globals():
        run_job(snakemake, job)
    else:
        sys.exit(main())
