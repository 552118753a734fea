"""Render report.md: facts from the results, words from the template, in the present language."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml
from jinja2 import Environment, StrictUndefined

from sparsecnn.study import tables
from sparsecnn.study.ablation import (
    FEW,
    PLAIN,
    corrections,
    ingredients,
    is_ablation,
    largest_budget,
    plain_row,
    why,
)
from sparsecnn.study.comparisons import (
    INCONCLUSIVE,
    NOT_REPRODUCED,
    REPRODUCED,
    accuracy,
    at_chance,
    drop,
)
from sparsecnn.study.config import budgets
from sparsecnn.study.curves import extremes, is_curve
from sparsecnn.study.diagnostic_tables import diagnostics_context
from sparsecnn.study.diagnostics import Diagnostics
from sparsecnn.study.judging import judge_solvers
from sparsecnn.study.language import gettext, ngettext
from sparsecnn.study.language import gettext as _
from sparsecnn.study.metrics import DENSE, Cell, Results
from sparsecnn.study.reference import SOLVER, Published, differences, imitations, shared_methods
from sparsecnn.study.text import anchor, escaped, signed


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
        "measured_on": _measured_on(results),
        **_shown_in_figures(results),
        "config": config,
        "name": name,
        "others": others,
        "budgets": {name: budgets(regime) for name, regime in config["regimes"].items()},
        "trainings": trainings(config),
        "dataset": dataset,
        "class_counts": _class_counts(dataset),
        "claims": claims["claims"],
        **_solvers(results),
        "provenance": provenance,
        "figures": figures,
        "answer": answer(results),
        "verdicts": verdicts(claims["claims"]),
        "warnings": _warnings(results),
        "collapsed": _collapsed(results),
        "left_dense": left_dense(provenance["networks"]),
        "limits": _limits(results),
        "differences": differences(results, reference),
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


def _measured_on(results: Results) -> str:
    """Images and seeds behind the numbers of a table, as a clause."""
    clause = (
        _("{data}, {images} test images, one seed")
        if len(results.seeds) == 1
        else _("{data}, {images} test images, means of {n} seeds")
    )
    return clause.format(
        data=escaped(results.rows[0].dataset), images=f"{results.n_test:,}", n=len(results.seeds)
    )


def _shown_in_figures(results: Results) -> dict[str, str]:
    """What the whiskers and bands are, as clauses, and what the figure of accuracies shows."""
    whiskers, bands = _("whiskers are 95 % intervals"), _("bands are 95 % intervals")
    if len(results.seeds) == 2:
        whiskers, bands = _("whiskers from seed to seed"), _("bands from seed to seed")
    accuracy_shown = (
        _("Top-1 accuracy of the least and the most trained networks, dense and pruned; {whiskers}")
        if is_curve(results)
        else _("Top-1 accuracy of every network and training budget, dense and pruned; {whiskers}")
    )
    return {
        "whiskers": whiskers,
        "bands": bands,
        "accuracy_shown": accuracy_shown.format(whiskers=whiskers),
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


def trainings(config: Mapping[str, Any]) -> dict[str, str]:
    """Each recipe that a regime uses, in words, under what the report calls it."""
    used = {regime["recipe"] for regime in config["regimes"].values()}
    recipes = {name: recipe for name, recipe in config["recipes"].items() if name in used}
    if len(recipes) == 1:
        return {_("Training"): _in_words(*recipes.values())}
    regimes = {
        name: [regime for regime, own in config["regimes"].items() if own["recipe"] == name]
        for name in recipes
    }
    return {
        _("Training, recipe `{name}` ({regimes})").format(
            name=name, regimes=", ".join(f"`{regime}`" for regime in regimes[name])
        ): _in_words(recipe)
        for name, recipe in recipes.items()
    }


def _in_words(recipe: Mapping[str, Any]) -> str:
    schedules = {
        "cosine_per_epoch": _("SGD, learning rate {learning_rate} with cosine decay to zero"),
        "triangular": _(
            "SGD, learning rate {learning_rate} reached after {warmup} of the steps, on straight "
            "lines from and to zero"
        ),
    }
    parts = [
        schedules[recipe["schedule"]],
        _("Nesterov momentum {momentum}") if recipe["nesterov"] else _("momentum {momentum}"),
        _("weight decay {weight_decay}")
        if recipe["decay_norm_and_bias"]
        else _("weight decay {weight_decay} (none on biases and batch norm)"),
        _("batches of {batch_size}"),
        _("label smoothing {label_smoothing}") if recipe["label_smoothing"] else "",
        _("random crops with {crop_padding} pixels of padding and horizontal flips")
        if recipe["horizontal_flip"]
        else _("random crops with {crop_padding} pixels of padding"),
        _("cutout of {cutout} pixels") if recipe["cutout"] else "",
    ]
    values = {**recipe, "warmup": f"{recipe['warmup']:.0%}"}
    return ", ".join(part.format(**values) for part in parts if part)


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


def answer(results: Results) -> str:
    """One sentence: what the kindest and the harshest variant cost.

    Of those with batch-norm statistics as trained, if there are any: fresh statistics alone change
    a network's accuracy, so that other drops are not pruning's alone.
    """
    fresh = {row.variant for row in results.rows if row.bn_recalibrated}
    variants = [variant for variant in results.variants if variant not in fresh]
    cost = {
        variant: {cell: drop(results, cell, variant).value for cell in results.cells}
        for variant in variants or results.variants
    }
    mean = {variant: fmean(of_cell.values()) for variant, of_cell in cost.items()}
    kindest, harshest = min(cost, key=lambda v: mean[v]), max(cost, key=lambda v: mean[v])
    sentences = {
        # Of one network or several, of one variant or several.
        (False, False): _(
            "Pruned without fine-tuning, `{kindest}` changes top-1 accuracy by {least} points "
            "({cell})."
        ),
        (False, True): _(
            "Pruned without fine-tuning, `{kindest}` changes top-1 accuracy by {least} points "
            "({cell}); `{harshest}` by {most} points ({cell})."
        ),
        (True, False): _(
            "Pruned without fine-tuning, `{kindest}` changes top-1 accuracy by {least} points on "
            "average over {n} cells (at worst {worst_of_least})."
        ),
        (True, True): _(
            "Pruned without fine-tuning, `{kindest}` changes top-1 accuracy by {least} points on "
            "average over {n} cells (at worst {worst_of_least}); `{harshest}` by {most} points "
            "(at worst {worst_of_most})."
        ),
    }
    return sentences[len(results.cells) > 1, kindest != harshest].format(
        kindest=kindest,
        harshest=harshest,
        least=signed(-mean[kindest]),
        most=signed(-mean[harshest]),
        n=len(results.cells),
        cell=results.cells[0],
        worst_of_least=_worst(cost[kindest]),
        worst_of_most=_worst(cost[harshest]),
    )


def verdicts(claims: Sequence[Mapping[str, Any]]) -> str:
    """A sentence: how many claims of the reference study, and of this one, are reproduced."""
    sentences = []
    for source, sentence in (
        ("reference", _("Of the reference study's {n} claims, {verdicts}.")),
        ("study", _("Of this study's own {n} claims, {verdicts}.")),
    ):
        made = [claim for claim in claims if claim["source"] == source]
        parts = []
        for verdict in (REPRODUCED, NOT_REPRODUCED, INCONCLUSIVE):
            numbers = [str(claim["number"]) for claim in made if claim["verdict"] == verdict]
            if numbers:
                n = len(numbers)
                part = ngettext("{n} is {verdict} ({claims})", "{n} are {verdict} ({claims})", n)
                parts.append(part.format(n=n, verdict=_(verdict), claims=", ".join(numbers)))
        if parts:
            sentences.append(sentence.format(n=len(made), verdicts=", ".join(parts)))
    return " ".join(sentences)


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


def _worst(cost: Mapping[Cell, float]) -> str:
    cell = max(cost, key=lambda cell: cost[cell])
    return f"{signed(-cost[cell])}: {cell}"


def _class_counts(dataset: Mapping[str, Any]) -> dict[str, str]:
    counts = {}
    for split, of_class in dataset["class_counts"].items():
        low, high = min(of_class.values()), max(of_class.values())
        of_each = "{low}" if low == high else _("{low} to {high}")
        counts[split] = of_each.format(low=f"{low:,}", high=f"{high:,}")
    return counts


def _warnings(results: Results) -> list[str]:
    return [
        _(
            "{cell}: the dense network did not learn; its accuracy of {accuracy} % cannot be told "
            "from chance ({chance} %), so what pruning does to it means nothing."
        ).format(
            cell=cell,
            accuracy=f"{accuracy(results, cell, DENSE).value:.2f}",
            chance=f"{results.chance:.2f}",
        )
        for cell in results.cells
        if at_chance(results, cell, DENSE)
    ]


def _collapsed(results: Results) -> list[str]:
    return [
        f"`{variant}` ({cell})"
        for cell in results.cells
        for variant in results.variants
        if not at_chance(results, cell, DENSE) and at_chance(results, cell, variant)
    ]


def _limits(results: Results) -> list[str]:
    n, limits = len(results.seeds), []
    if n == 1:
        limits.append(
            _(
                "One seed: the intervals tell how well the test set pins down these very networks. "
                "How much newly trained networks would differ is not known."
            )
        )
    else:
        limits.append(
            _(
                "Intervals are over {n} seeds; the choice of the {images} test images, the same "
                "for all, is not in them."
            ).format(n=n, images=f"{results.n_test:,}")
        )
    if n == 2:
        limits.append(
            _(
                "Two seeds: Student's t with one degree of freedom makes the intervals 12.7 "
                "standard errors wide to either side, so that only large differences can be "
                "settled."
            )
        )
    if len(results.regimes) == 1:
        limits.append(
            _("One training regime: nothing can be said of the effect of training longer.")
        )
    if len(results.models) == 1:
        limits.append(_("One network: nothing can be said of the effect of the architecture."))
    if any(row.width < 1 for row in results.rows):
        limits.append(
            _(
                "Networks of less than full width leave pruning less redundancy to remove than "
                "published ones."
            )
        )
    limits.append(_("The speed of the pruned networks is not measured here."))
    return limits
