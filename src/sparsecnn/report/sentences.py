"""Sentences and clauses of the report that depend on what was found, in the present language."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import yaml

from sparsecnn.analysis.ablation import PLAIN
from sparsecnn.analysis.claims import change_by_training
from sparsecnn.analysis.comparisons import best_and_plain, cost
from sparsecnn.analysis.patterns import LITTLE, kept_by, sparsest_cheap
from sparsecnn.analysis.results import Results, largest_budget
from sparsecnn.analysis.waterfall import Step
from sparsecnn.report.labels import step_label
from sparsecnn.report.language import gettext as _
from sparsecnn.report.text import signed, signed_estimate, signed_interval

_LARGEST = 2
"""Steps of a waterfall that a sentence names."""


def answer(results: Results) -> str:
    """Two sentences: what the best solver and magnitude pruning cost, and what training changes.

    Averages over all networks; the second is missing where none is trained longer.
    """
    solver, plain = best_and_plain(results)
    costs = {variant: cost(results, variant, results.cells) for variant in (solver, plain)}
    patterns = results.frame.loc[results.frame["variant"].isin(costs), "pattern"].unique()
    both = _(
        "Pruning to {pattern} without fine-tuning costs {solver_cost} points of top-1 accuracy "
        "with `{solver}` and {plain_cost} with `{plain}` ({mean})."
    )
    one = _(
        "Pruning to {pattern} without fine-tuning costs {solver_cost} points of top-1 accuracy "
        "with `{solver}` ({mean})."
    )
    costly, cheap = costs[plain], costs[solver]
    sentence = (both if solver != plain else one).format(
        pattern=", ".join(patterns),
        solver=solver,
        plain=plain,
        solver_cost=_unsigned(cheap.value, cheap.low, cheap.high),
        plain_cost=_unsigned(costly.value, costly.low, costly.high),
        mean=_mean_of(cheap.basis, cheap.n, len(results.cells)),
    )
    return " ".join([sentence, *_training_changes(results, list(costs))])


def _training_changes(results: Results, variants: Sequence[str]) -> list[str]:
    """A sentence on how the costs change from the shortest to the longest training, if they do."""
    changes = [change_by_training(results, variant) for variant in variants]
    told = [signed_estimate(change.value, change.low, change.high) for change in changes if change]
    if not told:
        return []
    words = (
        _("Training longer, `{most}` instead of `{least}`, changes that by {solver} points.")
        if len(told) == 1
        else _(
            "Training longer, `{most}` instead of `{least}`, changes that by {solver} and {plain} "
            "points."
        )
    )
    least, most = results.ends
    return [words.format(least=least, most=most, solver=told[0], plain=told[-1])]


def _unsigned(*numbers: float) -> str:
    value, low, high = (f"{round(number, 2) + 0:.2f}" for number in numbers)
    return f"{value} [{low}, {high}]"


def _mean_of(basis: str, seeds: int, networks: int) -> str:
    """What an interval is over, and a mean."""
    over = (
        _("95 % interval over test images")
        if basis == "test images"
        else _("95 % interval over {n} seeds").format(n=seeds)
    )
    if networks == 1:
        return over
    words = _("mean over {n} combinations of network and regime, {over}")
    return words.format(n=networks, over=over)


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
