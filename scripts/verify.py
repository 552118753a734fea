"""Check that a study's files are whole and are what the code here would make of its settings.

    python scripts/verify.py results/<study>                    # of those that were recorded
    python scripts/verify.py results/<study> --configfile studies/small.yaml mine.yaml
    python scripts/verify.py results/<study> --export study.zip
    python scripts/verify.py study.zip
    snakemake --cores 1 verify                                  # of the configuration as it is now

Reads every artifact, compares its content with its hash, and its manifest with the study's
settings, the present code and the artifacts that it was made from. The settings are those that
provenance.json records, or those of the configuration, given as for snakemake. The folder may lie
anywhere, under any name, that of its baselines beside it. Prints what is not whole; the exit status
is 0 if all is, 1 if not. `--export` writes a study that is whole as an RO-Crate. The files of a
crate are compared with their hashes.
"""

import argparse
import logging
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsecnn.artifacts import Manifest, read_json, read_manifest
from sparsecnn.digest import CodeDigest
from sparsecnn.errors import ArtifactError, UserError
from sparsecnn.job import run_job
from sparsecnn.own_files import look_in
from sparsecnn.study import layout
from sparsecnn.study.config import complete_config
from sparsecnn.study.config_files import read_schema, read_study
from sparsecnn.study.crate import check_crate, export_crate
from sparsecnn.study.lineage import WHOLE, Finding, Lineage
from sparsecnn.study.own_networks import given_contents
from sparsecnn.study.sources import CHANGED, UNSEEN, state_of_source

if TYPE_CHECKING:
    from snakemake.script import snakemake

logger = logging.getLogger("sparsecnn")
PROJECT = Path(__file__).resolve().parents[1]


def main() -> int:
    """Print the findings and their number; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("study", type=Path, help="results/<study>, or a crate of one")
    parser.add_argument(
        "--configfile", type=Path, nargs="+", metavar="FILE", help="compare with these settings"
    )
    parser.add_argument("--export", type=Path, metavar="CRATE.zip", help="write an RO-Crate")
    arguments = parser.parse_args()
    try:
        if arguments.study.is_file():
            return _check_crate(arguments)
        status = _check_study(arguments.study, arguments.configfile)
        if arguments.export:
            _export(_folder(arguments.study), arguments.export, status)
    except UserError as error:
        sys.exit(f"error: {error}")
    return status


def _check_crate(arguments: argparse.Namespace) -> int:
    for option in ("configfile", "export"):
        if getattr(arguments, option):
            raise UserError(
                f"{arguments.study}: the files of a crate are compared with their hashes alone; "
                f"leave out --{option}, or name a study's folder"
            )
    findings = [Finding(Path(k), v) for k, v in check_crate(arguments.study).items()]
    return _print(findings, "their hashes")


def _check_study(study: Path, files: Sequence[Path] | None) -> int:
    config = None
    settings = f"the settings recorded in {study / layout.PROVENANCE}"
    if files:
        config = configuration(files)
        settings = " and ".join(dict.fromkeys(["config.yaml", *map(str, files)]))
        if config["study"] != _folder(study).name:
            raise UserError(
                f"{study}: {settings} describe the study {config['study']}; name its folder, or a "
                f"file with `study: {_folder(study).name}`"
            )
    findings = verify(study, config)
    status = _print(findings, settings, _folder(study).parent)
    if status:
        print(f"To mend: {_advice(findings)}.")
    return status


def configuration(files: Sequence[Path]) -> dict[str, Any]:
    """The checked configuration of config.yaml and `files`, read as the Snakefile reads it."""
    from snakemake.common.configfile import load_configfile

    return read_study([PROJECT / "config.yaml", *files], [], load_configfile)


def verify(study: Path, config: Mapping[str, Any] | None = None) -> list[Finding]:
    """What is to be said of every artifact; `UserError` if the folder holds no finished study.

    `config` is a checked configuration; without it, the one on record is taken.
    """
    folder, recorded = _folder(study), config is None
    value, manifest = _provenance(study)
    if config is None:
        config = _recorded_config(value, manifest)
        look_in(value.get("beside", []))
    base = layout.baselines_folder(folder, config)
    if not base.is_dir():
        raise UserError(
            f"{study}: its dataset and dense networks are those of the study {base.name}, which is "
            f"not there; put the folder {base.name} beside it ({base})"
        )
    source, held = _source(base, config)
    content = manifest.settings.get("content") if recorded else held
    weights = (
        manifest.settings.get("weights")
        if recorded
        else given_contents(config, base, logger.warning)
    )
    digest = CodeDigest.of_this_project()
    lineage = Lineage(
        folder, config, digest, content, weights=weights, thorough=True, recorded=recorded
    )
    return [*source, *lineage.check()]


def _recorded_config(value: Mapping[str, Any], manifest: Manifest) -> dict[str, Any]:
    """The configuration on record, with where the source lay when the dataset was made."""
    config = manifest.settings["config"]
    dataset = {"source": value.get("source"), **config["dataset"]}
    # Completed again: an older version may have recorded fewer keys than there are now.
    return complete_config({**config, "dataset": dataset}, read_schema())


def _source(base: Path, config: Mapping[str, Any]) -> tuple[list[Finding], str | None]:
    """What is to be said of the source, or of the archive that was downloaded; what it holds."""
    own = config["dataset"]
    try:
        read = read_manifest(base / layout.DATASET, "dataset").settings.get("content")
    except ArtifactError:  # which has a finding of its own
        return [], None
    if own["source"] is None:
        return _download(base.parent / "downloads", own["name"]), None
    state, reason, now = state_of_source(own, read)
    return [Finding(Path(own["source"]), state, reason)], now or read


def _download(folder: Path, name: str) -> list[Finding]:
    from sparsecnn.data import cifar  # brings in torch

    official = {"cifar10": cifar.CIFAR10, "cifar100": cifar.CIFAR100}.get(name)
    if official is None:
        return []
    path = folder / official.filename
    if not path.exists():
        return [Finding(path, UNSEEN, "it is not there, so it could not be looked at")]
    try:
        cifar.verify(path, official)
    except UserError as error:
        return [Finding(path, "broken", str(error))]
    return [Finding(path, WHOLE, "it is the official archive")]


def _folder(study: Path) -> Path:
    """With its name, even for `.`; links are kept, since baselines lie beside the link."""
    return study.absolute()


def _provenance(study: Path) -> tuple[dict[str, Any], Manifest]:
    path = study / layout.PROVENANCE
    if not path.exists():
        raise UserError(f"{study}: no finished study (there is no provenance.json); run it first")
    return read_json(path, "provenance")


def _export(folder: Path, target: Path, status: int) -> None:
    if status:
        raise UserError("not exported: the study is not whole")
    count = export_crate(folder, _provenance(folder)[1], PROJECT, target)
    print(f"{target}: an RO-Crate of {count} files")


def job(table: Path, settings: dict[str, Any]) -> None:
    """The same as a job, with the configuration in `settings`; `UserError` unless all is whole."""
    folder = table.parent
    findings = verify(folder, settings["config"])
    for line in _lines(findings, "the study's configuration", _folder(folder).parent):
        logger.info("%s", line)
    if not _whole(findings):
        raise UserError(f"{folder} is not whole: {_advice(findings)}")


def _print(findings: list[Finding], settings: str, root: Path = Path()) -> int:
    print("\n".join(_lines(findings, settings, root)))
    return 0 if _whole(findings) else 1


def _lines(findings: list[Finding], settings: str, root: Path) -> Iterator[str]:
    for finding in findings:
        if finding.state != WHOLE or finding.reason:
            path = finding.path
            shown = path.relative_to(root) if path.is_relative_to(root) else path
            yield f"{finding.state:8} {shown}{': ' if finding.reason else ''}{finding.reason}"
    counts = Counter(finding.state for finding in findings)
    counted = ", ".join(f"{count} {state}" for state, count in counts.most_common())
    yield f"{counted}; compared with {settings}"


def _whole(findings: list[Finding]) -> bool:
    return all(finding.state in (WHOLE, UNSEEN) for finding in findings)


def _advice(findings: list[Finding]) -> str:
    """What to do about what is not whole; a source is the user's, and nothing to delete."""
    for finding in findings:
        if finding.state == CHANGED:
            return f"put back what {finding.path} held, or run snakemake to make the study anew"
    return "delete the files named here and run snakemake again"


if __name__ == "__main__":
    if "snakemake" in globals():
        run_job(snakemake, job)
    else:
        sys.exit(main())
