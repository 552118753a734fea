"""Sentences and clauses of the report that depend on what was found, in the present language."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import yaml

from sparsecnn.analysis.ablation import PLAIN
from sparsecnn.analysis.comparisons import costs
from sparsecnn.analysis.patterns import LITTLE, kept_by, sparsest_cheap
from sparsecnn.analysis.results import Cell, Results, largest_budget
from sparsecnn.analysis.waterfall import Step
from sparsecnn.report.labels import step_label
from sparsecnn.report.language import gettext as _
from sparsecnn.report.text import signed, signed_interval

_LARGEST = 2
"""Steps of a waterfall that a sentence names."""


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


def waterfall_answer(results: Results, steps: Sequence[Step], found: pd.DataFrame) -> str:
    """One sentence: where a waterfall starts and ends, and its largest steps (`levels`)."""
    first, last = found.iloc[0], found.iloc[-1]
    words = _("{label} ({gain} points {interval})")
    labels = {step.variant: step_label(step) for step in steps}
    largest = [
        words.format(
            label=labels[str(variant)],
            gain=signed(row["gain"]),
            interval=signed_interval(row["gain_low"], row["gain_high"]),
        )
        for variant, row in found.iloc[1:].nlargest(_LARGEST, "gain").iterrows()
    ]
    networks = len(largest_budget(results))
    sentence = (
        _(
            "Step by step from `{first}` to `{last}`, the change of accuracy goes from {before} to "
            "{after} points, mean of {n} networks; the largest steps: {steps}."
        )
        if networks > 1
        else _(
            "Step by step from `{first}` to `{last}`, the change of accuracy goes from {before} to "
            "{after} points; the largest steps: {steps}."
        )
    )
    return sentence.format(
        first=steps[0].variant,
        last=steps[-1].variant,
        before=signed(-first["drop"]),
        after=signed(-last["drop"]),
        n=networks,
        steps=", ".join(largest),
    )


def _worst(cost: "pd.Series[Any]") -> str:
    return f"{signed(-cost['worst'])}: {Cell(cost['regime'], cost['model'])}"
