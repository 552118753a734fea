"""Tables of the report on accuracies, costs and claims, as Markdown."""

import math
from collections.abc import Mapping, Sequence
from itertools import repeat
from typing import Any

import pandas as pd

from sparsecnn.analysis.ablation import (
    Ingredient,
    has_many,
    shown,
)
from sparsecnn.analysis.comparisons import cost, winner
from sparsecnn.analysis.curves import curve_of
from sparsecnn.analysis.reference import (
    imitations,
    published_of,
    reports,
    shared_cells,
    shared_methods,
)
from sparsecnn.analysis.results import Cell, Results
from sparsecnn.report.claims import settled, verdict
from sparsecnn.report.labels import (
    comparison_label,
    epochs_number,
    method_label,
)
from sparsecnn.report.language import gettext as _
from sparsecnn.report.text import ABSENT, signed, signed_estimate, signed_interval, table
from sparsecnn.study.config import DENSE

_NETWORK = ["regime", "model", "variant"]


def headline(results: Results) -> str:
    """The study's main table as plain text for the terminal."""
    n = len(results.seeds)
    seeds = "one seed" if n == 1 else f"mean of {n} seeds"
    data = f"{results.dataset}, {results.n_test:,} test images, {seeds}"
    title = f"Top-1 accuracy in % (drop in points) on {data}"
    texts = top1_and_drop(results)
    if has_many(results):
        by_cell = texts.T.rename_axis(None, axis="index")
        by_cell.columns = [str(Cell(*cell)) for cell in by_cell.columns]
        by_variant = by_cell.reset_index(names=_("Variant"))
        return f"{title}\n\n{table(by_variant, style='simple')}"
    return f"{title}\n\n{table(_main(results, texts), (0, 1), style='simple')}"


def answer_table(results: Results) -> str:
    """What each variant changes, averaged over networks: in each regime, and in all of them.

    Of a single regime, by network.
    """
    by, names = (
        ("regime", results.regimes) if len(results.regimes) > 1 else ("model", results.models)
    )
    groups = {name: [cell for cell in results.cells if getattr(cell, by) == name] for name in names}
    rows = []
    for variant in results.variants:
        means = [signed(-cost(results, variant, cells).value) for cells in groups.values()]
        of_all = cost(results, variant, results.cells)
        rows.append([variant, *means, signed_estimate(-of_all.value, -of_all.high, -of_all.low)])
    frame = pd.DataFrame(rows, columns=[_("Variant"), *groups, _("All [95 % interval]")])
    return table(frame if len(groups) > 1 else frame.drop(columns=names))


def main_table(results: Results) -> str:
    """Baseline and accuracy (drop) of every variant, one row per cell, as in the reference.

    Bold is the variant that is ahead of every other one.
    """
    texts = top1_and_drop(results)
    for cell in results.cells:
        if best := winner(results, cell):
            texts.loc[cell, best] = f"**{texts.loc[cell, best]}**"
    return table(_main(results, texts), (0, 1))


def full_table(results: Results) -> str:
    """Accuracy and drop of every cell and variant with deviation, interval and n."""
    drops = results.estimates("drop")[[*_NETWORK, "value", "low", "high", "sd"]]
    both = results.estimates("top1").merge(drops, "left", _NETWORK, suffixes=("", "_lost"))
    rows = [
        [
            *(row.regime, row.model, row.variant),
            _mean_sd(f"{row.value:.2f}", row.sd),
            f"[{row.low:.2f}, {row.high:.2f}]",
            "" if row.variant == DENSE else _mean_sd(signed(-row.value_lost), row.sd_lost),
            "" if row.variant == DENSE else signed_interval(-row.high_lost, -row.low_lost),
            str(row.n),
        ]
        for row in both.itertuples()
    ]
    header = [_("Regime"), _("Network"), _("Variant"), _("Top-1 (%)"), _("95 % interval")]
    header += [_("Drop (points)"), _("95 % interval"), "n"]
    return table(pd.DataFrame(rows, columns=header), range(3))


def measures_table(results: Results) -> str:
    """What is told of every pruned network: mean and deviation over seeds."""
    found = results.against_dense
    means, deviations = (found.xs(one, level=1, axis="columns") for one in ("mean", "std"))
    names = [_("Regime"), _("Network"), _("Variant")]
    return table(measure_texts(means, deviations).reset_index(names=names), range(3))


def curve_table(results: Results) -> str:
    """Accuracy of every dense network, and its change by pruning, by epochs."""
    top1, lost = (means_of(results, column).unstack("variant") for column in ("top1", "drop"))
    blocks = []
    for model in results.models:
        cells = curve_of(results, model)
        rows = [
            [_("{network} (%)").format(network=DENSE), *top1.loc[cells, DENSE].map("{:.2f}".format)]
        ]
        for variant in shown(results):
            changes = (-lost.loc[cells, variant]).map(signed)
            rows.append([_("{variant} (points)").format(variant=variant), *changes])
        header = [model, *(epochs_number(results.epochs(cell)) for cell in cells)]
        blocks.append(table(pd.DataFrame(rows, columns=header)))
    return "\n\n".join(blocks)


def variants_table(results: Results, rows: Sequence[Ingredient]) -> str:
    """What each variant is: method and options, pattern, groups, coverage, batch norm."""
    labels = {variant: method_label(row) for row in rows for variant in row.variants.values()}
    first = results.frame[results.frame["variant"] != DENSE].drop_duplicates("variant")
    again = first["bn_recalibrated"].map({True: _("yes"), False: _("no")})
    columns = {
        _("Variant"): first["variant"],
        _("Method"): first["variant"].map(labels).astype(object).fillna(first["method"]),
        _("Pattern"): first["pattern"],
        _("Groups along"): first["layout"],
        _("Coverage"): first["coverage"],
        _("Batch norm re-estimated"): again,
    }
    return table(pd.DataFrame(columns), range(len(columns)))


def pruning_table(results: Results) -> str:
    """Zeros and pruning time of every network and variant, means over budgets and seeds."""
    means = results.pruning().reset_index()
    zeros = (100 * means.filter(like="sparsity")).map("{:.2f}".format)
    columns = {
        _("Network"): means["model"],
        _("Variant"): means["variant"],
        _("Zeros, pruned layers (%)"): zeros["sparsity_pruned_layers"],
        _("Zeros, all layers (%)"): zeros["sparsity_network"],
        _("Pruning time (s)"): means["seconds"].map("{:.1f}".format),
    }
    return table(pd.DataFrame(columns), (0, 1))


def costs_table(results: Results) -> str | None:
    """What each network takes, dense and pruned; variants that agree share a row. None of none.

    Means over budgets and seeds, in thousands and in percent of the dense network.
    """
    means = results.costs()
    if means.isna().any(axis=None):
        return None
    texts = {
        _("Parameters (thousands)"): _kept(means["parameters_kept"], means["parameters"]),
        _("Size in fp16 (kB)"): _kept(means["bytes_pruned"], means["bytes_dense"]),
        _("MACs per image (thousands)"): _kept(means["macs_effective"], means["macs"]),
        _("MACs for sparse cores (%)"): (100 * means["macs_sparse_cores"]).map("{:.1f}".format),
    }
    rows = pd.DataFrame({_("Network"): means.index.get_level_values("model").astype(str), **texts})
    rows[_("Variants")] = means.index.get_level_values("variant").astype(str)
    alike = rows.groupby([_("Network"), *texts], sort=False)[_("Variants")].agg(", ".join)
    columns = [_("Network"), _("Variants"), *texts]
    return table(alike.reset_index()[columns], (0, 1))


def reference_table(results: Results, published: pd.DataFrame) -> str | None:
    """The published numbers and ours, below each other for each cell; None of none.

    One row for each of the reference's reports, one of this study and one of imitations, if any.
    """
    variants = shared_methods(results, published)
    if not variants:
        return None
    imitated = imitations(results, variants)
    numbers = {report: number for number, report in enumerate(reports(published), start=1)}
    texts, rows = top1_and_drop(results), []
    for cell in shared_cells(results, published):
        for report, theirs in published_of(published, cell).items():
            source = _("reference, report {number}").format(number=numbers[report])
            dense, own = theirs.loc[DENSE], theirs.loc[list(variants)].itertuples()
            told = [f"{found.top1:.2f} ({signed(-found.drop)})" for found in own]
            rows.append([*cell, source, dense["epochs"] or ABSENT, f"{dense['top1']:.2f}", *told])
        for source, ours in ((_("this study"), variants), (_("imitation"), imitated)):
            if ours:
                told = [texts.at[cell, ours[m]] if m in ours else ABSENT for m in variants]
                epochs = epochs_number(results.epochs(cell))
                rows.append([*cell, source, epochs, texts.at[cell, DENSE], *told])
    header = [_("Regime"), _("Network"), _("Source"), _("Epochs"), _("Baseline")]
    header += [_("{variant} (drop)").format(variant=method) for method in variants]
    return table(pd.DataFrame(rows, columns=header), range(3))


def claims_table(claims: Sequence[Mapping[str, Any]]) -> str:
    """Effect, interval and verdict of every claim, and how many of its comparisons settle it."""
    rows = []
    for claim in claims:
        title = claim["title"]
        row = [str(claim["number"]), _(title)]
        if claim["effect"] is None:
            rows.append([*row, _("not measured"), "", "", verdict(claim)])
            continue
        effects = [comparison["effect"] for comparison in claim["comparisons"]]
        rows.append(
            [
                *row,
                signed_estimate(claim["effect"], claim["low"], claim["high"]),
                f"{signed(min(effects))}, {signed(max(effects))}",
                _("{above}, {below} of {n}").format(**settled(claim)),
                verdict(claim),
            ]
        )
    header = ["#", _("Claim"), _("Effect [95 % interval]"), _("Least, most")]
    header += [_("Above, below 0"), _("Verdict")]
    return table(pd.DataFrame(rows, columns=header), (0, 1, 5))


def solvers_table(by_solver: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Effect and verdict of every claim on accuracies, with each variant as SparseGPT."""
    rows = []
    for claims in zip(*by_solver.values(), strict=True):
        title = claims[0]["title"]
        row = [str(claims[0]["number"]), _(title)]
        for claim in claims:
            effect = "" if claim["effect"] is None else f"{signed(claim['effect'])}: "
            row.append(effect + verdict(claim))
        rows.append(row)
    header = ["#", _("Claim"), *by_solver]
    return table(pd.DataFrame(rows, columns=header), range(len(header)))


def comparisons_table(claim: Mapping[str, Any]) -> str:
    """Every comparison that a claim's effect is the mean of."""
    rows = [
        [
            comparison_label(claim, comparison),
            signed(comparison["effect"]),
            signed_interval(comparison["low"], comparison["high"]),
            str(comparison["n"]),
        ]
        for comparison in claim["comparisons"]
    ]
    header = [_("Comparison"), _("Effect (points)"), _("95 % interval"), "n"]
    return table(pd.DataFrame(rows, columns=header))


def top1_and_drop(results: Results) -> pd.DataFrame:
    """``75.30 (-2.90)`` of every variant (columns; dense first: ``78.20``) by regime and model."""
    top1 = means_of(results, "top1").map("{:.2f}".format)
    changes = (-means_of(results, "drop")).map(lambda change: f" ({signed(change)})")
    texts = top1.add(changes, fill_value="").unstack("variant")
    return texts.loc[results.cells, [DENSE, *results.variants]]


def _main(results: Results, texts: pd.DataFrame) -> pd.DataFrame:
    named = texts.rename(
        columns={v: _("{variant} (drop)").format(variant=v) for v in results.variants}
        | {DENSE: _("Baseline")}
    )
    epochs = [epochs_number(results.epochs(cell)) for cell in results.cells]
    named.insert(0, _("Epochs"), epochs)
    return named.reset_index(names=[_("Regime"), _("Network")])


def means_of(results: Results, column: str) -> "pd.Series[float]":
    """Means of every network's `top1` or `drop`, by regime, model and variant as plain text."""
    found = results.estimates(column)
    return found.set_index([found[name].astype(str) for name in _NETWORK])["value"]


def measure_texts(means: pd.DataFrame, deviations: pd.DataFrame | None = None) -> pd.DataFrame:
    """Texts of the `MEASURES` by heading; what was measured of no network is left out."""
    headings = {
        "top1": _("Top-1 (%)"),
        "drop": _("Drop (points)"),
        "loss_increase": _("Loss increase (nats)"),
        "kl": _("KL (nats)"),
        "agreement": _("Agreement (%)"),
    }
    texts = {}
    for measure in means.columns[means.notna().any()]:
        spread = repeat(math.nan) if deviations is None else deviations[measure]
        pairs = zip(means[measure], spread, strict=False)
        texts[headings[measure]] = [_measure(measure, mean, sd) for mean, sd in pairs]
    return pd.DataFrame(texts, index=means.index)


def _measure(measure: str, mean: float, sd: float) -> str:
    """One of the `MEASURES`: changes with their sign, of a drop the change of the accuracy."""
    if pd.isna(mean):
        return ABSENT
    # The divergences of the best solvers are of some 1e-4.
    digits = {"loss_increase": 4, "kl": 5}.get(measure, 2)
    if measure in ("drop", "loss_increase"):
        return _mean_sd(signed(-mean if measure == "drop" else mean, digits), sd, digits)
    return _mean_sd(f"{mean:.{digits}f}", sd, digits)


def _kept(kept: "pd.Series[float]", dense: "pd.Series[float]") -> list[str]:
    """``5,587 (50.0 %)``: thousands, and the share of what the dense network has."""
    thousands = (kept / 1000).map("{:,.0f}".format)
    shares = (100 * kept / dense).map("{:.1f}".format)
    percent = _("%(number)s %%")
    pairs = zip(thousands, shares, strict=True)
    return [f"{number} ({percent % {'number': share}})" for number, share in pairs]


def _mean_sd(mean: str, sd: float, digits: int = 2) -> str:
    return mean if pd.isna(sd) else f"{mean} ± {sd:.{digits}f}"
