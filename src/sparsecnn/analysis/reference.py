"""The reference study's published numbers, and how a study differs from it."""

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sparsecnn.analysis.results import Cell, Results
from sparsecnn.report.language import gettext as _
from sparsecnn.report.text import escaped
from sparsecnn.study.config import DENSE

DATA = "CIFAR-10"
LAYOUT = "flattened"
SOLVER = "static_obs"
"""Our imitation of the update that the reference calls SparseGPT."""


@dataclass(frozen=True)
class Published:
    """What the reference reports for one network at one budget; accuracies in percent."""

    epochs: str
    """The budget as published, a range over the three networks: ``5-7``."""
    dense: float
    methods: Mapping[str, tuple[float, float]]
    """Accuracy and drop of each pruning method."""

    def pruned(self, methods: Iterable[str]) -> list[tuple[float, float]]:
        """Accuracy and drop of each of these methods."""
        return [self.methods[method] for method in methods]


def read_reference(path: Path) -> dict[Cell, Published]:
    """Read the published table: columns regime, epochs, model, method, top1, drop."""
    with path.open(encoding="utf-8", newline="") as file:
        records = list(csv.DictReader(file))
    published = {}
    for record in records:
        cell = Cell(record["regime"], record["model"])
        own = [r for r in records if (r["regime"], r["model"]) == cell]
        published[cell] = Published(
            record["epochs"],
            next(float(r["top1"]) for r in own if r["method"] == DENSE),
            {r["method"]: (float(r["top1"]), float(r["drop"])) for r in own if r["drop"]},
        )
    return published


def shared_methods(results: Results, published: Mapping[Cell, Published]) -> dict[str, str]:
    """Published methods that the study has too, each with our variant; empty if there is none."""
    cells = [cell for cell in results.cells if cell in published]
    methods = list(published[cells[0]].methods) if cells else []
    variants = {method: results.variant_of(method) for method in methods}
    return {method: variant for method, variant in variants.items() if variant is not None}


def imitations(results: Results, methods: Iterable[str]) -> dict[str, str]:
    """The variants closest to the reference's own: its layout and, for SparseGPT, its update.

    Empty if the study has none with its update.
    """
    wanted = {method: SOLVER if method == "sparsegpt" else method for method in methods}
    found = {method: results.variant_of(ours, LAYOUT) for method, ours in wanted.items()}
    if found.get("sparsegpt") is None:
        return {}
    return {method: variant for method, variant in found.items() if variant is not None}


def differences(
    results: Results, published: Mapping[Cell, Published], calibration_images: int
) -> list[str]:
    """In what the compared cells differ from the reference: one phrase for each difference."""
    cells = [cell for cell in results.cells if cell in published]
    shared = shared_methods(results, published)
    rows = [
        row for cell in cells for variant in shared.values() for row in results.of(cell, variant)
    ]
    found = []
    label = results.rows[0].dataset
    if label != DATA:
        here = escaped(label)
        found.append(_("data: {here} here, {there} there").format(here=here, there=DATA))
    narrow = sorted({f"{row.model} {row.width:g}" for row in rows if row.width != 1})
    if narrow:
        words = _("width of the networks: {here} here, 1 there")
        found.append(words.format(here=", ".join(narrow)))
    budgets = [
        _("{cell} {here} here, {there} there").format(
            cell=cell, here=results.epochs(cell), there=published[cell].epochs
        )
        for cell in cells
        if not _within(results.epochs(cell), published[cell].epochs)
    ]
    if budgets:
        found.append(_("epochs: {differences}").format(differences="; ".join(budgets)))
    patterns = sorted({row.pattern for row in rows if row.pattern != "2:4"})
    if patterns:
        found.append(_("pattern: {here} here, 2:4 there").format(here=", ".join(patterns)))
    layouts = sorted({row.layout for row in rows if row.layout != LAYOUT})
    if layouts:
        words = _("groups of a convolution's weights: {here} here, {there} there")
        found.append(words.format(here=", ".join(layouts), there=LAYOUT))
    if "sparsegpt" in shared:
        words = _("SparseGPT: `{variant}` here, an update with one static inverse Hessian there")
        found.append(words.format(variant=shared["sparsegpt"]))
    words = _("calibration images: {here} as they are here, 1,024 augmented ones there")
    found.append(words.format(here=f"{calibration_images:,}"))
    found.append(_("weights: of the last epoch here, of the best epoch on the test set there"))
    return found


def _within(epochs: int, published: str) -> bool:
    low, high = (int(bound) for bound in published.split("-"))
    return low <= epochs <= high
