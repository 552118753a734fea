"""Render report.md: facts from the results, words from the template, in the present language."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, StrictUndefined

from sparsecnn.analysis.ablation import (
    FEW,
    PLAIN,
    corrections,
    ingredients,
    is_ablation,
    largest_budget,
    plain_row,
    why,
)
from sparsecnn.analysis.comparisons import (
    accuracy,
)
from sparsecnn.analysis.curves import extremes, is_curve
from sparsecnn.analysis.diagnostics import Diagnostics
from sparsecnn.analysis.judging import judge_solvers
from sparsecnn.analysis.reference import SOLVER, Published, differences, imitations, shared_methods
from sparsecnn.analysis.results import Cell, Results
from sparsecnn.report import sentences, tables
from sparsecnn.report.diagnostic_tables import diagnostics_context
from sparsecnn.report.language import gettext, ngettext
from sparsecnn.report.language import gettext as _
from sparsecnn.report.text import anchor, escaped
from sparsecnn.study.config import DENSE, budgets


def render(template: str, context: Mapping[str, Any]) -> str:
    """Fill in the template; a name that `context` lacks is an error."""
    environment = Environment(
        undefined=StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        extensions=["jinja2.ext.i18n"],
    )
    environment.policies["ext.i18n.trimmed"] = True
    environment.install_gettext_callables(gettext, ngettext, newstyle=True)  # type: ignore[attr-defined]
    environment.filters["anchor"] = anchor
    environment.globals["comparisons_table"] = tables.comparisons_table
    return environment.from_string(template).render(context)


def report_context(
    results: Results,
    *,
    claims: Mapping[str, Any],
    provenance: Mapping[str, Any],
    dataset: Mapping[str, Any],
    reference: Mapping[Cell, Published],
    figures: Mapping[str, str],
    config: Mapping[str, Any],
    name: str,
    others: Mapping[str, str],
    diagnostics: Diagnostics | None = None,
) -> dict[str, Any]:
    """Everything the template shows, as plain values.

    Parameters
    ----------
    claims, provenance, dataset
        Values of claims.json, provenance.json and dataset.json.
    figures
        Link of each figure from the report, by name (`accuracy`, `drop`, `layer_error`,
        `ablation`, `budgets`; with diagnostics `quadratic_model` and `accumulation`).
    config
        The whole validated configuration.
    name
        Of the report's file.
    others
        Link of the report in each other language, by what the language calls itself.
    diagnostics
        Of the study; None if it measures accuracy alone.
    """
    variants = shared_methods(results, reference)
    imitated = imitations(results, variants)
    ablation = _ablation(results, config) if is_ablation(results) else None
    return {
        "results": results,
        "label": escaped(results.rows[0].dataset),
        "measured_on": sentences.measured_on(results),
        **sentences.shown_in_figures(results),
        "config": config,
        "name": name,
        "others": others,
        "budgets": {name: budgets(regime) for name, regime in config["regimes"].items()},
        "sparsegpt_options": sentences.sparsegpt_options(config),
        "trainings": sentences.trainings(config),
        "dataset": dataset,
        "class_counts": _class_counts(dataset),
        "claims": claims["claims"],
        **_solvers(results),
        "provenance": provenance,
        "figures": figures,
        "answer": sentences.answer(results),
        "verdicts": sentences.verdicts(claims["claims"]),
        "warnings": sentences.warnings(results),
        "collapsed": sentences.collapsed(results),
        "left_dense": left_dense(provenance["networks"]),
        "limits": sentences.limits(results),
        "several_recipes": len({row.recipe for row in results.rows}) > 1,
        "differences": differences(results, reference, config["calibration"]["images"]),
        "main_table": tables.main_table(results),
        "full_table": tables.full_table(results),
        "variants_table": tables.variants_table(results, _labels(config)),
        "pruning_table": tables.pruning_table(results),
        "claims_table": tables.claims_table(claims["claims"]),
        "reference_table": (
            tables.reference_table(results, reference, variants, imitated) if variants else None
        ),
        "imitations": imitated,
        "ablation": ablation,
        "curve_table": tables.curve_table(results) if is_curve(results) else None,
        "ends": extremes(results).regimes,
        "diagnostics": diagnostics_context(results, diagnostics),
        **_corrected(results),
        "settings": yaml.safe_dump(dict(config), sort_keys=False, width=100, allow_unicode=True),
    }


def _ablation(results: Results, config: Mapping[str, Any]) -> dict[str, Any]:
    """Tables of a study with many variants; `base` and `gains` are None without a plain row."""
    rows, cells = ingredients(config), largest_budget(results)
    base = plain_row(rows)
    return {
        "few": FEW,
        "regime": results.regimes[-1],
        "dense": {cell.model: accuracy(results, cell, DENSE).value for cell in cells},
        "table": tables.ablation_table(results, rows),
        "by_network": [tables.ablation_by_network(results, rows, cell) for cell in cells],
        "base": base and base.label,
        "gains": base and tables.gains_table(results, rows, base),
    }


def _labels(config: Mapping[str, Any]) -> dict[str, str]:
    """Method and options of every variant, in words."""
    return {variant: row.label for row in ingredients(config) for variant in row.variants.values()}


def _corrected(results: Results) -> dict[str, str | None]:
    """What the faults of the reference's solver cost, where the study imitates it."""
    steps = corrections(results)
    return {
        "why": why(results, steps) if steps else None,
        "corrections_table": tables.corrections_table(results, steps) if steps else None,
    }


def relative_links(figures: Sequence[Path], report: Path) -> dict[str, str]:
    """Link of each figure from the report's folder, by file name without suffix."""
    return {f.stem: Path(os.path.relpath(f, report.parent)).as_posix() for f in figures}


def left_dense(networks: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Layers that pruning left dense: model, variants and layers, equal ones together."""
    variants: dict[tuple[str, str], list[str]] = {}
    for network in networks:
        if network["variant"] == DENSE or not network["dense_layers"]:
            continue
        layers = ", ".join(f"`{layer}`" for layer in network["dense_layers"])
        names = variants.setdefault((network["model"], layers), [])
        if network["variant"] not in names:
            names.append(network["variant"])
    return [
        {"model": model, "layers": layers, "variants": ", ".join(names)}
        for (model, layers), names in variants.items()
    ]


def _solvers(results: Results) -> dict[str, Any]:
    """The variant that claims take for SparseGPT, and their verdicts with others in its place."""
    rows = [row for row in results.rows if not row.bn_recalibrated]
    own = dict.fromkeys(row.variant for row in rows if row.method in (PLAIN, SOLVER))
    several = len(own) > 1 and not is_ablation(results)
    table = tables.solvers_table(judge_solvers(results, list(own))) if several else None
    return {"sparsegpt": results.variant_of(PLAIN), "solvers_table": table}


def _class_counts(dataset: Mapping[str, Any]) -> dict[str, str]:
    counts = {}
    for split, of_class in dataset["class_counts"].items():
        low, high = min(of_class.values()), max(of_class.values())
        of_each = "{low}" if low == high else _("{low} to {high}")
        counts[split] = of_each.format(low=f"{low:,}", high=f"{high:,}")
    return counts
