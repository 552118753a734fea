"""Whether the files of a study are what its configuration and the present code would make."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from sparsecnn.artifacts import (
    Manifest,
    Origin,
    check_file,
    check_origin,
    check_parents,
    file_sha256,
    read_json,
    read_manifest,
    read_table,
    read_tensors,
)
from sparsecnn.digest import CodeDigest
from sparsecnn.errors import ArtifactError
from sparsecnn.study import layout
from sparsecnn.study.config import DENSE, GIVEN, diagnosed, exported
from sparsecnn.study.layout import Training
from sparsecnn.study.record import check_record
from sparsecnn.study.stages import Stages

WHOLE = "whole"


@dataclass(frozen=True)
class Finding:
    """What is to be said of one file."""

    path: Path
    state: str
    """``whole``, or the state of the `ArtifactError`."""
    reason: str = ""
    manifest: Manifest | None = None
    """Of a file of tensors that could be read."""


def judge(path: Path, read: Callable[[], object]) -> Finding:
    """What is to be said of a file that `read` reads and checks."""
    try:
        read()
    except ArtifactError as error:
        return Finding(path, error.state, error.reason)
    return Finding(path, WHOLE)


class Lineage:
    """Checks the artifacts of one study, each against its settings, its code and its parents.

    Parameters
    ----------
    folder
        That of the study's results, whatever it is called.
    config
        A checked configuration.
    digest
        Of the present source tree.
    content
        Hash of what the dataset's source holds; None without a source.
    thorough
        Whether all content is read and compared with its hash; without it, of files of tensors
        the manifest alone is read, which takes milliseconds, and what no table is made of is left
        out: the summary of the dataset, histories, and the report, which is yet to be made anew.
    weights
        Hash of the weights of each model that comes with some.
    recorded
        Whether `config` was read from the study's own provenance.json, whose settings then say
        nothing new.
    """

    def __init__(
        self,
        folder: Path,
        config: Mapping[str, Any],
        digest: CodeDigest,
        content: str | None,
        *,
        weights: Mapping[str, str] | None = None,
        thorough: bool,
        recorded: bool = False,
    ) -> None:
        self._config, self._thorough, self._recorded = config, thorough, recorded
        self._stages = Stages(config, digest, content, weights)
        self._base, self._own = layout.baselines_folder(folder, config), folder
        self._measured: dict[str, str] = {}
        """`content` of the metrics and diagnostics met so far, as the tables' parents."""

    def check(self) -> Iterator[Finding]:
        """Every artifact in the order of making; what has a bad parent is judged by itself."""
        yield from self._dataset()
        for training in layout.trainings(self._config):
            yield from self._training(training)
        if self._thorough:
            yield from self._report()

    def require_whole(self) -> list[Manifest]:
        """Manifests of all files of tensors; `ArtifactError` for the first file not whole."""
        manifests = []
        for finding in self.check():
            if finding.state != WHOLE:
                raise ArtifactError(finding.path, finding.state, finding.reason)
            if finding.manifest:
                manifests.append(finding.manifest)
        return manifests

    def _dataset(self) -> Iterator[Finding]:
        path = self._base / layout.DATASET
        finding = self._tensors(path, "dataset", self._stages.dataset(), {})
        self._data = finding.manifest
        yield finding
        if self._thorough:
            summary = self._base / layout.DATASET_SUMMARY
            parents = {"dataset": self._data}
            yield self._json(summary, "dataset_summary", self._stages.dataset(), parents)
        self._calibration: dict[int, Manifest | None] = {}
        for seed in self._config["seeds"]:
            path = self._base / layout.CALIBRATION.format(seed=seed)
            origin = self._stages.calibration(seed)
            finding = self._tensors(path, "calibration", origin, {"dataset": self._data})
            self._calibration[seed] = finding.manifest
            yield finding

    def _training(self, training: Training) -> Iterator[Finding]:
        names = training._asdict()
        path = self._base / layout.DENSE.format(**names)
        origin = self._stages.dense(*training)
        finding = self._tensors(path, "dense", origin, {"dataset": self._data})
        dense = finding.manifest
        yield finding
        if dense and self._thorough and training.recipe != GIVEN:
            history = self._base / layout.HISTORY.format(**names)
            yield judge(history, partial(read_table, history, dense))
        yield self._metrics(training, DENSE, {"network": dense})
        yield from self._exports(training, DENSE, dense)
        networks = {"dense": dense}
        for variant in self._config["variants"]:
            origin = self._stages.pruned(*training, variant)
            path = self._own / layout.PRUNED.format(**names, variant=variant)
            parents = {"dense": dense, "calibration": self._calibration[training.seed]}
            finding = self._tensors(path, "pruned", origin, parents)
            yield finding
            if finding.manifest:
                layers = self._own / layout.LAYERS.format(**names, variant=variant)
                yield judge(layers, partial(read_table, layers, finding.manifest))
            measured = {"network": finding.manifest, "dense": dense}
            yield self._metrics(training, variant, measured)
            yield from self._exports(training, variant, finding.manifest)
            networks[f"pruned/{variant}"] = finding.manifest
        if diagnosed(self._config) is not None:
            yield self._diagnostics(training, networks)

    def _metrics(
        self, training: Training, network: str, networks: Mapping[str, Manifest | None]
    ) -> Finding:
        path = self._own / layout.METRICS.format(**training._asdict(), network=network)
        origin = self._stages.metrics(training.model, network)
        parents = {"dataset": self._data, **networks}
        return self._json(path, "metrics", origin, parents, path.parent)

    def _exports(
        self, training: Training, network: str, weights: Manifest | None
    ) -> Iterator[Finding]:
        """The record of an exported network, and the files that it names; no table needs these."""
        names = {**training._asdict(), "network": network}
        record = self._own / layout.EXPORTED.format(**names)
        # provenance.json does not say what was exported: no number depends on it.
        wanted = record.exists() if self._recorded else network in exported(self._config)
        if not wanted or not self._thorough:
            return

        def read() -> None:
            _, made = read_json(record, "exported")
            export = made.settings if self._recorded else self._config["export"]
            check_origin(record, made, self._stages.exported(training.model, network, export))
            check_parents(record, made, _known({"dataset": self._data, "network": weights}))

        def read_recorded(path: Path) -> None:
            check_file(path, read_json(record, "exported")[1])

        finding = judge(record, read)
        yield finding
        for name in layout.EXPORTS[:-1] if finding.state == WHOLE else ():
            path = self._own / name.format(**names)
            yield judge(path, partial(read_recorded, path))

    def _diagnostics(self, training: Training, networks: Mapping[str, Manifest | None]) -> Finding:
        path = self._own / layout.DIAGNOSTICS.format(**training._asdict())
        roles = ["dense", *(f"pruned/{variant}" for variant in diagnosed(self._config) or [])]
        parents = {"dataset": self._data, **{role: networks[role] for role in roles}}
        origin = self._stages.diagnostics(training.model)
        return self._json(path, "diagnostics", origin, parents, path)

    def _report(self) -> Iterator[Finding]:
        """The record of the tables, these themselves, and the verdicts drawn from them."""
        record, verdicts = self._own / layout.PROVENANCE, self._own / layout.CLAIMS
        tables = [self._own / layout.TABLE]
        if diagnosed(self._config) is not None:
            tables.append(self._own / layout.DIAGNOSTICS_TABLE)

        def read_record() -> None:
            _, made = read_json(record, "provenance")
            origin = self._stages.provenance()
            # Of an older version's record, settings that it lacks have their defaults.
            settings = made.settings if self._recorded else origin.settings
            check_record(record, made, Origin(settings, origin.code))
            check_parents(record, made, self._measured)

        def read_recorded(path: Path) -> None:
            _, made = read_json(record, "provenance")
            read_table(path, made)

        def read_verdicts() -> None:
            _, manifest = read_json(verdicts, "claims", self._stages.claims())
            parents = {path.stem: file_sha256(path) for path in tables if path.is_file()}
            check_parents(verdicts, manifest, parents)

        yield judge(record, read_record)
        for path in tables:
            yield judge(path, partial(read_recorded, path))
        yield judge(verdicts, read_verdicts)

    def _json(
        self,
        path: Path,
        kind: str,
        origin: Origin,
        parents: Mapping[str, Manifest | None],
        role: Path | None = None,
    ) -> Finding:
        """What is to be said of a JSON file; `role` is what the tables call it as a parent."""

        def read() -> None:
            _, manifest = read_json(path, kind, origin)
            check_parents(path, manifest, _known(parents))
            if role:
                self._measured[role.relative_to(self._own).as_posix()] = manifest.content

        return judge(path, read)

    def _tensors(
        self, path: Path, kind: str, origin: Origin, parents: Mapping[str, Manifest | None]
    ) -> Finding:
        """What is to be said of a file of tensors, with its manifest if it has one."""
        manifest = None

        def read() -> None:
            nonlocal manifest
            manifest = read_tensors(path, kind)[1] if self._thorough else read_manifest(path, kind)
            check_origin(path, manifest, origin)
            check_parents(path, manifest, _known(parents))

        return replace(judge(path, read), manifest=manifest)


def _known(parents: Mapping[str, Manifest | None]) -> dict[str, str]:
    """Content of those that could be read; the others have findings of their own."""
    return {role: manifest.content for role, manifest in parents.items() if manifest}
