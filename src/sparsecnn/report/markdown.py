"""Render report.md: facts from the results, words from the template, in the present language."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from jinja2 import DictLoader, Environment, StrictUndefined

from sparsecnn.analysis.ablation import (
    FEW,
    PLAIN,
    Ingredient,
    has_many,
    ingredients,
    is_ablation,
    plain_row,
    shown,
)
from sparsecnn.analysis.comparisons import at_chance
from sparsecnn.analysis.curves import extremes, is_curve
from sparsecnn.analysis.patterns import is_sweep, patterns_of
from sparsecnn.analysis.reference import (
    COMMIT,
    REPOSITORY,
    departures,
    differences,
    disagreement,
    imitations,
    reports,
    shared_methods,
)
from sparsecnn.analysis.results import Results, largest_budget
from sparsecnn.analysis.waterfall import levels, steps
from sparsecnn.report import sentences, tables, variant_tables
from sparsecnn.report.claims import told, verdicts
from sparsecnn.report.diagnostic_tables import diagnostics_context
from sparsecnn.report.labels import ingredient_label, series_labels
from sparsecnn.report.language import gettext, ngettext
from sparsecnn.report.text import anchor, escaped
from sparsecnn.study.config import DENSE, budgets


def render(templates: Mapping[str, str], context: Mapping[str, Any]) -> str:
    """Fill in `report.md.j2`, one of these templates by name, which includes the others.

    A name that `context` lacks is an error.
    """
    environment = Environment(
        loader=DictLoader(templates),
        undefined=StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        extensions=["jinja2.ext.i18n"],
    )
    environment.policies["ext.i18n.trimmed"] = True
    environment.install_gettext_callables(gettext, ngettext, newstyle=True)  # type: ignore[attr-defined]
    environment.filters |= {"anchor": anchor, "escaped": escaped}
    environment.globals["comparisons_table"] = tables.comparisons_table
    return environment.get_template("report.md.j2").render(context)


def report_context(
    results: Results,
    *,
    claims: Mapping[str, Any],
    provenance: Mapping[str, Any],
    dataset: Mapping[str, Any],
    reference: pd.DataFrame,
    figures: Mapping[str, str],
    config: Mapping[str, Any],
    name: str,
    others: Mapping[str, str],
    diagnostics: pd.DataFrame | None = None,
) -> dict[str, Any]:
    """Everything the template shows, as plain values.

    Parameters
    ----------
    claims, provenance, dataset
        Values of claims.json, provenance.json and dataset.json.
    figures
        Link of each figure from the report, by name (`accuracy`, `drop`, `layer_error`,
        `ablation`, `budgets`, `patterns`, `waterfall`; with diagnostics `quadratic_model` and
        `accumulation`).
    config
        The whole validated configuration.
    name
        Of the report's file.
    others
        Link of the report in each other language, by what the language calls itself.
    diagnostics
        Of the study; None if it measures accuracy alone.
    """
    rows = ingredients(config)
    sweep = _sweep(results, rows) if is_sweep(results) else None
    own_solvers = claims["solvers"]
    in_words = [told(claim) for claim in claims["claims"]]
    imitated = imitations(results, shared_methods(results, reference))
    return {
        "results": results,
        "config": config,
        "name": name,
        "others": others,
        "budgets": {name: budgets(regime) for name, regime in config["regimes"].items()},
        "sparsegpt_options": sentences.sparsegpt_options(config),
        "dataset": dataset,
        "claims": in_words,
        "sparsegpt": results.variant_of(PLAIN),
        "solvers_table": tables.solvers_table(own_solvers) if own_solvers else None,
        "provenance": provenance,
        "figures": figures,
        "answer": sweep["answer"] if sweep else sentences.answer(results),
        "verdicts": verdicts(in_words),
        "at_chance": at_chance(results),
        "left_dense": left_dense(provenance["networks"]),
        "given": provenance.get("given", {}),
        "narrow": (results.frame["width"] < 1).any(),
        "bn_recalibrated": results.frame["bn_recalibrated"].any(),
        "several_recipes": results.frame["recipe"].nunique() > 1,
        "beside": differences(results, reference),
        "answer_table": tables.answer_table(results),
        "main_table": tables.main_table(results),
        "measures_table": tables.measures_table(results),
        "compared_with_dense": results.frame["kl"].notna().any(),
        "full_table": tables.full_table(results),
        "variants_table": tables.variants_table(results, rows),
        "pruning_table": tables.pruning_table(results),
        "costs_table": tables.costs_table(results),
        "claims_table": tables.claims_table(claims["claims"]),
        "reference": {
            "repository": REPOSITORY,
            "commit": COMMIT,
            "reports": reports(reference),
            "disagreement": disagreement(reference),
        },
        "reference_table": tables.reference_table(results, reference),
        "imitations": imitated,
        "departures": departures(config, imitated["sparsegpt"]) if imitated else {},
        "many": has_many(results),
        "sweep": sweep,
        "ablation": _ablation(results, rows) if is_ablation(results) else None,
        "curve_table": tables.curve_table(results) if is_curve(results) else None,
        "ends": extremes(results).regimes,
        "diagnostics": diagnostics_context(results, diagnostics),
        "waterfall": _waterfall(results, config),
        "settings": yaml.safe_dump(dict(config), sort_keys=False, width=100, allow_unicode=True),
    }


def _ablation(results: Results, rows: Sequence[Ingredient]) -> dict[str, Any]:
    """Tables of a study with many variants; `base` and `gains` are None without a plain row."""
    base = plain_row(rows)
    return {
        "few": FEW,
        **_largest(results),
        "table": variant_tables.ablation_table(results, rows),
        "by_network": variant_tables.ablation_by_network(results, rows),
        "divergence": variant_tables.ablation_divergence(results, rows),
        "measures": variant_tables.ablation_measures(results, rows),
        "base": base and ingredient_label(base),
        "gains": base and variant_tables.gains_table(results, rows, base),
    }


def _sweep(results: Results, rows: Sequence[Ingredient]) -> dict[str, Any]:
    """What is said of a study of several patterns; `costs` and `divergence` can be None."""
    series, patterns = series_labels(rows), patterns_of(results)
    return {
        **_largest(results),
        "unstructured": any("%" in pattern for pattern in patterns.values()),
        "answer": sentences.patterns_answer(results, series),
        "table": variant_tables.patterns_table(results, series),
        "by_network": variant_tables.patterns_by_network(results, series),
        "divergence": variant_tables.patterns_divergence(results, series),
        "costs": variant_tables.pattern_costs_table(results, series),
        "shown": patterns[shown(results)[0]],
    }


def _largest(results: Results) -> dict[str, Any]:
    """The networks at the largest budget, and the name of their regime, or of each."""
    cells = largest_budget(results)
    return {"cells": cells, "regime": "`, `".join(dict.fromkeys(cell.regime for cell in cells))}


def _waterfall(results: Results, config: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the steps from one variant to another are worth; None without such steps."""
    found = steps(config)
    if not found:
        return None
    worth = levels(results, [step.variant for step in found])
    return {
        **_largest(results),
        "answer": sentences.waterfall_answer(results, found, worth),
        "table": variant_tables.waterfall_table(results, found, worth),
    }


def relative_links(figures: Sequence[Path], report: Path) -> dict[str, str]:
    """Link of each figure from the report's folder, by file name without suffix."""
    return {f.stem: Path(os.path.relpath(f, report.parent)).as_posix() for f in figures}


def left_dense(networks: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Layers that pruning left dense: model, variants and layers, equal ones together.

    `variants` is empty where it is all of them.
    """
    pruned = {network["variant"]: None for network in networks if network["variant"] != DENSE}
    found: dict[tuple[str, str], dict[str, None]] = {}
    for network in networks:
        layers = ", ".join(f"`{layer}`" for layer in network["dense_layers"])
        if layers and network["variant"] != DENSE:
            found.setdefault((network["model"], layers), {})[network["variant"]] = None
    return [
        {"model": model, "layers": layers, "variants": ", ".join(own) if own != pruned else ""}
        for (model, layers), own in found.items()
    ]
