"""The table of a study: one row per regime and evaluated network, and views on it."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from sparsecnn.errors import UserError
from sparsecnn.study.config import DENSE, budgets
from sparsecnn.study.layout import network_folder

_T = TypeVar("_T")

_KEY = ("model", "recipe", "epochs", "seed", "variant")
"""What tells the networks of a study apart."""


class Cell(NamedTuple):
    """One network of the study at one training budget."""

    regime: str
    model: str

    def __str__(self) -> str:
        return f"{self.model}, {self.regime}"


@dataclass(frozen=True)
class Row:
    """One line of metrics.csv; the fields are its columns, in order.

    Accuracies (`top1`, `dense_top1`) are in percent, `drop` = `dense_top1` - `top1` in points,
    sparsities are fractions of zero weights, `seconds` is the time of training (dense) or pruning.
    """

    study: str
    dataset: str
    model: str
    width: float
    regime: str
    recipe: str
    epochs: int
    seed: int
    variant: str
    method: str
    pattern: str
    layout: str
    coverage: str
    bn_recalibrated: bool
    top1: float
    loss: float
    n_test: int
    dense_top1: float
    drop: float
    sparsity_pruned_layers: float
    sparsity_network: float
    seconds: float
    device: str
    n_classes: int


@dataclass(frozen=True)
class Results:
    """The rows of a study in the study's order: regimes from least to most trained, dense first."""

    rows: tuple[Row, ...]

    @property
    def regimes(self) -> list[str]:
        """Names of the regimes, least trained first."""
        return _distinct(row.regime for row in self.rows)

    @property
    def ends(self) -> tuple[str, str]:
        """The least and the most trained regime, of those that train as the first one does."""
        recipes = {row.regime: row.recipe for row in self.rows}
        alike = [name for name, recipe in recipes.items() if recipe == self.rows[0].recipe]
        return alike[0], alike[-1]

    @property
    def models(self) -> list[str]:
        """Names of the networks."""
        return _distinct(row.model for row in self.rows)

    @property
    def cells(self) -> list[Cell]:
        """Every pair of regime and network that the study has."""
        return _distinct(Cell(row.regime, row.model) for row in self.rows)

    @property
    def variants(self) -> list[str]:
        """Names of the pruned variants; `dense` is not among them."""
        return _distinct(row.variant for row in self.rows if row.variant != DENSE)

    @property
    def seeds(self) -> list[int]:
        """The seeds that every network was trained with."""
        return _distinct(row.seed for row in self.rows)

    @property
    def n_test(self) -> int:
        """Number of test images."""
        return self.rows[0].n_test

    @property
    def chance(self) -> float:
        """Accuracy of guessing, in percent."""
        return 100 / self.rows[0].n_classes

    def of(self, cell: Cell, variant: str) -> list[Row]:
        """Rows of one network and variant, by seed."""
        found = [r for r in self.rows if (r.regime, r.model, r.variant) == (*cell, variant)]
        return sorted(found, key=lambda row: row.seed)

    def top1(self, cell: Cell, variant: str) -> list[float]:
        """Accuracies of one network and variant, by seed, in percent."""
        return [row.top1 for row in self.of(cell, variant)]

    def epochs(self, cell: Cell) -> int:
        """Training budget of a network, in epochs."""
        return self.of(cell, DENSE)[0].epochs

    def training(self, cell: Cell) -> tuple[str, int]:
        """Recipe and epochs of a network: cells that agree in both hold the same networks."""
        return self.of(cell, DENSE)[0].recipe, self.epochs(cell)

    def variant_of(
        self, method: str, layout: str | None = None, *, bn_recalibrated: bool = False
    ) -> str | None:
        """First variant of a method, of any layout or of one, with batch norm as it says."""
        found = (
            row.variant
            for row in self.rows
            if row.method == method
            and layout in (None, row.layout)
            and row.bn_recalibrated == bn_recalibrated
        )
        return next(found, None)


def collect(
    metrics: Sequence[Mapping[str, Any]],
    *,
    study: str,
    dataset: str,
    regimes: Mapping[str, Mapping[str, Any]],
    seeds: Sequence[int],
    variants: Sequence[str],
) -> Results:
    """One row for every regime, network, seed and variant (dense first).

    Parameters
    ----------
    metrics
        Values of the metrics.json files, one per evaluated network. Two regimes that give a
        network the same recipe and epochs share it: it appears once here, and in a row for each.
    dataset
        Label of the data, as the report prints it.
    regimes
        Each regime's recipe and epochs of each model, as a checked configuration has them; least
        trained regime first.

    Raises
    ------
    UserError
        A network is missing, unexpected or given twice, or the test sets differ.
    """
    by_key = _by_key(metrics)
    expected = [
        (regime, (model, own["recipe"], epochs, seed, variant))
        for regime, own in regimes.items()
        for model, epochs in budgets(own).items()
        for seed in seeds
        for variant in (DENSE, *variants)
    ]
    _check_complete(by_key, {key for _, key in expected})
    dense = {key: by_key[(*key[:-1], DENSE)]["top1"] for key in by_key}
    return Results(
        tuple(_row(by_key[key], study, dataset, regime, dense[key]) for regime, key in expected)
    )


def table_rows(results: Results) -> list[dict[str, Any]]:
    """The rows of metrics.csv."""
    return [asdict(row) for row in results.rows]


def read_results(path: Path) -> Results:
    """Read metrics.csv; `UserError` if it is not such a table."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = tuple(_parse(record) for record in csv.DictReader(file))
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise UserError(
            f"{path}: not a table of metrics ({type(error).__name__}: {error}); "
            "delete the file and run snakemake again to make it anew"
        ) from None
    if not rows:
        raise UserError(f"{path}: the table has no rows; delete it and run snakemake again")
    return Results(rows)


def _by_key(metrics: Sequence[Mapping[str, Any]]) -> dict[tuple[Any, ...], Mapping[str, Any]]:
    by_key: dict[tuple[Any, ...], Mapping[str, Any]] = {}
    for value in metrics:
        key = tuple(value[name] for name in _KEY)
        if key in by_key:
            raise UserError(f"the metrics of {network_folder(value)} are given twice; remove one")
        by_key[key] = value
    sizes = sorted({value["n_test"] for value in metrics})
    if len(sizes) > 1:
        found = " and ".join(str(size) for size in sizes)
        raise UserError(
            f"the networks were tested on different numbers of images ({found}): "
            "delete the study's metrics.json files and run snakemake again"
        )
    return by_key


def _check_complete(
    by_key: Mapping[tuple[Any, ...], Mapping[str, Any]], expected: set[tuple[Any, ...]]
) -> None:
    missing = sorted(expected - set(by_key))
    unexpected = sorted(set(by_key) - expected)
    for problem, keys in (("missing", missing), ("not part of this study", unexpected)):
        if keys:
            more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
            name = network_folder(dict(zip(_KEY, keys[0], strict=True)))
            raise UserError(
                f"metrics of {name}{more} are {problem}: "
                "give exactly the networks of the study's regimes, seeds and variants"
            )


def _row(value: Mapping[str, Any], study: str, dataset: str, regime: str, dense_top1: float) -> Row:
    own = {
        "study": study,
        "dataset": dataset,
        "regime": regime,
        "dense_top1": dense_top1,
        # Accuracies are multiples of 100 / n_test; the rest is rounding of the subtraction.
        "drop": round(dense_top1 - value["top1"], 9),
        "n_classes": len(value["per_class"]),
    }
    return Row(**own, **{f.name: value[f.name] for f in fields(Row) if f.name not in own})


def _parse(record: Mapping[str, str]) -> Row:
    values: dict[str, Any] = {}
    for field in fields(Row):
        text = record[field.name]
        values[field.name] = text == "True" if field.type is bool else field.type(text)  # type: ignore[operator]
    return Row(**values)


def _distinct(values: Iterable[_T]) -> list[_T]:
    found: list[_T] = []
    for value in values:
        if value not in found:
            found.append(value)
    return found
