"""The tables and sentences of the report on the diagnostics.

Of a study of many budgets they show the least and the most trained networks; all is in
diagnostics.csv.
"""

from typing import Any

import pandas as pd

from sparsecnn.analysis import diagnostics as measured
from sparsecnn.analysis.curves import extremes
from sparsecnn.analysis.results import Cell, Results
from sparsecnn.report.language import gettext as _
from sparsecnn.report.text import ABSENT, table
from sparsecnn.study.config import DENSE


def diagnostics_context(
    results: Results, diagnostics: pd.DataFrame | None
) -> dict[str, Any] | None:
    """What the report's section shows; None for a study without diagnostics."""
    if diagnostics is None:
        return None
    ends = extremes(results)
    lines = measured.in_cells(diagnostics, ends)
    variants = measured.compared(diagnostics)
    networks, layers = measured.of_networks(lines), measured.of_layers(lines)
    return {
        "variants": variants,
        "convergence": convergence(lines),
        "curvature_table": curvature_table(networks),
        "quadratic_table": quadratic_table(ends, networks, variants),
        "truth": truth(ends, networks, variants),
        "growth": growth(ends, layers, variants),
        "growth_tables": growth_tables(ends, layers, variants),
        "conditioning_table": conditioning_table(lines),
    }


def curvature_table(networks: pd.DataFrame) -> str:
    """Loss, gradient and both ends of the Hessian's spectrum of every dense network."""
    columns = {"loss": _("Loss"), "gradient_norm": _("Gradient norm")}
    columns |= {"largest": _("Largest eigenvalue"), "smallest": _("Smallest, at most")}
    texts = _texts(networks).xs(DENSE, level="variant")[list(columns)]
    named = texts.rename(columns=columns).reset_index(names=[_("Regime"), _("Network")])
    return table(named, (0, 1))


def convergence(diagnostics: pd.DataFrame) -> str:
    """One sentence: how far the largest eigenvalues can be trusted."""
    found = measured.convergence(diagnostics)
    return _(
        "Lanczos's method converged for {converged} of {n} networks, after {fewest} to {most} "
        "products with the Hessian; the largest residual is {residual} % of its eigenvalue."
    ).format(
        **{name: f"{found[name]:.0f}" for name in ("converged", "n", "fewest", "most")},
        residual=f"{100 * found['residual']:.2g}",
    )


def quadratic_table(results: Results, networks: pd.DataFrame, variants: list[str]) -> str:
    """Change of the loss by pruning, measured and as the quadratic model has it."""
    columns = {"measured": _("Measured"), "predicted": _("Predicted")}
    columns |= {"first_order": _("First order"), "second_order": _("Second order")}
    columns |= {"error": _("Error of the model (%)")}
    errors = _model_errors(networks).dropna().map("{:.0f}".format)
    texts = _texts(networks).assign(error=errors)
    every = [(*cell, variant) for cell in results.cells for variant in variants]
    texts = texts.reindex(index=every, columns=list(columns)).fillna(ABSENT)
    names = [_("Regime"), _("Network"), _("Variant")]
    return table(texts.rename(columns=columns).reset_index(names=names), range(3))


def truth(results: Results, networks: pd.DataFrame, variants: list[str]) -> list[str]:
    """A sentence for each variant: the error of its quadratic model at least and most training."""
    least, most = results.ends
    sentence = _("Under `{variant}` the model's error goes, from {least} to {most}, {changes}.")
    change = _("from {before} to {after} %")
    if least == most:
        sentence = _("Under `{variant}` the model's error is {changes}.")
        change = _("{number} %").format(number="{after}")
    by_end = _model_errors(networks).unstack("regime")
    sentences = []
    for variant in variants:
        own = by_end[by_end.index.get_level_values("variant") == variant].droplevel("variant")
        changes = [
            f"{change.format(before=f'{row[least]:.0f}', after=f'{row[most]:.0f}')} ({model})"
            for model, row in own.dropna(subset=[least, most]).iterrows()
        ]
        if changes:
            names = {"variant": variant, "least": least, "most": most}
            sentences.append(sentence.format(**names, changes=", ".join(changes)))
    return sentences


def growth(results: Results, layers: pd.DataFrame, variants: list[str]) -> list[str]:
    """A sentence for each network: where the error is at most training, under each variant."""
    words = _(
        "under `{variant}` from {first_error} at `{first}` to {last_error} at the "
        "output `{last}`, the largest being {worst_error} at `{worst}`"
    )
    sentences = []
    for cell in _most_trained(results):
        parts = []
        for variant in variants:
            errors = _along_depth(layers, cell, variant)["accumulated_error"]
            changed = errors[errors > 0]
            if changed.empty:
                continue
            named = {"first": changed.index[0], "last": errors.index[-1], "worst": changed.idxmax()}
            percents = {f"{which}_error": _percent(errors[layer]) for which, layer in named.items()}
            parts.append(words.format(variant=variant, **named, **percents))
        if parts:
            sentences.append(f"{cell}: {'; '.join(parts)}.")
    return sentences


def growth_tables(results: Results, layers: pd.DataFrame, variants: list[str]) -> list[str]:
    """For each network at most training, the error of every layer by variant."""
    tables = []
    for cell in _most_trained(results):
        columns = {}
        for variant in variants:
            errors = _along_depth(layers, cell, variant).map(_percent)
            both = errors["accumulated_error"] + " (" + errors["own_error"] + ")"
            columns[_("{variant} (alone)").format(variant=variant)] = both
        texts = pd.DataFrame(columns).fillna(ABSENT)
        if not texts.empty:
            tables.append(table(texts.reset_index(names=cell.model)))
    return tables


def conditioning_table(diagnostics: pd.DataFrame) -> str:
    """Effective rank and condition of the layers' input Hessians, over the layers of a network."""
    found = measured.conditioning(diagnostics)
    rank, condition = "{:.1f}".format, "{:,.0f}".format
    columns = {
        _("Effective rank, median (% of columns)"): found["rank"].map(rank),
        _("Lowest"): found["lowest"].map(rank),
        _("At"): "`" + found["of_lowest"] + "`",
        _("Condition, median"): found["condition"].map(condition),
        _("Highest"): found["highest"].map(condition),
        "": "`" + found["of_highest"] + "`",
    }
    texts = pd.DataFrame(columns).reset_index(names=[_("Regime"), _("Network")])
    return table(texts.rename(columns={"": _("At")}), (0, 1, 4, 7))


def _most_trained(results: Results) -> list[Cell]:
    return [cell for cell in results.cells if cell.regime == results.ends[1]]


def _along_depth(layers: pd.DataFrame, cell: Cell, variant: str) -> pd.DataFrame:
    """Errors of a network's layers, which are the index, in order of depth; empty of none."""
    errors = layers.reindex(columns=["accumulated_error", "own_error"]).dropna()
    own = errors.index.droplevel(["depth", "layer"]).isin([(*cell, variant)])
    return errors[own].reset_index(["regime", "model", "variant", "depth"], drop=True)


def _texts(networks: pd.DataFrame) -> pd.DataFrame:
    """Mean and deviation as text: a column for each quantity."""

    def text(row: "pd.Series[float]") -> str:
        mean = _short(row["mean"])
        return mean if pd.isna(row["std"]) else f"{mean} ± {_short(row['std'], 2)}"

    return networks.apply(text, axis="columns").unstack("quantity")


def _model_errors(networks: pd.DataFrame) -> "pd.Series[float]":
    """Means of the quadratic model's error; NaN where it was not measured."""
    return networks["mean"].unstack("quantity").reindex(columns=["model_error"])["model_error"]


def _percent(share: float) -> str:
    return _("{number} %").format(number=_short(100 * share))


def _short(value: float, digits: int = 3) -> str:
    """So many digits, but no fewer than before the point: `0.0123`, `12.3`, `1,234`, `1.2e-05`."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2g}" if abs(value) < 1e-3 else f"{value:.{digits}g}"
