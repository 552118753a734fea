"""What is said of a claim: its verdict's evidence, in sentences that can be quoted."""

from collections.abc import Mapping, Sequence
from typing import Any

from sparsecnn.analysis.comparisons import (
    INCONCLUSIVE,
    NOT_REPRODUCED,
    NOT_TESTED,
    REPRODUCED,
)
from sparsecnn.report.labels import comparison_label
from sparsecnn.report.language import N_, ngettext
from sparsecnn.report.language import gettext as _
from sparsecnn.report.text import signed, signed_interval

Record = Mapping[str, Any]
"""A claim as claims.json has it (`sparsecnn.analysis.judging.Record`)."""

VERDICTS = {
    REPRODUCED: N_("reproduced"),
    NOT_REPRODUCED: N_("not reproduced"),
    INCONCLUSIVE: N_("inconclusive"),
    NOT_TESTED: N_("not tested"),
}


def verdicts(claims: Sequence[Record]) -> str:
    """A sentence: how many claims of the reference study, and of this one, are reproduced."""
    sentences = []
    for source, sentence in (
        ("reference", _("Of the reference study's {n} claims, {verdicts}.")),
        ("study", _("Of this study's own {n} claims, {verdicts}.")),
    ):
        made = [claim for claim in claims if claim["source"] == source]
        parts = []
        for verdict, words in VERDICTS.items():
            numbers = [str(claim["number"]) for claim in made if claim["verdict"] == verdict]
            if numbers:
                n = len(numbers)
                part = ngettext("{n} is {verdict} ({claims})", "{n} are {verdict} ({claims})", n)
                parts.append(part.format(n=n, verdict=_(words), claims=", ".join(numbers)))
        if parts:
            sentences.append(sentence.format(n=len(made), verdicts=", ".join(parts)))
    return " ".join(sentences)


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
    sentences = _of_comparisons(claim)
    if "explains" in claim:
        sentences += _of_cause(claim)
    elif claim["verdict"] == NOT_TESTED:
        missing = _missing(claim["missing"])
        sentences.append(_("Not tested: the study lacks {missing}.").format(missing=missing))
    elif claim["comparisons"][0]["n"] == 1:
        sentences.append(
            _("With one seed this speaks of these very networks, not of newly trained ones.")
        )
    return " ".join(sentences)


def _of_comparisons(claim: Record) -> list[str]:
    compared = sorted(claim["comparisons"], key=lambda comparison: comparison["effect"])
    if not compared:
        return []
    words = quantity(claim)
    least, most = (_effect(claim, comparison) for comparison in (compared[0], compared[-1]))
    if len(compared) == 1:
        sentence = _("{quantity} is {effect}.")
    else:
        sentence = _(
            "{quantity} is positive in {positive} of {n} comparisons, from {least} to {most}."
        )
    effects = sentence.format(
        quantity=words[0].upper() + words[1:],
        effect=least,
        positive=sum(comparison["effect"] > 0 for comparison in compared),
        n=len(compared),
        least=least,
        most=most,
    )
    return [effects, *_of_intervals(claim)]


def _of_cause(claim: Record) -> list[str]:
    premise = _("Claim {number}, which this is meant to explain, is {verdict} here.")
    words = VERDICTS[claim["explained"]]
    sentences = [premise.format(number=claim["explains"], verdict=_(words))]
    if claim["explained"] == NOT_REPRODUCED:
        sentences.append(_("There is nothing to explain."))
    elif claim["verdict"] == NOT_TESTED:
        why = _(
            "Accuracies cannot show a cause: that takes measuring the curvature, and the error of "
            "the quadratic model, at both budgets. The study lacks {missing}."
        )
        sentences.append(why.format(missing=_missing(claim["missing"])))
    elif claim["explained"] != REPRODUCED and all(c["low"] > 0 for c in claim["comparisons"]):
        sentences.append(_("What has not been shown cannot have been explained."))
    return sentences


def _of_intervals(claim: Record) -> list[str]:
    """What the intervals leave open or settle."""
    compared = claim["comparisons"]

    def named(chosen: Sequence[Record]) -> str:
        return "; ".join(comparison_label(claim, comparison) for comparison in chosen)

    if all(comparison["low"] > 0 for comparison in compared):
        several = len(compared) > 1
        return [_("Every interval lies above 0.") if several else _("The interval excludes 0.")]
    if contrary := [comparison for comparison in compared if comparison["against"]]:
        negative = _("The effect is negative beyond doubt for {comparisons}.")
        return [negative.format(comparisons=named(contrary))]
    sentences = []
    if unclear := [c for c in compared if c["low"] <= 0 <= c["high"]]:
        words = _("The interval does not exclude 0 for {comparisons}.")
        sentences.append(words.format(comparisons=named(unclear)))
    if below := [c for c in compared if c["high"] < 0]:
        words = _(
            "The interval lies below 0 for {comparisons}, but not beyond doubt once corrected for "
            "the number of comparisons."
        )
        sentences.append(words.format(comparisons=named(below)))
    return sentences


def _effect(claim: Record, comparison: Record) -> str:
    return _("{value} points {interval} ({comparison})").format(
        value=signed(comparison["effect"]),
        interval=signed_interval(comparison["low"], comparison["high"]),
        comparison=comparison_label(claim, comparison),
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
