"""Tables of the report on many variants, of ablations and of sweeps of patterns, as Markdown."""

from collections.abc import Mapping, Sequence

import pandas as pd

from sparsecnn.analysis.ablation import (
    Ingredient,
    columns,
    gains,
    gains_of,
    mean_drop,
    mean_measures,
)
from sparsecnn.analysis.comparisons import winner
from sparsecnn.analysis.patterns import by_kept, counterparts, kept, patterns_of
from sparsecnn.analysis.results import Results, largest_budget
from sparsecnn.analysis.waterfall import Step
from sparsecnn.report.labels import column_label, ingredient_label, step_label
from sparsecnn.report.language import gettext as _
from sparsecnn.report.tables import means_of, measure_texts, top1_and_drop
from sparsecnn.report.text import ABSENT, signed, signed_estimate, table


def ablation_table(results: Results, rows: Sequence[Ingredient]) -> str:
    """Change of accuracy by every ingredient (rows), groups and batch norm (columns).

    Means over the networks at the largest budget, in points.
    """
    changes = {variant: signed(-mean_drop(results, variant).value) for variant in results.variants}
    return _by_column(_("Pruning"), rows, changes)


def ablation_by_network(results: Results, rows: Sequence[Ingredient]) -> list[str]:
    """The same for each network."""
    changes = (-means_of(results, "drop")).map(signed)
    return [
        _by_column(cell.model, rows, {v: changes[*cell, v] for v in results.variants})
        for cell in largest_budget(results)
    ]


def ablation_divergence(results: Results, rows: Sequence[Ingredient]) -> str | None:
    """The same of the KL divergence, in nats; None if it was not measured."""
    texts = measure_texts(mean_measures(results)).get(_("KL (nats)"))
    return None if texts is None else _by_column(_("KL (nats)"), rows, texts.to_dict())


def ablation_measures(results: Results, rows: Sequence[Ingredient]) -> str:
    """What is told of every variant, means over the networks, in the order of the other tables."""
    wide = columns(rows)
    order = [row.variants[place] for row in rows for place in wide if place in row.variants]
    texts = measure_texts(mean_measures(results).loc[order])
    return table(texts.reset_index(names=_("Variant")))


def gains_table(results: Results, rows: Sequence[Ingredient], base: Ingredient) -> str:
    """What every ingredient gains over `base` with the same groups and batch norm, with intervals.

    Means over the networks at the largest budget, in points. Bold: not zero, by Holm's p over the
    whole table.
    """
    texts = _gains(gains(results, rows, base))
    others = [row for row in rows if row != base]
    return _by_column(_("Against {base}").format(base=ingredient_label(base)), others, texts)


def patterns_table(results: Results, series: Mapping[str, str]) -> str:
    """Change of accuracy by every pattern (rows) and series (columns).

    Means over the networks at the largest budget, in points.
    """
    changes = {variant: signed(-mean_drop(results, variant).value) for variant in series}
    return _by_pattern(_("Pattern"), results, series, changes)


def patterns_by_network(results: Results, series: Mapping[str, str]) -> list[str]:
    """Accuracy and its change in each network, by pattern and series.

    Bold is the series that is ahead of every other one at this pattern.
    """
    patterns, texts = patterns_of(results), top1_and_drop(results)
    alike = [[v for v in series if patterns[v] == pattern] for pattern in by_kept(results)]
    blocks = []
    for cell in largest_budget(results):
        best = [winner(results, cell, variants) for variants in alike]
        told = {v: f"**{text}**" if v in best else text for v, text in texts.loc[cell].items()}
        blocks.append(_by_pattern(cell.model, results, series, told, [cell.model]))
    return blocks


def patterns_divergence(results: Results, series: Mapping[str, str]) -> str | None:
    """KL divergence in nats, mean over the networks; None if it was not measured."""
    texts = measure_texts(mean_measures(results)).get(_("KL (nats)"))
    if texts is None:
        return None
    return _by_pattern(_("KL (nats)"), results, series, texts.to_dict())


def pattern_costs_table(results: Results, series: Mapping[str, str]) -> str | None:
    """Accuracy of each N:M pattern minus that of unstructured pruning which keeps as many.

    Means over the networks at the largest budget, in points. Bold: not zero, by Holm's p over the
    whole table. None without such pairs.
    """
    pairs = counterparts(results, series)
    if not pairs:
        return None
    texts, own = _gains(gains_of(results, pairs)), {v: series[v] for v in pairs}
    return _by_pattern(_("Pattern"), results, own, texts)


def waterfall_table(results: Results, steps: Sequence[Step], found: pd.DataFrame) -> str:
    """Change of accuracy by each variant of a waterfall, and what its step gains (`levels`).

    Bold: not zero, by Holm's p over all steps.
    """
    cells, lost = largest_budget(results), means_of(results, "drop")
    kl = measure_texts(mean_measures(results)).get(_("KL (nats)"))
    gains = found[["gain", "gain_low", "gain_high", "settled"]].iloc[1:]
    told = _gains(gains.set_axis(["value", "low", "high", "settled"], axis="columns"))
    mean, rows = _("Mean") if len(cells) > 1 else cells[0].model, []
    for step in steps:
        name = step.variant
        row = {_("Step"): step_label(step), _("Variant"): name}
        if len(cells) > 1:
            row |= {cell.model: signed(-lost[*cell, name]) for cell in cells}
        row |= {mean: signed(-found.at[name, "drop"]), _("Gain"): told.get(name, "")}
        rows.append(row | ({} if kl is None else {_("KL (nats)"): kl[name]}))
    return table(pd.DataFrame(rows), (0, 1))


def _gains(found: pd.DataFrame) -> dict[str, str]:
    """Gain and interval of every variant; bold if it is settled."""
    texts = {}
    for gain in found.itertuples():
        words = signed_estimate(gain.value, gain.low, gain.high)
        texts[str(gain.Index)] = f"**{words}**" if gain.settled else words
    return texts


def _by_column(name: str, rows: Sequence[Ingredient], texts: Mapping[str, str]) -> str:
    """A row for each ingredient: the text of its variant in each column."""
    wide = columns(rows)
    lines = [[texts.get(row.variants.get(place, ""), ABSENT) for place in wide] for row in rows]
    frame = pd.DataFrame(lines, columns=list(map(column_label, wide)))
    frame.insert(0, name, list(map(ingredient_label, rows)))
    return table(frame)


def _by_pattern(
    name: str,
    results: Results,
    series: Mapping[str, str],
    texts: Mapping[str, str],
    models: Sequence[str] | None = None,
) -> str:
    """A row for each pattern, most kept first: the text of its variant in each series.

    What is kept was measured: the mean over these variants, and over all networks or `models`.
    """
    patterns, share = patterns_of(results), kept(results).loc[models or results.models]
    names = list(dict.fromkeys(series.values()))
    lines = []
    for pattern in by_kept(results):
        own = {series[variant]: variant for variant in series if patterns[variant] == pattern}
        if own:
            mean = share[share.index.isin(own.values(), level="variant")].mean()
            told = [texts[own[of]] if of in own else ABSENT for of in names]
            lines.append([pattern, f"{mean:.1f}", *told])
    return table(pd.DataFrame(lines, columns=[name, _("Kept (%)"), *names]))
