"""Claims that a configuration declares, in the form of the reference study's."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from sparsecnn.analysis.claims import Claim
from sparsecnn.analysis.comparisons import Comparison, Term, drop_terms, gain_terms, versus
from sparsecnn.analysis.results import Cell, Results
from sparsecnn.study.config import own_claims

Side = Mapping[str, Any]
"""One side of a declared claim: `accuracy`, `drop` or `gain`, and perhaps `model` and `regime`."""


def declared_claims(config: Mapping[str, Any], first: int) -> list[Claim]:
    """The claims under `claims` of a checked configuration, numbered from `first` on."""
    return [
        Claim(
            number,
            name.replace("_", " ").capitalize(),
            own["statement"],
            quantity=None,
            comparisons=partial(_comparisons, own),
            every_case=own["every_case"],
            margin=own["margin"],
            source="study",
            sides={"more": own["more"], "than": own["than"]},
        )
        for number, (name, own) in enumerate(own_claims(config).items(), first)
    ]


def _comparisons(own: Mapping[str, Side], results: Results) -> list[Comparison]:
    """One comparison for every network and regime that the sides leave open."""
    more, than = own["more"], own["than"]
    found = {}
    for cell in results.cells:
        comparison = versus(_terms(more, _cell(more, cell)), _terms(than, _cell(than, cell)))
        found[comparison.one, comparison.other] = comparison
    return list(found.values())


def _cell(side: Side, cell: Cell) -> Cell:
    return Cell(side.get("regime", cell.regime), side.get("model", cell.model))


def _terms(side: Side, cell: Cell) -> tuple[Term, ...]:
    if "accuracy" in side:
        return ((1, cell, side["accuracy"]),)
    if "drop" in side:
        return drop_terms(cell, side["drop"])
    return gain_terms(cell, *side["gain"])
