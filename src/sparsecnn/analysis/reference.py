"""The reference study's published numbers, and how a study differs from it."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from sparsecnn.analysis.results import Cell, Results
from sparsecnn.analysis.tables import read_csv
from sparsecnn.study.config import DENSE, VARIANT_ONLY, variant_settings

DATA = "CIFAR-10"
LAYOUT = "flattened"
SOLVER = "static_obs"
"""Our imitation of the update that the reference calls SparseGPT."""

PROTOCOL: Mapping[str, Any] = {
    "pattern": "2:4",
    "layout": LAYOUT,
    "coverage": "all",
    "augmented_calibration": True,
    "bn_recalibration": False,
    "positions_per_image": None,
    "damping": 0.01,
    "ridge": 0.01,
    "calibration": "sequential",
    "target": "own",
    "refit": False,
}
"""Settings with which `SOLVER` does what the reference's benchmark does: kbhcyj/cnn_sparsegpt,
`pruning/sparsegpt.py` and `scripts/run_benchmark.py`. Other scripts there have a `ridge` of 0.0001.
"""

COLUMNS: Mapping[str, type] = {
    "regime": str,
    "epochs": str,
    "model": str,
    "method": str,
    "top1": float,
    "drop": float,
}
"""Of the published table: accuracies in percent, drops in points, missing for dense networks.

`epochs` is the budget as published, a range over the three networks: ``5-7``.
"""


def read_reference(path: Path) -> pd.DataFrame:
    """The published table: one row for each regime, network and method, dense ones too.

    Raises `UserError` if it is no such table.
    """
    return read_csv(path, "published results", COLUMNS, missing=("drop",))


def published_of(published: pd.DataFrame, cell: Cell) -> pd.DataFrame:
    """What the reference reports of one network, indexed by method; empty if it has none."""
    own = published[(published["regime"] == cell.regime) & (published["model"] == cell.model)]
    return own.set_index("method")


def shared_cells(results: Results, published: pd.DataFrame) -> list[Cell]:
    """The networks of the study that the reference has too."""
    return [cell for cell in results.cells if not published_of(published, cell).empty]


def shared_methods(results: Results, published: pd.DataFrame) -> dict[str, str]:
    """Published methods that the study has too, each with our variant; empty if there is none."""
    cells = shared_cells(results, published)
    methods = list(published_of(published, cells[0]).index) if cells else []
    variants = {method: results.variant_of(method) for method in methods if method != DENSE}
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


def departures(config: Mapping[str, Any], variant: str) -> dict[str, Any]:
    """The settings of an imitation that are not the reference's own, with what they are here."""
    own = VARIANT_ONLY | variant_settings(config, variant)
    return {key: own[key] for key in PROTOCOL if own[key] != PROTOCOL[key]}


def differences(results: Results, published: pd.DataFrame) -> dict[str, Any]:
    """In what the compared networks differ from the reference; each is empty or None where equal.

    `data`, `patterns`, `layouts`: what they are here; `widths` by model; `epochs`: cells with
    the epochs here and there; `solver`: the variant beside the reference's SparseGPT.
    """
    cells, shared = shared_cells(results, published), shared_methods(results, published)
    frame = results.frame
    in_cells = pd.Series(zip(frame["regime"], frame["model"], strict=True), frame.index).isin(cells)
    compared = frame[in_cells & frame["variant"].isin(shared.values())]
    narrow = compared[compared["width"] != 1].sort_values("model", key=lambda m: m.astype(str))
    there = {cell: str(published_of(published, cell).at[DENSE, "epochs"]) for cell in cells}
    return {
        "data": results.dataset if results.dataset != DATA else None,
        "widths": dict(zip(narrow["model"], narrow["width"], strict=True)),
        "epochs": [
            (cell, results.epochs(cell), there[cell])
            for cell in cells
            if not _within(results.epochs(cell), there[cell])
        ],
        "patterns": sorted(set(compared["pattern"]) - {"2:4"}),
        "layouts": sorted(set(compared["layout"]) - {LAYOUT}),
        "solver": shared.get("sparsegpt"),
    }


def _within(epochs: int, published: str) -> bool:
    low, high = (int(bound) for bound in published.split("-"))
    return low <= epochs <= high
