"""The tables and sentences of the report on the diagnostics.

Of a study of many budgets they show the least and the most trained networks; all is in
diagnostics.csv.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean, median, stdev
from typing import Any

from sparsecnn.analysis.curves import extremes
from sparsecnn.analysis.diagnostics import Diagnostics
from sparsecnn.analysis.results import Cell, Results
from sparsecnn.report.language import gettext as _
from sparsecnn.report.text import markdown_table
from sparsecnn.study.config import DENSE

_ABSENT = "\N{EN DASH}"


def diagnostics_context(results: Results, diagnostics: Diagnostics | None) -> dict[str, Any] | None:
    """What the report's section shows; None for a study without diagnostics."""
    if diagnostics is None:
        return None
    ends = extremes(results)
    return {
        "variants": diagnostics.variants,
        "convergence": convergence(ends, diagnostics),
        "curvature_table": curvature_table(ends, diagnostics),
        "quadratic_table": quadratic_table(ends, diagnostics),
        "truth": truth(ends, diagnostics),
        "growth": growth(ends, diagnostics),
        "growth_tables": growth_tables(ends, diagnostics),
        "conditioning_table": conditioning_table(ends, diagnostics),
    }


def curvature_table(results: Results, diagnostics: Diagnostics) -> str:
    """Loss, gradient and both ends of the Hessian's spectrum of every dense network."""
    quantities = ("loss", "gradient_norm", "largest", "smallest")
    header = [_("Regime"), _("Network"), _("Loss"), _("Gradient norm"), _("Largest eigenvalue")]
    header.append(_("Smallest, at most"))
    rows = [
        [*cell, *(_mean_sd(diagnostics.values(cell, DENSE, quantity)) for quantity in quantities)]
        for cell in results.cells
    ]
    return markdown_table(header, rows, left=2)


def convergence(results: Results, diagnostics: Diagnostics) -> str:
    """One sentence: how far the largest eigenvalues can be trusted."""

    def every(quantity: str) -> list[float]:
        return [x for cell in results.cells for x in diagnostics.values(cell, DENSE, quantity)]

    residuals = [r / abs(e) for r, e in zip(every("residual"), every("largest"), strict=True) if e]
    steps, converged = every("iterations"), every("converged")
    return _(
        "Lanczos's method converged for {converged} of {n} networks, after {fewest} to {most} "
        "products with the Hessian; the largest residual is {residual} % of its eigenvalue."
    ).format(
        converged=f"{sum(converged):.0f}",
        n=len(converged),
        fewest=f"{min(steps):.0f}",
        most=f"{max(steps):.0f}",
        residual=f"{100 * max(residuals, default=0):.2g}",
    )


def quadratic_table(results: Results, diagnostics: Diagnostics) -> str:
    """Change of the loss by pruning, measured and as the quadratic model has it."""
    quantities = ("measured", "predicted", "first_order", "second_order")
    header = [_("Regime"), _("Network"), _("Variant"), _("Measured"), _("Predicted")]
    header += [_("First order"), _("Second order"), _("Error of the model (%)")]
    rows = []
    for cell in results.cells:
        for variant in diagnostics.variants:
            row = [_mean_sd(diagnostics.values(cell, variant, quantity)) for quantity in quantities]
            errors = diagnostics.values(cell, variant, "model_error")
            rows.append([*cell, variant, *row, f"{fmean(errors):.0f}" if errors else _ABSENT])
    return markdown_table(header, rows, left=3)


def truth(results: Results, diagnostics: Diagnostics) -> list[str]:
    """A sentence for each variant: the error of its quadratic model at least and most training."""
    least, most = results.ends
    sentences = []
    for variant in diagnostics.variants:
        parts = []
        for model in results.models:
            errors = [
                diagnostics.values(Cell(regime, model), variant, "model_error")
                for regime in (least, most)
            ]
            if all(errors):
                before, after = map(fmean, errors)
                change = _("from {before} to {after} %") if least != most else _("{number} %")
                change = change.format(
                    before=f"{before:.0f}", after=f"{after:.0f}", number=f"{after:.0f}"
                )
                parts.append(f"{change} ({model})")
        if parts:
            sentence = (
                _("Under `{variant}` the model's error goes, from {least} to {most}, {changes}.")
                if least != most
                else _("Under `{variant}` the model's error is {changes}.")
            )
            sentences.append(
                sentence.format(variant=variant, least=least, most=most, changes=", ".join(parts))
            )
    return sentences


def growth(results: Results, diagnostics: Diagnostics) -> list[str]:
    """A sentence for each network: where the error is at most training, under each variant."""
    sentences = []
    for cell in results.cells:
        if cell.regime != results.ends[1]:
            continue
        parts = []
        for variant in diagnostics.variants:
            errors = diagnostics.along_depth(cell, variant, "accumulated_error")
            changed = {layer: error for layer, error in errors.items() if error > 0}
            if not changed:
                continue
            first, last = next(iter(changed)), list(errors)[-1]
            worst = max(changed, key=lambda layer: changed[layer])
            parts.append(
                _(
                    "under `{variant}` from {first_error} at `{first}` to {last_error} at the "
                    "output `{last}`, the largest being {worst_error} at `{worst}`"
                ).format(
                    variant=variant,
                    first=first,
                    first_error=_percent(changed[first]),
                    last=last,
                    last_error=_percent(errors[last]),
                    worst=worst,
                    worst_error=_percent(changed[worst]),
                )
            )
        if parts:
            sentences.append(f"{cell}: {'; '.join(parts)}.")
    return sentences


def growth_tables(results: Results, diagnostics: Diagnostics) -> list[str]:
    """For each network at most training, the error of every layer by variant."""
    tables = []
    for cell in results.cells:
        if cell.regime != results.ends[1]:
            continue
        own, accumulated = (
            {v: diagnostics.along_depth(cell, v, f"{kind}_error") for v in diagnostics.variants}
            for kind in ("own", "accumulated")
        )
        layers = list(dict.fromkeys(layer for errors in accumulated.values() for layer in errors))
        header = [
            cell.model,
            *(_("{variant} (alone)").format(variant=v) for v in diagnostics.variants),
        ]
        rows = [
            [layer, *(_both(accumulated[v], own[v], layer) for v in diagnostics.variants)]
            for layer in layers
        ]
        if rows:
            tables.append(markdown_table(header, rows))
    return tables


def conditioning_table(results: Results, diagnostics: Diagnostics) -> str:
    """Effective rank and condition of the layers' input Hessians, over the layers of a network."""
    header = [_("Regime"), _("Network"), _("Effective rank, median (% of columns)"), _("Lowest")]
    header += [_("At"), _("Condition, median"), _("Highest"), _("At")]
    rows = []
    for cell in results.cells:
        columns = diagnostics.along_depth(cell, DENSE, "columns")
        ranks = diagnostics.along_depth(cell, DENSE, "effective_rank")
        conditions = diagnostics.along_depth(cell, DENSE, "condition")
        share = {layer: 100 * rank / columns[layer] for layer, rank in ranks.items()}
        low, high = min(share, key=share.__getitem__), max(conditions, key=conditions.__getitem__)
        row = [f"{median(share.values()):.1f}", f"{share[low]:.1f}", f"`{low}`"]
        row += [f"{median(conditions.values()):,.0f}", f"{conditions[high]:,.0f}", f"`{high}`"]
        rows.append([*cell, *row])
    return markdown_table(header, rows, left=(0, 1, 4, 7))


def _both(accumulated: Mapping[str, float], own: Mapping[str, float], layer: str) -> str:
    if layer not in accumulated:
        return _ABSENT
    return f"{_percent(accumulated[layer])} ({_percent(own[layer])})"


def _percent(share: float) -> str:
    return _("{number} %").format(number=_short(100 * share))


def _mean_sd(values: Sequence[float]) -> str:
    if not values:
        return _ABSENT
    mean = _short(fmean(values))
    return f"{mean} ± {_short(stdev(values), 2)}" if len(values) > 1 else mean


def _short(value: float, digits: int = 3) -> str:
    """So many digits, but no fewer than before the point: `0.0123`, `12.3`, `1,234`, `1.2e-05`."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2g}" if abs(value) < 1e-3 else f"{value:.{digits}g}"
