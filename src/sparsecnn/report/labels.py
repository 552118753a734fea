"""What rows, columns and comparisons are called, in the present language."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sparsecnn.analysis.ablation import PLAIN, Column, Ingredient, columns
from sparsecnn.analysis.reference import SOLVER
from sparsecnn.analysis.results import Cell
from sparsecnn.analysis.waterfall import Step
from sparsecnn.report.language import gettext as _
from sparsecnn.report.language import ngettext


def ingredient_label(row: Ingredient) -> str:
    """The method, and its options that differ from the study's defaults."""
    return row.method + "".join(_options(row.options))


def method_label(row: Ingredient) -> str:
    """The method and its options, but for the pattern."""
    options = {key: value for key, value in row.options.items() if key != "pattern"}
    return ingredient_label(replace(row, options=options))


def series_labels(rows: Sequence[Ingredient]) -> dict[str, str]:
    """By variant what it is but for the pattern; groups and batch norm only if some differ."""
    several = len(columns(rows)) > 1
    return {
        variant: method_label(row) + (f" ({column_label(column)})" if several else "")
        for row in rows
        for column, variant in row.variants.items()
    }


def kind_label(kind: str) -> str:
    """What patterns of this kind (`analysis.patterns.kind_of`) are called."""
    return {"%": _("unstructured"), "% per row": _("unstructured, per row")}.get(kind, kind)


def column_label(column: Column) -> str:
    """Groups, and whether batch norm is re-estimated or as it was trained."""
    words = _("{layout}, re-estimated") if column.bn_recalibrated else _("{layout}, as is")
    return words.format(layout=column.layout)


def step_label(step: Step) -> str:
    """What a step of a waterfall changes; of the first, the variant that it starts with."""
    if not step.setting:
        return step.variant
    name = step.setting.replace("_", " ")
    change = f"{step.former} to {step.value}" if name == "method" else f"{step.value}"
    if name == "positions per image" and step.value is not None:
        return _("{n} positions of each image").format(n=step.value)
    words = {
        "ridge: 0": _("no constant added to the Hessian"),
        f"method: {SOLVER} to {PLAIN}": _("inverse over the columns still to come"),
        f"method: {PLAIN} to admm": _("mask by ADMM"),
        "augmented calibration: False": _("calibration images as they are"),
        "layout: channels": _("groups along the channels"),
        "calibration: sequential": _("inputs of the network as pruned so far"),
        "target: dense": _("target: the dense network's outputs"),
        "refit: True": _("refit of the kept weights"),
        "bn recalibration: True": _("batch norm re-estimated"),
    }
    return words.get(f"{name}: {change}", f"{name}: {change}")


def comparison_label(claim: Mapping[str, Any], comparison: Mapping[str, Any]) -> str:
    """The networks that a comparison of a claim is between."""
    one, other = (Cell(**comparison[side]) for side in ("one", "other"))
    if one == other:
        return str(one)
    if claim["source"] == "study":
        return _("{one} against {other}").format(one=one, other=other)
    if one.model == other.model:
        words = _("{model}, {least} against {most}")
        return words.format(model=one.model, least=one.regime, most=other.regime)
    return _("{model} against {other}").format(model=one.model, other=other)


def epochs_label(epochs: int) -> str:
    """How long a network was trained; of none here, that it was given."""
    if epochs == 0:
        return _("given")
    return ngettext("{number} epoch", "{number} epochs", epochs).format(number=epochs)


def epochs_number(epochs: int) -> str:
    """The same in a column of epochs."""
    return str(epochs) if epochs else _("given")


def _options(options: Mapping[str, Any]) -> Iterator[str]:
    for key, value in options.items():
        name = key.replace("_", " ")
        if isinstance(value, bool):
            yield f" + {name}" if value else " " + _("without {option}").format(option=name)
        elif value is None:
            yield " + " + _("{option} unlimited").format(option=name)
        elif isinstance(value, str):
            yield f" + {value.replace('_', ' ')} {name}"
        elif isinstance(value, list):
            yield f" + {name} " + (", ".join(value) or _("nothing"))
        else:
            yield f" + {name} {value:g}"
