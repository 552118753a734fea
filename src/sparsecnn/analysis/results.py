"""The table of a study: one row per regime and evaluated network, and views on it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from sparsecnn.analysis.statistics import estimate
from sparsecnn.analysis.tables import in_order, read_csv
from sparsecnn.errors import UserError
from sparsecnn.study.config import DENSE, GIVEN, budgets
from sparsecnn.study.layout import network_folder

COLUMNS: Mapping[str, type] = {
    "study": str,
    "dataset": str,
    "model": str,
    "width": float,
    "regime": str,
    "recipe": str,
    "epochs": int,
    "seed": int,
    "variant": str,
    "method": str,
    "pattern": str,
    "layout": str,
    "coverage": str,
    "bn_recalibrated": bool,
    "top1": float,
    "loss": float,
    "kl": float,
    "agreement": float,
    "n_test": int,
    "dense_top1": float,
    "drop": float,
    "sparsity_pruned_layers": float,
    "sparsity_network": float,
    "parameters": int,
    "parameters_kept": int,
    "bytes_dense": int,
    "bytes_pruned": int,
    "macs": int,
    "macs_effective": int,
    "macs_sparse_cores": float,
    "seconds": float,
    "device": str,
    "chance": float,
    "n_classes": int,
}
"""Of metrics.csv, in order. Nothing may be missing but what is `ADDED`; texts may be empty.

`epochs` are those of training in the study, 0 of a network that was given. Accuracies (`top1`,
`dense_top1`) are in percent, `drop` = `dense_top1` - `top1` in points. `loss` is the mean
cross-entropy in nats, from 0 up. `kl` is the mean over test images of the KL divergence of the
network's predictions from its dense network's, sum_c p_dense(c) (log p_dense(c) - log p(c)), in
nats, from 0 up; `agreement` the percent of them on which both have the same class highest, 0 to
100. Of the dense network itself they are 0 and 100 by definition.
`chance` is the percent of test images in the largest class, what guessing can get.
Sparsities are fractions of zero weights, `seconds` is the time of training (dense) or pruning.

`parameters` are all numbers that training changes, `parameters_kept` those without the zeros of
pruned layers; `bytes_dense` and `bytes_pruned` are what all take in fp16, dense and with those
layers compressed that sparse tensor cores run as 2:4. `macs` are the multiply-accumulates for one
image, `macs_effective` those without products by the zeros of pruned layers, `macs_sparse_cores`
the fraction of `macs` in compressed layers. Of a dense network all is kept, and nothing compressed.
"""

COSTS = (
    "parameters",
    "parameters_kept",
    "bytes_dense",
    "bytes_pruned",
    "macs",
    "macs_effective",
    "macs_sparse_cores",
)
"""The columns that count what pruning buys."""

ADDED = ("kl", "agreement", *COSTS, "chance")
"""Columns that tables of earlier versions lack; read as NaN."""

MEASURES = ("top1", "drop", "loss_increase", "kl", "agreement")
"""What is told of a pruned network: as the columns of the table, and `loss_increase` = its loss
minus its dense network's, in nats."""

_NETWORK = ["model", "recipe", "epochs", "seed", "variant"]
"""What tells the networks of a study apart."""
_ROUNDING = 9
"""Decimals of a drop: accuracies are multiples of 100 / n_test, the rest is of the subtraction."""


class Cell(NamedTuple):
    """One network of the study at one training budget."""

    regime: str
    model: str

    def __str__(self) -> str:
        return f"{self.model}, {self.regime}"


@dataclass(frozen=True, eq=False)
class Results:
    """The table of a study; regimes come from least to most trained, dense networks first."""

    frame: pd.DataFrame
    """`COLUMNS`, with `regime`, `model` and `variant` as categories in the study's order."""

    @property
    def regimes(self) -> list[str]:
        """Names of the regimes, least trained first."""
        return list(self.frame["regime"].cat.categories)

    @property
    def ends(self) -> tuple[str, str]:
        """The least and the most trained regime, of those that train as the first one does."""
        alike = self.frame.loc[self.frame["recipe"] == self.frame["recipe"].iloc[0], "regime"]
        return alike.min(), alike.max()

    @property
    def models(self) -> list[str]:
        """Names of the networks."""
        return list(self.frame["model"].cat.categories)

    @cached_property
    def cells(self) -> list[Cell]:
        """Every pair of regime and network that the study has."""
        found = self.frame[["regime", "model"]].drop_duplicates()
        return [Cell(*pair) for pair in found.itertuples(index=False)]

    @property
    def variants(self) -> list[str]:
        """Names of the pruned variants; `dense` is not among them."""
        return [variant for variant in self.frame["variant"].cat.categories if variant != DENSE]

    @property
    def seeds(self) -> list[int]:
        """The seeds that every network was trained with."""
        return [int(seed) for seed in self.frame["seed"].unique()]

    @property
    def n_test(self) -> int:
        """Number of test images."""
        return int(self.frame["n_test"].iloc[0])

    @property
    def chance(self) -> float:
        """Accuracy of guessing in percent, where the table lacks it that of classes of one size."""
        first = self.frame.iloc[0]
        return float(100 / first["n_classes"] if pd.isna(first["chance"]) else first["chance"])

    @property
    def dataset(self) -> str:
        """Label of the data."""
        return str(self.frame["dataset"].iloc[0])

    def of(self, cell: Cell, variant: str) -> pd.DataFrame:
        """Rows of one network and variant, indexed by seed."""
        return self._networks[*cell, variant]

    def epochs(self, cell: Cell) -> int:
        """Training budget of a network, in epochs; 0 of one that is given."""
        return int(self.of(cell, DENSE)["epochs"].iloc[0])

    @property
    def trained_regimes(self) -> list[str]:
        """Names of the regimes that train, which networks that are given do not have."""
        trained = self.frame.loc[self.frame["recipe"] != GIVEN, "regime"].unique()
        return [regime for regime in self.regimes if regime in trained]

    def training(self, cell: Cell) -> tuple[str, int]:
        """Recipe and epochs of a network: cells that agree in both hold the same networks."""
        return str(self.of(cell, DENSE)["recipe"].iloc[0]), self.epochs(cell)

    def variant_of(
        self, method: str, layout: str | None = None, *, bn_recalibrated: bool = False
    ) -> str | None:
        """First variant of a method, of any layout or of one, with batch norm as it says."""
        alike = self.frame["bn_recalibrated"] == bn_recalibrated
        found = self.frame[alike & (self.frame["method"] == method)]
        if layout is not None:
            found = found[found["layout"] == layout]
        return None if found.empty else str(found["variant"].iloc[0])

    def estimates(self, column: str) -> pd.DataFrame:
        """Mean and 95 % interval of every network's `top1`, or of its `drop`, paired by seed.

        One row for each regime, model and variant in the study's order (of drops no `dense`):
        regime, model, recipe, epochs, variant and the fields of `statistics.Estimate`.
        """
        return self._estimates[column]

    @cached_property
    def _estimates(self) -> dict[str, pd.DataFrame]:
        return {column: self._estimated(column) for column in ("top1", "drop")}

    def _estimated(self, column: str) -> pd.DataFrame:
        rows = []
        for (regime, model, variant), own in self._networks.items():
            if column == "drop" and variant == DENSE:
                continue
            pruned = (1 if column == "top1" else -1, own["top1"])
            terms = [pruned] if column == "top1" else [(1, own["dense_top1"]), pruned]
            names = {"regime": regime, "model": model, "variant": variant}
            names |= {name: own[name].iloc[0] for name in ("recipe", "epochs")}
            rows.append({**names, **asdict(estimate(terms, self.n_test))})
        frame = pd.DataFrame(rows)
        for name in ("regime", "model", "variant"):
            frame[name] = frame[name].astype(self.frame[name].dtype)
        return frame.astype({"sd": float})

    @cached_property
    def against_dense(self) -> pd.DataFrame:
        """Mean and sample standard deviation over seeds of the `MEASURES` of pruned networks.

        Indexed by regime, model and variant, in the study's order; columns (measure, ``mean`` or
        ``std``). NaN where a seed has no value, the deviation of one seed too.
        """
        same = ["regime", "model", "seed"]
        dense = self.frame.loc[self.frame["variant"] == DENSE, [*same, "loss"]]
        pruned = self.frame[self.frame["variant"] != DENSE]
        both = pruned.merge(dense, "left", same, suffixes=("", "_dense"), validate="many_to_one")
        both = both.assign(loss_increase=both["loss"] - both["loss_dense"])
        groups = both.groupby(["regime", "model", "variant"], observed=True)[list(MEASURES)]
        found = {"mean": groups.mean(skipna=False), "std": groups.std(skipna=False)}
        return pd.concat(found, axis="columns").swaplevel(axis="columns")

    @cached_property
    def baselines(self) -> dict[Cell, float]:
        """Mean accuracy of every network before pruning, in percent."""
        top1 = self.estimates("top1")
        dense = top1[top1["variant"] == DENSE]
        return dict(zip(map(Cell, dense["regime"], dense["model"]), dense["value"], strict=True))

    def pruning(self) -> pd.DataFrame:
        """Means over budgets and seeds of what pruning made, by model and variant.

        Columns `sparsity_pruned_layers` and `sparsity_network`, fractions, and `seconds`.
        """
        pruned = self.frame[self.frame["variant"] != DENSE]
        groups = pruned.groupby(["model", "variant"], observed=True)
        return groups[["sparsity_pruned_layers", "sparsity_network", "seconds"]].mean()

    def costs(self) -> pd.DataFrame:
        """Means over budgets and seeds of the `COSTS`, by model and variant, `dense` among them.

        Only unstructured zeros differ between seeds. NaN where the table lacks them.
        """
        return self.frame.groupby(["model", "variant"], observed=True)[list(COSTS)].mean()

    @cached_property
    def _networks(self) -> dict[tuple[Any, ...], pd.DataFrame]:
        by_seed = self.frame.sort_values("seed", kind="stable")
        groups = by_seed.groupby(["regime", "model", "variant"], observed=True)
        return {key: own.set_index("seed") for key, own in groups}


def largest_budget(results: Results) -> list[Cell]:
    """The networks at the most training; given ones as they came."""
    return list({cell.model: cell for cell in results.cells}.values())


def at_largest_budget(results: Results, rows: pd.DataFrame) -> pd.DataFrame:
    """Those of `rows`, each with a `regime` and a `model`, that are of these networks."""
    largest, cells = largest_budget(results), map(Cell, rows["regime"], rows["model"])
    return rows[[cell in largest for cell in cells]]


def results_of(frame: pd.DataFrame) -> Results:
    """A table with its regimes, models and variants in the order in which they come."""
    return Results(in_order(frame, "regime", "model", "variant", first=(DENSE,)))


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
    expected = pd.DataFrame(
        [
            (regime, model, own["recipe"], epochs, seed, variant)
            for regime, own in regimes.items()
            for model, epochs in budgets(own).items()
            for seed in seeds
            for variant in (DENSE, *variants)
        ],
        columns=["regime", *_NETWORK],
    )
    found = pd.DataFrame(metrics).assign(n_classes=[len(value["per_class"]) for value in metrics])
    _check(found, expected)
    dense = found[found["variant"] == DENSE].drop(columns="variant")
    dense = dense.rename(columns={"top1": "dense_top1"})[[*_NETWORK[:-1], "dense_top1"]]
    frame = expected.merge(found, on=_NETWORK).merge(dense, on=_NETWORK[:-1])
    frame = frame.assign(
        study=study,
        dataset=dataset,
        drop=(frame["dense_top1"] - frame["top1"]).round(_ROUNDING),
    )
    return results_of(frame[list(COLUMNS)])


def read_results(path: Path) -> Results:
    """Read metrics.csv; `UserError` if it is not such a table."""
    return results_of(read_csv(path, "metrics", COLUMNS, missing=ADDED, added=ADDED))


def _check(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    again = found[found.duplicated(_NETWORK)].to_dict("records")
    if again:
        folder = network_folder(again[0])
        raise UserError(f"the metrics of {folder} are given twice; remove one")
    sizes = sorted(found["n_test"].unique())
    if len(sizes) > 1:
        listed = " and ".join(str(size) for size in sizes)
        raise UserError(
            f"the networks were tested on different numbers of images ({listed}): "
            "delete the study's metrics.json files and run snakemake again"
        )
    both = expected[_NETWORK].drop_duplicates().merge(found, "outer", _NETWORK, indicator=True)
    for side, problem in (("left_only", "missing"), ("right_only", "not part of this study")):
        alone = both[both["_merge"] == side].sort_values(_NETWORK).to_dict("records")
        if alone:
            more = f" and {len(alone) - 1} more" if len(alone) > 1 else ""
            raise UserError(
                f"metrics of {network_folder(alone[0])}{more} are {problem}: "
                "give exactly the networks of the study's regimes, seeds and variants"
            )
