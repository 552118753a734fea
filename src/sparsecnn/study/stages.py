"""What every artifact of a study comes from: the settings and the code that decide its making."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sparsecnn.artifacts import Origin, environment
from sparsecnn.digest import CodeDigest
from sparsecnn.registry import READER_OPTIONS, module_of
from sparsecnn.study.config import DENSE, GIVEN, diagnosed, given, made_of, variant_settings
from sparsecnn.study.layout import trainings
from sparsecnn.study.limits import AUGMENTATION, PRUNING
from sparsecnn.study.own_networks import code_of
from sparsecnn.study.versions import RERUN, minor


class Stages:
    """The origin of each artifact of one study.

    Parameters
    ----------
    config
        A checked configuration.
    digest
        Of the source tree that makes the study.
    content
        Hash of what the dataset's source holds (`sparsecnn.study.sources`); None without a source.
    weights
        Hash of the weights of each model that comes with some (`sparsecnn.study.own_networks`).
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        digest: CodeDigest,
        content: str | None = None,
        weights: Mapping[str, str] | None = None,
    ) -> None:
        self._config, self._digest, self._content = config, digest, content
        self._weights = dict(weights or {})
        self._built_by = {model: code_of(model, config) for model in config["models"]}
        rerun = config["on_new_versions"] == RERUN
        self._versions = {"versions": minor(environment())} if rerun else {}

    def generation(self) -> str:
        """A digest of the origins of all that the report is made of."""
        origins = [self.dataset(), *map(self.calibration, self._config["seeds"])]
        for training in trainings(self._config):
            origins += [self.dense(*training), self.metrics(training.model, DENSE)]
            for variant in self._config["variants"]:
                origins += [self.pruned(*training, variant), self.metrics(training.model, variant)]
            if diagnosed(self._config) is not None:
                origins.append(self.diagnostics(training.model))
        text = json.dumps([asdict(origin) for origin in origins], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def dataset(self) -> Origin:
        """Of the canonical dataset: what its source holds counts, not where that lies."""
        own = self._config["dataset"]
        keys = ["name", "normalization", "holdout", *READER_OPTIONS.get(own["name"], ())]
        settings = {key: own[key] for key in keys} | {"content": self._content}
        code = self._digest.of("dataset.py", [module_of("dataset", own["name"])])
        return Origin(settings | self._versions, code)

    def checked(self) -> Origin:
        """Of the check of all settings that images, networks and memory limit."""
        config = made_of(self._config)
        models = {
            model: self._network(model) | {"trained": model not in given(config)}
            for model in config["models"]
        }
        diagnostics, recipes = config["diagnostics"], config["recipes"]
        every = {v: variant_settings(config, v) for v in config["variants"]}
        settings = {
            "models": models,
            "recipes": {r: {key: recipes[r][key] for key in AUGMENTATION} for r in recipes},
            "calibration": config["calibration"],
            "diagnostics": diagnostics and {"images": diagnostics["images"]},
            "variants": {
                variant: {key: own[key] for key in PRUNING if key in own}
                for variant, own in every.items()
            },
        }
        return Origin(settings, self._code("check.py", *models))

    def calibration(self, seed: int) -> Origin:
        """Of the calibration set of a seed."""
        settings = {"seed": seed, **self._config["calibration"]}
        return Origin(settings | self._versions, self._digest.of("calibrate.py"))

    def dense(self, model: str, recipe: str, epochs: int, seed: int) -> Origin:
        """Of a network before pruning, trained here or given."""
        settings = {"model": model, **self._network(model)}
        settings |= {"epochs": epochs, "seed": seed, "recipe": recipe}
        if recipe == GIVEN:
            settings["weights"] = self._weights.get(model)
            return Origin(settings | self._versions, self._code("adopt.py", model))
        settings["training"] = self._config["recipes"][recipe] | self._config["training"]
        return Origin(settings | self._versions, self._code("train.py", model))

    def pruned(self, model: str, recipe: str, epochs: int, seed: int, variant: str) -> Origin:
        """Of a pruned network; the settings are its dense one's and, under `pruning`, its own."""
        pruning = variant_settings(self._config, variant)
        settings = {**self.dense(model, recipe, epochs, seed).settings, "pruning": pruning}
        method = module_of("method", pruning["method"])
        return Origin(settings, self._code("prune.py", model, modules=[method]))

    def metrics(self, model: str, network: str) -> Origin:
        """Of the metrics of a network, `dense` or a variant."""
        code = self._code("evaluate.py", model)
        return Origin({"variant": network} | self._versions, code)

    def diagnostics(self, model: str) -> Origin:
        """Of the diagnostics of a dense network and of its pruned ones."""
        settings = {
            "images": self._config["diagnostics"]["images"],
            "variants": diagnosed(self._config),
            "deterministic": self._config["training"]["deterministic"],
        }
        code = self._code("diagnose.py", model)
        return Origin(settings | self._versions, code)

    def exported(self, model: str, network: str, export: Mapping[str, Any]) -> Origin:
        """Of the files that a network, `dense` or a variant, is exported as with these settings."""
        settings = {"variant": network} | {key: export.get(key) for key in ("format", "normalize")}
        return Origin(settings | self._versions, self._code("export.py", model))

    def provenance(self) -> Origin:
        """Of the tables, and of what is on record about their making."""
        settings = {"config": made_of(self._config), "content": self._content}
        settings |= {"weights": self._weights} if self._weights else {}
        return Origin(settings, self._digest.of("collect.py"))

    def claims(self) -> Origin:
        """Of the verdicts on the claims."""
        return Origin({"claims": self._config["claims"]}, self._digest.of("claims.py"))

    def _network(self, model: str) -> dict[str, Any]:
        """The settings that a network is built by, besides the images."""
        own = self._config["models"][model]
        if own["builder"] is None:
            return {"width": own["width"]}
        return {key: own[key] for key in ("width", "builder", "arguments")}

    def _code(self, script: str, *models: str, modules: Sequence[str] = ()) -> str:
        """Digest of a script, of what builds the models, and of further modules."""
        built = [self._built_by[model] for model in models]
        ours = [module for own, _ in built for module in own]
        return self._digest.of(script, [*ours, *modules], [file for _, f in built for file in f])
