"""What each ingredient of pruning is worth.

Variants that differ in nothing but the groups of weights and the batch-norm statistics form a row,
an `Ingredient`; these two settings are its columns. All numbers are for the largest budget.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sparsecnn.analysis.comparisons import Term, drop_terms, p_value_of, weigh
from sparsecnn.analysis.reference import LAYOUT, SOLVER
from sparsecnn.analysis.results import Cell, Results
from sparsecnn.analysis.statistics import Estimate
from sparsecnn.report.language import gettext as _
from sparsecnn.report.text import signed
from sparsecnn.study.config import variant_settings

FEW = 7
"""Up to so many variants, each has a column and a colour of its own in every table and figure. A
study of more is reported as an ablation, and other figures show its first `FEW` variants."""

PLAIN = "sparsegpt"
"""Method whose row without options the others are compared with."""


class Column(NamedTuple):
    """The two settings that a row does not fix."""

    layout: str
    bn_recalibrated: bool

    def __str__(self) -> str:
        words = _("{layout}, re-estimated") if self.bn_recalibrated else _("{layout}, as is")
        return words.format(layout=self.layout)


@dataclass(frozen=True)
class Ingredient:
    """Variants with the same settings but for groups and batch norm."""

    label: str
    """The method, and its options that differ from the study's defaults, in words."""
    variants: Mapping[Column, str]


class Correction(NamedTuple):
    """A fault of the reference study's solver put right, all else left as it was."""

    label: str
    variant: str


def is_ablation(results: Results) -> bool:
    """Whether the study has too many variants for a column and a colour each."""
    return len(results.variants) > FEW


def shown(results: Results) -> list[str]:
    """The variants that figures with a colour per variant show: all, or the first `FEW`."""
    return results.variants[:FEW]


def ingredients(config: Mapping[str, Any]) -> list[Ingredient]:
    """The rows of an ablation, in the order of the variants.

    `config` is the completed configuration, or its `pruning`, `methods` and `variants` alone. Of
    two variants with the same settings, the first is taken.
    """
    rows: dict[str, dict[Column, str]] = {}
    for variant in config["variants"]:
        settings = variant_settings(config, variant)
        column = Column(settings.pop("layout"), settings.pop("bn_recalibration"))
        rows.setdefault(_label(config, settings), {}).setdefault(column, variant)
    return [Ingredient(label, variants) for label, variants in rows.items()]


def columns(rows: Sequence[Ingredient]) -> list[Column]:
    """Every column that some row has: layouts as they come, re-estimated batch norm second."""
    found = list(dict.fromkeys(column for row in rows for column in row.variants))
    layouts = list(dict.fromkeys(column.layout for column in found))
    return sorted(found, key=lambda column: (layouts.index(column.layout), column.bn_recalibrated))


def plain_row(rows: Sequence[Ingredient]) -> Ingredient | None:
    """The row of SparseGPT without options, if there is one."""
    return next((row for row in rows if row.label == PLAIN), None)


def largest_budget(results: Results) -> list[Cell]:
    """The networks at the most training."""
    return [cell for cell in results.cells if cell.regime == results.regimes[-1]]


def mean_drop(results: Results, variant: str) -> Estimate:
    """Accuracy lost to pruning in points, averaged over the networks."""
    cells = largest_budget(results)
    terms = [term for cell in cells for term in drop_terms(cell, variant, 1 / len(cells))]
    return weigh(results, terms)


def mean_gain(results: Results, variant: str, over: str) -> Estimate:
    """Accuracy of one variant minus that of another in points, averaged over the networks."""
    return weigh(results, _gain_terms(results, variant, over))


def mean_gain_p(results: Results, variant: str, over: str) -> float:
    """Two-sided p-value of that difference being zero."""
    return p_value_of(results, _gain_terms(results, variant, over))


def corrections(results: Results) -> list[Correction]:
    """The reference's solver as it was, then with each fault put right, then with all.

    Empty without the imitation of it (`static_obs`, flattened groups, batch norm as trained) or
    without any correction; a correction that the study lacks is left out.
    """
    steps = {
        _("the reference's solver: static inverse, flattened groups, batch norm as is"): (
            results.variant_of(SOLVER, LAYOUT)
        ),
        _("only the inverse put right ({method})").format(method=PLAIN): (
            results.variant_of(PLAIN, LAYOUT)
        ),
        _("only the groups along the channels"): results.variant_of(SOLVER, "channels"),
        _("only batch norm re-estimated"): results.variant_of(SOLVER, LAYOUT, bn_recalibrated=True),
        _("all three"): results.variant_of(PLAIN, "channels", bn_recalibrated=True),
    }
    found = [Correction(label, variant) for label, variant in steps.items() if variant]
    imitated = next(iter(steps.values())) is not None
    return found if imitated and len(found) > 1 else []


def why(results: Results, steps: Sequence[Correction]) -> str:
    """One sentence: what the reference's solver loses, and each correction in its place."""
    imitation, *others = steps
    corrected = [
        _("{change} with {correction}").format(
            change=signed(-mean_drop(results, step.variant).value), correction=step.label
        )
        for step in others
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
        variant=imitation.variant,
        change=signed(-mean_drop(results, imitation.variant).value),
        n=networks,
        corrected=", ".join(corrected),
    )


def _gain_terms(results: Results, variant: str, over: str) -> list[Term]:
    cells = largest_budget(results)
    terms: list[Term] = []
    for cell in cells:
        terms += [(1 / len(cells), cell, variant), (-1 / len(cells), cell, over)]
    return terms


def _label(config: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    method = str(settings["method"])
    defaults = {**config["pruning"], **config["methods"].get(method, {}), "method": method}
    return method + "".join(_words(settings, defaults))


def _words(settings: Mapping[str, Any], defaults: Mapping[str, Any]) -> Iterator[str]:
    for key, value in settings.items():
        if value == defaults[key]:
            continue
        name = key.replace("_", " ")
        if isinstance(value, bool):
            yield f" + {name}" if value else " " + _("without {option}").format(option=name)
        elif isinstance(value, str):
            yield f" + {value.replace('_', ' ')} {name}"
        elif isinstance(value, list):
            yield f" + {name} " + (", ".join(value) or _("nothing"))
        else:
            yield f" + {name} {value:g}"
