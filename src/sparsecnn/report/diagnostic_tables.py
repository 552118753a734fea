"""The tables and sentences of the report on the diagnostics.

Of a study of many budgets they show the least and the most trained networks; all is in
diagnostics.csv.
"""

from itertools import product
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
        "curvature_table": curvature_table(ends, networks),
        "quadratic_table": quadratic_table(ends, networks, variants),
        "truth": truth(ends, networks, variants),
        "growth": growth(ends, layers, variants),
        "growth_tables": growth_tables(ends, layers, variants),
        "conditioning_table": conditioning_table(ends, lines),
    }


def curvature_table(results: Results, networks: pd.DataFrame) -> str:
    """Loss, gradient and both ends of the Hessian's spectrum of every dense network."""
    quantities = ("loss", "gradient_norm", "largest", "smallest")
    header = [_("Regime"), _("Network"), _("Loss"), _("Gradient norm"), _("Largest eigenvalue")]
    rows = [
        [*cell, *(_mean_sd(networks, cell, DENSE, quantity) for quantity in quantities)]
        for cell in results.cells
    ]
    return table(pd.DataFrame(rows, columns=[*header, _("Smallest, at most")]), (0, 1))


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
    quantities = ("measured", "predicted", "first_order", "second_order")
    rows = []
    for cell, variant in product(results.cells, variants):
        row = [_mean_sd(networks, cell, variant, quantity) for quantity in quantities]
        error = _mean(networks, cell, variant, "model_error")
        rows.append([*cell, variant, *row, ABSENT if error is None else f"{error:.0f}"])
    header = [_("Regime"), _("Network"), _("Variant"), _("Measured"), _("Predicted")]
    header += [_("First order"), _("Second order"), _("Error of the model (%)")]
    return table(pd.DataFrame(rows, columns=header), range(3))


def truth(results: Results, networks: pd.DataFrame, variants: list[str]) -> list[str]:
    """A sentence for each variant: the error of its quadratic model at least and most training."""
    least, most = results.ends
    one = least == most
    change = _("{number} %") if one else _("from {before} to {after} %")
    sentence = (
        _("Under `{variant}` the model's error is {changes}.")
        if one
        else _("Under `{variant}` the model's error goes, from {least} to {most}, {changes}.")
    )
    sentences = []
    for variant in variants:
        parts = []
        for model in results.models:
            before, after = (
                _mean(networks, Cell(regime, model), variant, "model_error")
                for regime in (least, most)
            )
            if before is not None and after is not None:
                told = {"before": f"{before:.0f}", "after": f"{after:.0f}"}
                parts.append(f"{change.format(**told, number=told['after'])} ({model})")
        if parts:
            names = {"variant": variant, "least": least, "most": most}
            sentences.append(sentence.format(**names, changes=", ".join(parts)))
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
            errors = _along_depth(layers, cell, variant)["accumulated_error"].dropna()
            changed = errors[errors > 0]
            if changed.empty:
                continue
            layer = {
                "first": changed.index[0],
                "last": errors.index[-1],
                "worst": changed.idxmax(),
            }
            percents = {f"{which}_error": _percent(errors[name]) for which, name in layer.items()}
            parts.append(words.format(variant=variant, **layer, **percents))
        if parts:
            sentences.append(f"{cell}: {'; '.join(parts)}.")
    return sentences


def growth_tables(results: Results, layers: pd.DataFrame, variants: list[str]) -> list[str]:
    """For each network at most training, the error of every layer by variant."""
    tables = []
    for cell in _most_trained(results):
        texts = {}
        for variant in variants:
            errors = _along_depth(layers, cell, variant)[
                ["accumulated_error", "own_error"]
            ].dropna()
            texts[_("{variant} (alone)").format(variant=variant)] = errors.map(_percent).agg(
                lambda pair: f"{pair.iloc[0]} ({pair.iloc[1]})", axis="columns"
            )
        rows = pd.DataFrame(texts).fillna(ABSENT)
        if not rows.empty:
            tables.append(table(rows.rename_axis(cell.model).reset_index()))
    return tables


def conditioning_table(results: Results, diagnostics: pd.DataFrame) -> str:
    """Effective rank and condition of the layers' input Hessians, over the layers of a network."""
    found = measured.conditioning(diagnostics)
    rows = []
    for cell in results.cells:
        own = found.loc[cell]
        row = [*cell, f"{own['rank']:.1f}", f"{own['lowest']:.1f}", f"`{own['of_lowest']}`"]
        row += [f"{own['condition']:,.0f}", f"{own['highest']:,.0f}", f"`{own['of_highest']}`"]
        rows.append(row)
    header = [_("Regime"), _("Network"), _("Effective rank, median (% of columns)"), _("Lowest")]
    header += [_("At"), _("Condition, median"), _("Highest"), _("At")]
    return table(pd.DataFrame(rows, columns=header), (0, 1, 4, 7))


def _most_trained(results: Results) -> list[Cell]:
    return [cell for cell in results.cells if cell.regime == results.ends[1]]


def _along_depth(layers: pd.DataFrame, cell: Cell, variant: str) -> pd.DataFrame:
    """Quantities of a network's layers, which are the index, in order of depth."""
    found = layers.reindex(columns=["accumulated_error", "own_error"])
    if (*cell, variant) not in layers.index.droplevel(["depth", "layer"]):
        return found.iloc[:0].reset_index("layer").set_index("layer")
    return found.xs((*cell, variant), level=("regime", "model", "variant")).droplevel("depth")


def _percent(share: float) -> str:
    return _("{number} %").format(number=_short(100 * share))


def _mean(networks: pd.DataFrame, cell: Cell, variant: str, quantity: str) -> float | None:
    key = (*cell, variant, quantity)
    return float(networks.loc[key, "mean"]) if key in networks.index else None


def _mean_sd(networks: pd.DataFrame, cell: Cell, variant: str, quantity: str) -> str:
    mean = _mean(networks, cell, variant, quantity)
    if mean is None:
        return ABSENT
    sd = networks.loc[(*cell, variant, quantity), "std"]
    return _short(mean) if pd.isna(sd) else f"{_short(mean)} ± {_short(sd, 2)}"


def _short(value: float, digits: int = 3) -> str:
    """So many digits, but no fewer than before the point: `0.0123`, `12.3`, `1,234`, `1.2e-05`."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2g}" if abs(value) < 1e-3 else f"{value:.{digits}g}"
