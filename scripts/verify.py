"""Check that a study's files are whole and are what the code here would make of its settings.

    python scripts/verify.py results/<study>

Reads every artifact, compares its content with its hash, and its manifest with the study's
configuration, the present code and the artifacts that it was made from. Prints what is not whole;
the exit status is 0 if all is, 1 if not.
"""

import argparse
import sys
from collections import Counter
from pathlib import Path

from sparsecnn.artifacts import read_json, read_table
from sparsecnn.digest import CodeDigest
from sparsecnn.errors import ArtifactError, UserError
from sparsecnn.study.lineage import WHOLE, Finding, Lineage


def main() -> int:
    """Print the findings and their number; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("study", type=Path, help="folder of a study, results/<study>")
    folder = parser.parse_args().study.resolve()
    try:
        findings = verify(folder)
    except UserError as error:
        sys.exit(f"error: {error}")
    for finding in findings:
        if finding.state != WHOLE:
            print(f"{finding.state:8} {finding.path.relative_to(folder.parent)}: {finding.reason}")
    counts = Counter(finding.state for finding in findings)
    print(", ".join(f"{count} {state}" for state, count in counts.most_common()))
    if set(counts) == {WHOLE}:
        return 0
    print("To mend: delete the files named here and run snakemake again.")
    return 1


def verify(folder: Path) -> list[Finding]:
    """What is to be said of every artifact; `UserError` if the folder holds no finished study."""
    provenance = folder / "provenance.json"
    if not provenance.exists():
        raise UserError(f"{folder}: no finished study (there is no provenance.json); run it first")
    _, manifest = read_json(provenance, "provenance")
    config = manifest.settings["config"]
    lineage = Lineage(folder.parent, config, CodeDigest.of_this_project(), thorough=True)
    findings = list(lineage.check())
    table = folder / "metrics.csv"
    try:
        read_table(table, manifest)
        findings.append(Finding(table, WHOLE))
    except ArtifactError as error:
        findings.append(Finding(table, error.state, error.reason))
    return findings


if __name__ == "__main__":
    sys.exit(main())
