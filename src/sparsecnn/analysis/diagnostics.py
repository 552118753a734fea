"""The diagnostics of a study: one tidy table, views on it, and the test of the cause."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from sparsecnn.analysis.comparisons import Comparison, Outcome, outcomes_of
from sparsecnn.analysis.results import Cell
from sparsecnn.analysis.statistics import Estimate, mean_over_seeds, mean_p_value
from sparsecnn.errors import UserError
from sparsecnn.report.language import gettext as _
from sparsecnn.study.config import DENSE, budgets

WORST = 200
"""The largest error of a quadratic model, in percent (see `model_error`)."""

LOSS_CHANGE = ("measured", "predicted", "first_order", "second_order", "distance", "model_error")
"""Quantities of a pruned network; it has none of them where more than parameters changed."""


@dataclass(frozen=True)
class Measurement:
    """One line of diagnostics.csv; the fields are its columns, in order."""

    study: str
    model: str
    regime: str
    recipe: str
    epochs: int
    seed: int
    variant: str
    """``dense``, or the variant that is compared with it."""
    layer: str
    """Empty for what is measured of the whole network."""
    depth: int
    """Place of the layer from 1 on; 0 for the whole network."""
    quantity: str
    value: float


@dataclass(frozen=True)
class Diagnostics:
    """The lines of a study, in the study's order."""

    rows: tuple[Measurement, ...]

    @property
    def variants(self) -> list[str]:
        """The variants that were compared with their dense networks."""
        return list(dict.fromkeys(row.variant for row in self.rows if row.variant != DENSE))

    def of(self, cell: Cell, variant: str, quantity: str) -> list[Measurement]:
        """Every line on one quantity of one network, by seed and depth."""
        wanted = (*cell, variant, quantity)
        found = [r for r in self.rows if (r.regime, r.model, r.variant, r.quantity) == wanted]
        return sorted(found, key=lambda row: (row.seed, row.depth))

    def values(self, cell: Cell, variant: str, quantity: str) -> list[float]:
        """One quantity of one network, by seed; empty if it was not measured."""
        return [row.value for row in self.of(cell, variant, quantity)]

    def along_depth(self, cell: Cell, variant: str, quantity: str) -> dict[str, float]:
        """Mean over seeds for every layer, in order of depth."""
        rows = self.of(cell, variant, quantity)
        layers = dict.fromkeys(row.layer for row in rows)
        return {name: fmean(r.value for r in rows if r.layer == name) for name in layers}


def model_error(measured: float, predicted: float) -> float:
    """How far a prediction is off: |predicted - measured| in percent of the larger of the two.

    0 is exact, 100 means many times too much or too little, up to 200 is of the wrong sign.
    """
    larger = max(abs(measured), abs(predicted))
    return 100 * abs(predicted - measured) / larger if larger else 0.0


def collect_diagnostics(
    values: Sequence[Mapping[str, Any]],
    *,
    study: str,
    regimes: Mapping[str, Mapping[str, Any]],
    seeds: Sequence[int],
) -> Diagnostics:
    """The table of all diagnostics.json values of a study.

    A network that two regimes share has lines for both. Raises `UserError` if one is missing.
    """
    by_key = {(v["model"], v["recipe"], v["epochs"], v["seed"]): v for v in values}
    rows: list[Measurement] = []
    for regime, own in regimes.items():
        for model, epochs in budgets(own).items():
            for seed in seeds:
                key = (model, own["recipe"], epochs, seed)
                if key not in by_key:
                    raise UserError(
                        f"diagnostics of {model}, {epochs} epochs, seed {seed} are missing: "
                        "run snakemake again"
                    )
                shared = (study, model, regime, *key[1:])
                rows += [Measurement(*shared, *line) for line in _lines(by_key[key])]
    return Diagnostics(tuple(rows))


def diagnostics_rows(diagnostics: Diagnostics) -> list[dict[str, Any]]:
    """The rows of diagnostics.csv."""
    return [asdict(row) for row in diagnostics.rows]


def read_diagnostics(path: Path) -> Diagnostics:
    """Read diagnostics.csv; `UserError` if it is not such a table."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return Diagnostics(
                tuple(
                    Measurement(**{f.name: f.type(record[f.name]) for f in fields(Measurement)})  # type: ignore[operator]
                    for record in csv.DictReader(file)
                )
            )
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise UserError(
            f"{path}: not a table of diagnostics ({type(error).__name__}: {error}); "
            "delete the file and run snakemake again to make it anew"
        ) from None


def compare_model_errors(
    comparisons: Sequence[Comparison], diagnostics: Diagnostics, confidence: float = 0.95
) -> list[Outcome]:
    """The same comparisons with the error of the quadratic model in the place of each drop.

    Paired by seed, with Student's t-interval, cut to what is possible. Raises `ValueError` unless
    the networks were measured with two seeds or more.
    """
    differences = []
    for comparison in comparisons:
        terms = [
            # A drop is dense minus pruned.
            [-weight * error for error in diagnostics.values(cell, variant, "model_error")]
            for weight, cell, variant in comparison.terms
            if variant != DENSE
        ]
        per_seed = [sum(parts) for parts in zip(*terms, strict=True)]
        if len(per_seed) < 2:
            raise ValueError(_("the quadratic model's error with two seeds or more"))
        differences.append(per_seed)
    return outcomes_of(
        [comparison.name for comparison in comparisons],
        [_interval(per_seed, confidence) for per_seed in differences],
        [mean_p_value(per_seed) for per_seed in differences],
    )


def _interval(per_seed: Sequence[float], confidence: float) -> Estimate:
    """Of a difference of errors, which lies between -`WORST` and `WORST`."""
    found = mean_over_seeds(per_seed, confidence, -WORST, WORST)
    # Equal seeds, as where every error is the largest there is, tell nothing of the spread.
    return found if found.sd else replace(found, low=-WORST, high=WORST)


def _lines(value: Mapping[str, Any]) -> Iterator[tuple[str, str, int, str, float]]:
    """Variant, layer, depth, quantity and value of all that one diagnostics.json holds."""
    network = value["network"]
    for quantity, number in network.items():
        if quantity != "layers":
            yield DENSE, "", 0, quantity, float(number)
    yield from _layers(DENSE, network["layers"])
    for variant, own in value["variants"].items():
        change = own["loss_change"]
        if change is not None:
            predicted = change["first_order"] + change["second_order"]
            error = model_error(change["measured"], predicted)
            numbers = change | {"predicted": predicted, "model_error": error}
            for quantity in LOSS_CHANGE:
                yield variant, "", 0, quantity, numbers[quantity]
        yield from _layers(variant, own["layers"], "_error")


def _layers(
    variant: str, layers: Sequence[Mapping[str, Any]], suffix: str = ""
) -> Iterator[tuple[str, str, int, str, float]]:
    for depth, layer in enumerate(layers, start=1):
        for quantity, number in layer.items():
            if quantity != "layer" and number is not None:
                yield variant, layer["layer"], depth, quantity + suffix, float(number)
