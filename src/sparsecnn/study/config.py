"""Check a study's configuration and fill in its defaults."""

import copy
import json
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, cast

from jsonschema import Draft202012Validator, ValidationError

from sparsecnn.errors import UserError
from sparsecnn.registry import names
from sparsecnn.study.limits import before_any_job, impossible_pruning

DENSE = "dense"
"""Name of a network before pruning, where variants are named."""

_REMOVABLE = ("models", "recipes", "regimes", "variants", "claims")


def complete_config(config: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with null entries removed, defaults filled in, keys in the schema's order.

    Regimes come by their epochs, least trained first, whatever file named them first; they keep
    their recipe and the budgets of the study's models alone, in the models' order.

    Raises `UserError` with one line per mistake: key, value, what is allowed.
    """
    schema = _with_registered_names(schema)
    complete = copy.deepcopy(dict(config))
    for section in _REMOVABLE:
        entries = complete.get(section)
        if isinstance(entries, dict):
            complete[section] = {k: v for k, v in entries.items() if v is not None}
    errors = list(Draft202012Validator(schema).iter_errors(complete))
    errors.sort(key=lambda error: _position(complete, error.absolute_path))
    problems = [line for error in errors for line in _describe(error)]
    if not problems:
        _fill_defaults(complete, schema, schema["$defs"])
        problems = list(_contradictions(complete))
    if problems:
        raise UserError("\n".join(problems))
    regimes = {
        name: {"recipe": regime["recipe"]} | {model: regime[model] for model in complete["models"]}
        for name, regime in complete["regimes"].items()
    }
    by_epochs = sorted(regimes, key=lambda name: sum(budgets(regimes[name]).values()))
    complete["regimes"] = {name: regimes[name] for name in by_epochs}
    return complete


def made_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a study's numbers depend on: not device, report, nor recipes that no regime uses."""
    used = {regime["recipe"] for regime in config["regimes"].values()}
    recipes = {name: recipe for name, recipe in config["recipes"].items() if name in used}
    aside = ("report", "device", "threads")
    kept = {key: value for key, value in config.items() if key not in aside}
    return {**kept, "recipes": recipes}


def data_label(dataset: Mapping[str, Any]) -> str:
    """What tables and reports call the images; `dataset` is that part of the configuration."""
    name: str = dataset["label"] or dataset["name"]
    return f"{name} (train split alone)" if dataset["holdout"] else name


def budgets(regime: Mapping[str, Any]) -> dict[str, int]:
    """Epochs of each model in one regime of a checked configuration."""
    return {model: epochs for model, epochs in regime.items() if model != "recipe"}


def variant_settings(config: Mapping[str, Any], variant: str) -> dict[str, Any]:
    """All settings of one pruned network: the shared ones, the method's, the variant's own."""
    own = config["variants"][variant]
    shared = config["methods"].get(own["method"], {})
    return {**config["pruning"], **shared, **own}


def diagnosed(config: Mapping[str, Any]) -> list[str] | None:
    """Names of the variants whose networks are diagnosed, sorted; None if nothing is measured."""
    # A study that was made before there were diagnostics has no such key.
    diagnostics = config.get("diagnostics")
    if diagnostics is None:
        return None
    if diagnostics["variants"] is not None:
        return sorted(diagnostics["variants"])
    return sorted(
        v for v in config["variants"] if not variant_settings(config, v)["bn_recalibration"]
    )


def _with_registered_names(schema: Mapping[str, Any]) -> dict[str, Any]:
    filled = copy.deepcopy(dict(schema))
    for kind in ("dataset", "model", "method"):
        filled["$defs"][f"{kind}_name"]["enum"] = names(kind)
    return filled


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
    where = ".".join(str(part) for part in error.absolute_path) or "the configuration"
    value = json.dumps(error.instance, ensure_ascii=False, default=str)
    is_name = "propertyNames" in error.absolute_schema_path
    rule, limit = str(error.validator), cast(Any, error.validator_value)
    if rule == "additionalProperties":
        allowed = list(cast(Any, error.schema)["properties"])
        for key in sorted(set(cast(Any, error.instance)) - set(allowed), key=str):
            full = str(key) if not error.absolute_path else f"{where}.{key}"
            yield f"{full}: unknown key{_nearest(key, allowed)}"
    elif rule == "required":
        missing = [key for key in limit if key not in cast(Any, error.instance)]
        yield f"{where}: {', '.join(missing)} missing"
    elif rule == "enum" and is_name:
        yield f"{where}: unknown name {value}{_nearest(error.instance, limit)}"
    elif rule == "enum":
        yield f"{where}: {value} is not allowed{_nearest(error.instance, limit)}"
    elif is_name:
        yield f"{where}: {value} cannot be a name here (letters, digits and _; not 'dense')"
    else:
        yield f"{where}: {_plain(rule, value, limit, error.message)}"


def _plain(rule: str, value: str, limit: Any, message: str) -> str:
    """What is wrong with one value."""
    if rule in _BOUNDS:
        return f"{value} is not allowed, it must be {_BOUNDS[rule]} {limit}"
    if rule == "type":
        types = [limit] if isinstance(limit, str) else limit
        return f"{value} is not of type {' or '.join(types)}"
    if rule == "oneOf":
        return f"{value} is none or more than one of: {', '.join(_options(limit))}"
    return {
        "pattern": f"{value} is not of the form {limit}",
        "minItems": "must not be empty",
        "minProperties": "must not be empty",
        "minLength": "must not be empty",
        "uniqueItems": f"{value} names something twice",
    }.get(rule, message)


def _options(alternatives: list[dict[str, Any]]) -> list[str]:
    """What each alternative of a schema's `oneOf` is, in a word or two."""
    return [" and ".join(option.get("required", [option.get("type")])) for option in alternatives]


def _nearest(word: Any, allowed: list[Any]) -> str:
    close = get_close_matches(str(word), [str(a) for a in allowed], n=1)
    options = ", ".join(str(a) for a in allowed)
    guess = f", did you mean {close[0]}?" if close else ""
    return f"{guess} (allowed: {options})"


def _contradictions(config: Mapping[str, Any]) -> Iterator[str]:
    yield from _wrong_sources(config["dataset"])
    yield from _wrong_regimes(config)
    yield from _wrong_claims(config)
    for name, recipe in config["recipes"].items():
        if recipe["nesterov"] and recipe["momentum"] == 0:
            yield f"recipes.{name}.nesterov: needs a momentum above 0"
    variants = list(config["variants"])
    for name in (config["diagnostics"] or {}).get("variants") or []:
        if name not in variants:
            yield f"diagnostics.variants: unknown variant {name}{_nearest(name, variants)}"
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
    if set("{}") & set(source or ""):  # which Snakemake takes for wildcards
        yield f"dataset.source: {source} has a brace, {{ or }}, in it; rename it"


def _wrong_regimes(config: Mapping[str, Any]) -> Iterator[str]:
    recipes = list(config["recipes"])
    for name, regime in config["regimes"].items():
        for model in sorted(set(config["models"]) - set(budgets(regime))):
            yield f"regimes.{name}: gives no epochs for {model}"
        for model in sorted(set(budgets(regime)) - set(names("model"))):
            yield f"regimes.{name}.{model}: unknown model{_nearest(model, names('model'))}"
        if regime["recipe"] not in recipes:
            nearest = _nearest(regime["recipe"], recipes)
            yield f"regimes.{name}.recipe: unknown recipe{nearest}"


def _wrong_claims(config: Mapping[str, Any]) -> Iterator[str]:
    known = {
        "model": list(config["models"]),
        "regime": list(config["regimes"]),
        "variant": ["dense", *config["variants"]],
    }
    for name, own in config["claims"].items():
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


def _wrong_combinations(config: Mapping[str, Any], settings: Mapping[str, Any]) -> Iterator[str]:
    pattern, method = settings["pattern"], settings["method"]
    kept, _, group = pattern.partition(":")
    if group and int(kept) >= int(group):
        yield (
            f"pattern: {pattern!r} keeps {kept} of {group} weights; N must be smaller than M in N:M"
        )
    if not group and not 0 < float(pattern.partition("%")[0]) < 100:
        yield f"pattern: {pattern!r} must remove more than 0% and less than 100%"
    if settings.get("target") == "dense" and settings["calibration"] != "sequential":
        given = settings["calibration"]
        yield f"target: 'dense' needs calibration: sequential; with {given}, write target: own"
    for key in sorted(set(settings) - _keys_of(config, method)):
        yield f"{key}: method {method} has no such setting"


def _keys_of(config: Mapping[str, Any], method: str) -> set[str]:
    return {"method", *config["pruning"], *config["methods"].get(method, {})}
