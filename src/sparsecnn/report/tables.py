"""The tables of the report, as a header and rows of text."""

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from sparsecnn.analysis.ablation import (
    Column,
    Correction,
    Ingredient,
    columns,
    is_ablation,
    largest_budget,
    mean_drop,
    mean_gain,
    mean_gain_p,
    shown,
)
from sparsecnn.analysis.comparisons import accuracy, drop, winner
from sparsecnn.analysis.curves import curve_of
from sparsecnn.analysis.reference import Published
from sparsecnn.analysis.results import Cell, Results
from sparsecnn.analysis.statistics import Estimate, holm
from sparsecnn.report.language import gettext as _
from sparsecnn.report.text import markdown_table, p_text, plain_table, signed, signed_interval
from sparsecnn.study.config import DENSE

_ABSENT = "\N{EN DASH}"
_ALPHA = 0.05


def headline(results: Results) -> str:
    """The study's main table as plain text for the terminal."""
    n = len(results.seeds)
    seeds = "one seed" if n == 1 else f"mean of {n} seeds"
    data = results.rows[0].dataset
    title = (
        f"Top-1 accuracy in % (drop in points) on {data}, {results.n_test:,} test images, {seeds}"
    )
    if is_ablation(results):
        return f"{title}\n\n{plain_table(*_by_variant(results))}"
    return f"{title}\n\n{plain_table(*_main(results, bold=False), left=2)}"


def main_table(results: Results) -> str:
    """Baseline and accuracy (drop) of every variant, one row per cell, as in the reference."""
    return markdown_table(*_main(results, bold=True), left=2)


def full_table(results: Results) -> str:
    """Accuracy and drop of every cell and variant with deviation, interval and n."""
    header = [_("Regime"), _("Network"), _("Variant"), _("Top-1 (%)"), _("95 % interval")]
    header += [_("Drop (points)"), _("95 % interval"), "n"]
    rows = []
    for cell in results.cells:
        for variant in (DENSE, *results.variants):
            top1 = accuracy(results, cell, variant)
            change = _negated(drop(results, cell, variant))
            row = [*cell, variant, _mean_sd(top1, f"{top1.value:.2f}"), _interval(top1)]
            if variant == DENSE:
                row += ["", ""]
            else:
                row += [
                    _mean_sd(change, signed(change.value)),
                    _signed_interval(change),
                ]
            rows.append([*row, str(top1.n)])
    return markdown_table(header, rows, left=3)


def curve_table(results: Results) -> str:
    """Accuracy of every dense network, and its change by pruning, by epochs."""
    blocks = []
    for model in results.models:
        cells = curve_of(results, model)
        header = [model, *(f"{results.epochs(cell)}" for cell in cells)]
        rows = [
            [
                _("{network} (%)").format(network=DENSE),
                *(f"{accuracy(results, c, DENSE).value:.2f}" for c in cells),
            ]
        ]
        for variant in shown(results):
            row = [signed(-drop(results, cell, variant).value) for cell in cells]
            rows.append([_("{variant} (points)").format(variant=variant), *row])
        blocks.append(markdown_table(header, rows))
    return "\n\n".join(blocks)


def ablation_table(results: Results, rows: Sequence[Ingredient]) -> str:
    """Change of accuracy by every ingredient (rows), groups and batch norm (columns).

    Means over the networks at the largest budget, in points.
    """

    def text(column: Column, variant: str) -> str:
        return signed(-mean_drop(results, variant).value)

    return _by_column(_("Pruning"), rows, text)


def ablation_by_network(results: Results, rows: Sequence[Ingredient], cell: Cell) -> str:
    """The same for one network."""

    def text(column: Column, variant: str) -> str:
        return signed(-drop(results, cell, variant).value)

    return _by_column(cell.model, rows, text)


def gains_table(results: Results, rows: Sequence[Ingredient], base: Ingredient) -> str:
    """What every ingredient gains over `base` with the same groups and batch norm, with intervals.

    Means over the networks at the largest budget, in points. Bold: not zero, by Holm's p over the
    whole table.
    """
    others = [row for row in rows if row != base]
    pairs = [
        (variant, base.variants[column])
        for row in others
        for column, variant in row.variants.items()
        if column in base.variants
    ]
    p_values = [mean_gain_p(results, *pair) for pair in pairs]
    settled = {pair[0] for pair, p in zip(pairs, holm(p_values), strict=True) if p < _ALPHA}

    def text(column: Column, variant: str) -> str:
        if column not in base.variants:
            return _ABSENT
        gain = mean_gain(results, variant, base.variants[column])
        words = f"{signed(gain.value)} {_signed_interval(gain)}"
        return f"**{words}**" if variant in settled else words

    return _by_column(_("Against {base}").format(base=base.label), others, text)


def corrections_table(results: Results, steps: Sequence[Correction]) -> str:
    """Change of accuracy with the reference's solver and with its faults put right."""
    cells = largest_budget(results)
    header = [_("Solver"), *(cell.model for cell in cells), _("Mean"), _("Gain")]
    header.append(_("95 % interval"))
    lines = []
    for step in steps:
        line = [step.label]
        line += [signed(-drop(results, cell, step.variant).value) for cell in cells]
        line.append(signed(-mean_drop(results, step.variant).value))
        gain = mean_gain(results, step.variant, steps[0].variant)
        line += [signed(gain.value), _signed_interval(gain)] if step != steps[0] else ["", ""]
        lines.append(line)
    return markdown_table(header, lines)


def variants_table(results: Results, labels: Mapping[str, str]) -> str:
    """What each variant is; `labels` tell method and options of a variant in words."""
    header = [_("Variant"), _("Method"), _("Pattern"), _("Groups along"), _("Coverage")]
    header.append(_("Batch norm re-estimated"))
    rows = []
    for variant in results.variants:
        row = next(row for row in results.rows if row.variant == variant)
        again = _("yes") if row.bn_recalibrated else _("no")
        method = labels.get(variant, row.method)
        rows.append([variant, method, row.pattern, row.layout, row.coverage, again])
    return markdown_table(header, rows, left=len(header))


def pruning_table(results: Results) -> str:
    """Zeros and pruning time of every network and variant, means over budgets and seeds."""
    header = [_("Network"), _("Variant"), _("Zeros, pruned layers (%)")]
    header += [_("Zeros, all layers (%)"), _("Pruning time (s)")]
    rows = []
    for model in results.models:
        for variant in results.variants:
            found = [r for r in results.rows if (r.model, r.variant) == (model, variant)]
            rows.append(
                [
                    model,
                    variant,
                    f"{100 * fmean(row.sparsity_pruned_layers for row in found):.2f}",
                    f"{100 * fmean(row.sparsity_network for row in found):.2f}",
                    f"{fmean(row.seconds for row in found):.1f}",
                ]
            )
    return markdown_table(header, rows, left=2)


def reference_table(
    results: Results,
    published: Mapping[Cell, Published],
    variants: Mapping[str, str],
    imitations: Mapping[str, str],
) -> str:
    """The published numbers and ours, two rows per cell, or three with `imitations`.

    `variants` and `imitations` map published methods to variants of ours.
    """
    header = [_("Regime"), _("Network"), _("Source"), _("Epochs"), _("Baseline")]
    header += [_("{variant} (drop)").format(variant=method) for method in variants]
    rows = []
    for cell in results.cells:
        if cell not in published:
            continue
        theirs = published[cell]
        theirs_row = [*cell, _("reference"), theirs.epochs, f"{theirs.dense:.2f}"]
        theirs_row += [f"{top1:.2f} ({signed(-lost)})" for top1, lost in theirs.pruned(variants)]
        rows.append(theirs_row)
        for source, ours in ((_("this study"), variants), (_("imitation"), imitations)):
            if ours:
                row = [*cell, source, str(results.epochs(cell))]
                row.append(f"{accuracy(results, cell, DENSE).value:.2f}")
                row += [
                    _top1_and_drop(results, cell, ours[method]) if method in ours else _ABSENT
                    for method in variants
                ]
                rows.append(row)
    return markdown_table(header, rows, left=3)


def claims_table(claims: Sequence[Mapping[str, Any]]) -> str:
    """Verdict, effect and interval of every claim."""
    rows = []
    for claim in claims:
        tested = claim["effect"] is not None
        effect = signed(claim["effect"]) if tested else _("not measured")
        interval = signed_interval(claim["low"], claim["high"]) if tested else ""
        verdict = claim["verdict"]
        rows.append([str(claim["number"]), claim["title"], _(verdict), effect, interval])
    header = ["#", _("Claim"), _("Verdict"), _("Effect (points)"), _("95 % interval")]
    return markdown_table(header, rows, left=3)


def solvers_table(by_solver: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Verdict and effect of every claim on accuracies, with each variant as SparseGPT."""
    rows = []
    for claims in zip(*by_solver.values(), strict=True):
        row = [str(claims[0]["number"]), claims[0]["title"]]
        for claim in claims:
            effect = "" if claim["effect"] is None else f" ({signed(claim['effect'])})"
            verdict = claim["verdict"]
            row.append(_(verdict) + effect)
        rows.append(row)
    return markdown_table(["#", _("Claim"), *by_solver], rows, left=2 + len(by_solver))


def comparisons_table(comparisons: Sequence[Mapping[str, Any]]) -> str:
    """Every comparison that a claim rests on."""
    rows = [
        [
            comparison["name"],
            signed(comparison["effect"]),
            signed_interval(comparison["low"], comparison["high"]),
            p_text(comparison["adjusted_p"]),
            str(comparison["n"]),
        ]
        for comparison in comparisons
    ]
    header = [
        _("Comparison"),
        _("Effect (points)"),
        _("95 % interval"),
        _("p against the claim"),
        "n",
    ]
    return markdown_table(header, rows)


def _main(results: Results, *, bold: bool) -> tuple[list[str], list[list[str]]]:
    header = [_("Regime"), _("Network"), _("Epochs"), _("Baseline")]
    header += [_("{variant} (drop)").format(variant=variant) for variant in results.variants]
    rows = []
    for cell in results.cells:
        best = winner(results, cell) if bold else None
        row = [*cell, str(results.epochs(cell)), f"{accuracy(results, cell, DENSE).value:.2f}"]
        for variant in results.variants:
            text = _top1_and_drop(results, cell, variant)
            row.append(f"**{text}**" if variant == best else text)
        rows.append(row)
    return header, rows


def _by_variant(results: Results) -> tuple[list[str], list[list[str]]]:
    header = [_("Variant"), *map(str, results.cells)]
    dense = [f"{accuracy(results, cell, DENSE).value:.2f}" for cell in results.cells]
    rows = [
        [variant, *(_top1_and_drop(results, cell, variant) for cell in results.cells)]
        for variant in results.variants
    ]
    return header, [[DENSE, *dense], *rows]


def _by_column(name: str, rows: Sequence[Ingredient], text: Callable[[Column, str], str]) -> str:
    wide = columns(rows)
    lines = [
        [text(c, row.variants[c]) if c in row.variants else _ABSENT for c in wide] for row in rows
    ]
    labelled = [[row.label, *line] for row, line in zip(rows, lines, strict=True)]
    return markdown_table([name, *map(str, wide)], labelled)


def _top1_and_drop(results: Results, cell: Cell, variant: str) -> str:
    top1, lost = accuracy(results, cell, variant), drop(results, cell, variant)
    return f"{top1.value:.2f} ({signed(-lost.value)})"


def _negated(value: Estimate) -> Estimate:
    return Estimate(-value.value, -value.high, -value.low, value.sd, value.n, value.basis)


def _mean_sd(value: Estimate, mean: str) -> str:
    return mean if value.sd is None else f"{mean} ± {value.sd:.2f}"


def _interval(value: Estimate) -> str:
    return f"[{value.low:.2f}, {value.high:.2f}]"


def _signed_interval(value: Estimate) -> str:
    return signed_interval(value.low, value.high)
