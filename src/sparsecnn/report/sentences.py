"""Sentences and clauses of the report that depend on what was found, in the present language."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import yaml

from sparsecnn.analysis.ablation import PLAIN, mean_drop
from sparsecnn.analysis.comparisons import costs
from sparsecnn.analysis.patterns import LITTLE, kept_by, sparsest_cheap
from sparsecnn.analysis.results import Cell, Results, largest_budget
from sparsecnn.report.labels import correction_label
from sparsecnn.report.language import gettext as _
from sparsecnn.report.text import signed


def answer(results: Results) -> str:
    """One sentence: what the kindest and the harshest variant cost (`comparisons.costs`)."""
    found = costs(results)
    kindest, harshest = found.loc[found["drop"].idxmin()], found.loc[found["drop"].idxmax()]
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
            "average over {n} combinations of network and regime (at worst {worst_of_least})."
        ),
        (True, True): _(
            "Pruned without fine-tuning, `{kindest}` changes top-1 accuracy by {least} points on "
            "average over {n} combinations of network and regime (at worst {worst_of_least}); "
            "`{harshest}` by {most} points (at worst {worst_of_most})."
        ),
    }
    return sentences[len(results.cells) > 1, kindest["variant"] != harshest["variant"]].format(
        kindest=kindest["variant"],
        harshest=harshest["variant"],
        least=signed(-kindest["drop"]),
        most=signed(-harshest["drop"]),
        n=len(results.cells),
        cell=results.cells[0],
        worst_of_least=_worst(kindest),
        worst_of_most=_worst(harshest),
    )


def patterns_answer(results: Results, series: Mapping[str, str]) -> str:
    """How few weights each method keeps for at most `LITTLE` points of accuracy."""
    networks, found = len(largest_budget(results)), sparsest_cheap(results, series)
    points = f"{LITTLE:g}"
    words = _("{share} % with `{name}` ({patterns})")
    cheap = [
        words.format(
            name=name, share=f"{100 * kept_by(patterns[0]):g}", patterns=", ".join(patterns)
        )
        for name, patterns in found.items()
        if patterns
    ]
    dear = [f"`{name}`" for name, patterns in found.items() if not patterns]
    keep = (
        _(
            "The sparsest patterns that cost at most {points} point of accuracy without "
            "fine-tuning (mean over {n} networks) keep of the weights in the pruned layers: "
            "{listed}."
        )
        if networks > 1
        else _(
            "The sparsest patterns that cost at most {points} point of accuracy without "
            "fine-tuning keep of the weights in the pruned layers: {listed}."
        )
    )
    none = _("With {listed} every pattern costs more than {points} point without fine-tuning.")
    told = [keep.format(points=points, n=networks, listed=", ".join(cheap))] if cheap else []
    told += [none.format(points=points, listed=", ".join(dear))] if dear else []
    return " ".join(told)


def sparsegpt_options(config: Mapping[str, Any]) -> str:
    """The options that the report explains, as a configuration would give them."""
    explained = ("calibration", "target", "refit", "selection")
    own = {key: config["methods"][PLAIN][key] for key in explained}
    return yaml.safe_dump(own, default_flow_style=True, sort_keys=False).strip("{}\n")


def why(results: Results, steps: Mapping[str, str]) -> str:
    """One sentence: what the reference's solver loses, and each correction in its place."""
    change = {step: signed(-mean_drop(results, variant).value) for step, variant in steps.items()}
    words = _("{change} with {correction}")
    corrected = [
        words.format(change=change[step], correction=correction_label(step))
        for step in steps
        if step != "imitation"
    ]
    networks = len(largest_budget(results))
    sentence = (
        _(
            "The reference study's solver, imitated (`{variant}`), changes accuracy by {change} "
            "points on average over {n} networks; {corrected}."
        )
        if networks > 1
        else _(
            "The reference study's solver, imitated (`{variant}`), changes accuracy by {change} "
            "points; {corrected}."
        )
    )
    return sentence.format(
        variant=steps["imitation"],
        change=change["imitation"],
        n=networks,
        corrected=", ".join(corrected),
    )


def _worst(cost: "pd.Series[Any]") -> str:
    return f"{signed(-cost['worst'])}: {Cell(cost['regime'], cost['model'])}"
