"""Which weights of a model are pruned, and why the others are not."""

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial

from torch import nn

from sparsecnn.errors import UserError
from sparsecnn.pruning.calibration.survey import Survey, Usage
from sparsecnn.pruning.layouts import prunable_columns
from sparsecnn.pruning.model.weights import Weight
from sparsecnn.pruning.patterns import Pattern
from sparsecnn.pruning.settings import Settings
from sparsecnn.sparse_cores import sparse_core_misfit

COVERAGES = ("all", "skip_first_last", "hardware")

UNREACHED = "the first calibration batch did not reach it"
"""Of a weight that nothing read."""


Choice = Callable[[Mapping[str, Weight], Survey], dict[str, str]]
"""`reasons_to_stay_dense` of a model under given settings, of its weights and their use."""


def choice(
    model: nn.Module,
    settings: Settings,
    coverage: str,
    include: str | Sequence[str],
    exclude: str | Sequence[str],
) -> Choice:
    """What chooses the weights to prune; a single pattern of names may be given without a list."""
    included, excluded = (
        [names] if isinstance(names, str) else list(names) for names in (include, exclude)
    )
    return partial(
        reasons_to_stay_dense,
        model,
        pattern=settings.pattern,
        layout=settings.layout,
        coverage=coverage,
        include=included,
        exclude=excluded,
    )


def reasons_to_stay_dense(
    model: nn.Module,
    weights: Mapping[str, Weight],
    seen: Survey,
    *,
    pattern: Pattern,
    layout: str,
    coverage: str,
    include: Sequence[str],
    exclude: Sequence[str],
) -> dict[str, str]:
    """For each weight, in data order, why it stays dense; empty text if it is pruned.

    A pattern of `include` or `exclude` that matches a module stands for all that is in it.

    Raises
    ------
    UserError
        For a pattern that matches nothing, one of `include` that matches nothing that can be pruned
        whatever its shape, and a model without such weights.
    """
    _check_names(model, weights, coverage, include, exclude)
    problems = {name: _problem(one, seen.usages.get(name)) for name, one in weights.items()}
    able = [name for name in seen.usages if not problems[name]]
    _check_able(weights, problems, include)
    reasons = {}
    for name in (*seen.usages, *(name for name in weights if name not in seen.usages)):
        weight = weights[name]
        if _matches(weight, exclude):
            reasons[name] = "excluded by name"
        elif problems[name]:
            reasons[name] = problems[name]
        elif include and not _matches(weight, include):
            reasons[name] = "excluded by name"
        elif coverage == "skip_first_last" and name in (able[0], able[-1]):
            reasons[name] = "first layer" if name == able[0] else "last layer"
        else:
            reasons[name] = _misfit(weight, pattern, layout)
            if coverage == "hardware" and not reasons[name]:
                rows, channels = weight.value.shape[:2]
                reasons[name] = sparse_core_misfit(rows // seen.usages[name].groups, channels)
    return reasons


def _problem(weight: Weight, usage: Usage | None) -> str:
    return weight.problem or (usage.problem if usage else UNREACHED)


def _misfit(weight: Weight, pattern: Pattern, layout: str) -> str:
    channels, columns = weight.value.shape[1], weight.value.shape[1:].numel()
    if prunable_columns(columns, channels, pattern.group, layout):
        return ""
    if layout == "channels":
        return f"{channels} input channels per group are not a multiple of {pattern.group}"
    return f"{columns} weights per output channel are fewer than {pattern.group}"


def _check_names(
    model: nn.Module,
    weights: Mapping[str, Weight],
    coverage: str,
    include: Sequence[str],
    exclude: Sequence[str],
) -> None:
    if coverage not in COVERAGES:
        raise UserError(f"unknown coverage {coverage!r}: choose one of {', '.join(COVERAGES)}")
    for pattern in exclude:
        modules = any(fnmatchcase(name, pattern) for name, _ in model.named_modules())
        if not modules and not any(_matches(one, [pattern]) for one in weights.values()):
            raise UserError(
                f"exclude={pattern!r} matches no module: the layers are {', '.join(weights)}"
            )
    for pattern in include:
        if not any(_matches(one, [pattern]) for one in weights.values()):
            raise UserError(
                f"include={pattern!r} matches no layer: the layers are {', '.join(weights)}"
            )


def _check_able(
    weights: Mapping[str, Weight],
    problems: Mapping[str, str],
    include: Sequence[str],
) -> None:
    for pattern in include:
        named = [name for name, one in weights.items() if _matches(one, [pattern])]
        if all(problems[name] for name in named):
            raise UserError(
                f"include={pattern!r}: the weight of layer {named[0]!r} cannot be pruned: "
                f"{problems[named[0]]}"
            )
    if all(problems.values()):
        why = "; ".join(f"{name or 'the model'}: {reason}" for name, reason in problems.items())
        raise UserError(
            "the model has no Conv2d, Linear or like layer to prune" + (f" ({why})" if why else "")
        )


def _matches(weight: Weight, patterns: Sequence[str]) -> bool:
    parts = weight.name.split(".")
    names = [".".join(parts[: count + 1]) for count in range(len(parts))]
    return any(
        fnmatchcase(name, pattern) for pattern in patterns for name in (*names, *weight.others)
    )
