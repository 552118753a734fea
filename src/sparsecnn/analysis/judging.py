"""Verdict and evidence for every claim, in names and numbers: what claims.json holds."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pandas as pd

from sparsecnn.analysis.ablation import PLAIN, has_many
from sparsecnn.analysis.claims import CLAIMS, Claim, NotTestableError
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
from sparsecnn.analysis.diagnostics import compare_model_errors
from sparsecnn.analysis.reference import SOLVER
from sparsecnn.analysis.results import Results
from sparsecnn.study.config import DENSE

Record = dict[str, Any]
"""A claim's verdict and evidence, as JSON values.

`number`, `source`, `title`, `statement` and `quantity` are the claim's, in English (of a claim of
the study's own `more` and `than` are what it compares). `effect`, `low` and `high`, in points, are
those of the `deciding` comparison, positive supporting the claim; None where nothing was compared.
`comparisons` are all that were made. `missing` is what the study lacks to test the claim: its
`kind`, with the names that tell which. `explains` is the number of the claim that this one offers a
cause for, and `explained` that claim's verdict.
"""


def judge(
    results: Results, diagnostics: pd.DataFrame | None = None, declared: Sequence[Claim] = ()
) -> dict[str, Any]:
    """The `claims`, and for each of several `solvers` the claims with it as SparseGPT.

    The reference study's claims come first, then those `declared` by the study itself. Without
    `diagnostics` a cause cannot be confirmed.
    """
    records: dict[int, Record] = {}
    for claim in (*CLAIMS, *declared):
        if claim.explains is None:
            records[claim.number] = _judge_claim(claim, results)
        else:
            explained = records[claim.explains]["verdict"]
            records[claim.number] = _judge_cause(claim, explained, results, diagnostics)
    return {"claims": list(records.values()), "solvers": _judge_solvers(results)}


def _judge_solvers(results: Results) -> dict[str, list[Record]]:
    """The reference study's claims on accuracies, where several variants can be SparseGPT."""
    own = results.frame[
        results.frame["method"].isin([PLAIN, SOLVER]) & ~results.frame["bn_recalibrated"]
    ]
    solvers = list(own["variant"].unique())
    if len(solvers) < 2 or has_many(results):
        return {}
    claims = [claim for claim in CLAIMS if claim.explains is None]
    return {
        solver: [
            _judge_claim(
                replace(claim, comparisons=partial(claim.comparisons, solver=solver)), results
            )
            for claim in claims
        ]
        for solver in solvers
    }


def _judge_claim(claim: Claim, results: Results) -> Record:
    try:
        comparisons = claim.comparisons(results)
        _refuse_chance(results, comparisons)
    except NotTestableError as error:
        return _record(claim, NOT_TESTED, missing=error.missing)
    outcomes = evaluate(results, comparisons)
    return _record(claim, verdict(outcomes), outcomes)


def _judge_cause(
    claim: Claim, explained: str, results: Results, diagnostics: pd.DataFrame | None
) -> Record:
    refuted = explained == NOT_REPRODUCED  # there is nothing to explain
    names: dict[str, Any] = {"explains": claim.explains, "explained": explained}
    try:
        outcomes = _cause_outcomes(claim, results, diagnostics)
    except NotTestableError as error:
        decided = NOT_REPRODUCED if refuted else NOT_TESTED
        return _record(claim, decided, missing=error.missing, **names)
    decided = NOT_REPRODUCED if refuted else verdict(outcomes)
    if decided == REPRODUCED and explained != REPRODUCED:
        decided = INCONCLUSIVE  # what has not been shown cannot have been explained
    return _record(claim, decided, outcomes, **names)


def _cause_outcomes(
    claim: Claim, results: Results, diagnostics: pd.DataFrame | None
) -> list[Outcome]:
    if diagnostics is None:
        raise NotTestableError("diagnostics")
    comparisons = claim.comparisons(results)
    _refuse_chance(results, comparisons)
    outcomes = compare_model_errors(comparisons, diagnostics)
    if outcomes is None:
        raise NotTestableError("model error of two seeds")
    return outcomes


def _refuse_chance(results: Results, comparisons: Sequence[Comparison]) -> None:
    cells = {cell for comparison in comparisons for _, cell, _ in comparison.terms}
    for cell, variant in at_chance(results):
        if cell in cells and variant == DENSE:
            raise NotTestableError("above chance", model=cell.model, regime=cell.regime)


def _record(claim: Claim, decided: str, outcomes: Sequence[Outcome] = (), **more: Any) -> Record:
    decisive = deciding(outcomes).estimate if outcomes else None
    return {
        "number": claim.number,
        "source": claim.source,
        "title": claim.title,
        "statement": claim.statement,
        "quantity": claim.quantity,
        **claim.sides,
        "verdict": decided,
        "effect": decisive and decisive.value,
        "low": decisive and decisive.low,
        "high": decisive and decisive.high,
        "comparisons": [_comparison(outcome) for outcome in outcomes],
        **more,
    }


def _comparison(outcome: Outcome) -> dict[str, Any]:
    interval = outcome.estimate
    return {
        "one": outcome.comparison.one._asdict(),
        "other": outcome.comparison.other._asdict(),
        "effect": interval.value,
        "low": interval.low,
        "high": interval.high,
        "adjusted_p": outcome.adjusted_p,
        "against": against(outcome),
        "sd": interval.sd,
        "n": interval.n,
        "basis": interval.basis,
    }
