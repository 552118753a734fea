"""Verdict and evidence for every claim, in names and numbers: what claims.json holds."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import pandas as pd

from sparsecnn.analysis.ablation import has_many
from sparsecnn.analysis.claims import CLAIMS, Claim, NotTestableError
from sparsecnn.analysis.comparisons import (
    BEST_FIRST,
    CONTRADICTED,
    INCONCLUSIVE,
    NO_EFFECT,
    NOT_TESTED,
    REPRODUCED,
    Comparison,
    Effects,
    at_chance,
    effects,
    verdict,
)
from sparsecnn.analysis.diagnostics import model_error_effects
from sparsecnn.analysis.reference import SOLVER
from sparsecnn.analysis.results import Results
from sparsecnn.study.config import DENSE

Record = dict[str, Any]
"""A claim's verdict and evidence, as JSON values.

`number`, `source`, `title`, `statement`, `quantity` and `every_case` are the claim's, in English
(of a claim of the study's own `more` and `than` are what it compares). `margin` is what matters.
`effect`, `low`, `high`, `sd`, `n` and `basis` are those of the mean over the `comparisons`, in
points, positive supporting the claim, and `p_same` that of all comparisons having the same effect;
None where nothing was compared. `missing` is what the study lacks to test the claim: its `kind`,
with the names that tell which. `explains` is the number of the claim that this one offers a cause
for, and `explained` that claim's verdict.
"""

OTHERS = (*BEST_FIRST, SOLVER)
"""Methods that the claims are tried with in SparseGPT's place."""


def judge(
    results: Results,
    diagnostics: pd.DataFrame | None = None,
    declared: Sequence[Claim] = (),
    margin: float = 1.0,
) -> dict[str, Any]:
    """The `claims`, and for each of several `solvers` the claims with it as SparseGPT.

    The reference study's claims come first, then those `declared` by the study itself. Without
    `diagnostics` a cause cannot be confirmed. `margin` is what would matter, in points.
    """
    records: dict[int, Record] = {}
    for claim in _with_margin((*CLAIMS, *declared), margin):
        if claim.explains is None:
            records[claim.number] = _judge_claim(claim, results)
        else:
            explained = records[claim.explains]["verdict"]
            records[claim.number] = _judge_cause(claim, explained, results, diagnostics)
    return {"claims": list(records.values()), "solvers": _judge_solvers(results, margin)}


def _with_margin(claims: Sequence[Claim], margin: float) -> list[Claim]:
    return [claim if claim.margin else replace(claim, margin=margin) for claim in claims]


def _judge_solvers(results: Results, margin: float) -> dict[str, list[Record]]:
    """The reference study's claims on accuracies, where several variants can be SparseGPT."""
    own = results.frame[results.frame["method"].isin(OTHERS) & ~results.frame["bn_recalibrated"]]
    solvers = list(own["variant"].unique())
    if len(solvers) < 2 or has_many(results):
        return {}
    claims = [claim for claim in _with_margin(CLAIMS, margin) if claim.explains is None]
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
    found = effects(results, comparisons)
    return _record(claim, verdict(found.mean, claim.margin or 0), found)


def _judge_cause(
    claim: Claim, explained: str, results: Results, diagnostics: pd.DataFrame | None
) -> Record:
    refuted = explained in (CONTRADICTED, NO_EFFECT)  # there is nothing to explain
    names: dict[str, Any] = {"explains": claim.explains, "explained": explained}
    try:
        found = _cause_effects(claim, results, diagnostics)
    except NotTestableError as error:
        decided = CONTRADICTED if refuted else NOT_TESTED
        return _record(claim, decided, missing=error.missing, **names)
    decided = CONTRADICTED if refuted else verdict(found.mean, claim.margin or 0)
    if decided == REPRODUCED and explained != REPRODUCED:
        decided = INCONCLUSIVE  # what has not been shown cannot have been explained
    return _record(claim, decided, found, **names)


def _cause_effects(claim: Claim, results: Results, diagnostics: pd.DataFrame | None) -> Effects:
    if diagnostics is None:
        raise NotTestableError("diagnostics")
    comparisons = claim.comparisons(results)
    _refuse_chance(results, comparisons)
    found = model_error_effects(comparisons, diagnostics)
    if found is None:
        raise NotTestableError("model error of two seeds")
    return found


def _refuse_chance(results: Results, comparisons: Sequence[Comparison]) -> None:
    cells = {cell for comparison in comparisons for _, cell, _ in comparison.terms}
    for cell, variant in at_chance(results):
        if cell in cells and variant == DENSE:
            raise NotTestableError("above chance", model=cell.model, regime=cell.regime)


def _record(claim: Claim, decided: str, found: Effects | None = None, **more: Any) -> Record:
    fields = ("value", "low", "high", "sd", "n", "basis")
    effect = dict.fromkeys(fields) if found is None else asdict(found.mean)
    return {
        "number": claim.number,
        "source": claim.source,
        "title": claim.title,
        "statement": claim.statement,
        "quantity": claim.quantity,
        **claim.sides,
        "every_case": claim.every_case,
        "margin": claim.margin,
        "verdict": decided,
        **_effect(effect),
        "p_same": found and found.p_same,
        "comparisons": [
            {
                "one": comparison.one._asdict(),
                "other": comparison.other._asdict(),
                **_effect(asdict(own)),
            }
            for comparison, own in (found.each if found else ())
        ],
        **more,
    }


def _effect(estimate: dict[str, Any]) -> dict[str, Any]:
    value = estimate.pop("value")
    return {"effect": value, **estimate}
