"""The reference study's five claims as declared tests.

A claim says which comparisons it expects to be positive; one rule, the same for all, turns
their intervals into a verdict. A study adds claims of its own in its configuration
(`sparsecnn.study.declared`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sparsecnn.study.comparisons import (
    INCONCLUSIVE,
    NOT_REPRODUCED,
    REPRODUCED,
    Comparison,
    Outcome,
    against,
    at_chance,
    drop_terms,
    evaluate,
    verdict,
)
from sparsecnn.study.diagnostics import Diagnostics, compare_model_errors
from sparsecnn.study.language import N_
from sparsecnn.study.language import gettext as _
from sparsecnn.study.metrics import DENSE, Cell, Results
from sparsecnn.study.text import signed

ARCHITECTURE: Mapping[str, str] = {
    "custom_cnn": "serial",
    "vgg16": "serial",
    "resnet18": "residual",
}
"""Kind of each network that claims 4 and 5 speak of."""


class NotTestableError(Exception):
    """The study lacks what a claim speaks of; the message names it."""


@dataclass(frozen=True)
class Claim:
    """One claim and how it is tested."""

    number: int
    title: str
    statement: str
    """What is claimed, with the reference's own numbers if it is the reference's."""
    quantity: str
    """What is compared, in points; positive supports the claim. A noun phrase."""
    comparisons: Callable[[Results], list[Comparison]]
    """What to compare; raises `NotTestableError` if the study lacks it."""
    source: str = "reference"
    """Who claims it: the ``reference`` study, or this ``study``."""


@dataclass(frozen=True)
class Explanation:
    """A cause offered for what another claim says.

    Accuracies cannot confirm it; they refute it where there is nothing to explain. Diagnostics test
    it on the comparisons of the claim explained, each drop replaced by the quadratic model's error.
    """

    number: int
    title: str
    statement: str
    explains: int
    """Number of the claim, tested earlier, that this is meant to explain."""
    quantity: str
    """What is compared where there are diagnostics, in points; positive supports the cause."""
    source: str = "reference"


def sparsegpt_against_magnitude(results: Results) -> list[Comparison]:
    """Claim 1: in every cell, SparseGPT minus magnitude pruning."""
    sparsegpt, magnitude = _variant(results, "sparsegpt"), _variant(results, "magnitude")
    return [
        Comparison(str(cell), ((1, cell, sparsegpt), (-1, cell, magnitude)))
        for cell in results.cells
    ]


def drop_shrinks_with_training(results: Results) -> list[Comparison]:
    """Claim 2: for each network, SparseGPT's drop at the least minus at the most training."""
    variant = _variant(results, "sparsegpt")
    least, most = _extreme_regimes(results)
    trained_longer = [
        model
        for model in results.models
        if {Cell(least, model), Cell(most, model)} <= set(results.cells)
        and results.training(Cell(least, model)) != results.training(Cell(most, model))
    ]
    if not trained_longer:
        missing = _("a network trained differently in {least} and in {most}")
        raise NotTestableError(missing.format(least=least, most=most))
    return [
        Comparison(
            _("{model}, {least} against {most}").format(model=model, least=least, most=most),
            drop_terms(Cell(least, model), variant) + drop_terms(Cell(most, model), variant, -1),
        )
        for model in trained_longer
    ]


def residual_loses_more(results: Results) -> list[Comparison]:
    """Claim 4: at the most training, a residual network's drop minus a serial one's."""
    variant = _variant(results, "sparsegpt")
    return [
        Comparison(
            _against(residual, serial),
            drop_terms(residual, variant) + drop_terms(serial, variant, -1),
        )
        for residual, serial in _residual_and_serial(results)
    ]


def serial_gains_more(results: Results) -> list[Comparison]:
    """Claim 5: at the most training, a serial network's gain over magnitude minus a residual's."""
    sparsegpt, magnitude = _variant(results, "sparsegpt"), _variant(results, "magnitude")
    return [
        Comparison(
            _against(serial, residual),
            (
                *((1, serial, sparsegpt), (-1, serial, magnitude)),
                *((-1, residual, sparsegpt), (1, residual, magnitude)),
            ),
        )
        for residual, serial in _residual_and_serial(results)
    ]


CLAIMS: tuple[Claim | Explanation, ...] = (
    Claim(
        1,
        N_("SparseGPT beats magnitude pruning"),
        N_(
            "SparseGPT beats magnitude pruning for every network and training budget, "
            "by up to 37 points (VGG-16, fully trained)."
        ),
        N_("the accuracy of SparseGPT minus that of magnitude pruning"),
        sparsegpt_against_magnitude,
    ),
    Claim(
        2,
        N_("Better-trained networks lose less"),
        N_(
            "From the shorter to the longer training the accuracy after SparseGPT rises by more "
            "than the baseline does (VGG-16 +30 against +5 points, Custom CNN +21 against +15)."
        ),
        N_("the drop under SparseGPT at the shortest training minus that at the longest"),
        drop_shrinks_with_training,
    ),
    Explanation(
        3,
        N_("The cause is curvature"),
        N_(
            "Away from a local minimum the curvature is unreliable and SparseGPT's quadratic model "
            "errs; at a minimum it is accurate and the compensation works."
        ),
        explains=2,
        quantity=N_(
            "the error of the quadratic model of the loss under SparseGPT, in %, at the "
            "shortest training minus that at the longest"
        ),
    ),
    Claim(
        4,
        N_("Residual networks recover poorly"),
        N_(
            "Even fully trained, ResNet-18 keeps only 42.6 % accuracy: skip connections defeat "
            "layer-wise reconstruction."
        ),
        N_(
            "the drop under SparseGPT, at the longest training, of a residual network minus that "
            "of a serial one"
        ),
        residual_loses_more,
    ),
    Claim(
        5,
        N_("Serial networks gain most"),
        N_(
            "SparseGPT's gain over magnitude pruning is largest in well-trained serial networks "
            "(VGG-16, Custom CNN)."
        ),
        N_(
            "the gain of SparseGPT over magnitude pruning, at the longest training, of a serial "
            "network minus that of a residual one"
        ),
        serial_gains_more,
    ),
)


def judge(
    results: Results,
    diagnostics: Diagnostics | None = None,
    declared: Sequence[Claim] = (),
    confidence: float = 0.95,
) -> list[dict[str, Any]]:
    """Verdict, effect, interval and evidence for every claim, as JSON values.

    The reference study's claims come first, then those `declared` by the study itself. Without
    `diagnostics` a cause cannot be confirmed.

    The effect of a claim is its least favourable comparison, in points; positive supports the
    claim. Effect and interval are None where nothing was compared. Words are in the present
    language (`sparsecnn.study.language`), but for the verdict.
    """
    verdicts: dict[int, str] = {}
    records = []
    for claim in (*map(_translated, CLAIMS), *declared):
        if isinstance(claim, Explanation):
            explained = verdicts[claim.explains]
            record = _explanation_record(claim, explained, results, diagnostics, confidence)
        else:
            record = _claim_record(claim, results, confidence)
        verdicts[claim.number] = record["verdict"]
        records.append(record)
    return records


def _translated(claim: Claim | Explanation) -> Claim | Explanation:
    return replace(
        claim,
        title=_(claim.title),
        statement=_(claim.statement),
        quantity=_(claim.quantity),
    )


def _claim_record(claim: Claim, results: Results, confidence: float) -> dict[str, Any]:
    try:
        outcomes = _outcomes(claim, results, confidence)
    except NotTestableError as missing:
        evidence = _("Not tested: the study lacks {missing}.").format(missing=missing)
        return _record(claim, INCONCLUSIVE, evidence)
    sentences = [_sentence(claim, outcomes), _reason(outcomes)]
    if outcomes[0].estimate.n == 1:
        sentences.append(
            _("With one seed this speaks of these very networks, not of newly trained ones.")
        )
    return _record(claim, verdict(outcomes), " ".join(sentences), outcomes)


def _explanation_record(
    claim: Explanation,
    explained: str,
    results: Results,
    diagnostics: Diagnostics | None,
    confidence: float,
) -> dict[str, Any]:
    premise = _("Claim {number}, which this is meant to explain, is {verdict} here.").format(
        number=claim.explains, verdict=_(explained)
    )
    refuted = explained == NOT_REPRODUCED
    if refuted:
        premise += " " + _("There is nothing to explain.")
    try:
        outcomes = _cause_outcomes(claim, results, diagnostics, confidence)
    except NotTestableError as missing:
        if refuted:
            return _record(claim, NOT_REPRODUCED, premise)
        why = _(
            "Accuracies cannot show a cause: that takes measuring the curvature, and the error of "
            "the quadratic model, at both budgets. The study lacks {missing}."
        ).format(missing=missing)
        return _record(claim, INCONCLUSIVE, f"{premise} {why}")
    evidence = f"{_sentence(claim, outcomes)} {_reason(outcomes)} {premise}"
    return _record(claim, NOT_REPRODUCED if refuted else verdict(outcomes), evidence, outcomes)


def _cause_outcomes(
    claim: Explanation, results: Results, diagnostics: Diagnostics | None, confidence: float
) -> list[Outcome]:
    if diagnostics is None:
        raise NotTestableError(_("diagnostics"))
    explained = next(c for c in CLAIMS if isinstance(c, Claim) and c.number == claim.explains)
    comparisons = explained.comparisons(results)
    _refuse_chance(results, comparisons)
    try:
        return compare_model_errors(comparisons, diagnostics, confidence)
    except ValueError as missing:
        raise NotTestableError(str(missing)) from None


def _record(
    claim: Claim | Explanation, decided: str, evidence: str, outcomes: Sequence[Outcome] = ()
) -> dict[str, Any]:
    weakest = min((o.estimate for o in outcomes), key=lambda e: e.value, default=None)
    return {
        "number": claim.number,
        "source": claim.source,
        "title": claim.title,
        "statement": claim.statement,
        "quantity": claim.quantity if outcomes or isinstance(claim, Claim) else None,
        "verdict": decided,
        "evidence": evidence,
        "effect": weakest and weakest.value,
        "low": weakest and weakest.low,
        "high": weakest and weakest.high,
        "comparisons": [_comparison(outcome) for outcome in outcomes],
    }


def _outcomes(claim: Claim, results: Results, confidence: float) -> list[Outcome]:
    comparisons = claim.comparisons(results)
    _refuse_chance(results, comparisons)
    return evaluate(results, comparisons, confidence)


def _refuse_chance(results: Results, comparisons: Sequence[Comparison]) -> None:
    cells = {cell for comparison in comparisons for _, cell, _ in comparison.terms}
    for cell in results.cells:
        if cell in cells and at_chance(results, cell, DENSE):
            missing = _("a dense {model} above chance in {regime}")
            raise NotTestableError(missing.format(model=cell.model, regime=cell.regime))


def _comparison(outcome: Outcome) -> dict[str, Any]:
    interval = outcome.estimate
    return {
        "name": outcome.name,
        "effect": interval.value,
        "low": interval.low,
        "high": interval.high,
        "adjusted_p": outcome.adjusted_p,
        "sd": interval.sd,
        "n": interval.n,
        "basis": interval.basis,
    }


def _sentence(claim: Claim | Explanation, outcomes: Sequence[Outcome]) -> str:
    ordered = sorted(outcomes, key=lambda outcome: outcome.estimate.value)
    quantity = claim.quantity[0].upper() + claim.quantity[1:]
    if len(ordered) == 1:
        return _("{quantity} is {effect}.").format(quantity=quantity, effect=_points(ordered[0]))
    return _(
        "{quantity} is positive in {positive} of {n} comparisons, from {least} to {most}."
    ).format(
        quantity=quantity,
        positive=sum(outcome.estimate.value > 0 for outcome in ordered),
        n=len(ordered),
        least=_points(ordered[0]),
        most=_points(ordered[-1]),
    )


def _points(outcome: Outcome) -> str:
    value = outcome.estimate
    interval = f"[{signed(value.low)}, {signed(value.high)}]"
    return _("{value} points {interval} ({comparison})").format(
        value=signed(value.value), interval=interval, comparison=outcome.name
    )


def _reason(outcomes: Sequence[Outcome]) -> str:
    decided = verdict(outcomes)
    if decided == REPRODUCED:
        every, one = _("Every interval lies above 0."), _("The interval excludes 0.")
        return every if len(outcomes) > 1 else one
    if decided == NOT_REPRODUCED:
        contrary = [outcome.name for outcome in outcomes if against(outcome)]
        negative = _("The effect is negative beyond doubt for {comparisons}.")
        return negative.format(comparisons="; ".join(contrary))
    unsettled = [outcome.name for outcome in outcomes if outcome.estimate.low <= 0]
    unclear = _("The interval does not exclude 0 for {comparisons}.")
    return unclear.format(comparisons="; ".join(unsettled))


def _against(one: Cell, other: Cell) -> str:
    return _("{model} against {other}").format(model=one.model, other=other)


def _variant(results: Results, method: str) -> str:
    variant = results.variant_of(method)
    if variant is None:
        missing = _("a variant with method {method} and no batch-norm re-estimation")
        raise NotTestableError(missing.format(method=method))
    return variant


def _extreme_regimes(results: Results) -> tuple[str, str]:
    regimes = results.regimes
    if len(regimes) < 2:
        raise NotTestableError(_("a second training regime"))
    return regimes[0], regimes[-1]


def _residual_and_serial(results: Results) -> list[tuple[Cell, Cell]]:
    most = results.regimes[-1]
    kinds = {cell: ARCHITECTURE.get(cell.model) for cell in results.cells if cell.regime == most}
    residual = [cell for cell, kind in kinds.items() if kind == "residual"]
    serial = [cell for cell, kind in kinds.items() if kind == "serial"]
    if not residual:
        raise NotTestableError(_("a residual network in {regime}").format(regime=most))
    if not serial:
        raise NotTestableError(_("a serial network in {regime}").format(regime=most))
    return [(one, other) for one in residual for other in serial]
