"""What is said of a claim: its verdict's evidence, in sentences that can be quoted."""

from collections.abc import Mapping, Sequence
from typing import Any

from sparsecnn.analysis.comparisons import (
    CONTRADICTED,
    INCONCLUSIVE,
    NO_EFFECT,
    NOT_TESTED,
    REPRODUCED,
)
from sparsecnn.report.labels import comparison_label
from sparsecnn.report.language import N_
from sparsecnn.report.language import gettext as _
from sparsecnn.report.text import p_text, signed, signed_interval

Record = Mapping[str, Any]
"""A claim as claims.json has it (`sparsecnn.analysis.judging.Record`)."""

VERDICTS = {
    REPRODUCED: N_("reproduced"),
    CONTRADICTED: N_("contradicted"),
    NO_EFFECT: N_("no effect"),
    INCONCLUSIVE: N_("inconclusive"),
    NOT_TESTED: N_("not tested"),
}

_ALPHA = 0.05


def verdicts(claims: Sequence[Record]) -> str:
    """A sentence for the tested claims of the reference study, and one for those of this one.

    They are as `told`.
    """
    sentences = []
    for source, sentence in (
        ("reference", _("The reference study's claims: {verdicts}.")),
        ("study", _("This study's own claims: {verdicts}.")),
    ):
        parts = [
            f"*{claim['title']}*: {claim['decided']}"
            for claim in claims
            if claim["source"] == source and claim["verdict"] != NOT_TESTED
        ]
        if parts:
            sentences.append(sentence.format(verdicts="; ".join(parts)))
    return " ".join(sentences)


def verdict(claim: Record) -> str:
    """The verdict in words; of a claim about every case that holds, whether in each of them."""
    words, compared = VERDICTS[claim["verdict"]], claim["comparisons"]
    if claim["verdict"] != REPRODUCED or not claim["every_case"] or len(compared) == 1:
        return _(words)
    found = settled(claim)
    return (
        _("reproduced, in every case")
        if found["above"] == found["n"]
        else _("reproduced, on average")
    )


def settled(claim: Record) -> dict[str, int]:
    """Of the `n` comparisons of a claim, how many have an interval `above` and `below` 0."""
    compared = claim["comparisons"]
    return {
        "n": len(compared),
        "above": sum(comparison["low"] > 0 for comparison in compared),
        "below": sum(comparison["high"] < 0 for comparison in compared),
    }


def told(claim: Record) -> dict[str, Any]:
    """The claim with its quantity and its evidence in words, and its texts translated.

    What a study claims itself stays as it was written.
    """
    own = claim["source"] == "study"
    title, statement = claim["title"], claim["statement"]
    return {
        **claim,
        "title": title if own else _(title),
        "statement": statement if own else _(statement),
        "decided": verdict(claim),
        "quantity": quantity(claim),
        "evidence": evidence(claim),
    }


def quantity(claim: Record) -> str:
    """What a claim compares."""
    if claim["source"] == "study":
        more, than = _side(claim["more"]), _side(claim["than"])
        return _("{more} minus {than}").format(more=more, than=than)
    words = claim["quantity"]
    return _(words)


def evidence(claim: Record) -> str:
    """What speaks for the verdict: effects, intervals, or what the study lacks."""
    sentences = _of_effect(claim)
    if "explains" in claim:
        sentences += _of_cause(claim)
    elif claim["verdict"] == NOT_TESTED:
        missing = _missing(claim["missing"])
        sentences.append(_("Not tested: the study lacks {missing}.").format(missing=missing))
    elif claim["n"] == 1:
        sentences.append(
            _("With one seed this speaks of these very networks, not of newly trained ones.")
        )
    return " ".join(sentences)


def _of_effect(claim: Record) -> list[str]:
    """The mean over the comparisons, and what it says."""
    compared = claim["comparisons"]
    if not compared:
        return []
    words = quantity(claim)
    sentence = (
        _("{quantity} is {effect}.")
        if len(compared) == 1
        else _("{quantity} is {effect} on average over {n} comparisons.")
    )
    effect = sentence.format(
        quantity=words[0].upper() + words[1:], effect=_points(claim), n=len(compared)
    )
    return [effect, *_of_margin(claim), *_of_cells(claim)]


def _of_margin(claim: Record) -> list[str]:
    """What the interval leaves open, or settles, beside what would matter."""
    margin = f"{claim['margin']:g}"
    small = max(abs(claim["low"]), abs(claim["high"])) < claim["margin"]
    if claim["low"] <= 0 <= claim["high"]:
        words = (
            _("An effect that would matter (a margin of {margin}) is ruled out.")
            if small
            else _("The interval holds 0, and effects that would matter (a margin of {margin}).")
        )
        return [words.format(margin=margin)]
    if small:
        sure = _("It is not 0, but smaller than what would matter (a margin of {margin}).")
        return [sure.format(margin=margin)]
    return []


def _of_cells(claim: Record) -> list[str]:
    """Least and largest effect, how many intervals settle it, and whether they differ."""
    compared = sorted(claim["comparisons"], key=lambda comparison: comparison["effect"])
    if len(compared) == 1:
        return []
    least, most = (
        f"{_points(comparison)} ({comparison_label(claim, comparison)})"
        for comparison in (compared[0], compared[-1])
    )
    words = _(
        "One by one the effects go from {least} to {most}; of the {n} intervals {above} lie above "
        "0 and {below} below."
    )
    effects = words.format(least=least, most=most, **settled(claim))
    if claim["p_same"] is None:
        return [effects]
    differ = (
        _("They differ by more than chance ({p}).")
        if claim["p_same"] < _ALPHA
        else _("That they differ is not shown ({p}).")
    )
    return [effects, differ.format(p=p_text(claim["p_same"]))]


def _of_cause(claim: Record) -> list[str]:
    premise = _("Claim {number}, which this is meant to explain: {verdict}.")
    words = VERDICTS[claim["explained"]]
    sentences = [premise.format(number=claim["explains"], verdict=_(words))]
    if claim["explained"] in (CONTRADICTED, NO_EFFECT):
        sentences.append(_("There is nothing to explain."))
    elif claim["verdict"] == NOT_TESTED:
        why = _(
            "Accuracies cannot show a cause: that takes measuring the curvature, and the error of "
            "the quadratic model, at both budgets. The study lacks {missing}."
        )
        sentences.append(why.format(missing=_missing(claim["missing"])))
    elif claim["explained"] != REPRODUCED and claim["low"] > 0:
        sentences.append(_("What has not been shown cannot have been explained."))
    return sentences


def _points(effect: Record) -> str:
    return _("{value} points {interval}").format(
        value=signed(effect["effect"]),
        interval=signed_interval(effect["low"], effect["high"]),
    )


def _missing(missing: Mapping[str, str]) -> str:
    words = {
        "longer training": _("a network trained longer in {most} than in {least}"),
        "variant": _("a variant with method {method} and no batch-norm re-estimation"),
        "second regime": _("a second training regime"),
        "residual network": _("a residual network in {regime}"),
        "serial network": _("a serial network in {regime}"),
        "above chance": _("a dense {model} above chance in {regime}"),
        "diagnostics": _("diagnostics"),
        "model error of two seeds": _("the quadratic model's error with two seeds or more"),
    }
    return words[missing["kind"]].format_map(missing)


def _side(side: Mapping[str, Any]) -> str:
    """One side of a claim of the study's own."""
    if "accuracy" in side:
        what = _("the accuracy of {variant}").format(variant=side["accuracy"])
    elif "drop" in side:
        what = _("the drop under {variant}").format(variant=side["drop"])
    else:
        variant, other = side["gain"]
        what = _("the gain of {variant} over {other}").format(variant=variant, other=other)
    where = [side[key] for key in ("model", "regime") if key in side]
    return f"{what} ({', '.join(where)})" if where else what
