"""Verdict and evidence for every claim: numbers for claims.json, sentences that can be quoted."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from sparsecnn.analysis.claims import CLAIMS, Claim, Explanation, NotTestableError
from sparsecnn.analysis.comparisons import (
    INCONCLUSIVE,
    NOT_REPRODUCED,
    NOT_TESTED,
    REPRODUCED,
    Comparison,
    Outcome,
    against,
    at_chance,
    deciding,
    evaluate,
    verdict,
)
from sparsecnn.analysis.diagnostics import Diagnostics, compare_model_errors
from sparsecnn.analysis.results import Results
from sparsecnn.report.language import gettext as _
from sparsecnn.report.text import signed, signed_interval
from sparsecnn.study.config import DENSE


def judge(
    results: Results,
    diagnostics: Diagnostics | None = None,
    declared: Sequence[Claim] = (),
) -> list[dict[str, Any]]:
    """Verdict, effect, interval and evidence for every claim, as JSON values.

    The reference study's claims come first, then those `declared` by the study itself. Without
    `diagnostics` a cause cannot be confirmed.

    The effect of a claim is that of its `deciding` comparison, in points; positive supports the
    claim. Effect and interval are None where nothing was compared. Words are in the present
    language (`sparsecnn.report.language`), but for the verdict.
    """
    verdicts: dict[int, str] = {}
    records = []
    for claim in (*map(_translated, CLAIMS), *declared):
        if isinstance(claim, Explanation):
            explained = verdicts[claim.explains]
            record = _explanation_record(claim, explained, results, diagnostics)
        else:
            record = _claim_record(claim, results)
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


def _claim_record(claim: Claim, results: Results) -> dict[str, Any]:
    try:
        outcomes = _outcomes(claim, results)
    except NotTestableError as missing:
        evidence = _("Not tested: the study lacks {missing}.").format(missing=missing)
        return _record(claim, NOT_TESTED, evidence)
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
) -> dict[str, Any]:
    premise = _("Claim {number}, which this is meant to explain, is {verdict} here.").format(
        number=claim.explains, verdict=_(explained)
    )
    refuted = explained == NOT_REPRODUCED
    if refuted:
        premise += " " + _("There is nothing to explain.")
    try:
        outcomes = _cause_outcomes(claim, results, diagnostics)
    except NotTestableError as missing:
        if refuted:
            return _record(claim, NOT_REPRODUCED, premise)
        why = _(
            "Accuracies cannot show a cause: that takes measuring the curvature, and the error of "
            "the quadratic model, at both budgets. The study lacks {missing}."
        ).format(missing=missing)
        return _record(claim, NOT_TESTED, f"{premise} {why}")
    evidence = f"{_sentence(claim, outcomes)} {_reason(outcomes)} {premise}"
    decided = NOT_REPRODUCED if refuted else verdict(outcomes)
    if decided == REPRODUCED and explained != REPRODUCED:
        decided = INCONCLUSIVE
        evidence += " " + _("What has not been shown cannot have been explained.")
    return _record(claim, decided, evidence, outcomes)


def judge_solvers(results: Results, solvers: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """The reference study's claims on accuracies as in `judge`, with each variant as SparseGPT."""
    claims = [claim for claim in map(_translated, CLAIMS) if isinstance(claim, Claim)]
    return {
        solver: [
            _claim_record(
                replace(claim, comparisons=partial(claim.comparisons, solver=solver)),
                results,
            )
            for claim in claims
        ]
        for solver in solvers
    }


def _cause_outcomes(
    claim: Explanation, results: Results, diagnostics: Diagnostics | None
) -> list[Outcome]:
    if diagnostics is None:
        raise NotTestableError(_("diagnostics"))
    explained = next(c for c in CLAIMS if isinstance(c, Claim) and c.number == claim.explains)
    comparisons = explained.comparisons(results)
    _refuse_chance(results, comparisons)
    try:
        return compare_model_errors(comparisons, diagnostics)
    except ValueError as missing:
        raise NotTestableError(str(missing)) from None


def _record(
    claim: Claim | Explanation, decided: str, evidence: str, outcomes: Sequence[Outcome] = ()
) -> dict[str, Any]:
    decisive = deciding(outcomes).estimate if outcomes else None
    return {
        "number": claim.number,
        "source": claim.source,
        "title": claim.title,
        "statement": claim.statement,
        "quantity": claim.quantity if outcomes or isinstance(claim, Claim) else None,
        "verdict": decided,
        "evidence": evidence,
        "effect": decisive and decisive.value,
        "low": decisive and decisive.low,
        "high": decisive and decisive.high,
        "comparisons": [_comparison(outcome) for outcome in outcomes],
    }


def _outcomes(claim: Claim, results: Results) -> list[Outcome]:
    comparisons = claim.comparisons(results)
    _refuse_chance(results, comparisons)
    return evaluate(results, comparisons)


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
    interval = signed_interval(value.low, value.high)
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
    includes_zero = [o.name for o in outcomes if o.estimate.low <= 0 <= o.estimate.high]
    below_zero = [o.name for o in outcomes if o.estimate.high < 0]
    sentences = []
    if includes_zero:
        unclear = _("The interval does not exclude 0 for {comparisons}.")
        sentences.append(unclear.format(comparisons="; ".join(includes_zero)))
    if below_zero:
        uncorrected = _(
            "The interval lies below 0 for {comparisons}, but not beyond doubt once corrected for "
            "the number of comparisons."
        )
        sentences.append(uncorrected.format(comparisons="; ".join(below_zero)))
    return " ".join(sentences)
