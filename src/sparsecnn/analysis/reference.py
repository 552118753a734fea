"""The reference study's published numbers, and how a study differs from it.

The reference is public: the repository `REPOSITORY` at `COMMIT`, two reports in its folder docs.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from sparsecnn.analysis.results import Cell, Results
from sparsecnn.analysis.tables import read_csv
from sparsecnn.study.config import DENSE, VARIANT_ONLY, variant_settings

REPOSITORY = "kbhcyj/cnn_sparsegpt"
COMMIT = "35828d0"
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
    "report": str,
    "regime": str,
    "epochs": str,
    "model": str,
    "method": str,
    "top1": float,
    "drop": float,
}
"""Of the published table: accuracies in percent, drops in points, missing for dense networks.

`report` is the file in the repository's docs that says so, without its suffix. `epochs` is the
budget as published there, a range over the three networks: ``5-7``; empty if none is told. The
regime of networks without one is that in which the first report has the same dense accuracies.
"""

_NETWORK = ["regime", "model", "method"]


def read_reference(path: Path) -> pd.DataFrame:
    """The published table: one row for each report, regime, network and method, dense ones too.

    Raises `UserError` if it is no such table.
    """
    return read_csv(path, "published results", COLUMNS, missing=("drop",))


def reports(published: pd.DataFrame) -> list[str]:
    """The reports that the numbers are from, the one whose claims are tested first."""
    return list(published["report"].unique())


def published_of(published: pd.DataFrame, cell: Cell) -> dict[str, pd.DataFrame]:
    """What each report says of one network, indexed by method; empty if none has it."""
    own = published[(published["regime"] == cell.regime) & (published["model"] == cell.model)]
    by_report = own.groupby("report", sort=False)
    return {str(report): rows.set_index("method") for report, rows in by_report}


def disagreement(published: pd.DataFrame) -> float:
    """By how many points two reports differ at most about the drop of one pruned network."""
    drops = published.dropna(subset="drop").groupby(_NETWORK)["drop"]
    return float((drops.max() - drops.min()).max())


def shared_cells(results: Results, published: pd.DataFrame) -> list[Cell]:
    """The networks of the study that the reference has too."""
    return [cell for cell in results.cells if published_of(published, cell)]


def shared_methods(results: Results, published: pd.DataFrame) -> dict[str, str]:
    """Published methods that the study has too, each with our variant; empty if there is none."""
    methods = published["method"].unique() if shared_cells(results, published) else []
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
    there = {cell: _published_epochs(published, cell) for cell in cells}
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


def _published_epochs(published: pd.DataFrame, cell: Cell) -> str:
    first, *_ = published_of(published, cell).values()
    return str(first.at[DENSE, "epochs"])


def _within(epochs: int, published: str) -> bool:
    low, high = (int(bound) for bound in published.split("-"))
    return low <= epochs <= high
