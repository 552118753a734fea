"""Check a study's configuration and fill in its defaults."""

import copy
import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from itertools import pairwise
from textwrap import shorten
from typing import Any, cast

from jsonschema import Draft202012Validator, ValidationError, validators

from sparsecnn.errors import UserError
from sparsecnn.registry import names
from sparsecnn.study.config_values import (
    NULLS,
    as_meant,
    as_said,
    clipped,
    kinds_of,
    place,
    shown,
    what_to_write,
    wrong_values,
)
from sparsecnn.study.limits import before_any_job, impossible_pruning

DENSE = "dense"
"""Name of a network before pruning, where variants are named."""

GIVEN = "given"
"""Name of the regime, and of its recipe, of networks that come with weights; see `given`."""

VARIANT_ONLY = {"augmented_calibration": False}
"""Settings that a variant alone can have, and what holds without: they are on no record of others,
so that these stay as they are made."""

_REMOVABLE = ("models", "recipes", "regimes", "variants", "claims")


def complete_config(config: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with null entries removed, defaults filled in, keys in the schema's order.

    A text is read as number, boolean or null where the schema allows no text.
    Regimes come by their epochs, least trained first, whatever file named them first; they keep
    their recipe and the budgets of the study's models alone, in the models' order. Those that come
    with weights have the last, `GIVEN`, of no epochs here.

    Raises `UserError` with one line per mistake: key, value, what is allowed.
    """
    schema = _with_registered_names(schema)
    _refuse(wrong_values(config))
    if not isinstance(config, dict):
        _refuse([f"the configuration: {shown(config)} is no settings; write `key: value`"])
    complete = _without_removed(as_meant(_without_given(config), schema, schema["$defs"]))
    errors = list(_Validator(schema).iter_errors(complete))
    errors.sort(key=lambda error: _position(complete, error.absolute_path))
    _refuse(line for error in errors for line in _describe(error))
    _fill_defaults(complete, schema, schema["$defs"])
    for model in complete["models"].values():
        model["arguments"] = as_said(model["arguments"])
    _refuse(_contradictions(complete))
    complete["regimes"] = _ordered_regimes(complete)
    return complete


def given(config: Mapping[str, Any]) -> list[str]:
    """The models that come with weights: trained elsewhere, nobody knows how, and not here."""
    # A study that was made before there were such has no such key.
    return [name for name, model in config["models"].items() if model.get("weights")]


def _without_given(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The configuration without what completing it adds of networks that come with weights."""
    regimes = config.get("regimes")
    if not isinstance(regimes, dict) or not isinstance(regimes.get(GIVEN), dict):
        return config
    if regimes[GIVEN].get("recipe") != GIVEN:
        return config
    return {**config, "regimes": {k: own for k, own in regimes.items() if k != GIVEN}}


def _ordered_regimes(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Regimes as `complete_config` says."""
    came = given(config)
    trained = [model for model in config["models"] if model not in came]
    regimes = {
        name: {"recipe": regime["recipe"]} | {model: regime[model] for model in trained}
        for name, regime in (config["regimes"].items() if trained else [])
    }
    by_epochs = sorted(regimes, key=lambda name: sum(budgets(regimes[name]).values()))
    last = {GIVEN: {"recipe": GIVEN} | dict.fromkeys(came, 0)} if came else {}
    return {name: regimes[name] for name in by_epochs} | last


def made_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a study's numbers depend on: not device, report, exports, nor recipes without a regime.

    Of the dataset's source it is what that holds (`sparsecnn.study.sources`), not where it lies.
    """
    used = {regime["recipe"] for regime in config["regimes"].values()}
    recipes = {name: recipe for name, recipe in config["recipes"].items() if name in used}
    aside = ("export", "report", "device", "threads")
    kept = {key: value for key, value in without_source(config).items() if key not in aside}
    return {**kept, "recipes": recipes}


def without_source(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration without where the images lie, which no result depends on."""
    dataset = {key: value for key, value in config["dataset"].items() if key != "source"}
    return {**config, "dataset": dataset}


def reported(config: Mapping[str, Any]) -> dict[str, Any]:
    """What the report says of the settings: all but those that it has nothing to do with."""
    return {key: value for key, value in without_source(config).items() if key != "export"}


def data_label(dataset: Mapping[str, Any]) -> str:
    """What tables and reports call the images; `dataset` is that part of the configuration."""
    name: str = dataset["label"] or dataset["name"]
    return f"{name} (train split alone)" if dataset["holdout"] else name


def budgets(regime: Mapping[str, Any]) -> dict[str, int]:
    """Epochs of each model in one regime of a checked configuration."""
    return {model: epochs for model, epochs in regime.items() if model != "recipe"}


def own_claims(config: Mapping[str, Any]) -> dict[str, Any]:
    """The claims of the study's own; under `claims` the margin stands beside them."""
    return {name: own for name, own in config["claims"].items() if name != "margin"}


def variant_settings(config: Mapping[str, Any], variant: str) -> dict[str, Any]:
    """All settings of one pruned network: the shared ones, the method's, the variant's own."""
    own = config["variants"][variant]
    shared = config["methods"].get(own["method"], {})
    settings = {**config["pruning"], **shared, **own}
    return {k: v for k, v in settings.items() if k not in VARIANT_ONLY or v != VARIANT_ONLY[k]}


def changed(config: Mapping[str, Any], before: str, after: str) -> dict[str, tuple[Any, Any]]:
    """The settings in which two variants differ, each with both values; of two methods, the common.

    Settings that only one of two methods has are part of the method.
    """
    one, other = (VARIANT_ONLY | variant_settings(config, variant) for variant in (before, after))
    keys = [key for key in one if key in other and one[key] != other[key]]
    return {key: (one[key], other[key]) for key in keys}


def waterfall(config: Mapping[str, Any]) -> list[str]:
    """The variants whose steps the report explains, in order; none if it explains none."""
    # A study that was made before there was this setting has no such key.
    return list(config["report"].get("waterfall") or [])


def diagnosed(config: Mapping[str, Any]) -> list[str] | None:
    """Names of the variants whose networks are diagnosed, sorted; None if nothing is measured."""
    # A study that was made before there were diagnostics has no such key.
    diagnostics = config.get("diagnostics")
    if diagnostics is None:
        return None
    if diagnostics["variants"] is not None:
        return sorted(diagnostics["variants"])
    every = {v: variant_settings(config, v) for v in config["variants"]}
    return sorted(v for v in every if not every[v]["bn_recalibration"] and not _permuted(every[v]))


def exported(config: Mapping[str, Any]) -> list[str]:
    """Names of the networks that are exported of each training: variants, or `dense`."""
    # A study that was made before there were exports has no such key.
    export = config.get("export")
    return [] if export is None else list(export["variants"])


def _permuted(settings: Mapping[str, Any]) -> bool:
    """Whether a pruned network has its channels in another order than the dense one."""
    # A study that was made before there was this setting has no such key.
    return bool(settings.get("permute_channels", False))


def _with_registered_names(schema: Mapping[str, Any]) -> dict[str, Any]:
    filled = copy.deepcopy(dict(schema))
    for kind in ("dataset", "method"):
        filled["$defs"][f"{kind}_name"]["enum"] = names(kind)
    return filled


def _without_removed(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration without entries that null removes."""
    return {
        section: {k: v for k, v in entries.items() if v is not None and v not in NULLS}
        if section in _REMOVABLE and isinstance(entries, dict)
        else entries
        for section, entries in config.items()
    }


def _refuse(problems: Iterable[str]) -> None:
    lines = dict.fromkeys(problems)  # the validator says once for each missing key what is missing
    if lines:
        raise UserError("\n".join(clipped(line) for line in lines))


# JSON Schema takes 128.0 for an integer, which torch does not, and `$` for the end of a text that
# ends in a line break.
_Validator = cast(Any, validators).extend(
    Draft202012Validator,
    validators={
        "pattern": lambda _, form, value, __: (
            [ValidationError(f"{shown(value)} is not of the form {form}")]
            if isinstance(value, str) and not re.fullmatch(form, value)
            else []
        )
    },
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda _, value: type(value) is int
    ),
)


def _fill_defaults(value: Any, schema: Mapping[str, Any], defs: Mapping[str, Any]) -> None:
    if not isinstance(value, dict):
        return
    properties = schema.get("properties", {})
    for key, part in properties.items():
        if "default" in part:
            value.setdefault(key, copy.deepcopy(part["default"]))
    # In the schema's order, since Snakemake takes the same keys in another order for a change.
    ordered = {key: value[key] for key in (*properties, *value) if key in value}
    value.clear()
    value.update(ordered)
    for key, child in value.items():
        part = properties.get(key, schema.get("additionalProperties"))
        if isinstance(part, dict):
            _fill_defaults(child, part, defs)


_BOUNDS = {
    "minimum": "at least",
    "exclusiveMinimum": "more than",
    "maximum": "at most",
    "exclusiveMaximum": "less than",
}


def _position(config: Any, path: Iterable[str | int]) -> list[int]:
    """Where a path leads: of each of its parts, the place among its siblings."""
    places = []
    for part in path:
        places.append(part if isinstance(part, int) else list(config).index(part))
        config = config[part]
    return places


def _describe(error: ValidationError) -> Iterator[str]:
    """One line for each mistake that a schema error stands for."""
    where = place(tuple(error.absolute_path))
    value = shown(error.instance)
    is_name = "propertyNames" in error.absolute_schema_path
    rule, limit = str(error.validator), cast(Any, error.validator_value)
    if rule == "additionalProperties":
        allowed = list(cast(Any, error.schema)["properties"])
        for key in sorted(set(cast(Any, error.instance)) - set(allowed)):
            yield f"{place((*error.absolute_path, key))}: unknown key{_nearest(key, allowed)}"
    elif rule == "required":
        missing = [key for key in limit if key not in cast(Any, error.instance)]
        yield f"{where}: {', '.join(missing)} missing"
    elif rule == "oneOf":
        yield from _describe_choice(error)
    elif rule == "enum" and is_name:
        yield f"{where}: unknown name {value}{_nearest(error.instance, limit)}"
    elif rule == "enum":
        yield f"{where}: {value} is not allowed{_nearest(error.instance, limit)}"
    elif is_name:
        yield f"{where}: {value} cannot be a name here ({_name_of(rule, limit)})"
    elif rule == "type":
        write = what_to_write(error.instance, cast(Any, error.schema))
        types = [limit] if isinstance(limit, str) else limit
        yield f"{where}: {value} is not of type {' or '.join(types)}; write {write}"
    else:
        yield f"{where}: {_plain(rule, value, limit, error.message)}"


def _name_of(rule: str, limit: Any) -> str:
    """What a name must be that the schema's rule refused."""
    if rule == "not":
        return f"'{limit['const']}' is the network before pruning"
    letters = "small letters" if limit.startswith("^[a-z]") else "letters"
    longest = 1 + int(limit.rpartition(",")[2].rstrip("}$"))
    return f"{letters}, digits and _, a letter first, at most {longest} in all"


def _describe_choice(error: ValidationError) -> Iterator[str]:
    """What is wrong in the one alternative that has the value's type; if none has, which there are.

    The number of the alternative is the first part of its errors' paths in the schema.
    """
    options: Any = error.validator_value
    context = list(error.context or [])
    other = {e.schema_path[0] for e in context if e.validator == "type" and not e.path}
    fitting = [n for n, option in enumerate(options) if kinds_of(option) and n not in other]
    if len(fitting) == 1:
        for inside in (e for e in context if e.schema_path[0] == fitting[0]):
            yield from _describe(inside)
    elif "type" not in cast(Any, error.schema) or isinstance(error.instance, dict):
        named = ", ".join(_alternatives(options))
        where = place(tuple(error.absolute_path))
        yield f"{where}: {shown(error.instance)} is none or more than one of: {named}"


def _plain(rule: str, value: str, limit: Any, message: str) -> str:
    """What is wrong with one value."""
    if rule in _BOUNDS:
        return f"{value} is not allowed, it must be {_BOUNDS[rule]} {limit}"
    if rule == "minItems" and limit > 1:
        return f"{value} has too few entries, it must have {limit}"
    return {
        "pattern": f"{value} is not of the form {limit}",
        "minItems": "must not be empty",
        "maxItems": f"{value} has too many entries, it must have {limit}",
        "minProperties": "must not be empty",
        "minLength": "must not be empty",
        "maxLength": f"{value} is too long, it must have at most {limit} characters",
        "uniqueItems": f"{value} names something twice",
    }.get(rule, message)


def _alternatives(options: list[dict[str, Any]]) -> list[str]:
    """What each alternative of a schema's `oneOf` is, in a word or two."""
    return [" and ".join(option.get("required", [option.get("type")])) for option in options]


def _nearest(word: Any, allowed: list[Any]) -> str:
    close = get_close_matches(str(word), [str(a) for a in allowed], n=1)
    options = shorten(", ".join(str(a) for a in allowed), 200, placeholder=" ...")
    guess = f", did you mean {close[0]}?" if close else ""
    return f"{guess} (allowed: {options})"


def _contradictions(config: Mapping[str, Any]) -> Iterator[str]:
    yield from _wrong_sources(config["dataset"])
    yield from _wrong_models(config["models"])
    yield from _wrong_regimes(config)
    yield from _wrong_claims(config)
    for name, recipe in config["recipes"].items():
        if recipe["nesterov"] and recipe["momentum"] == 0:
            yield f"recipes.{name}.nesterov: needs a momentum above 0"
    variants = list(config["variants"])
    for name in (config["diagnostics"] or {}).get("variants") or []:
        if name not in variants:
            yield f"diagnostics.variants: unknown variant {name}{_nearest(name, variants)}"
        elif _permuted(variant_settings(config, name)):
            yield (
                f"diagnostics.variants: {name} has its channels in another order than the dense "
                "network (permute_channels), so that their weights cannot be compared"
            )
    for name in exported(config):
        if name not in [DENSE, *variants]:
            yield f"export.variants: unknown variant {name}{_nearest(name, [DENSE, *variants])}"
    yield from _wrong_steps(config)
    for variant in config["variants"]:
        settings = variant_settings(config, variant)
        yield from (
            f"variants.{variant}.{problem}" for problem in _wrong_combinations(config, settings)
        )
        impossible = impossible_pruning(settings, config["device"])
        yield from (f"variants.{variant}.{problem}" for problem in impossible)
    yield from before_any_job(made_of(config))


def _wrong_sources(dataset: Mapping[str, Any]) -> Iterator[str]:
    source = dataset["source"]
    if dataset["name"] == "image_folder" and source is None:
        yield "dataset.source: image_folder needs a folder or an archive of images"
    if dataset["name"] == "digits" and source is not None:
        yield "dataset.source: digits come with scikit-learn; use null"
    try:
        b"".decode(dataset["names"] or "utf-8")
    except LookupError:
        names = dataset["names"]
        yield f"dataset.names: {names} is no encoding that Python knows; cp949, for example, is one"
    if set("{}") & set(source or ""):  # which Snakemake takes for wildcards
        yield f"dataset.source: {source} has a brace, {{ or }}, in it; rename it"


def _wrong_models(models: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    ours = names("model")
    for name, own in models.items():
        where = f"models.{name}"
        if own["builder"] is None and name not in ours:
            nearest = _nearest(name, ours)
            yield f"models: unknown name {shown(name)}{nearest}; one of your own needs a builder"
        if own["builder"] is None and own["arguments"]:
            yield f"{where}.arguments: are of a builder, and it has none"
        if own["builder"] is not None:
            if name in ours:
                yield f"{where}.builder: is this project's own under that name; give yours another"
            if own["width"] != 1:
                yield f"{where}.width: no builder knows it; write what yours takes in arguments"
            if "num_classes" in own["arguments"]:
                yield f"{where}.arguments.num_classes: comes from the images; leave it out"
        for key in ("builder", "weights"):
            if set("{}") & set(own[key] or ""):  # which Snakemake takes for wildcards
                yield f"{where}.{key}: {own[key]} has a brace, {{ or }}, in it; rename it"


def _wrong_regimes(config: Mapping[str, Any]) -> Iterator[str]:
    recipes, came = list(config["recipes"]), given(config)
    known = [*names("model"), *config["models"]]
    if GIVEN in recipes:
        yield f"recipes.{GIVEN}: is the word for networks that come with weights; rename it"
    for key in ("regimes", "recipes"):
        if not config[key] and set(config["models"]) - set(came):
            yield f"{key}: must not be empty"
    for name, regime in config["regimes"].items():
        if name == GIVEN:
            yield f"regimes.{GIVEN}: is the one of models that come with weights; rename it"
        for model in sorted(set(config["models"]) - set(came) - set(budgets(regime))):
            yield f"regimes.{name}: gives no epochs for {model}"
        for model in sorted(set(budgets(regime)) - set(known)):
            yield f"regimes.{name}.{model}: unknown model{_nearest(model, known)}"
        if regime["recipe"] not in recipes:
            nearest = _nearest(regime["recipe"], recipes)
            yield f"regimes.{name}.recipe: unknown recipe{nearest}"


def _wrong_claims(config: Mapping[str, Any]) -> Iterator[str]:
    known = {
        "model": list(config["models"]),
        "regime": list(config["regimes"]),
        "variant": ["dense", *config["variants"]],
    }
    for name, own in own_claims(config).items():
        where, more, than = f"claims.{name}", own["more"], own["than"]
        for side in ("more", "than"):
            for key, named in own[side].items():
                kind = key if key in known else "variant"
                for word in named if key == "gain" else [named]:
                    if word not in known[kind]:
                        nearest = _nearest(word, known[kind])
                        yield f"{where}.{side}.{key}: unknown {kind} {word}{nearest}"
        for key in ("model", "regime"):
            if (key in more) != (key in than):
                yield f"{where}: name a {key} on both sides, or on neither to compare in each"
        if more == than:
            yield f"{where}: both sides are the same; let them differ in variant, model or regime"


def _wrong_steps(config: Mapping[str, Any]) -> Iterator[str]:
    steps, variants = waterfall(config), list(config["variants"])
    unknown = [name for name in steps if name not in variants]
    for name in unknown:
        yield f"report.waterfall: unknown variant {name}{_nearest(name, variants)}"
    for before, after in pairwise([] if unknown else steps):
        found = ", ".join(changed(config, before, after)) or "nothing"
        if len(changed(config, before, after)) != 1:
            yield (
                f"report.waterfall: from {before} to {after} one setting has to change, and what "
                f"changes is: {found}"
            )


def _wrong_combinations(config: Mapping[str, Any], settings: Mapping[str, Any]) -> Iterator[str]:
    pattern, method = settings["pattern"], settings["method"]
    kept, _, group = pattern.partition(":")
    if group and int(kept) >= int(group):
        yield (
            f"pattern: {pattern!r} keeps {kept} of {group} weights; N must be smaller than M in N:M"
        )
    if not group and not 0 < float(pattern.partition("%")[0]) < 100:
        yield f"pattern: {pattern!r} must remove more than 0% and less than 100%"
    given = settings.get("calibration", "sequential")  # a method without is told so below
    if settings.get("target") == "dense" and given != "sequential":
        yield f"target: 'dense' needs calibration: sequential; with {given}, write target: own"
    for key in sorted(set(settings) - _keys_of(config, method)):
        yield f"{key}: method {method} has no such setting"


def _keys_of(config: Mapping[str, Any], method: str) -> set[str]:
    own = config["methods"].get(method, {})
    return {"method", *VARIANT_ONLY, *config["pruning"], *own}
